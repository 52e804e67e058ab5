"""``epilm eval-binding``: fine-tune every arm from every seed, predict the test, score all of it at once, and compare.

Runs come one after the other: each uses all the cores that its recipe asks for. What is finished is kept; ``--resume`` goes
on in the middle of a training.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from epilm.baselines.run import run_baseline
from epilm.evaluate.run import RESAMPLES_FILE, run_evaluate
from epilm.predict.genome import run_predict
from epilm.runs import RESULT_FILE, OnExisting, Recipe, Run, open_run
from epilm.session import ray_session
from epilm.storage import Location
from epilm.studies.check import check_eval_binding
from epilm.studies.comparison import Finished, comparison_of
from epilm.studies.plan import REGIONS_FILE, BindingPlan
from epilm.studies.recipe import EvalBindingRecipe
from epilm.studies.table import format_comparison
from epilm.train.finetune import finetune

Progress = Callable[[str], None]


def run_eval_binding(
    recipe: EvalBindingRecipe, *, on_existing: OnExisting = "refuse", progress: Progress = lambda message: None
) -> dict[str, Any]:
    """Run ``epilm eval-binding``; return the content of ``result.json``.

    Raises:
        EpilmError: bad input, before anything starts; or a run failed: the others are kept, and --resume goes on with it.
    """
    plan = check_eval_binding(recipe)
    run = open_run(recipe, stage="eval-binding", on_existing=on_existing, data=plan.data)
    progress(f"run folder {run.folder}" + (" (resumed)" if run.resumed else ""))
    with ray_session(recipe.ray):
        finished = run_all(plan, run, progress)
    comparison = comparison_of(plan, finished)
    table = format_comparison(comparison)
    for line in table.splitlines():
        progress(line)
    return run.finish({"stage": "eval-binding", "name": recipe.name, "table": table, **comparison})


def run_all(plan: BindingPlan, run: Run, progress: Progress) -> Finished:
    """Every fit with its predictions, every rival, then the evaluation, under an open Ray session."""
    bed = plan.bed()
    if bed is not None:
        (run.folder / REGIONS_FILE).write_text(bed)
    steps = _Steps(len(plan.fits), progress)
    fits = {}
    for fit in plan.fits:
        steps.begin(f"{fit.arm}, seed {fit.seed}")
        result = _stage(finetune, fit.recipe, progress)
        _stage(run_predict, plan.prediction(fit), progress)
        steps.end(was_done=result.was_done)
        fits[fit.name] = result.content
    for name in plan.recipe.rivals:
        progress(f"== {name}")
        _stage(run_baseline, plan.rival(name), progress)
    progress("== evaluation")
    evaluation = plan.evaluation()
    scores = _stage(run_evaluate, evaluation, progress)
    drawn = Location(evaluation.storage) / evaluation.name / RESAMPLES_FILE
    resamples = pq.read_table(drawn.path, filesystem=drawn.fs).to_pandas()
    return Finished(fits, scores.content, resamples)


@dataclass(frozen=True)
class _Result:
    content: dict[str, Any]
    was_done: bool


def _stage(function: Callable[..., dict[str, Any]], recipe: Recipe, progress: Progress) -> _Result:
    """Run a stage, or take its result where an earlier attempt finished it; a killed one goes on."""
    done = Location(recipe.storage) / recipe.name / RESULT_FILE
    if done.exists():
        return _Result(done.read_json(), True)
    return _Result(function(recipe, on_existing="resume", progress=progress), False)


@dataclass
class _Steps:
    """Tells which run is on, and how long the others will take at the pace so far."""

    total: int
    progress: Progress
    number: int = 0
    seconds: list[float] = field(default_factory=list)
    began: float = 0.0

    def begin(self, what: str) -> None:
        self.number += 1
        left = self.total - self.number + 1
        pace = sum(self.seconds) / len(self.seconds) if self.seconds else None
        about = "" if pace is None else f", about {_duration(pace * left)} left"
        self.progress(f"== {what} ({self.number} of {self.total}{about})")
        self.began = time.monotonic()

    def end(self, *, was_done: bool) -> None:
        if was_done:
            self.progress("   done before")
        else:
            self.seconds.append(time.monotonic() - self.began)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min" if minutes else "a minute"
