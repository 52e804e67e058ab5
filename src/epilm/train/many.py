"""Many small trainings: Ray Train's workers take one after the other, so that what a start costs is paid once.

Several such series run side by side, as many as asked. Each training keeps its checkpoints in its own folder, and what is
finished is kept: a worker's death, or the driver's, costs no more than the steps since the last checkpoint.
"""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import torch.distributed as dist
from ray import cloudpickle
from ray.exceptions import RayError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from epilm import errors
from epilm.errors import EpilmError, user_error
from epilm.runs import RESULT_FILE, read_metrics
from epilm.storage import Location
from epilm.tasks.protocol import Task
from epilm.train.board import Board
from epilm.train.launch import CHECKPOINTS_FOLDER, save_weights, scaling, worker_environment
from epilm.train.loop import Job, Worker
from epilm.train.pretrain import MODEL_FOLDER
from epilm.train.recipe import TrainConfig
from epilm.train.registry import FolderRegistry
from epilm.train.summary import numbers, speed_summary

_LOOK_EVERY_S = 0.5
_SERIES = "series-"


@dataclass(frozen=True)
class TrainJob:
    """One training in a folder of its own.

    Args:
        identity: fingerprint of all that decides its numbers; a folder of another one is written anew.
    """

    name: str
    task: Task
    config: TrainConfig
    folder: Location
    identity: str

    @property
    def model(self) -> Location:
        """Where its weights will lie."""
        return self.folder / MODEL_FOLDER

    @property
    def finished(self) -> dict[str, Any] | None:
        """Its result, where this or an earlier attempt came to its end."""
        path = self.folder / RESULT_FILE
        found = path.read_json() if path.exists() else None
        return found if found is not None and found["identity"] == self.identity else None


def train_all(jobs: Sequence[TrainJob], *, max_concurrent: int) -> Iterator[tuple[TrainJob, dict[str, Any]]]:
    """Train what is not finished yet; yield each job with its result as it is done, those that were first.

    Needs a connected Ray. Trainings of the same workers (``num_workers``, CPUs, GPUs) share them.

    Raises:
        EpilmError: a training failed; those that had ended are kept, and the others go on from their checkpoints.
    """
    waiting = []
    for job in jobs:
        if (found := job.finished) is not None:
            yield job, found
        else:
            job.task.check()
            waiting.append(job)
    planned = _series(waiting, max_concurrent)
    task = ray.remote(_run_series).options(num_cpus=0)  # it waits for its workers
    running: list[Any] = []
    try:
        while planned or running:
            while planned and len(running) < max_concurrent:
                running.append(task.remote(planned.pop(0)))
            ready, running = ray.wait(running, num_returns=len(running), timeout=_LOOK_EVERY_S)
            failures = [error for reference in ready if (error := _failure(reference)) is not None]
            for job in list(waiting):
                if (found := job.finished) is not None:
                    waiting.remove(job)
                    yield job, found
            if failures:
                raise failures[0]
        assert not waiting, "a series ended without the result of a training"
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _series(jobs: Sequence[TrainJob], at_most: int) -> list[list[TrainJob]]:
    """The jobs as lists that share workers, up to ``at_most`` for each kind of workers."""
    alike: dict[str, list[TrainJob]] = {}
    for job in jobs:
        config = job.config
        workers = (config.num_workers, config.use_gpu, config.cpus_per_worker, config.threads_per_worker)
        key = repr((workers, sorted(config.resources_per_worker.items()), config.max_failures))
        alike.setdefault(key, []).append(job)
    return [of_kind[number::at_most] for of_kind in alike.values() for number in range(min(at_most, len(of_kind)))]


def _failure(reference: Any) -> BaseException | None:
    try:
        ray.get(reference)
    except (RayError, EpilmError) as error:
        return user_error(error) or error
    return None


def _run_series(jobs: list[TrainJob]) -> None:
    """Drive the workers of one series."""
    config, board = jobs[0].config, Board.remote()
    for job in jobs:
        _prepare(job)
    own = jobs[0].folder / f"{_SERIES}{uuid.uuid4().hex[:8]}"
    trainer = TorchTrainer(
        _series_worker,
        train_loop_config={"jobs": cloudpickle.dumps(jobs), "board": board},  # pyright: ignore[reportPrivateImportUsage]
        torch_config=TorchConfig(backend="nccl" if config.use_gpu else "gloo"),
        scaling_config=scaling(config),
        run_config=ray.train.RunConfig(
            name=own.name,
            storage_path=jobs[0].folder.path if own.is_local else jobs[0].folder.uri,
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            worker_runtime_env={"env_vars": worker_environment()},
        ),
    )
    failure = None
    try:
        trainer.fit()
    except TrainingFailedError as error:
        failure = error
    finally:
        own.delete()
    fatal = ray.get(board.fatal.remote())
    if fatal is not None:
        kind, message = fatal
        raise getattr(errors, kind, EpilmError)(message)
    if failure is not None:
        names = ", ".join(job.name for job in jobs if job.finished is None)
        raise EpilmError(f"training failed: {failure}\nNot finished: {names}. Go on with --resume.") from failure


def _prepare(job: TrainJob) -> None:
    """A folder of other settings or genes is no beginning; what Ray Train kept of a killed series is of no use."""
    marker = job.folder / "identity.txt"
    if job.folder.exists() and (not marker.exists() or marker.read_text() != job.identity):
        job.folder.delete()
    for left in job.folder.children() if job.folder.exists() else ():
        if left.startswith(_SERIES):
            (job.folder / left).delete()
    job.folder.mkdir()
    marker.write_text(job.identity)


def _series_worker(settings: dict[str, Any]) -> None:
    """Entry point of a worker: its part of every training that is not finished, one after the other."""
    board, rank = settings["board"], ray.train.get_context().get_world_rank()
    if ray.get(board.fatal.remote()) is not None:
        return
    try:
        for job in cloudpickle.loads(settings["jobs"]):
            finished = [job.finished is not None]
            dist.broadcast_object_list(finished, src=0)  # rank 0 may be about to write it
            if not finished[0]:
                _train(job, board, rank)
            elif rank == 0:
                (job.folder / CHECKPOINTS_FOLDER).delete()  # a kill between the result and this
    except EpilmError as error:
        ray.get(board.fail.remote(type(error).__name__, str(error)))
        raise


def _train(job: TrainJob, board: Any, rank: int) -> None:
    started = time.monotonic()
    registry = FolderRegistry((job.folder / CHECKPOINTS_FOLDER).mkdir(), rank)
    work = Job(job.task, job.config, job.folder, job.identity, job.task.data_fingerprint(), board)
    Worker(work, registry).run()
    gc.collect()  # an engine and its hooks refer to each other
    if rank == 0:
        best = registry.best(scored=job.task.score({}) is not None)
        save_weights(job.task, registry.checkpoint(best), job.model, job.identity)
        records = read_metrics(job.folder)
        evaluations = {r["step"]: numbers(r) for r in records if r["kind"] == "eval"}
        result = {
            "identity": job.identity,
            "name": job.name,
            "best_step": best["metrics"]["step"],
            "last_step": max(evaluations),
            "best": evaluations.get(best["metrics"]["step"], {}),
            "seconds": round(time.monotonic() - started, 1),
            **speed_summary(records, best["metrics"]),
        }
        (job.folder / RESULT_FILE).write_json(result)
        (job.folder / CHECKPOINTS_FOLDER).delete()  # the weights are kept; a study has a hundred of these
    dist.barrier()
