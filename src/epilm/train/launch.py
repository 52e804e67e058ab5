"""From a recipe to a finished run folder: checks, TorchTrainer, weights, ``result.json``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import ray.train
from pyarrow import fs as pafs
from ray.train import Checkpoint
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from epilm import errors
from epilm.config import fingerprint
from epilm.errors import EpilmError, RecipeError
from epilm.runs import OnExisting, Run, open_run, read_metrics
from epilm.session import RayConfig, ray_session
from epilm.storage import Location
from epilm.tasks.masked_epigenome import MaskedEpigenomeTask
from epilm.tasks.protocol import Task
from epilm.train.board import Board, Watch
from epilm.train.checkpoint import fp32_weights, read_meta
from epilm.train.loop import Job, train_worker
from epilm.train.progress import progress_line
from epilm.train.recipe import PretrainRecipe, TrainConfig

MODEL_FOLDER = "model"
CHECKPOINTS_FOLDER = "checkpoints"

Progress = Callable[[str], None]


def pretrain(
    recipe: PretrainRecipe, *, on_existing: OnExisting = "refuse", progress: Progress = lambda message: None
) -> dict[str, Any]:
    """Run ``epilm pretrain``; return the content of ``result.json``."""
    task = MaskedEpigenomeTask(recipe.task, recipe.seed)
    task.check()
    _check_local_cpus(recipe.train, recipe.ray)
    run = open_run(recipe, stage="pretrain", on_existing=on_existing, data={"corpus": task.data_fingerprint()})
    progress(f"run folder {run.folder}" + (" (resumed)" if run.resumed else ""))
    with ray_session(recipe.ray):
        checkpoint, last = fit(task, recipe.train, run, fingerprint(recipe.identity()), progress=progress)
        folder = save_weights(task, checkpoint, run.folder / MODEL_FOLDER, fingerprint(recipe.identity()))
    return run.finish(_result(recipe, task, run, folder, last))


def fit(
    task: Task, config: TrainConfig, run: Run, recipe_fingerprint: str, *, progress: Progress = lambda message: None
) -> tuple[Checkpoint, dict[str, Any]]:
    """Train a task under an open Ray session; return the last checkpoint and what was reported with it.

    A run folder with checkpoints goes on from the last registered one.

    Raises:
        EpilmError: an error that no restart mends, such as a corrupt shard; the last checkpoint is kept.
    """
    board = Board.remote()
    job = Job(task, config, run.folder, recipe_fingerprint, task.data_fingerprint(), board)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if config.use_gpu else "gloo"),
        scaling_config=_scaling(config),
        run_config=ray.train.RunConfig(
            name=CHECKPOINTS_FOLDER,
            storage_path=run.folder.path if run.folder.is_local else run.folder.uri,
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=config.checkpoints_kept),
            worker_runtime_env={"env_vars": _worker_environment()},
        ),
    )
    try:
        with Watch(board, lambda record: progress(progress_line(record, config))):
            result = trainer.fit()
    except TrainingFailedError as error:
        _raise_fatal(board, run.folder)
        raise EpilmError(
            f"training failed: {error}\nThe last checkpoint is kept in {run.folder}; go on with --resume."
        ) from error
    _raise_fatal(board, run.folder)
    if result.checkpoint is None:
        raise EpilmError(f"training ended without a checkpoint; see {run.folder}.")
    return result.checkpoint, dict(result.metrics or {})


def _scaling(config: TrainConfig) -> ray.train.ScalingConfig:
    return ray.train.ScalingConfig(
        num_workers=config.num_workers,
        use_gpu=config.use_gpu,
        resources_per_worker={"CPU": config.cpus_per_worker, **config.resources_per_worker}
        | ({"GPU": 1} if config.use_gpu else {}),
    )


def _worker_environment() -> dict[str, str]:
    names = ("TOKENIZERS_PARALLELISM", "PYTHONWARNINGS")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {"TOKENIZERS_PARALLELISM": "false", **kept}


def _raise_fatal(board: Any, folder: Location) -> None:
    fatal = ray.get(board.fatal.remote())
    if fatal is not None:
        kind, message = fatal
        raise getattr(errors, kind, EpilmError)(f"{message}\nThe last checkpoint is kept in {folder}.")


def _check_local_cpus(config: TrainConfig, ray_config: RayConfig) -> None:
    """A local Ray cannot grow: workers that do not fit would wait for ever."""
    if ray_config.address != "local" or ray.is_initialized():
        return
    have = ray_config.num_cpus or 2 * (os.cpu_count() or 1)
    need = config.allowed_workers[0] * config.cpus_per_worker + 1
    if need > have:
        raise RecipeError(
            f"train.num_workers={config.num_workers} x train.cpus_per_worker={config.cpus_per_worker:g} and one CPU for the "
            f"data need {need:g} CPUs; the local Ray has {have}. Use fewer workers, or set ray.num_cpus={int(-(-need // 1))}."
        )


def save_weights(task: Task, checkpoint: Checkpoint, target: Location, recipe_fingerprint: str) -> Location:
    """Write the fp32 weights of a checkpoint as a model folder, whole or not at all."""
    with checkpoint.as_directory() as folder, tempfile.TemporaryDirectory(prefix="epilm-model-") as temporary:
        task.save_model(
            Path(temporary), fp32_weights(folder), step=read_meta(folder).step, recipe_fingerprint=recipe_fingerprint
        )
        staged = Location(f"{target}.tmp")
        staged.delete()
        pafs.copy_files(temporary, staged.mkdir().path, destination_filesystem=staged.fs)
    target.delete()
    target.fs.move(staged.path, target.path)
    return target


def _result(
    recipe: PretrainRecipe, task: MaskedEpigenomeTask, run: Run, model: Location, last: dict[str, Any]
) -> dict[str, Any]:
    records = read_metrics(run.folder)
    final = {r["set"]: _numbers(r) for r in records if r["kind"] == "eval" and r["step"] == recipe.train.steps}
    steps = [r for r in records if r["kind"] == "train"]
    late = steps[len(steps) // 2 :]  # the first steps hold the start of the workers
    return {
        "stage": "pretrain",
        "name": recipe.name,
        "seed": recipe.seed,
        "steps": recipe.train.steps,
        "seen_samples": recipe.train.steps * recipe.train.global_batch,
        "final": final,
        "train": _numbers(steps[-1]),
        "median_step_time_s": _median(late, "step_time_s"),
        "median_tokens_per_s": _median(late, "tokens_per_s"),
        "median_data_wait_share": _median(late, "data_wait_share"),
        "median_mfu": _median(late, "mfu"),
        "matmul_peak_gflops": last.get("matmul_peak_gflops"),
        "parameters": sum(p.numel() for p in task.build_model().parameters()),
        "model": str(model),
        **task.describe(),
    }


def _numbers(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in ("kind", "set", "step", "time")}


def _median(records: list[dict[str, Any]], name: str) -> float | None:
    values = sorted(r[name] for r in records if r.get(name) is not None)
    return values[len(values) // 2] if values else None
