"""Dotted settings over a recipe: nested, never without effect, and free of another policy's groups."""

from __future__ import annotations

import pytest

from epilm.errors import RecipeError
from epilm.tune.overrides import FIXED, absolute_paths, check_key, lay_over

BASE = {
    "task": {
        "corpus": "runs/corpus",
        "dna_mask": {
            "policy": "cm-step",
            "rate": 0.2,
            "table": "runs/npmi",
            "published": True,
            "cm_step": {"stages": 5, "easy": "span"},
            "span": {"centre_probability": 0.03},
            "global_pmi": {"fixed_m": 3},
        },
    }
}


def masked(**overrides):
    return lay_over(BASE, {f"task.dna_mask.{key}": value for key, value in overrides.items()})["task"]["dna_mask"]


def test_values_are_set_and_the_base_is_left_alone():
    laid = lay_over(BASE, {"train.optimizer.lr": 0.1, "task.dna_mask.rate": 0.3})
    assert laid["train"] == {"optimizer": {"lr": 0.1}}
    assert laid["task"]["dna_mask"] == BASE["task"]["dna_mask"] | {"rate": 0.3}
    assert BASE["task"]["dna_mask"]["rate"] == 0.2
    with pytest.raises(RecipeError, match="'corpus' is a value"):
        lay_over(BASE, {"task.corpus.path": "x"})


def test_groups_of_another_policy_fall_away():
    assert masked(policy="uniform") == {"policy": "uniform", "rate": 0.2, "table": "runs/npmi"}
    assert masked(policy="span").keys() == {"policy", "rate", "table", "span"}
    assert masked(policy="global").keys() == {"policy", "rate", "table", "published", "global_pmi"}


def test_a_setting_of_the_policy_can_decide_too():
    assert "span" not in lay_over(BASE, {"task.dna_mask.cm_step.easy": "genemask"})["task"]["dna_mask"]
    assert "span" in masked(rate=0.1)


def test_what_the_overrides_say_is_never_dropped():
    laid = lay_over(BASE, {"task.dna_mask.policy": "uniform", "task.dna_mask.cm_gems.patience": 2})
    assert laid["task"]["dna_mask"]["cm_gems"] == {"patience": 2}  # the recipe then refuses it


@pytest.mark.parametrize(
    "key", [*FIXED, "task.evaluation.seed", "task.evaluation.test_contigs", "ray.num_cpus", "train"]
)
def test_what_would_make_trials_incomparable_is_refused(key):
    with pytest.raises(RecipeError, match=rf"space\.{key} may not be changed here"):
        check_key(key, where="space")


@pytest.mark.parametrize("key", ["task.dna_mask.policy", "train.global_batch", "task.tokens.k", "train.optimizer.lr"])
def test_the_rest_may_vary(key):
    check_key(key, where="space")


def test_relative_places_count_from_where_the_stage_was_started():
    laid = absolute_paths(lay_over(BASE, {"task.model.weights": "/models/a"}), "/home/me")
    assert laid["task"]["corpus"] == "/home/me/runs/corpus"
    assert laid["task"]["dna_mask"]["table"] == "/home/me/runs/npmi"
    assert laid["task"]["model"]["weights"] == "/models/a"
    assert absolute_paths({"task": {"corpus": "s3://b/c"}}, "/home/me") == {"task": {"corpus": "s3://b/c"}}
