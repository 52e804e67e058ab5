"""The search over one row of the table: what it refuses, what a trial is, and a real one on sixty genes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from epilm import cli
from epilm.config import fingerprint, load_recipe, parse_recipe, to_yaml
from epilm.errors import RecipeError
from epilm.expression.languages import language_job
from epilm.expression.plan import ExpressionPlan, RowKey, check_expression
from epilm.expression.recipe import ExpressionRecipe
from epilm.expression.run import Study
from epilm.expression.store import Store
from epilm.expression.tune import BEST_FILE, check_tune_expression, run_tune_expression, write_best
from epilm.expression.tune_recipe import TuneExpressionRecipe
from epilm.expression.tune_rows import Row, reads
from epilm.expression.tune_table import format_trials
from epilm.expression.tune_trial import fit_trial, take_languages
from epilm.report import build_report
from epilm.runs import Run, read_metrics
from epilm.stages import STAGES
from epilm.storage import Location
from epilm.tasks.gene_table import GeneTable
from epilm.tune.log import TrialLog, read_events
from epilm.tune.recipe import TuneRecipe
from epilm.tune.records import Evaluation, TrialRecord

BINS, MARKS = 24, ("H3K4me3", "H3K27me3")
COUNTS = {"train": 36, "validation": 12, "test": 12}
DEPTH = {"boost.max_depth": {"values": [1, 3]}}


@pytest.fixture(scope="module")
def genes(tmp_path_factory) -> dict[str, Any]:
    """Sixty genes in DeepDiff's format whose expression follows the marks at the TSS; ``data`` and ``expression``."""
    folder, draw = tmp_path_factory.mktemp("tune-genes"), np.random.default_rng(7)
    ids = [f"ENSG{number:011d}" for number in range(sum(COUNTS.values()))]
    cells, counts = {}, {}
    for cell in ("a", "b"):
        marks = draw.poisson(draw.gamma(1.0, 2.0, size=(len(ids), 1, 2)), size=(len(ids), BINS, 2))
        level = 2.0 + 0.4 * (marks[:, 8:16, 0] - marks[:, 8:16, 1]).mean(axis=1) + draw.normal(0, 0.2, len(ids))
        cells[cell], begin = {}, 0
        for split, number in COUNTS.items():
            path = folder / f"{cell}.{split}.csv"
            path.write_text(
                "".join(
                    f"{ids[gene]}_G_{b + 1},{marks[gene, b, 0]},{marks[gene, b, 1]}\n"
                    for gene in range(begin, begin + number)
                    for b in range(BINS)
                )
            )
            cells[cell][split] = str(path)
            begin += number
        counts[cell] = str(folder / f"{cell}.expr.csv")
        lines = [f"{gene},{round(float(np.exp(value)))}\n" for gene, value in zip(ids, level, strict=True)]
        Path(counts[cell]).write_text("".join(lines))
    return {
        "data": {"kind": "deepdiff", "cells": cells, "columns": list(MARKS), "num_bins": BINS},
        "expression": {"kind": "counts", "files": counts},
        "pair": ["a", "b"],
    }


NOWHERE: dict[str, Any] = {
    "data": {
        "kind": "deepdiff",
        "cells": {c: dict.fromkeys(("train", "validation", "test"), "none") for c in "ab"},
        "columns": list(MARKS),
        "num_bins": BINS,
    },
    "expression": {"kind": "counts", "files": {"a": "none", "b": "none"}},
    "pair": ["a", "b"],
}


def settings(data: dict[str, Any] = NOWHERE, **changes: Any) -> dict[str, Any]:
    base = {
        "name": "base",
        "seeds": [0, 1],
        "num_bootstrap": 50,
        "importance_segments": 4,
        "boost": {"max_rounds": 30},
        **data,
    }
    return {
        "name": "sweep",
        "base": base,
        "row": {"arm": "levels", "inputs": "raw_d"},
        "space": DEPTH,
        "trials": 2,
    } | changes


def row(arm: str, space: dict[str, Any], inputs: str = "raw_d", **base: Any) -> dict[str, Any]:
    """Settings of a search over another row."""
    found = settings(row={"arm": arm, "inputs": inputs}, space=space)
    return found | {"base": found["base"] | base}


def sweep(data: dict[str, Any], storage: Path, **changes: Any) -> TuneExpressionRecipe:
    return parse_recipe(TuneExpressionRecipe, settings(data, storage=str(storage), **changes))


# -- which recipe it is -----------------------------------------------------------------------------------------------


def test_the_base_decides_which_search_it_is(tmp_path):
    def chosen(**raw: Any) -> type:
        return STAGES["tune"].load_for(raw)[0]

    (tmp_path / "base.yaml").write_text(yaml.safe_dump(settings()["base"]))
    (tmp_path / "other.yaml").write_text("name: base\ntask: {corpus: none}\ntrain: {steps: 1, global_batch: 8}\n")
    assert chosen(**settings()) is TuneExpressionRecipe
    assert chosen(base=str(tmp_path / "base.yaml")) is TuneExpressionRecipe
    assert chosen(base=str(tmp_path / "other.yaml")) is TuneRecipe
    assert chosen(base={"data": {}}) is TuneExpressionRecipe, "what is missing is said in its own words"
    assert chosen(base="no/such.yaml") is TuneRecipe
    assert chosen(base="no/such.yaml", row={}) is TuneExpressionRecipe
    assert chosen() is TuneRecipe


def test_a_stage_with_one_kind_of_recipe_has_that_one():
    assert STAGES["expression"].load_for({"base": settings()["base"]})[0] is ExpressionRecipe


def test_the_command_line_checks_either_search_and_lists_both(genes, tmp_path, capsys):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(settings(genes, storage=str(tmp_path))))
    assert cli.main(["tune", str(path), "--dry-run", "trials=3"]) == 0
    out = capsys.readouterr().out
    assert "trials: 3" in out
    assert "the recipe is valid and its inputs are there; nothing was started" in out
    assert cli.main(["tune", str(path), "--dry-run", "row.arm=level"]) == 2
    assert "row.arm='level' is no arm of the base; there are raw_tokens, " in capsys.readouterr().err
    assert cli.main(["tune", "--settings"]) == 0
    out = capsys.readouterr().out
    assert out.index("\nbudget_tokens  (") < out.index("# epilm tune whose base is a recipe of epilm expression")
    assert out.index("# epilm tune whose base is a recipe of epilm expression") < out.index("\ntrial_seeds  (")
    assert not (tmp_path / "sweep").exists()


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            settings(row={"arm": "level", "inputs": "raw"}),
            "row.arm='level' is no arm of the base; there are raw_tokens",
        ),
        (
            settings(
                row={"arm": "deepdiff", "inputs": "raw"},
                base=settings()["base"] | {"arms": {"deepdiff": {"kind": "deepdiff", "inputs": ["raw_c"]}}},
            ),
            "row.inputs='raw': base.arms.deepdiff.inputs has raw_c",
        ),
        (settings(base="no/such.yaml"), "no such expression recipe"),
        (settings(trial_seeds=[0, 0]), "different whole numbers"),
        (settings(ray={"dashboard": False}), "would hold its CPUs for ever"),
        (settings(mode="min"), "mode: Input should be 'max'"),
        (settings(metric="test/pearson"), "metric: Input should be 'validation/pearson'"),
        (
            settings(space={"seeds": {"values": [1, 2]}}),
            r"space\.seeds may not be changed here: a trial is fitted from trial_seeds",
        ),
        (settings(space={"data.num_bins": {"values": [1, 2]}}), "compared on the same genes"),
        (settings(space={"num_bootstrap": {"values": [1, 2]}}), "no trial is tested"),
        (settings(space={"boost.num_actors": {"values": [1, 2]}}), "changes where a trial runs"),
        (settings(space={"arms.levels.kind": {"values": ["levels", "tokens"]}}), "tune another one"),
        (settings(space={"arms.levels.inputs": {"values": [["raw"], ["raw_c"]]}}), r"row\.inputs says them"),
        (settings(space={"boost.max_dept": {"values": [1, 2]}}), "Did you mean 'max_depth'"),
        (
            settings(space={"boost.max_depth": {"values": [3, 40]}}),
            r"at \{'boost.max_depth': 40\}.*\n.*less than or equal to 16",
        ),
        # without effect on the row
        (settings(space={"words.levels": {"values": [3, 4]}}), "give thresholds, or"),
        (
            settings(space={"words.vocab_size": {"values": [300, 400]}}),
            r"words.vocab_size has no effect on the row levels raw_d, which reads arms.levels, boost. Remove it.",
        ),
        (settings(space={"ridge.alpha": {"values": [[1], [2]]}}), "ridge.alpha has no effect on the row levels"),
        (settings(space={"arms.deepdiff.patience": {"values": [1, 2]}}), "space.arms.deepdiff.patience has no effect"),
        (
            settings(space={"models.gtp2.hidden": {"values": [8, 16]}}),
            "the base has no model 'gtp2'; there are gpt2, roberta",
        ),
        (
            row("gpt2_static", {"models.roberta.hidden": {"values": [16, 32]}}),
            "models.roberta.hidden has no effect on the row gpt2_static raw_d, which reads arms.gpt2_static, words, models.gpt2",
        ),
        (row("gpt2_static", {"models.gpt2.mask_rate": {"values": [0.1, 0.2]}}), "mask_rate has no effect"),
        (row("gpt2_static", {"models.gpt2.train.num_workers": {"values": [1, 2]}}), "changes where a trial runs"),
        (row("gpt2_static", {"models.gpt2.hidden": {"values": [32, 36]}}), r"hidden=36 is not a multiple of heads=8"),
        (
            row("gpt2_static", {"models.gpt2.hidden": {"values": [8, 32]}, "models.gpt2.heads": {"values": [8, 16]}}),
            r"hidden=8 is not a multiple of heads=16",
        ),
        (row("deepdiff", {"arms.deepdiff.shape.aux_weight": {"values": [0.5, 1.0]}}), "aux_weight has no effect"),
        (
            row("deepdiff", {"arms.deepdiff.shape.aux": {"values": [False, True]}}, inputs="raw_c"),
            r"at \{'arms.deepdiff.shape.aux': True\}.*\n?.*the base with.*\n.*shape.aux needs the cell types' own marks",
        ),
        (
            settings(space=DEPTH | {"arms.levels.regressor": {"values": ["boost", "ridge"]}}),
            r"boost.max_depth has no effect .* which reads arms.levels, ridge. .*condition \(when\) on arms.levels.regressor",
        ),
        (row("a.b", DEPTH, arms={"a.b": {"kind": "levels"}}), "'a.b' has a dot"),
    ],
)
def test_searches_that_could_not_be_compared_are_refused(raw, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(TuneExpressionRecipe, raw)


def test_a_setting_that_only_some_trials_read_has_a_condition():
    regressor = {"arms.levels.regressor": {"values": ["boost", "ridge"]}}
    depth = {"boost.max_depth": {"values": [1, 3], "when": {"arms.levels.regressor": ["boost"]}}}
    recipe = parse_recipe(TuneExpressionRecipe, settings(space=regressor | depth))
    assert {frozenset(point) for point in recipe.points()} == {frozenset(regressor), frozenset(regressor | depth)}


@pytest.mark.parametrize(
    ("arm", "changes", "expected"),
    [
        ("raw_tokens", {}, ["arms.raw_tokens", "words", "boost"]),
        ("roberta_static", {}, ["arms.roberta_static", "words", "models.roberta", "boost"]),
        ("gpt2_end_to_end", {}, ["arms.gpt2_end_to_end", "words", "models.gpt2"]),
        ("svr", {}, ["arms.svr", "svr"]),
        ("deepdiff", {}, ["arms.deepdiff"]),
        (
            "own",
            {"arms": {"own": {"kind": "end_to_end", "pretrained": False}}},
            [
                "arms.own",
                "words",
                *(f"models.gpt2.{n}" for n in ("kind", "hidden", "layers", "heads", "context", "dropout")),
            ],
        ),
    ],
)
def test_what_a_row_reads(arm, changes, expected):
    base = parse_recipe(ExpressionRecipe, settings()["base"] | changes)
    assert reads(base, Row(arm=arm, inputs="raw_d")) == expected


def test_points_that_the_genes_do_not_allow_are_refused_before_the_first_trial(genes, tmp_path):
    segments = {"arms.levels.segments": {"values": [3, BINS + 1]}}
    with pytest.raises(
        RecipeError, match=r"space, at \{'arms.levels.segments': 25\}: arms.levels.segments=25: allowed are 1 to 24"
    ):
        check_tune_expression(sweep(genes, tmp_path, space=segments))
    assert check_tune_expression(sweep(genes, tmp_path)).pairs.num_genes == COUNTS


def test_trainings_must_fit_beside_each_other(genes, tmp_path, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    raw = row("gpt2_static", DEPTH, max_concurrent=2, **genes) | {"max_concurrent": 2, "storage": str(tmp_path)}
    check_tune_expression(parse_recipe(TuneExpressionRecipe, raw | {"ray": {"num_cpus": 8}}))
    with pytest.raises(
        RecipeError, match=r"each trial needs 4 CPUs.*enough for 1.*base.max_concurrent=2.*base.models.gpt2.train"
    ):
        check_tune_expression(parse_recipe(TuneExpressionRecipe, raw | {"ray": {"num_cpus": 7}}))


# -- what a trial is --------------------------------------------------------------------------------------------------


def test_a_trial_is_the_base_reduced_to_one_row(genes, tmp_path):
    space = {"words.thresholds": {"values": [[1, 2], [1, 3, 6]]}, "arms.gpt2_static.segments": {"values": [2, 4]}}
    raw = row("gpt2_static", space, **genes, published={"num_tokens": 5}, importance={"ridge": "raw"})
    recipe = parse_recipe(TuneExpressionRecipe, raw | {"storage": str(tmp_path), "trial_seeds": [3, 4]})
    plan = check_tune_expression(recipe)
    trial = plan.trial({"number": 7, "words.thresholds": [1, 3, 6], "arms.gpt2_static.segments": 4})
    assert (trial.id, trial.path) == ("t007", "trials/t007")
    assert trial.parameters == {"words.thresholds": [1, 3, 6], "arms.gpt2_static.segments": 4}
    assert list(ExpressionPlan(trial.recipe, plan.pairs).keys) == [RowKey("gpt2_static", "raw_d")]
    assert trial.recipe.words.thresholds == (1.0, 3.0, 6.0)
    assert trial.recipe.arms["gpt2_static"].segments == 4
    assert trial.recipe.seeds == (3, 4)
    assert trial.recipe.boost == recipe.base.boost
    assert (trial.recipe.published, trial.recipe.importance) == (None, {})
    assert (trial.recipe.name, trial.recipe.storage) == ("t007", f"{tmp_path}/sweep/trials")
    assert (trial.evaluations, trial.size, trial.index_of(9), trial.tokens_at(1)) == (1, "from 2 seeds", 1, None)


def test_a_base_may_lie_in_a_file_and_places_decide_nothing(tmp_path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(settings()["base"]))
    recipe = parse_recipe(TuneExpressionRecipe, settings(base=str(tmp_path / "base.yaml"), ray={"num_cpus": 3}))
    (tmp_path / "resolved.yaml").write_text(to_yaml(recipe))
    again = load_recipe(TuneExpressionRecipe, tmp_path / "resolved.yaml")
    moved = settings(storage="elsewhere")
    moved["base"] = moved["base"] | {"expression": {"kind": "counts", "files": {"a": "moved", "b": "moved"}}}
    assert again.base == recipe.base
    assert recipe.ray.dashboard
    assert fingerprint(again.identity()) == fingerprint(parse_recipe(TuneExpressionRecipe, moved).identity())
    assert fingerprint(again.identity()) != fingerprint(
        parse_recipe(TuneExpressionRecipe, settings(trials=3)).identity()
    )


def record(id_: str, value: float | None, parameters: dict[str, Any], error: str | None = None) -> TrialRecord:
    evaluations = () if value is None else (Evaluation(1, None, value),)
    status = "failed" if value is None else "finished"
    return TrialRecord(id_, f"trials/{id_}", parameters, status, evaluations, None, 61.4, error)


def test_the_best_trial_is_the_whole_base_under_its_settings(genes, tmp_path):
    plan = check_tune_expression(sweep(genes, tmp_path))
    plan.folder.mkdir()
    write_best(plan.recipe, plan, record("t001", 0.61, {"boost.max_depth": 3}))
    best = load_recipe(ExpressionRecipe, f"{plan.folder}/{BEST_FILE}")
    assert best.name == "sweep-best"
    assert best.boost.max_depth == 3
    assert best.model_copy(update={"name": "base", "boost": plan.recipe.base.boost}) == plan.recipe.base
    check_expression(best)


def test_the_log_tells_of_trials_without_tokens(genes, tmp_path):
    class Tuned:
        config = {"number": 0, "boost.max_depth": 3}
        last_result = {"evaluation": 1, "value": 0.5}

    plan = check_tune_expression(sweep(genes, tmp_path))
    (plan.folder / "trials" / "t000").mkdir()
    (plan.folder / "trials" / "t000" / "result.json").write_text("{}")
    (plan.folder / "trials" / "t000" / "metrics.jsonl").write_text(
        '{"kind": "eval", "step": 1, "set": "validation", "pearson": 0.5}\n'
    )
    lines: list[str] = []
    log = TrialLog(plan, plan.folder / "metrics.jsonl", lines.append, group="trial", total=2, mode="max")
    log.on_trial_start(0, [], Tuned)
    log.on_trial_result(0, [], Tuned, Tuned.last_result)
    log.on_trial_complete(0, [], Tuned)
    assert lines[0] == "t000 starts (has 1 of 1 evaluations): max_depth=3  from seed 0"
    assert lines[1:] == ["t000 1/1  validation/pearson 0.5", "t000 finished at 0.5  1 of 2 left  best so far t000 0.5"]
    assert [e.get("tokens") for e in read_events(plan.folder / "metrics.jsonl", "trial")] == [None, None, None]


def test_trials_as_a_table():
    best = record("t002", 0.62, {"words.thresholds": [1, 2], "lr": 0.0123456})
    failed = record("t000", None, {"words.thresholds": None}, "no such file\nmore")
    other = record("t001", -0.1, {"words.thresholds": [1, 3, 6], "lr": 0.1})
    assert format_trials([failed, other, best], ["words.thresholds", "lr"], best).splitlines() == [
        "trial  validation r  words.thresholds  lr       time",
        "t002   0.6200        [1, 2]            0.01235  61 s  *",
        "t001   -0.1000       [1, 3, 6]         0.1      61 s",
        "t000   failed        null              -        61 s  no such file",
    ]


def test_language_models_of_other_trials_are_taken_where_all_is_the_same(genes, tmp_path):
    space = {"boost.max_depth": {"values": [1, 3]}, "models.gpt2.hidden": {"values": [8, 16]}}
    recipe = parse_recipe(TuneExpressionRecipe, row("gpt2_static", space, **genes) | {"storage": str(tmp_path)})
    plan = check_tune_expression(recipe)

    def study(number: int, depth: int, hidden: int) -> Study:
        trial = plan.trial({"number": number, "boost.max_depth": depth, "models.gpt2.hidden": hidden})
        folder = (plan.folder / trial.path).mkdir()
        return Study(ExpressionPlan(trial.recipe, plan.pairs), Run(folder, resumed=False), lambda message: None)

    def job(of: Study):
        own, model = of.plan, of.plan.recipe.models["gpt2"]
        return language_job(own, "gpt2", model, own.tokenizer, of.table, of.run.folder / "models", 0)

    first = job(study(0, 1, 16))
    first.model.mkdir()
    (first.model / "weights.bin").write_text("learnt")
    (first.folder / "metrics.jsonl").write_text("{}\n")
    same, other = study(1, 3, 16), study(2, 3, 8)
    take_languages(same, plan.folder)
    assert not (job(same).folder).exists(), "the first is not finished"
    (first.folder / "result.json").write_json({"identity": first.identity, "best": {}})
    for of in (same, other):
        take_languages(of, plan.folder)
    assert job(same).finished == {"identity": first.identity, "best": {}}
    assert (job(same).model / "weights.bin").read_text() == "learnt"
    assert job(other).finished is None
    assert not job(other).folder.exists()


# -- a real one -------------------------------------------------------------------------------------------------------


@pytest.mark.training
@pytest.mark.ray
def test_a_search_its_confirmation_and_its_resumption(genes, tmp_path, ray_local):
    space = {"boost.max_depth": {"low": 1, "high": 4, "int": True}, "arms.levels.segments": {"values": [3, None]}}
    # a relative storage: Tune runs trials in folders of their own
    recipe = sweep(genes, Path(os.path.relpath(tmp_path)), space=space, max_concurrent=2, confirm={"seeds": 2})
    lines: list[str] = []
    result = run_tune_expression(recipe, progress=lines.append)
    folder = Location(str(tmp_path)) / "sweep"
    key, validation = RowKey("levels", "raw_d"), {}
    for trial in result["trials"]:
        run = folder / trial["run"]
        assert trial["status"] == "finished"
        assert set(trial["parameters"]) == set(space)
        assert [r["pearson"] for r in read_metrics(run)] == [trial["value"]]
        kept = (run / "result.json").read_json()
        assert set(kept) == {"stage", "name", "validation", "chosen", "epilm_version", "finished"}, "no test score"
        validation[trial["id"]] = trial["value"]
    assert sorted(validation) == ["t000", "t001"]
    best = max(validation, key=lambda id_: validation[id_])
    assert result["best"]["id"] == best
    assert result["best"]["value"] > 0.3, "the marks decide the expression"
    written = load_recipe(ExpressionRecipe, f"{folder}/{BEST_FILE}")
    assert written.boost.max_depth == result["best"]["parameters"]["boost.max_depth"]
    confirm = result["confirm"]
    assert [arm["name"] for arm in confirm["arms"]] == ["best", "base"]
    plan = check_tune_expression(recipe)
    pairs, test = plan.pairs, plan.pairs.rows("test")
    means = {}
    for arm in confirm["arms"]:
        assert [run["seed"] for run in arm["runs"]] == [1, 2], "seeds that the search did not use"
        run = folder / "confirm" / arm["name"]
        store = Store(run / "parts", GeneTable(run / "genes.parquet", "").genes)
        r = [np.corrcoef(pairs.target[test], store.get(key, seed).prediction[test])[0, 1] for seed in (1, 2)]
        assert [run["metrics"]["test/pearson"] for run in arm["runs"]] == pytest.approx(r)
        means[arm["name"]] = np.mean(r)
    margin = next(m for m in confirm["margins"] if m["metric"] == "test/pearson")
    assert margin["arm"] == "best"
    assert margin["mean"] == pytest.approx(means["best"] - means["base"], abs=1e-6)
    assert margin["low"] <= margin["mean"] <= margin["high"]
    assert any(line.startswith("trial  validation r") for line in lines)

    before = {id_: (folder / "trials" / id_ / "result.json").read_text() for id_ in validation}
    again: list[str] = []
    resumed = run_tune_expression(recipe, on_existing="resume", progress=again.append)
    assert not any("starts" in line for line in again), "finished trials are kept"
    assert {k: v for k, v in resumed.items() if k != "finished"} == {k: v for k, v in result.items() if k != "finished"}
    for number, trial in enumerate(result["trials"]):  # killed before Tune noted the end
        lost = plan.trial({"number": number, **trial["parameters"]})
        assert fit_trial(lost, plan) == trial["value"]
        assert (folder / trial["run"] / "result.json").read_text() == before[trial["id"]], "not fitted again"
    page = Location(str(tmp_path)) / "page.html"
    build_report([folder], page, title="sweep")
    assert "Pearson r on validation" in page.read_text()
