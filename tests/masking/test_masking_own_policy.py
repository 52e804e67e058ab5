"""A policy of the user's own: what is wrong with it is said before any worker starts."""

import sys
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from slow_policies import random_rows

from epilm.errors import RecipeError
from epilm.masking.contract import Moment
from epilm.masking.own_policy import OwnPolicy, trial_batch
from epilm.masking.policy import build_policy
from epilm.masking.recipe import DnaMaskConfig
from epilm.tokens.vocab import PAD, UNK

MOMENT = Moment(60, 100, {})
SIZES = {"num_tokens": 95, "num_kmers": 95, "k": 6, "stride": 1}

OWN = """
    from dataclasses import dataclass
    import numpy as np
    import torch
    from epilm.masking.contract import MaskPolicy, Stateless
    from epilm.masking.hashing import uniform

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

    class Counts(EveryNth):
        def initial_state(self):
            return {"seen": []}
        def observe(self, state, *, step, perplexity):
            return {"seen": [*state["seen"], [step, perplexity]]}
        def describe(self, moment):
            return {"seen": float(len(moment.state["seen"]))}

    class Half:
        def __init__(self, rate, scores): ...
        def mask(self, batch, moment): ...
        def check(self, **sizes): ...

    class Inherits(MaskPolicy):
        def __init__(self, rate, scores): ...
        def mask(self, batch, moment): ...

    class Fails(EveryNth):
        def __init__(self, rate, scores):
            raise ValueError("rate must be a fifth")

    class WrongCheck(EveryNth):
        def check(self, num_tokens): ...

    class WrongMask(EveryNth):
        def mask(self, batch): ...

    class NoMask(EveryNth):
        def mask(self, batch, moment):
            return None

    class Numbers(EveryNth):
        def mask(self, batch, moment):
            return batch.real.float()

    class Transposed(EveryNth):
        def mask(self, batch, moment):
            return batch.real.T

    class Specials(EveryNth):
        def mask(self, batch, moment):
            return torch.ones_like(batch.real)

    class ByRow(EveryNth):
        def mask(self, batch, moment):
            row = torch.arange(len(batch.ids))
            return (uniform(batch.seed, 31, row, batch.ids.shape[1]) < 0.15) & batch.real

    class Global(EveryNth):
        def mask(self, batch, moment):
            return (torch.rand(batch.ids.shape) < 0.15) & batch.real

    class InPlace(EveryNth):
        def mask(self, batch, moment):
            mask = batch.real
            batch.ids.fill_(4)
            return mask

    class Tuples(EveryNth):
        def initial_state(self):
            return {"seen": (1, 2)}

    class Arrays(EveryNth):
        def observe(self, state, *, step, perplexity):
            return {"seen": np.zeros(3)}

    class Nothing(EveryNth):
        def observe(self, state, *, step, perplexity):
            return None

    class Words(EveryNth):
        def describe(self, moment):
            return {"stage": "easy"}

    class Unpicklable(EveryNth):
        def __init__(self, rate, scores):
            object.__setattr__(self, "draw", lambda: 0)

    number = 3
"""


@pytest.fixture(autouse=True)
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own_masks.py").write_text(dedent(OWN))
    (tmp_path / "broken_masks.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("own_masks", None)


def build(policy: str, **options):
    return build_policy(DnaMaskConfig(policy=policy, options=options), scores=None)


@pytest.mark.parametrize("stride", [1, 6])
def test_own_class(stride):
    batch = random_rows(6, 6)
    policy = build("own_masks:EveryNth", n=5)
    policy.check(num_tokens=95 if stride == 1 else 16, num_kmers=95, k=6, stride=stride)
    assert policy.mask(batch, MOMENT).nonzero()[:, 1].unique().tolist() == [0, 5, 10, 15, 20]
    assert policy.initial_state() == {}


def test_own_curriculum():
    policy = build("own_masks:Counts")
    policy.check(**SIZES)
    state = policy.observe(policy.initial_state(), step=10, perplexity=3.0)
    assert policy.describe(Moment(11, 100, state)) == {"seen": 1.0}


@pytest.mark.parametrize(
    ("policy", "options", "message"),
    [
        ("no_such_masks:A", {}, r"module 'no_such_masks' cannot be imported \(ModuleNotFoundError.*PYTHONPATH"),
        ("broken_masks:A", {}, r"cannot be imported \(ZeroDivisionError"),
        ("own_masks:Nth", {}, r"own_masks has no class 'Nth'; its classes: Arrays, ByRow, Counts, EveryNth"),
        ("own_masks:number", {}, r"no class 'number'"),
        ("own_masks:Half", {}, r"not a masking policy: it lacks initial_state, observe, describe"),
        ("own_masks:Inherits", {}, r"not a masking policy: it lacks check, initial_state, observe, describe\."),
        (
            "own_masks:EveryNth",
            {"m": 2},
            r"keywords rate, scores, m: TypeError: got an unexpected keyword argument 'm'",
        ),
        (
            "own_masks:Fails",
            {},
            r"task.dna_mask.policy=own_masks:Fails cannot be built.*ValueError: rate must be a fifth",
        ),
    ],
)
def test_own_class_refused(policy, options, message):
    with pytest.raises(RecipeError, match=message):
        build(policy, **options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "WrongCheck",
            r"check failed on a small trial with TypeError: .*num_kmers.*Wanted: check\(self, \*, num_tokens: int",
        ),
        ("WrongMask", r"mask failed on a small trial with TypeError"),
        ("NoMask", r"mask returned NoneType None. Wanted: a bool tensor \[4, 95\]"),
        ("Numbers", r"mask returned torch.float32 \[4, 95\] on cpu. Wanted: a bool tensor"),
        ("Transposed", r"mask returned torch.bool \[95, 4\]"),
        ("Specials", r"mask hides the special id 1\. Wanted: real tokens only"),
        ("ByRow", r"mask hides other tokens of the same samples .* function of \(seed, position\)"),
        ("Global", r"mask hides other tokens of the same samples"),
        ("InPlace", r"mask changes batch.ids in place"),
        ("Tuples", r"initial_state returned dict \{'seen': \(1, 2\)\}. Wanted: a dict that JSON gives back"),
        ("Arrays", r"observe returned a state that is no JSON \(Object of type ndarray"),
        ("Nothing", r"observe returned NoneType None"),
        ("Words", r"describe returned dict \{'stage': 'easy'\}. Wanted: a dict of names to float"),
        ("Unpicklable", r"cannot be pickled, and so not sent to the workers: .*lambda"),
    ],
)
def test_what_is_wrong_with_a_class_is_said_before_the_start(name, message):
    policy = build(f"own_masks:{name}")
    with pytest.raises(RecipeError, match=rf"^task.dna_mask.policy=own_masks:{name}:? {message}"):
        policy.check(**SIZES)


@pytest.mark.parametrize("stride", [1, 4, 6])
def test_trial_rows(stride):
    batch = trial_batch(num_kmers=95, k=6, stride=stride)
    assert batch.ids.shape == (4, 95 if stride == 1 else (100 - 6) // stride + 1)
    assert batch.real[[0, 3]].all()
    assert (batch.ids[1] == UNK).any()
    assert batch.ids[2, -1] == PAD
    assert batch.real[2].any()
    assert (batch.kmer_ids is batch.ids) is (stride == 1)


@pytest.mark.parametrize("policy", ["uniform", "span"])
def test_our_own_policies_pass_the_trial(policy):
    built = build_policy(DnaMaskConfig(policy=policy), scores=None)
    OwnPolicy(built, policy).check(**SIZES)
    OwnPolicy(built, policy).check(num_tokens=16, num_kmers=95, k=6, stride=6)
    assert torch.is_tensor(built.mask(trial_batch(num_kmers=95, k=6, stride=1), MOMENT))
