"""Run trials with Ray Tune: fresh, or from where a killed driver left them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from ray import tune
from ray.tune import ResumeConfig

from epilm.errors import EpilmError
from epilm.runs import Run
from epilm.storage import Location
from epilm.tune.log import TrialLog, read_events
from epilm.tune.plan import Plan
from epilm.tune.records import TrialRecord, collect
from epilm.tune.search import make_search
from epilm.tune.space import Parameter
from epilm.tune.trainable import VALUE, run_trial

_HEAD = "node:__internal_head__"
"""A resource of which every Ray has exactly 1, on its head node."""


class Search(Protocol):
    """What a recipe says of a search, whatever its trials are."""

    @property
    def space(self) -> Mapping[str, Parameter]: ...
    @property
    def mode(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def trials(self) -> int: ...
    @property
    def max_concurrent(self) -> int: ...


def search_space(
    search: Search,
    plan: Plan,
    run: Run,
    progress: Callable[[str], None],
    *,
    scheduler: Any = None,
    fail_fast: bool = False,
    trainable: Callable[..., None] = run_trial,
) -> list[TrialRecord]:
    """Draw trials of a space and run them, as :func:`run_experiment`; return the records of those that ended."""
    run_experiment(
        plan,
        TrialLog(plan, run.metrics, progress, group="trial", total=search.trials, mode=search.mode),
        name="tune",
        mode=search.mode,
        max_concurrent=search.max_concurrent,
        search=make_search(search.space, mode=search.mode, seed=search.seed, trials=search.trials),
        scheduler=scheduler,
        trials=search.trials,
        fail_fast=fail_fast,
        trainable=trainable,
    )
    return collect(plan, read_events(run.metrics, "trial"))


def run_experiment(
    plan: Plan,
    log: TrialLog,
    *,
    name: str,
    mode: str,
    max_concurrent: int,
    config: dict[str, Any] | None = None,
    search: Any = None,
    scheduler: Any = None,
    trials: int = 1,
    fail_fast: bool = False,
    trainable: Callable[..., None] = run_trial,
) -> None:
    """Run every trial to its end. With state of a former attempt in ``<run>/<name>``: those that ended are kept, failed and
    unfinished ones go on from their checkpoints.

    ``tune.run`` with a ``ResumeConfig`` is what ``Tuner.restore`` calls, and takes the callbacks and the scheduler of this
    process, where ``Tuner.restore`` unpickles those of the killed one. ``resume_errored`` and not ``restart_errored``: that
    gives a trial a new id, which OptunaSearch does not know.

    Args:
        config: Tune's space of a grid; ``search`` where trials are drawn.
        trainable: what a trial does, given what Tune hands to it and ``plan=plan``.

    Raises:
        EpilmError: a trial failed, with ``fail_fast``.
        KeyboardInterrupt: Ctrl-C; Tune's state is kept.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the log is ours
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one prints whatever the verbosity
    state = plan.folder / name
    resume = None
    if has_state(state):
        kind: Any = ResumeConfig.ResumeType
        resume = ResumeConfig(finished=kind.SKIP, unfinished=kind.RESUME, errored=kind.RESUME)
    else:
        state.delete()  # killed before Tune kept anything: trainings are in the trials' own folders
    own_process = tune.PlacementGroupFactory([{"CPU": 0, _HEAD: head_share(max_concurrent)}])
    with _quiet(), _own_signals():
        tune.run(
            tune.with_parameters(trainable, plan=plan),
            name=name,
            storage_path=str(plan.folder),
            config=config,
            num_samples=trials,
            metric=VALUE,
            mode=mode,
            search_alg=search,
            scheduler=scheduler,
            resume_config=resume,
            callbacks=[log],
            max_concurrent_trials=max_concurrent,
            resources_per_trial=own_process,
            fail_fast=fail_fast,
            raise_on_failed_trial=False,
            trial_dirname_creator=_directory,
            verbose=0,
        )
    if fail_fast and log.failures:
        id_, error = next(iter(log.failures.items()))
        raise EpilmError(f"trial {id_} failed: {error} The others are kept; --resume tries it again.")
    if log.num_left > 0:
        raise KeyboardInterrupt


def head_share(max_concurrent: int) -> float:
    """What a trial's own process reserves of the head node, so that no more than ``max_concurrent`` run at once.

    It only waits for its workers: a share of a CPU, however small, would keep a whole one from the data tasks. And Tune's own
    limit holds for new trials alone: after a kill it starts all unfinished and failed ones together, more than there are
    workers for. Just above ``1 / (max_concurrent + 1)``, in Ray's steps of 1e-4 (of which its truncation may take one), so that
    Ray Train's cleaners, each with a thousandth, find room: a training whose cleaner does not start waits for it.
    """
    return (10_000 // (max_concurrent + 1) + 2) / 10_000


def has_state(folder: Location) -> bool:
    """Whether Tune kept the state of an experiment in a folder."""
    return any(child.startswith("experiment_state-") and child.endswith(".json") for child in folder.children())


def _directory(trial: Any) -> str:
    return str(trial.trial_id)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Tune ends in order at Ctrl-C, but leaves its handlers behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Errors of trials are told by the log, without Ray's tracebacks."""
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
