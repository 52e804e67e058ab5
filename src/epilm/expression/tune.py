"""``epilm tune`` over an expression recipe: search over one row of its table, choice on validation genes, and the confirmation
of the choice on the test genes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from epilm.config import fingerprint
from epilm.errors import EpilmError, RecipeError
from epilm.expression.plan import ExpressionPlan, check_arms, check_expression
from epilm.expression.recipe import DeepDiffArm, EndToEndArm, ExpressionRecipe
from epilm.expression.run import Study
from epilm.expression.scores import margin, seed_scores
from epilm.expression.tune_recipe import METRIC, TuneExpressionRecipe
from epilm.expression.tune_rows import best_recipe
from epilm.expression.tune_table import format_trials
from epilm.expression.tune_trial import CONFIRM, TRIALS, RowSweepPlan, fit_row, open_row, run_trial
from epilm.histone.pairs import fingerprint_of
from epilm.runs import OnExisting, open_run
from epilm.session import ray_session
from epilm.storage import Location
from epilm.tune.check import check_concurrency
from epilm.tune.experiment import search_space
from epilm.tune.overrides import as_mapping
from epilm.tune.records import TrialRecord, best_of, spent
from epilm.tune.search import importance
from epilm.tune.table import format_comparison

BEST_FILE = "best.yaml"
BEST, BASE = "best", "base"
SETS = ("validation", "test")
FIGURE = METRIC.rpartition("/")[2]

Progress = Callable[[str], None]


def check_tune_expression(recipe: TuneExpressionRecipe) -> RowSweepPlan:
    """Read the genes and refuse bad input before anything starts; return the plan.

    Raises:
        EpilmError: files that are absent or do not join; a point of the space that does not fit them; a machine that cannot
            hold the trainings.
    """
    pairs = check_expression(recipe.at({}, {"name": BASE})).pairs
    plan = RowSweepPlan(recipe, pairs, Location(recipe.storage) / recipe.name)
    arm = recipe.base.arms[recipe.row.arm]
    trainings = {f"arms.{recipe.row.arm}": arm.train} if isinstance(arm, EndToEndArm | DeepDiffArm) else {}
    done: set[str] = set()
    for drawn in recipe.points():
        point = ExpressionPlan(plan.make("trial", TRIALS, dict(drawn), recipe.trial_seeds).recipe, pairs)
        trainings |= {f"models.{name}": point.recipe.models[name].train for name in point.used_models}
        looked_at = _looked_at(point.recipe, recipe.row.arm)
        if looked_at not in done:
            try:
                check_arms(point)
            except EpilmError as error:
                raise RecipeError(f"space, at {drawn}: {error}") from error
            done.add(looked_at)
    for where, train in trainings.items():
        check_concurrency(
            train,
            recipe.max_concurrent,
            recipe.ray,
            side_by_side=recipe.base.max_concurrent,
            where=f"base.{where}.train",
        )
    return plan


def _looked_at(trial: ExpressionRecipe, arm: str) -> str:
    """Fingerprint of what a trial's check depends on; what a space may vary of a training is no part of it."""
    settings = trial.arms[arm].model_dump(mode="json", exclude={"train"})
    return fingerprint([trial.words.model_dump(mode="json"), settings])


def run_tune_expression(
    recipe: TuneExpressionRecipe, *, on_existing: OnExisting = "refuse", progress: Progress = lambda message: None
) -> dict[str, Any]:
    """Run ``epilm tune`` over an expression recipe; return the content of ``result.json``.

    Raises:
        EpilmError: bad input, before anything starts; or no trial came to its end, or a training of the confirmation failed:
            what is done is kept.
    """
    plan = check_tune_expression(recipe)
    run = open_run(recipe, stage="tune", on_existing=on_existing, data={"genes": fingerprint_of(plan.pairs)})
    progress(f"run folder {run.folder}" + (" (resumed)" if run.resumed else ""))
    counts = ", ".join(f"{number:,} {split}" for split, number in plan.pairs.num_genes.items())
    progress(f"{recipe.row} on {counts} genes: {recipe.trials} trials by {METRIC}")
    with ray_session(recipe.ray):
        records = search_space(recipe, plan, run, progress, trainable=run_trial)
        best = best_of(records, recipe.mode)
        if best is None:
            raise EpilmError(_none_ended(records))
        write_best(recipe, plan, best)
        table = format_trials(records, list(recipe.space), best)
        for line in table.splitlines():
            progress(line)
        progress(f"best: {best.id} {METRIC} {best.value:.4f}, written to {run.folder / BEST_FILE}")
        confirmation = _confirm(recipe, plan, best, progress) if recipe.confirm else None
    return run.finish(result_of(recipe, records, best, confirmation) | {"table": table})


def _none_ended(records: list[TrialRecord]) -> str:
    errors = [f"{r.id}: {r.error}" for r in records if r.error]
    told = f" The first error is of {errors[0]}" if errors else ""
    return f"no trial came to its end ({len(errors)} of {len(records)} failed).{told} --resume tries them again."


def write_best(recipe: TuneExpressionRecipe, plan: RowSweepPlan, best: TrialRecord) -> None:
    """The base under the best trial's settings, as a recipe that ``epilm expression`` runs as it is."""
    chosen = best_recipe(recipe.base, best.parameters, f"{recipe.name}-best")
    place = plan.folder / BEST_FILE
    head = f"# Trial {best.id} of the search {recipe.name} over {recipe.row}: {METRIC} {best.value:.4f}.\n"
    place.write_text(f"{head}#   epilm expression {place}\n" + yaml.safe_dump(as_mapping(chosen), sort_keys=False))


def _confirm(recipe: TuneExpressionRecipe, plan: RowSweepPlan, best: TrialRecord, progress: Progress) -> dict[str, Any]:
    """Best and base from seeds that the search never used, on the test genes once; nothing is chosen on it."""
    assert recipe.confirm is not None
    first = max(recipe.trial_seeds) + 1
    seeds = tuple(range(first, first + recipe.confirm.seeds))
    trials = {arm: plan.make(arm, CONFIRM, p, seeds) for arm, p in ((BEST, best.parameters), (BASE, {}))}
    if trials[BEST].recipe.identity() == trials[BASE].recipe.identity():
        progress("the best trial is the base itself: fresh seeds show its spread, not a margin")
        del trials[BASE]
    studies = {}
    for arm, trial in trials.items():
        run = open_row(trial, plan)
        progress(f"{CONFIRM}/{arm} {trial.size}")
        studies[arm] = fit_row(trial, plan, run, progress)
    against = BASE if BASE in trials else BEST
    comparison = _compare(recipe, plan, studies, {arm: trial.parameters for arm, trial in trials.items()}, against)
    interval = f"{recipe.base.confidence:.0%} interval over resampled genes"
    for line in format_comparison(comparison, interval).splitlines():
        progress(line)
    return comparison


def _compare(
    recipe: TuneExpressionRecipe,
    plan: RowSweepPlan,
    studies: Mapping[str, Study],
    overrides: Mapping[str, dict[str, Any]],
    against: str,
) -> dict[str, Any]:
    """r of every arm and seed on validation and test genes, and margins over the same resamples of genes."""
    options = {"num": recipe.base.num_bootstrap, "seed": recipe.base.seed, "level": recipe.base.confidence}
    seeds = {arm: study.plan.seeds_of(plan.key.arm) for arm, study in studies.items()}
    truth = {name: plan.pairs.target[plan.pairs.rows(name)] for name in SETS}
    predicted = {
        (arm, name): study.store.matrix(plan.key, seeds[arm], name) for arm, study in studies.items() for name in SETS
    }
    scores = {(arm, name): seed_scores(truth[name], found, **options) for (arm, name), found in predicted.items()}
    arms = [
        {
            "name": arm,
            "overrides": overrides[arm],
            "runs": [
                {
                    "seed": seed,
                    "metrics": {f"{name}/{FIGURE}": scores[arm, name]["values"][index] for name in SETS},
                    "run": f"{CONFIRM}/{arm}",
                }
                for index, seed in enumerate(seeds[arm])
            ],
            "summary": {f"{name}/{FIGURE}": scores[arm, name] | {"n": len(seeds[arm])} for name in SETS},
        }
        for arm in studies
    ]
    margins = []
    for arm in studies:
        for name in SETS if arm != against else ():
            found = margin(truth[name], predicted[arm, name], predicted[against, name], **options)
            shown = {"mean": found["value"], "low": found["low"], "high": found["high"], "n": len(seeds[arm])}
            margins.append({"arm": arm, "metric": f"{name}/{FIGURE}", **shown})
    reading = (
        f"Dots are single seeds, the tick is their mean; whiskers are {recipe.base.confidence:.0%} intervals over resampled "
        "genes, the same resamples for both arms, so that a margin is paired by gene."
    )
    return {"arms": arms, "baseline": against, "margins": margins, "reading": reading}


def result_of(
    recipe: TuneExpressionRecipe,
    records: list[TrialRecord],
    best: TrialRecord,
    confirmation: dict[str, Any] | None,
) -> dict[str, Any]:
    """The content of ``result.json``."""
    shares, note = importance(records, recipe.space, mode=recipe.mode, evaluations=1)
    return {
        "stage": "tune",
        "name": recipe.name,
        "seed": recipe.seed,
        "row": {"arm": recipe.row.arm, "inputs": recipe.row.inputs},
        "trial_seeds": list(recipe.trial_seeds),
        "metric": recipe.metric,
        "mode": recipe.mode,
        "space": {key: parameter.describe() for key, parameter in recipe.space.items()},
        "trials": [record.as_json() for record in records],
        "best": {"id": best.id, "parameters": best.parameters, "value": best.value, "recipe": BEST_FILE},
        "importance": shares,
        "importance_note": note,
        "spent": spent(records),
        "confirm": confirmation,
    }
