"""The recipes refuse what could not be compared, before anything starts; the best trial is a recipe of its own."""

from __future__ import annotations

import pytest
import yaml

from epilm.config import fingerprint, load_recipe, parse_recipe, to_yaml
from epilm.errors import RecipeError
from epilm.session import RayConfig
from epilm.train.recipe import PretrainRecipe, TrainConfig
from epilm.tune.check import check_compare, check_concurrency
from epilm.tune.recipe import CompareRecipe, TuneRecipe
from epilm.tune.records import Evaluation, TrialRecord
from epilm.tune.sweep import BEST_FILE, write_best

MASK = "task.dna_mask"


def settings(**changes):
    base = {
        "name": "base",
        "task": {"corpus": "runs/none", "tokens": {"k": 6, "stride": 1}, "model": {"kind": "dbert"}},
        "train": {"steps": 100, "global_batch": 8, "num_workers": 1},
    }
    return {
        "name": "sweep",
        "base": base,
        "space": {"train.optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}},
        "budget_tokens": 64_000,
        "trials": 4,
    } | changes


def arms(**changes):
    tune = settings()
    return {
        "name": "compare",
        "base": tune["base"],
        "arms": {"uniform": {}, "span": {f"{MASK}.policy": "span"}},
        "baseline": "uniform",
    } | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {}}, "space"),
        ({"space": {"train.lr": {"values": [1, 2]}}}, r"train\.lr: unknown setting"),
        ({"space": {"train.optimizer.learning_rate": {"low": 1, "high": 2}}}, "unknown setting"),
        ({"space": {"seed": {"values": [1, 2]}}}, "seed may not be changed"),
        ({"space": {"task.evaluation.seed": {"values": [1, 2]}}}, "one common evaluation"),
        ({"space": {"train.steps": {"values": [100, 200]}}}, "follows from the budget"),
        ({"space": {"train.optimizer.lr": {"values": [1e-3, -1]}}}, r"lr': -1.*\n.*greater than 0"),
        (
            {"space": {"task.model.num_heads": {"low": 11, "high": 12, "int": True}}},
            r"num_heads': 11.*\n.*not a multiple",
        ),
        ({"space": {f"{MASK}.rate": {"low": 0.1, "high": 0.9}}}, r"rate': 0\.9.*\n.*less than or equal to 0\.5"),
        ({"space": {f"{MASK}.policy": {"values": ["span", "spam"]}}}, "unknown policy"),
        ({"space": {f"{MASK}.policy": {"values": ["span", "genemask"]}}}, "needs table"),
        (
            {
                "space": {
                    f"{MASK}.policy": {"values": ["uniform", "span"]},
                    f"{MASK}.span.centre_probability": {"low": 0.01, "high": 0.05},
                }
            },
            "span has no effect on policy 'uniform'",
        ),
        ({"metric": "test_contigs/base_loss"}, "nothing may be chosen"),
        ({"asha": {"grace": 8}}, "stops no trial"),
        ({"ray": {"dashboard": False}}, "would hold its CPUs for ever"),
        ({"confirm": {"baseline": {"task.evaluation.test": True}}}, r"confirm\.baseline\.task\.evaluation\.test"),
        ({"confirm": {"baseline": {f"{MASK}.policy": "none"}}}, "unknown policy"),
        ({"base": "no/such.yaml"}, "no such pretrain recipe"),
    ],
)
def test_searches_that_could_not_be_compared_are_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(TuneRecipe, settings(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"uniform": {}}}, "at least 2"),
        ({"baseline": "genemask"}, "is no arm; the arms are uniform, span"),
        ({"seeds": [0, 0]}, "different whole numbers"),
        ({"seeds": []}, "different whole numbers"),
        ({"arms": {"uniform": {}, "a/b": {}}}, "names a folder"),
        ({"arms": {"uniform": {}, "other": {"seed": 1}}}, r"arms\.other\.seed may not be changed"),
        ({"arms": {"uniform": {}, "other": {"task.tokns.k": 1}}}, r"arms\.other:\n.*unknown setting"),
    ],
)
def test_comparisons_that_are_none_are_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(CompareRecipe, arms(**changes))


def test_arms_must_see_the_same_tokens(empty_corpus, tmp_path):
    raw = arms(storage=str(tmp_path), arms={"uniform": {}, "k5": {"task.tokens.k": 5}})
    raw["base"] = settings()["base"] | {"task": {"corpus": empty_corpus, "tokens": {"k": 6}}}
    with pytest.raises(RecipeError, match=r"would not see the same tokens.*Give budget_tokens"):
        check_compare(parse_recipe(CompareRecipe, raw))


def test_a_base_may_lie_in_a_file_and_is_kept_whole(tmp_path, monkeypatch):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(settings()["base"]))
    monkeypatch.chdir(tmp_path)
    recipe = parse_recipe(TuneRecipe, settings(base="base.yaml", fail_fast=True, ray={"num_cpus": 3}))
    (tmp_path / "resolved.yaml").write_text(to_yaml(recipe))
    again = load_recipe(TuneRecipe, tmp_path / "resolved.yaml")
    assert again.base == recipe.base
    inline = parse_recipe(TuneRecipe, settings())
    assert fingerprint(again.identity()) == fingerprint(inline.identity()), "places decide nothing"
    other = parse_recipe(TuneRecipe, settings(trials=5))
    assert fingerprint(other.identity()) != fingerprint(inline.identity())


def test_the_dashboard_is_on_whatever_else_ray_is_told():
    assert parse_recipe(TuneRecipe, settings()).ray.dashboard
    assert parse_recipe(TuneRecipe, settings(ray={"num_cpus": 3})).ray == RayConfig(num_cpus=3, dashboard=True)


@pytest.mark.parametrize(("num_cpus", "max_concurrent", "fits"), [(4, 2, True), (4, 3, False), (3, 1, True)])
def test_trials_must_fit_beside_each_other(num_cpus, max_concurrent, fits, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    train = TrainConfig(steps=1, global_batch=8, num_workers=1)
    if fits:
        check_concurrency(train, max_concurrent, RayConfig(num_cpus=num_cpus))
        return
    with pytest.raises(RecipeError, match=r"max_concurrent=3.*enough for 2\. Use max_concurrent=2.*ray\.num_cpus=6"):
        check_concurrency(train, max_concurrent, RayConfig(num_cpus=num_cpus))


def test_trials_differ_in_what_was_drawn_alone(make_sweep):
    _, plan = make_sweep(task={"dna_mask": {"policy": "span", "span": {"centre_probability": 0.05}}})
    first = plan.trial({"number": 0, f"{MASK}.policy": "uniform"})
    second = plan.trial({"number": 11, f"{MASK}.policy": "span", "train.global_batch": 16})
    assert (first.id, first.path, second.path) == ("t000", "trials/t000", "trials/t011")
    assert first.parameters == {f"{MASK}.policy": "uniform"}
    assert (first.steps, first.every, second.steps, second.every) == (80, 20, 40, 10)
    assert first.tokens == second.tokens == 64_000
    assert first.recipe.train.checkpoint_every_steps == 20
    assert first.recipe.train.optimizer.warmup_steps == 8
    assert first.recipe.task.dna_mask.span is None
    assert second.recipe.task.dna_mask.span is not None
    assert first.recipe.seed == second.recipe.seed == 0
    assert first.recipe.storage == f"{plan.folder}/trials"
    assert [first.index_of(step) for step in (20, 40, 80)] == [1, 2, 4]


def test_the_best_trial_is_a_recipe_of_its_own(make_sweep):
    recipe, plan = make_sweep(task={"evaluation": {"max_windows": 16, "test_contigs": ["chr3"], "test": True}})
    parameters = {"train.optimizer.lr": 0.002}
    record = TrialRecord(
        "t002", "trials/t002", parameters, "finished", (Evaluation(4, 64_000, 1.2),), 64_000, 9.0, None
    )
    plan.folder.mkdir()
    write_best(recipe, plan, record)
    best = load_recipe(PretrainRecipe, f"{plan.folder}/{BEST_FILE}")
    trial = plan.trial({"number": 2, **parameters}).recipe
    assert (best.name, best.storage) == ("sweep-best", recipe.base.storage)
    assert not best.task.evaluation.test, "the confirmation has read the test set"
    assert not trial.task.evaluation.test, "no trial reads the test set"
    assert best.task.corpus == recipe.base.task.corpus
    as_best = trial.model_copy(update={"task": trial.task.model_copy(update={"evaluation": best.task.evaluation})})
    kept = {"checkpoint_every_steps", "checkpoints_kept"}
    assert as_best.task == best.task
    assert as_best.seed == best.seed
    assert as_best.train.model_dump(exclude=kept) == best.train.model_dump(exclude=kept)
