"""``epilm eval-masking``, and the confirmation of a search: arms from the same seeds at the same budget, test set once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ray import tune

from epilm.errors import EpilmError
from epilm.runs import OnExisting, Run, open_run
from epilm.session import ray_session
from epilm.tasks.masked_epigenome import MaskedEpigenomeTask
from epilm.tune.check import check_compare
from epilm.tune.experiment import run_experiment
from epilm.tune.figures import comparable, compare
from epilm.tune.log import TrialLog
from epilm.tune.plan import RUN, ComparePlan
from epilm.tune.recipe import CompareRecipe
from epilm.tune.table import format_comparison

Progress = Callable[[str], None]


def run_compare(
    recipe: CompareRecipe, *, on_existing: OnExisting = "refuse", progress: Progress = lambda message: None
) -> dict[str, Any]:
    """Run ``epilm eval-masking``; return the content of ``result.json``."""
    plan = check_compare(recipe)
    task = MaskedEpigenomeTask(recipe.base.task, recipe.seed)
    run = open_run(recipe, stage="eval-masking", on_existing=on_existing, data={"corpus": task.data_fingerprint()})
    progress(f"run folder {run.folder}" + (" (resumed)" if run.resumed else ""))
    if not recipe.base.task.evaluation.test_contigs:
        progress(
            "warning: base.task.evaluation.test_contigs is empty: the arms are compared on validation contigs alone"
        )
    with ray_session(recipe.ray):
        comparison = train_arms(plan, run, recipe.baseline, recipe.max_concurrent, progress)
    table = format_comparison(comparison)
    for line in table.splitlines():
        progress(line)
    return run.finish(
        {
            "stage": "eval-masking",
            "name": recipe.name,
            "seeds": list(recipe.seeds),
            "budget_tokens": plan.trial({RUN: plan.runs[0]}).tokens,
            "table": table,
            **comparison,
        }
    )


def train_arms(plan: ComparePlan, run: Run, baseline: str, max_concurrent: int, progress: Progress) -> dict[str, Any]:
    """Train every arm from every seed under an open Ray session; return the comparison.

    Raises:
        EpilmError: a run failed; the others are kept, and --resume tries it again.
    """
    log = TrialLog(plan, run.metrics, progress, group=plan.group, total=len(plan.runs), mode=None)
    run_experiment(
        plan,
        log,
        name=f"tune-{plan.group}",
        mode="min",
        max_concurrent=max_concurrent,
        config={RUN: tune.grid_search(plan.runs)},
    )
    return comparison_of(plan, baseline)


def comparison_of(plan: ComparePlan, baseline: str) -> dict[str, Any]:
    """The comparison from the folders of its runs.

    Raises:
        EpilmError: a run did not end.
    """
    same_tokens = not any(key.startswith("task.tokens") for settings in plan.arms.values() for key in settings)
    metrics: dict[str, dict[int, Mapping[str, float | None]]] = {arm: {} for arm in plan.arms}
    for arm in plan.arms:
        for seed in plan.seeds:
            result = plan.folder / plan.group / arm / f"seed-{seed}" / "result.json"
            if not result.exists():
                raise EpilmError(
                    f"arm {arm!r} failed from seed {seed}; its error is in {plan.folder}/metrics.jsonl. "
                    "The other runs are kept: go on with --resume."
                )
            metrics[arm][seed] = comparable(result.read_json()["final"], same_tokens=same_tokens)
    summaries, margins = compare(metrics, baseline)
    arms = [
        {
            "name": arm,
            "overrides": overrides,
            "runs": [
                {"seed": seed, "metrics": metrics[arm][seed], "run": f"{plan.group}/{arm}/seed-{seed}"}
                for seed in plan.seeds
            ],
            "summary": summaries[arm],
        }
        for arm, overrides in plan.arms.items()
    ]
    return {"arms": arms, "baseline": baseline, "margins": margins}
