"""One trial: a training nested in a Tune trial. It goes on from its own checkpoints, however often it is started."""

from __future__ import annotations

import math
from typing import Any

from ray import tune
from ray.train import Checkpoint
from ray.tune.integration.ray_train import TuneReportCallback

from epilm.config import fingerprint
from epilm.errors import CheckpointError
from epilm.runs import Recipe, Run, open_run, read_metrics
from epilm.tasks.masked_epigenome import MaskedEpigenomeTask
from epilm.train.launch import fit
from epilm.tune.plan import TrainingPlan, Trial
from epilm.tune.records import evaluations_of, finite
from epilm.tune.release import PLACEMENT_GROUP, NotePlacementGroup

EVALUATION, VALUE = "evaluation", "value"
"""What a trial reports to Tune: the number of an evaluation, which is its share of the budget, and the metric."""


class ReportEvaluation(TuneReportCallback):
    """Passes the evaluations of a training on to Tune. Tune counts reports from 1 again when a trial is resumed, so that
    early stop goes by our own count."""

    def __init__(self, trial: Trial, metric: str, group: NotePlacementGroup) -> None:
        super().__init__()
        self._trial, self._metric, self._group = trial, metric, group

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Checkpoint | None) -> None:
        report = _report(self._trial.index_of(metrics[0]["step"]), finite(metrics[0].get(self._metric)))
        super().after_report(run_context, [{**report, PLACEMENT_GROUP: self._group.id_hex}], checkpoint)


def _report(index: int, value: float | None) -> dict[str, Any]:
    return {EVALUATION: index, VALUE: math.nan if value is None else value}


def run_trial(config: dict[str, Any], plan: TrainingPlan) -> None:
    """Train a trial, or take what a former attempt reached."""
    trial = plan.trial(config)
    task = MaskedEpigenomeTask(trial.recipe.task, trial.recipe.seed)
    run = open_trial(trial.recipe, {"corpus": task.data_fingerprint()})
    if run.result.exists():  # Tune was killed before it noted the end
        last = evaluations_of(plan.folder, trial, plan.metric)[-1]
        tune.report(_report(last.index, last.value))
        return
    task.check()
    group = NotePlacementGroup()
    callbacks: list[Any] = [ReportEvaluation(trial, plan.metric, group), group]
    fit(task, trial.recipe.train, run, fingerprint(trial.recipe.identity()), callbacks=callbacks)
    run.finish(
        {"stage": "trial", "name": trial.id, "seed": trial.recipe.seed, "final": final_metrics(run, trial.steps)}
    )


def open_trial(recipe: Recipe, data: dict[str, str]) -> Run:
    """The run folder of a trial, as a former attempt left it."""
    try:
        return open_run(recipe, stage="trial", on_existing="resume", data=data)
    except CheckpointError:
        # A draw that Tune had not yet kept when it was killed: this trial has another. The sweep itself, whose recipe and
        # data are the same as before, has been compared already.
        return open_run(recipe, stage="trial", on_existing="overwrite", data=data)


def final_metrics(run: Run, steps: int) -> dict[str, float | None]:
    """``<set>/<figure>`` of the evaluation after the last step."""
    return {
        f"{record['set']}/{name}": finite(value)
        for record in read_metrics(run.folder)
        if record["kind"] == "eval" and record["step"] == steps
        for name, value in record.items()
        if name not in ("kind", "set", "step", "time")
    }
