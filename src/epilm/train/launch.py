"""Train any task with TorchTrainer and take the weights out: the bridge between Ray Train and the loop."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.train
from pyarrow import fs as pafs
from ray import cloudpickle
from ray.train import Checkpoint, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from epilm import errors
from epilm.errors import EpilmError
from epilm.runs import Run
from epilm.storage import Location
from epilm.tasks.protocol import Task
from epilm.train.board import Board, Watch
from epilm.train.checkpoint import fp32_weights, read_meta
from epilm.train.loop import Job, train_worker
from epilm.train.progress import progress_line
from epilm.train.recipe import TrainConfig
from epilm.train.registry import SCORE

CHECKPOINTS_FOLDER = "checkpoints"

Progress = Callable[[str], None]


def fit(
    task: Task,
    config: TrainConfig,
    run: Run,
    recipe_fingerprint: str,
    *,
    progress: Progress = lambda message: None,
    callbacks: Sequence[UserCallback] = (),
) -> tuple[Checkpoint, dict[str, Any]]:
    """Train a task under an open Ray session; return the checkpoint that is the result and what was reported with it: the
    one with the best score of a task that has one, else the last.

    A run folder with checkpoints goes on from the last registered one.

    Args:
        callbacks: told of every report (one a checkpoint), which has ``step``, ``tokens_seen`` (of full rows), ``loss`` and,
            where that step was evaluated, ``<set>/<metric>``.

    Raises:
        EpilmError: an error that no restart mends, such as a corrupt shard; the last checkpoint is kept.
    """
    scored = task.score({}) is not None
    board = Board.remote()
    job = Job(task, config, run.folder, recipe_fingerprint, task.data_fingerprint(), board)
    trainer = TorchTrainer(
        train_worker,
        # bytes: the controller, too, has this, and need not import what the job is made of
        train_loop_config={"job": cloudpickle.dumps(job)},  # pyright: ignore[reportPrivateImportUsage]
        torch_config=TorchConfig(backend="nccl" if config.use_gpu else "gloo"),
        scaling_config=scaling(config),
        run_config=ray.train.RunConfig(
            name=CHECKPOINTS_FOLDER,
            storage_path=run.folder.path if run.folder.is_local else run.folder.uri,
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=config.checkpoints_kept, checkpoint_score_attribute=SCORE if scored else None
            ),
            callbacks=list(callbacks),
            worker_runtime_env={"env_vars": worker_environment()},
        ),
    )
    try:
        with Watch(board, lambda record: progress(progress_line(record, config))), _own_interrupts():
            result = trainer.fit()
    except TrainingFailedError as error:
        _raise_fatal(board, run.folder)
        raise EpilmError(f"training failed: {error}\n{_what_is_kept(run.folder)}") from error
    _raise_fatal(board, run.folder)
    if result.checkpoint is None:
        raise EpilmError(f"training ended without a checkpoint; see {run.folder}.")
    if scored:
        assert result.best_checkpoints
        return max(result.best_checkpoints, key=lambda pair: pair[1][SCORE])
    return result.checkpoint, dict(result.metrics or {})


@contextlib.contextmanager
def _own_interrupts() -> Iterator[None]:
    """Ray Train handles Ctrl-C by a silent exit, and leaves its handler behind; tell it as Python does, and take it back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as exit_:
        raise KeyboardInterrupt from exit_
    finally:
        signal.signal(signal.SIGINT, before)


def scaling(config: TrainConfig) -> ray.train.ScalingConfig:
    return ray.train.ScalingConfig(
        num_workers=config.num_workers,
        use_gpu=config.use_gpu,
        resources_per_worker={"CPU": config.cpus_per_worker, **config.resources_per_worker}
        | ({"GPU": 1} if config.use_gpu else {}),
    )


def worker_environment() -> dict[str, str]:
    names = ("TOKENIZERS_PARALLELISM", "PYTHONWARNINGS")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {"TOKENIZERS_PARALLELISM": "false", **kept}


def _raise_fatal(board: Any, folder: Location) -> None:
    fatal = ray.get(board.fatal.remote())
    if fatal is not None:
        kind, message = fatal
        raise getattr(errors, kind, EpilmError)(f"{message}\n{_what_is_kept(folder)}")


def _what_is_kept(folder: Location) -> str:
    names = (folder / CHECKPOINTS_FOLDER).children()
    if any(name.startswith("checkpoint_") and not name.endswith(".json") for name in names):
        return f"The last checkpoint is kept in {folder}; go on with --resume."
    return f"There is no checkpoint in {folder} yet."


def save_weights(task: Task, checkpoint: Checkpoint, target: Location, recipe_fingerprint: str) -> Location:
    """Write the fp32 weights of a checkpoint as a model folder, whole or not at all."""
    with checkpoint.as_directory() as folder, tempfile.TemporaryDirectory(prefix="epilm-model-") as temporary:
        task.save_model(
            Path(temporary), fp32_weights(folder), step=read_meta(folder).step, recipe_fingerprint=recipe_fingerprint
        )
        if (
            not target.is_local
        ):  # an object store moves objects, not folders; the provenance, written last, tells a whole one
            target.delete()
            pafs.copy_files(temporary, target.path, destination_filesystem=target.fs)
            return target
        staged = Location(f"{target}.tmp")
        staged.delete()
        pafs.copy_files(temporary, staged.mkdir().path, destination_filesystem=staged.fs)
    target.delete()
    target.fs.move(staged.path, target.path)
    return target
