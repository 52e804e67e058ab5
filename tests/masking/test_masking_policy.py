"""From settings to a policy: checks before the start, and pickling."""

import pickle
import re

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
    with pytest.raises(RecipeError, match=r"read for k=5, but task.tokens.k=6"):
        built.check(num_tokens=100, num_kmers=100, k=6, stride=1)


@pytest.mark.parametrize("policy", SCORED)
def test_scores_must_have_been_read(policy):
    with pytest.raises(RecipeError, match=rf"policy={policy} ranks k-mers by NPMI, but no scores were read"):
        build_policy(config(policy), scores=None)


@pytest.mark.parametrize("policy", SCORED)
def test_the_published_error_is_for_overlapping_tokens(policy):
    built = build_policy(config(policy, published=True), scores=random_scores(6))
    built.check(num_tokens=100, num_kmers=100, k=6, stride=1)
    with pytest.raises(RecipeError, match=r"task.tokens.stride=6. Set task.tokens.stride=1"):
        built.check(num_tokens=20, num_kmers=100, k=6, stride=6)


@pytest.mark.parametrize("policy", ["cm-step", "cm-gems"])
def test_short_windows_are_blamed_on_the_policy_of_the_recipe(policy):
    built = build_policy(config(policy), scores=random_scores(6))
    with pytest.raises(RecipeError, match=rf"^task.dna_mask.policy={policy} hides spans"):
        built.check(num_tokens=10, num_kmers=10, k=6, stride=1)


@pytest.mark.parametrize(
    ("policy", "settings", "sizes", "message"),
    [
        (
            "global",
            {"global_pmi": {"fixed_m": 100}},
            (26, 26, 1),
            r"fixed_m=100 hides 100 k-mers with up to 11 tokens.*Give 1 ",
        ),
        ("global", {"global_pmi": {"fixed_m": 1}}, (11, 11, 1), r"fixed_m=1 .* Give windows that are longer"),
        ("global", {"global_pmi": {"binomial_m": 0.1}}, (510, 510, 1), r"binomial_m=0.1 .*Give 0.0454 or less"),
        ("cm-gems", {"global_pmi": {"fixed_m": 24}}, (510, 510, 1), r"Give 23 or less"),
        ("global", {"global_pmi": {"fixed_m": 22}}, (85, 505, 6), r"with up to 2 tokens .*Give 21 or less"),
        (
            "span",
            {"span": {"centre_probability": 0.2}},
            (510, 510, 1),
            r"span.centre_probability=0.2 hides 74%.*Give 0.109 ",
        ),
        (
            "genemask",
            {"genemask": {"centre_probability": 0.2}},
            (510, 510, 1),
            r"genemask.centre_probability=0.2 hides 8",
        ),
        ("cm-step", {"genemask": {"centre_probability": 1.0}}, (510, 510, 1), r"centre_probability=1 hides 100%"),
    ],
    ids=str,
)
def test_no_more_than_half_is_hidden(policy, settings, sizes, message):
    """The largest value that the message names is allowed."""
    num_tokens, num_kmers, stride = sizes
    window = {"num_tokens": num_tokens, "num_kmers": num_kmers, "k": 6, "stride": stride}
    with pytest.raises(RecipeError, match=rf"^task.dna_mask.*{message}") as caught:
        build_policy(config(policy, **settings), scores=random_scores(6)).check(**window)
    largest = re.search(r"Give ([\d.e-]+) or less", str(caught.value))
    if largest:
        ((group, setting),) = settings.items()
        allowed = {group: {name: float(largest[1]) for name in setting}}
        build_policy(config(policy, **allowed), scores=random_scores(6)).check(**window)


@pytest.mark.parametrize("number", [{"fixed_m": 7}, {"binomial_m": 0.0136}], ids=str)
def test_the_published_numbers_are_allowed(number):
    build_policy(config("global", global_pmi=number), scores=random_scores(6)).check(
        num_tokens=510, num_kmers=510, k=6, stride=1
    )
