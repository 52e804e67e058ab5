"""``epilm tune``: search, choice by validation, and the confirmation of the choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import yaml

from epilm.errors import EpilmError
from epilm.runs import OnExisting, Run, open_run
from epilm.session import ray_session
from epilm.tasks.masked_epigenome import MaskedEpigenomeTask
from epilm.tune.check import check_tune
from epilm.tune.compare import train_arms
from epilm.tune.experiment import search_space
from epilm.tune.halving import Halving
from epilm.tune.overrides import as_mapping
from epilm.tune.plan import RUN, ComparePlan, SweepPlan
from epilm.tune.recipe import TuneRecipe
from epilm.tune.records import TrialRecord, best_of, spent
from epilm.tune.search import importance
from epilm.tune.table import format_comparison

BEST_FILE = "best.yaml"
CONFIRM, BEST, BASELINE = "confirm", "best", "baseline"

Progress = Callable[[str], None]


def run_tune(
    recipe: TuneRecipe, *, on_existing: OnExisting = "refuse", progress: Progress = lambda message: None
) -> dict[str, Any]:
    """Run ``epilm tune``; return the content of ``result.json``."""
    plan = check_tune(recipe)
    task = MaskedEpigenomeTask(recipe.base.task, recipe.seed)
    run = open_run(recipe, stage="tune", on_existing=on_existing, data={"corpus": task.data_fingerprint()})
    progress(f"run folder {run.folder}" + (" (resumed)" if run.resumed else ""))
    with ray_session(recipe.ray):
        scheduler = Halving(plan, recipe.asha, evaluations=recipe.evaluations, mode=recipe.mode)
        records = search_space(recipe, plan, run, progress, scheduler=scheduler, fail_fast=recipe.fail_fast)
        best = best_of(records, recipe.mode)
        if best is None:
            raise EpilmError(_none_reached(records))
        write_best(recipe, plan, best)
        progress(f"best: {best.id} {recipe.metric} {best.value:.4f}, written to {run.folder / BEST_FILE}")
        confirmation = _confirm(recipe, plan, run, best, progress) if recipe.confirm else None
    return run.finish(result_of(recipe, records, best, confirmation))


def _none_reached(records: list[TrialRecord]) -> str:
    errors = [f"{r.id}: {r.error}" for r in records if r.error]
    told = f" The first error is of {errors[0]}" if errors else ""
    return f"no trial reached its full budget ({len(errors)} of {len(records)} failed).{told}"


def write_best(recipe: TuneRecipe, plan: SweepPlan, best: TrialRecord) -> None:
    """The best trial as a recipe that ``epilm pretrain`` runs as it is."""
    chosen = plan.maker.best(f"{recipe.name}-best", best.parameters, recipe.seed)
    head = f"# Trial {best.id} of the search {recipe.name}: {recipe.metric} {best.value:.4f}.\n"
    (plan.folder / BEST_FILE).write_text(
        f"{head}#   epilm pretrain {plan.folder / BEST_FILE}\n" + yaml.safe_dump(as_mapping(chosen), sort_keys=False)
    )


def _confirm(recipe: TuneRecipe, plan: SweepPlan, run: Run, best: TrialRecord, progress: Progress) -> dict[str, Any]:
    """Best and baseline from seeds that the search never used; nothing is chosen on it."""
    compared = confirmation_plan(recipe, plan, best)
    against = BASELINE if BASELINE in compared.arms else BEST
    if against == BEST:
        progress(
            f"the best trial is the baseline itself: {len(compared.seeds)} fresh seeds show its spread, not a margin"
        )
    if not recipe.base.task.evaluation.test_contigs:
        progress("warning: base.task.evaluation.test_contigs is empty: confirmed on the contigs that it was chosen by")
    comparison = train_arms(compared, run, against, recipe.max_concurrent, progress)
    for line in format_comparison(comparison).splitlines():
        progress(line)
    return comparison


def confirmation_plan(recipe: TuneRecipe, plan: SweepPlan, best: TrialRecord) -> ComparePlan:
    """The best trial and the baseline laid over it; the best alone where the two are one training."""
    confirm = recipe.confirm
    assert confirm is not None
    seeds = tuple(range(recipe.seed + 1, recipe.seed + 1 + confirm.seeds))
    arms = {BEST: best.parameters, BASELINE: dict(confirm.baseline)}
    both = ComparePlan(plan.maker, recipe.metric, CONFIRM, arms, seeds, best.parameters)
    own, other = (both.trial({RUN: f"{arm}/seed-{seeds[0]}"}).recipe.identity() for arm in arms)
    return replace(both, arms={BEST: best.parameters}) if own == other else both


def result_of(
    recipe: TuneRecipe, records: list[TrialRecord], best: TrialRecord, confirmation: dict[str, Any] | None
) -> dict[str, Any]:
    """The content of ``result.json``."""
    shares, note = importance(records, recipe.space, mode=recipe.mode, evaluations=recipe.evaluations)
    return {
        "stage": "tune",
        "name": recipe.name,
        "seed": recipe.seed,
        "metric": recipe.metric,
        "mode": recipe.mode,
        "space": {key: parameter.describe() for key, parameter in recipe.space.items()},
        "budget_tokens": recipe.budget_tokens,
        "evaluations": recipe.evaluations,
        "trials": [record.as_json() for record in records],
        "best": {"id": best.id, "parameters": best.parameters, "value": best.value, "recipe": BEST_FILE},
        "importance": shares,
        "importance_note": note,
        "spent": spent(records),
        "confirm": confirmation,
    }
