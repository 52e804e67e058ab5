"""From settings to a policy: checks before the start, pickling, and a class of the user's own."""

import pickle
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from slow_policies import random_rows, random_scores

from epilm.errors import RecipeError
from epilm.masking.contract import Moment
from epilm.masking.policy import build_policy
from epilm.masking.recipe import POLICIES, SCORED, DnaMaskConfig

MOMENT = Moment(60, 100, {"evaluations": [], "below": 0, "switched_at": None})


def config(policy: str, **settings) -> DnaMaskConfig:
    table = "scores" if policy in SCORED else None
    return DnaMaskConfig.model_validate({"policy": policy, "table": table, **settings})


@pytest.mark.parametrize("policy", POLICIES)
def test_pickled_policies_mask_alike(policy):
    batch = random_rows(6, 1)
    policy = build_policy(config(policy), scores=random_scores(6))
    mask = policy.mask(batch, MOMENT)
    assert mask.dtype == torch.bool
    assert mask.any()
    again = pickle.loads(pickle.dumps(policy))
    assert torch.equal(again.mask(batch, MOMENT), mask)


@pytest.mark.parametrize("policy", POLICIES)
def test_without_a_curriculum_there_is_no_state(policy):
    policy = build_policy(config(policy), scores=random_scores(6))
    state = policy.observe(policy.initial_state(), step=10, perplexity=3.0)
    assert (state == {}) is (policy.initial_state() == {})
    assert all(isinstance(value, float) for value in policy.describe(MOMENT).values())


@pytest.mark.parametrize("policy", POLICIES[1:])
def test_windows_shorter_than_a_span(policy):
    built = build_policy(config(policy), scores=random_scores(6))
    built.check(num_tokens=11, num_kmers=11, k=6, stride=1)
    with pytest.raises(RecipeError, match=r"spans of up to 11 k-mers at k=6.*only 10.*at least 16 bp"):
        built.check(num_tokens=10, num_kmers=10, k=6, stride=1)


def test_uniform_masks_any_window():
    build_policy(config("uniform"), scores=None).check(num_tokens=1, num_kmers=1, k=6, stride=6)


@pytest.mark.parametrize("policy", SCORED)
def test_scores_must_be_of_the_tokens_k(policy):
    built = build_policy(config(policy), scores=random_scores(5))
    with pytest.raises(RecipeError, match=r"read for k=5, but tokens.k=6"):
        built.check(num_tokens=100, num_kmers=100, k=6, stride=1)


@pytest.mark.parametrize("policy", SCORED)
def test_scores_must_have_been_read(policy):
    with pytest.raises(RecipeError, match=rf"policy={policy} ranks k-mers by NPMI, but no scores were read"):
        build_policy(config(policy), scores=None)


@pytest.mark.parametrize("policy", SCORED)
def test_the_published_error_is_for_overlapping_tokens(policy):
    built = build_policy(config(policy, published=True), scores=random_scores(6))
    built.check(num_tokens=100, num_kmers=100, k=6, stride=1)
    with pytest.raises(RecipeError, match=r"tokens.stride=6. Set tokens.stride=1"):
        built.check(num_tokens=20, num_kmers=100, k=6, stride=6)


OWN = """
    from dataclasses import dataclass
    from epilm.masking.contract import Stateless

    @dataclass(frozen=True)
    class EveryNth(Stateless):
        rate: float
        scores: object
        n: int = 7

        def check(self, *, num_tokens, num_kmers, k, stride):
            pass

        def mask(self, batch, moment):
            mask = batch.real
            mask[:, [i for i in range(mask.shape[1]) if i % self.n]] = False
            return mask

    class Half:
        def __init__(self, rate, scores): ...
        def mask(self, batch, moment): ...
        def check(self, **sizes): ...

    number = 3
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_masks.py").write_text(dedent(OWN))
    (tmp_path / "broken_masks.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_masks"
    sys.modules.pop("own_masks", None)


def test_own_class(own_module):
    batch = random_rows(6, 6)
    policy = build_policy(config(f"{own_module}:EveryNth", options={"n": 5}), scores=None)
    assert policy.mask(batch, MOMENT).nonzero()[:, 1].unique().tolist() == [0, 5, 10, 15, 20]
    assert policy.initial_state() == {}


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        ("no_such_masks:A", {}, r"module 'no_such_masks' cannot be imported \(ModuleNotFoundError.*PYTHONPATH"),
        ("broken_masks:A", {}, r"cannot be imported \(ZeroDivisionError"),
        ("own_masks:Nth", {}, r"own_masks has no class 'Nth'; its classes: EveryNth, Half, Stateless"),
        ("own_masks:number", {}, r"no class 'number'"),
        ("own_masks:Half", {}, r"not a masking policy: it lacks initial_state, observe, describe"),
        ("own_masks:EveryNth", {"m": 2}, r"keywords rate, scores, m: got an unexpected keyword argument 'm'"),
    ],
)
def test_own_class_refused(own_module, policy, options, message):
    with pytest.raises(RecipeError, match=message):
        build_policy(config(policy, options=options), scores=None)
