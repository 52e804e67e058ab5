"""Many small trainings, side by side as far as the cluster has room; what is finished is kept.

Each training is driven by a Ray task of its own, which only waits for its workers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from epilm.errors import user_error
from epilm.runs import RESULT_FILE, Run, read_metrics
from epilm.storage import Location
from epilm.tasks.protocol import Task
from epilm.train.launch import CHECKPOINTS_FOLDER, fit, save_weights
from epilm.train.pretrain import MODEL_FOLDER
from epilm.train.recipe import TrainConfig
from epilm.train.summary import numbers, speed_summary


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
        """The result of an earlier attempt that came to its end."""
        path = self.folder / RESULT_FILE
        found = path.read_json() if path.exists() else None
        return found if found is not None and found["identity"] == self.identity else None


def train_all(jobs: Sequence[TrainJob], *, max_concurrent: int) -> Iterator[tuple[TrainJob, dict[str, Any]]]:
    """Train what is not finished yet; yield each job with its result as it is done, those that were first.

    Needs a connected Ray.

    Raises:
        EpilmError: a training failed; those that had ended are kept, and the others go on from their checkpoints.
    """
    waiting, running = [], {}
    for job in jobs:
        if (found := job.finished) is not None:
            yield job, found
        else:
            waiting.append(job)
    # it holds no CPU: it waits for its workers
    task = ray.remote(_train).options(num_cpus=0, max_retries=1)
    try:
        while waiting or running:
            while waiting and len(running) < max_concurrent:
                job = waiting.pop(0)
                running[task.remote(job)] = job
            (done,), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(done)
            yield job, ray.get(done)
    except RayError as error:
        raise user_error(error) or error from error
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _train(job: TrainJob) -> dict[str, Any]:
    # a checkpoint is registered at the controller's next look; at 2 s each, small trainings would mostly wait
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    marker = job.folder / "identity.txt"
    if job.folder.exists() and (not marker.exists() or marker.read_text() != job.identity):
        job.folder.delete()
    job.folder.mkdir()
    marker.write_text(job.identity)
    started = time.monotonic()
    checkpoint, reported = fit(job.task, job.config, Run(job.folder, resumed=True), job.identity)
    save_weights(job.task, checkpoint, job.model, job.identity)
    records = read_metrics(job.folder)
    evaluations = {r["step"]: numbers(r) for r in records if r["kind"] == "eval"}
    result = {
        "identity": job.identity,
        "name": job.name,
        "best_step": reported["step"],
        "last_step": max(evaluations),
        "best": evaluations[reported["step"]],
        "seconds": round(time.monotonic() - started, 1),
        **speed_summary(records, reported),
    }
    (job.folder / RESULT_FILE).write_json(result)
    (job.folder / CHECKPOINTS_FOLDER).delete()  # the weights are kept; a study has a hundred of these
    return result
