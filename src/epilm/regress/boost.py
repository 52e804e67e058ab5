"""Gradient-boosted trees on Ray: the only module that knows xgboost-ray.

A fit reads parquet files straight into ``num_actors`` Ray actors (each takes some of the files), so no feature matrix
passes through the driver, and gives a booster as JSON that plain xgboost loads. Fits run side by side as far as the
cluster has room, each driven by a Ray task: most of a small fit is the start of its actors. Prediction is a Ray Data
map over the files in which every row carries its number: xgboost-ray's own distributed ``predict`` interleaves the rows
of the actors' files (0.1.19), so its output cannot be joined to anything.

On CPUs a booster is the one that ``xgboost.train`` makes of the files' rows, in their order, with :func:`parameters`, the
features in the order of their names. It is so for any number of actors, which bin at the same thresholds
(:mod:`epilm.regress.quantiles`), with ``subsample`` 1: an actor draws among its own rows. And it is so however often actors
died, as a restarted fit begins anew (:class:`epilm.regress.light_actors.NoQueue`). Several actors sum gradients in another
order, in double precision, so equal means to a rounding of the leaves.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data
from ray.exceptions import RayError

from epilm.errors import EpilmError, RecipeError, user_error
from epilm.memory import give_back
from epilm.regress.columns import GENE, ROW, TARGET
from epilm.regress.light_actors import NoQueue, StopEvent
from epilm.regress.matrix import read_features
from epilm.regress.quantiles import Quantiles, quantiles_of_files, round_down
from epilm.regress.recipe import Boost
from epilm.session import RayConfig
from epilm.storage import Location

# xgboost (1 s) and xgboost-ray (2 s) are imported where they are used: a task that writes features needs neither.


_PROCESS_BYTES = 600_000_000
_ROW_BYTES = 16
"""Of a value of a training row: in the frame that was read, in what xgboost makes of it, and on the way."""


@dataclass(frozen=True)
class FitJob:
    """One booster to fit."""

    label: str
    seed: int
    train: tuple[Location, ...]
    validation: tuple[Location, ...]
    """Parquet files with the columns ``ROW``, ``TARGET``, the features, and perhaps ``GENE``; at least ``num_actors`` of
    each, which the actors share among them."""


@dataclass(frozen=True)
class Fitted:
    """A booster cut at its best round."""

    booster_json: bytes
    """xgboost's JSON model; ``xgboost.Booster(model_file=...)`` reads it from a file."""
    rounds: int
    """Trees in the booster: up to the round with the lowest validation error."""
    validation_rmse: float
    """Lowest root mean squared error on the validation rows."""


def fit_all(jobs: Sequence[FitJob], config: Boost) -> Iterator[tuple[FitJob, Fitted]]:
    """Fit boosters side by side, as many as the cluster's CPUs, GPUs and memory hold; yield each as it is done.

    Raises:
        EpilmError: actors died more often than ``max_actor_restarts`` allows, or the cluster gave none in time.
    """
    # It holds no CPU: it only drives the actors, which do the work. It is repeated where its machine was lost.
    task = ray.remote(_fit_in_a_task).options(num_cpus=0, max_retries=1)
    waiting, running = list(jobs), {}
    most = max((_shape(job.train) for job in jobs), default=(0, 0), key=lambda shape: shape[0] * shape[1])
    at_once = fits_at_once(config, ray.cluster_resources(), *most)
    quantiles: dict[tuple[Location, ...], Any] = {}
    if config.num_actors > 1:  # one actor sees all rows, and finds the same by itself
        binning = ray.remote(quantiles_of_files).options(num_cpus=0)
        quantiles = {files: binning.remote(files, config.max_bin) for files in {job.train for job in jobs}}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                running[task.remote(job, config, quantiles.get(job.train))] = job
            (done,), _ = ray.wait(list(running), num_returns=1)
            yield running.pop(done), ray.get(done)
    except RayError as error:
        raise user_error(error) or error from error
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _shape(files: Sequence[Location]) -> tuple[int, int]:
    """Rows and columns of a table in parquet files."""
    footers = [pq.read_metadata(file.path, filesystem=file.fs) for file in files]
    return sum(footer.num_rows for footer in footers), footers[0].num_columns


def _fit_in_a_task(job: FitJob, config: Boost, quantiles: Quantiles | None) -> Fitted:
    try:
        return fit(job, config, quantiles)
    finally:
        give_back()


def check_resources(config: Boost, ray_config: RayConfig) -> None:
    """A local Ray never grows, so actors that do not fit would wait for ever; a cluster may scale up.

    Raises:
        RecipeError: with how many CPUs or GPUs there are.
    """
    if ray_config.address != "local":
        return
    if ray.is_initialized():
        there = ray.cluster_resources()
        cpus, gpus = there.get("CPU", 0), there.get("GPU", 0)
    else:
        import torch

        cpus, gpus = ray_config.num_cpus or 2 * (os.cpu_count() or 1), torch.cuda.device_count()
    wanted = config.num_actors * config.cpus_per_actor
    if wanted > cpus:
        raise RecipeError(
            f"boost.num_actors={config.num_actors} x cpus_per_actor={config.cpus_per_actor} wants {wanted} CPUs, the "
            f"local Ray has {cpus:.0f}. Use fewer, or set ray.num_cpus."
        )
    if config.gpus_per_actor * config.num_actors > gpus:
        raise RecipeError(
            f"boost.num_actors={config.num_actors} x gpus_per_actor={config.gpus_per_actor} wants "
            f"{config.num_actors * config.gpus_per_actor} GPUs, the local Ray has {gpus:.0f}. Use boost.gpus_per_actor=0, or "
            "a cluster (ray.address)."
        )


def fits_at_once(config: Boost, resources: Mapping[str, float], num_rows: int = 0, num_features: int = 0) -> int:
    """Fits that the cluster's resources hold, at least one (an autoscaler may bring what it needs).

    Args:
        resources: as Ray names them; ``memory`` in bytes.
        num_rows, num_features: of the largest training table.
    """
    cpus, gpus = config.num_actors * config.cpus_per_actor, config.num_actors * config.gpus_per_actor
    room = resources.get("CPU", 0) // cpus
    if gpus:
        room = min(room, resources.get("GPU", 0) // gpus)
    if "memory" in resources:
        each = config.num_actors * actor_bytes(config, num_rows // config.num_actors, num_features)
        room = min(room, resources["memory"] // each)
    return max(1, int(room))


def actor_bytes(config: Boost, num_rows: int, num_features: int) -> int:
    """What an actor takes: its process, its rows, and the histograms of a tree's nodes, which xgboost keeps (two doubles a bin).

    Of the few rows of a study with wide embeddings the histograms are nearly all: 20,000 features in 256 bins at depth 6 are
    5 GB.
    """
    bins, nodes = min(config.max_bin, max(num_rows, 1)), min(2**config.max_depth, 2 * max(num_rows, 1))
    return _PROCESS_BYTES + num_features * (_ROW_BYTES * num_rows + 16 * bins * nodes)


def fit(job: FitJob, config: Boost, quantiles: Quantiles | None) -> Fitted:
    """Fit one booster; the round with the lowest validation error is the last one kept.

    Args:
        quantiles: thresholds on which several actors agree; None for one actor, which finds them itself.

    Raises:
        EpilmError: as :func:`fit_all`.
    """
    assert min(len(job.train), len(job.validation)) >= config.num_actors, "every actor needs a file"
    xgboost_ray = _xgboost_ray()

    def matrix(files: Sequence[Location]) -> Any:
        return xgboost_ray.RayDMatrix(
            [file.path for file in files],
            label=TARGET,
            ignore=[ROW, GENE],
            filetype=xgboost_ray.RayFileType.PARQUET,
            distributed=True,
            filesystem=files[0].fs,
        )

    train = matrix(job.train)
    history: dict[str, dict[str, list[float]]] = {}
    try:
        with warnings.catch_warnings():
            # It was written for an older pandas, and says that a GPU needs `gpu_hist`, which xgboost 2 calls device=cuda.
            warnings.simplefilter("ignore")
            booster = xgboost_ray.train(
                parameters(config, job.seed),
                train,
                num_boost_round=config.max_rounds,
                evals=[(matrix(job.validation), "validation")],
                evals_result=history,
                early_stopping_rounds=config.early_stopping_rounds,
                verbose_eval=False,
                ray_params=xgboost_ray.RayParams(
                    num_actors=config.num_actors,
                    cpus_per_actor=config.cpus_per_actor,
                    gpus_per_actor=config.gpus_per_actor,
                    max_actor_restarts=config.max_actor_restarts,
                    checkpoint_frequency=config.max_rounds + 1,
                    distributed_callbacks=None if quantiles is None else [_rounding(quantiles, train)],
                    verbose=False,
                ),
            )
    except (RuntimeError, TimeoutError) as error:
        raise EpilmError(
            f"xgboost-ray stopped fitting {job.label!r}: {error}. It wanted {config.num_actors} actor(s) of "
            f"{config.cpus_per_actor} CPU(s) and {config.gpus_per_actor} GPU(s), with {config.max_actor_restarts} "
            "restart(s): does the cluster have them, and memory for the features? More boost.num_actors take less each."
        ) from error
    best = booster.best_iteration
    kept = booster[: best + 1]
    return Fitted(bytes(kept.save_raw(raw_format="json")), best + 1, float(min(history["validation"]["rmse"])))


def predict(
    boosters: Mapping[str, Location], files: Mapping[str, Sequence[Location]], *, group_of: Mapping[str, str]
) -> pd.DataFrame:
    """Predict the rows of feature files by Ray Data -> columns ``row``, ``booster``, ``prediction``, and ``gene_id`` where
    the files have it; in no order.

    Args:
        boosters: name -> file of a booster.
        files: feature set -> its files.
        group_of: name of a booster -> its feature set.
    """
    units = [
        {"path": str(path), "boosters": [[name, str(boosters[name])] for name in boosters if group_of[name] == group]}
        for group, paths in files.items()
        for path in paths
    ]
    tables = (
        ray.data.from_items(units, override_num_blocks=len(units))
        .map_batches(_predict_unit, batch_size=1, batch_format="numpy")
        .iter_batches(batch_size=None, batch_format="pyarrow")
    )
    return pa.concat_tables(list(tables)).to_pandas()


def predict_file(path: Location, boosters: Mapping[str, bytes]) -> pa.Table:
    """Predictions of one feature file by several boosters (JSON) of its feature set, the columns of :func:`predict`."""
    import xgboost

    loaded = {name: _booster(raw, nthread=1) for name, raw in boosters.items()}
    # the order of a booster's features is that of their names, not that of the file
    columns = next(iter(loaded.values())).feature_names
    matrix = xgboost.DMatrix(read_features(path, columns), feature_names=columns, nthread=1)
    keys = [name for name in (ROW, GENE) if name in pq.read_schema(path.path, filesystem=path.fs).names]
    ids = pq.read_table(path.path, filesystem=path.fs, columns=keys).rename_columns(["row", "gene_id"][: len(keys)])
    parts = [
        ids.append_column("booster", pa.array([name] * ids.num_rows, pa.string())).append_column(
            "prediction", pa.array(booster.predict(matrix), pa.float32())
        )
        for name, booster in loaded.items()
    ]
    return pa.concat_tables(parts)


def gains(booster_json: bytes, count: int = 10) -> dict[str, float]:
    """The features that lowered the training error most, and their share of the whole gain."""
    booster = _booster(booster_json)
    gain = pd.Series(booster.get_score(importance_type="total_gain"), dtype=np.float64)
    share = (gain / gain.sum()).sort_values(ascending=False).head(count)
    return {str(name): round(float(value), 4) for name, value in share.items()}


def num_rounds(booster_json: bytes) -> int:
    """Boosting rounds of a booster."""
    return _booster(booster_json).num_boosted_rounds()


def _predict_unit(batch: dict[str, np.ndarray]) -> pa.Table:
    boosters = {str(name): Location(str(path)).read_bytes() for name, path in batch["boosters"][0]}
    return predict_file(Location(str(batch["path"][0])), boosters)


def parameters(config: Boost, seed: int) -> dict[str, Any]:
    """What ``xgboost.train`` is given."""
    return {
        "objective": "reg:squarederror",
        "eval_metric": "rmse",
        "tree_method": "hist",
        "device": "cuda" if config.gpus_per_actor else "cpu",
        "eta": config.learning_rate,
        "max_depth": config.max_depth,
        "min_child_weight": config.min_child_weight,
        "subsample": config.subsample,
        "colsample_bytree": config.colsample_bytree,
        "lambda": config.reg_lambda,
        "max_bin": config.max_bin,
        "seed": seed,
    }


def _rounding(quantiles: Quantiles, train: Any) -> Any:
    """A callback that rounds an actor's training rows down to common thresholds when it has read them."""
    from xgboost_ray.callback import DistributedCallback

    class Rounding(DistributedCallback):
        def after_data_loading(self, actor: Any, data: Any, *args: Any, **kwargs: Any) -> None:
            if data != train:
                return
            part = actor._data[data]
            frame = part["data"]
            assert tuple(frame.columns) == quantiles.names
            values = round_down(frame.to_numpy(np.float32), quantiles)
            part["data"] = pd.DataFrame(values, columns=frame.columns, copy=False)

    return Rounding()


def _booster(booster_json: bytes, **parameters: Any) -> Any:
    import xgboost

    booster = xgboost.Booster(parameters)
    booster.load_model(bytearray(booster_json))
    return booster


def _xgboost_ray() -> Any:
    """xgboost-ray, in the process of a task: what it does to its process (it forces ``fork`` on it) stays there."""
    # an autoscaler may need minutes to bring the actors' machines; its own limit is 100 s
    os.environ.setdefault("RXGB_PLACEMENT_GROUP_TIMEOUT_S", "1800")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import xgboost_ray
        import xgboost_ray.main

    xgboost_ray.main.Event, xgboost_ray.main.Queue = StopEvent, NoQueue
    return xgboost_ray
