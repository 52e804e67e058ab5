"""One trial of a search over a row: a study of that row alone, in a folder of its own. It goes on from what a former attempt
kept, however often it is started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray
from pyarrow import fs as pafs
from ray import tune
from ray.exceptions import RayError

from epilm.errors import EpilmError, user_error
from epilm.expression.languages import language_job
from epilm.expression.plan import ExpressionPlan, RowKey
from epilm.expression.recipe import ExpressionRecipe
from epilm.expression.run import Progress, Study
from epilm.expression.tune_recipe import METRIC, TuneExpressionRecipe
from epilm.histone.pairs import PairedGenes, fingerprint_of
from epilm.runs import METRICS_FILE, RESULT_FILE, Run
from epilm.storage import Location
from epilm.train.many import TrainJob
from epilm.tune.plan import NUMBER
from epilm.tune.trainable import EVALUATION, VALUE, open_trial

TRIALS, CONFIRM = "trials", "confirm"
"""Folders of a sweep: its trials, and the runs of its confirmation."""


@dataclass(frozen=True)
class RowTrial:
    """A row at one point of the space.

    Args:
        id: its name in the log.
        path: its run folder, relative to the sweep's.
        parameters: dotted settings that were drawn.
        recipe: the row's; its storage and name are the run folder's.
    """

    id: str
    path: str
    parameters: dict[str, Any]
    recipe: ExpressionRecipe

    @property
    def evaluations(self) -> int:
        """A trial is scored once, at its end."""
        return 1

    @property
    def size(self) -> str:
        seeds = self.recipe.seeds
        return f"from seed {seeds[0]}" if len(seeds) == 1 else f"from {len(seeds)} seeds"

    def index_of(self, step: int) -> int:
        return 1

    def tokens_at(self, evaluation: int) -> None:
        """Trials of a row are not compared at equal tokens."""
        return


@dataclass(frozen=True)
class RowSweepPlan:
    """Trials of a search, ``trials/t000``, ... in the order in which they are drawn, over genes that are read once."""

    recipe: TuneExpressionRecipe
    pairs: PairedGenes
    folder: Location
    """The sweep's run folder, found by the driver: Tune runs trials in folders of their own, where a relative storage would be
    another place."""

    @property
    def metric(self) -> str:
        return METRIC

    @property
    def key(self) -> RowKey:
        return RowKey(self.recipe.row.arm, self.recipe.row.inputs)

    def trial(self, config: Mapping[str, Any]) -> RowTrial:
        id_ = f"t{config[NUMBER]:03d}"
        parameters = {k: v for k, v in config.items() if k != NUMBER}
        return self.make(id_, TRIALS, parameters, self.recipe.trial_seeds)

    def make(self, id_: str, parent: str, parameters: dict[str, Any], seeds: tuple[int, ...]) -> RowTrial:
        """A trial in ``<sweep>/<parent>/<id>``."""
        own = {"name": id_, "storage": str(self.folder / parent), "seeds": list(seeds)}
        return RowTrial(id_, f"{parent}/{id_}", parameters, self.recipe.at(parameters, own, source=id_))


def run_trial(config: dict[str, Any], plan: RowSweepPlan) -> None:
    """Fit a trial, or take what a former attempt reached, and report its validation r to Tune."""
    # Tune's placement group of this process has no CPU, and would catch all tasks that are started from within it
    task = ray.remote(fit_trial).options(num_cpus=0, max_retries=0, scheduling_strategy="DEFAULT")
    try:
        value = ray.get(task.remote(plan.trial(config), plan))
    except RayError as error:
        raise user_error(error) or error from error
    tune.report({EVALUATION: 1, VALUE: value})


def fit_trial(trial: RowTrial, plan: RowSweepPlan) -> float:
    """Fit a trial's row from its seeds; return the mean validation r. Test genes are predicted, never scored.

    Needs a connected Ray.

    Raises:
        EpilmError: a training failed, or r is undefined.
    """
    run = open_row(trial, plan)
    if run.result.exists():  # Tune was killed before it noted the end
        return run.result.read_json()["validation"]["mean"]
    study = fit_row(trial, plan, run)
    validation = study.validation(plan.key)
    if validation["mean"] is None:
        raise EpilmError(
            f"r of the row {plan.recipe.row} is not defined on the validation genes: a prediction is the same for all of them."
        )
    set_name, _, figure = METRIC.partition("/")
    record = {"kind": "eval", "step": 1, "set": set_name, figure: validation["mean"]}
    run.metrics.write_text(json.dumps(record) + "\n")
    chosen = [study.store.get(plan.key, seed).chosen for seed in study.plan.seeds_of(plan.key.arm)]
    run.finish({"stage": "trial", "name": trial.id, "validation": validation, "chosen": chosen})
    study.table.location.delete()  # the same genes in every trial
    return validation["mean"]


def open_row(trial: RowTrial, plan: RowSweepPlan) -> Run:
    return open_trial(trial.recipe, {"genes": fingerprint_of(plan.pairs)})


def fit_row(trial: RowTrial, plan: RowSweepPlan, run: Run, progress: Progress = lambda message: None) -> Study:
    """The study of a trial's row with all its fits done; needs a connected Ray."""
    study = Study(ExpressionPlan(trial.recipe, plan.pairs), run, progress)
    take_languages(study, plan.folder)
    study.train()
    study.fit_rows()
    return study


def take_languages(study: Study, sweep: Location) -> None:
    """Copy language models that other runs of the sweep have trained from the same words, settings and seed: a space over
    the regressor trains each once."""
    plan, models = study.plan, "models"
    for name in plan.used_models:
        for seed in plan.recipe.seeds:
            own = language_job(
                plan, name, plan.recipe.models[name], plan.tokenizer, study.table, study.run.folder / models, seed
            )
            if own.finished is not None:
                continue
            others = (
                replace(own, folder=sweep / parent / run / models / name / f"seed-{seed}")
                for parent in (TRIALS, CONFIRM)
                for run in (sweep / parent).children()
            )
            found = next((other for other in others if other.finished is not None), None)
            if found is not None:
                _copy(found, own)


def _copy(found: TrainJob, own: TrainJob) -> None:
    """The weights first: a folder with a result is finished."""
    own.folder.delete()
    own.model.mkdir()
    pafs.copy_files(
        found.model.path, own.model.path, source_filesystem=found.model.fs, destination_filesystem=own.model.fs
    )
    (own.folder / METRICS_FILE).write_bytes((found.folder / METRICS_FILE).read_bytes())
    (own.folder / RESULT_FILE).write_json(found.finished)
