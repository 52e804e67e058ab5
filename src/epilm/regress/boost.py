"""Gradient-boosted trees on Ray: the only module that knows xgboost-ray.

A fit reads parquet files straight into ``num_actors`` Ray actors (each takes some of the files), so no feature matrix
passes through the driver, and gives a booster as JSON that plain xgboost loads. Prediction is a Ray Data map over the
files in which every row carries its number: xgboost-ray's own distributed ``predict`` interleaves the rows of the
actors' files (0.1.19), so its output cannot be joined to anything.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
import xgboost

from epilm.errors import EpilmError
from epilm.regress.recipe import Boost
from epilm.storage import Location

ROW, TARGET = "__row__", "__target__"
"""Columns of a feature file that are not features: the row's number and the value to regress."""


@dataclass(frozen=True)
class Fitted:
    """A booster cut at its best round."""

    booster_json: bytes
    """xgboost's JSON model; ``xgboost.Booster(model_file=...)`` reads it from a file."""
    rounds: int
    """Trees in the booster: up to the round with the lowest validation error."""
    validation_rmse: float
    """Lowest root mean squared error on the validation rows."""


def fit(train: Sequence[Location], validation: Sequence[Location], *, config: Boost, seed: int) -> Fitted:
    """Fit one booster; the round with the lowest validation error is the last one kept.

    Args:
        train, validation: parquet files with the columns ``ROW``, ``TARGET`` and the features; at least
            ``config.num_actors`` of each, which the actors share among them.

    Raises:
        EpilmError: actors died more often than ``max_actor_restarts`` allows, or the cluster gave none in time.
    """
    assert min(len(train), len(validation)) >= config.num_actors, "every actor needs a file"
    with _xgboost_ray() as xgboost_ray:
        matrix = functools.partial(
            xgboost_ray.RayDMatrix,
            label=TARGET,
            ignore=[ROW],
            filetype=xgboost_ray.RayFileType.PARQUET,
            distributed=True,
            filesystem=train[0].fs,
        )
        history: dict[str, dict[str, list[float]]] = {}
        try:
            booster = xgboost_ray.train(
                _parameters(config, seed),
                matrix([file.path for file in train]),
                num_boost_round=config.max_rounds,
                evals=[(matrix([file.path for file in validation]), "validation")],
                evals_result=history,
                early_stopping_rounds=config.early_stopping_rounds,
                verbose_eval=False,
                ray_params=xgboost_ray.RayParams(
                    num_actors=config.num_actors,
                    cpus_per_actor=config.cpus_per_actor,
                    gpus_per_actor=config.gpus_per_actor,
                    max_actor_restarts=config.max_actor_restarts,
                    checkpoint_frequency=config.checkpoint_frequency,
                    verbose=False,
                ),
            )
        except (RuntimeError, TimeoutError) as error:
            raise EpilmError(
                f"xgboost-ray stopped: {error}. It wanted {config.num_actors} actor(s) of "
                f"{config.cpus_per_actor} CPU(s) and {config.gpus_per_actor} GPU(s), with {config.max_actor_restarts} restart(s): does the cluster "
                "have them, and memory for the features? More boost.num_actors take less each."
            ) from error
    # After an actor's restart the history begins at the checkpoint, so the best round is that of the last stretch.
    best = booster.best_iteration
    kept = booster[: best + 1]
    return Fitted(bytes(kept.save_raw(raw_format="json")), best + 1, float(min(history["validation"]["rmse"])))


def predict(
    boosters: Mapping[str, Location], files: Mapping[str, Sequence[Location]], *, group_of: Mapping[str, str]
) -> pd.DataFrame:
    """Predict the rows of feature files by Ray Data -> columns ``row``, ``booster``, ``prediction``, in no order.

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
    """Predictions of one feature file by several boosters (JSON) -> (row, booster, prediction)."""
    table = pq.read_table(path.path, filesystem=path.fs)
    features = table.drop_columns([ROW, TARGET])
    values = np.stack([column.to_numpy() for column in features.columns], axis=1)
    matrix = xgboost.DMatrix(values, feature_names=features.column_names, nthread=1)
    parts = []
    for name, raw in boosters.items():
        booster = xgboost.Booster({"nthread": 1})
        booster.load_model(bytearray(raw))
        parts.append(
            pa.table(
                {
                    "row": table.column(ROW),
                    "booster": pa.array([name] * table.num_rows, pa.string()),
                    "prediction": pa.array(booster.predict(matrix), pa.float32()),
                }
            )
        )
    return pa.concat_tables(parts)


def gains(booster_json: bytes, count: int = 10) -> dict[str, float]:
    """The features that lowered the training error most, and their share of the whole gain."""
    booster = xgboost.Booster()
    booster.load_model(bytearray(booster_json))
    gain = pd.Series(booster.get_score(importance_type="total_gain"), dtype=np.float64)
    share = (gain / gain.sum()).sort_values(ascending=False).head(count)
    return {str(name): round(float(value), 4) for name, value in share.items()}


def feature_name(name: str) -> str:
    """A name that xgboost takes: it refuses ``[``, ``]`` and ``<``, which state labels may hold."""
    return name.replace("[", "(").replace("]", ")").replace("<", "lt ")


def _predict_unit(batch: dict[str, np.ndarray]) -> pa.Table:
    boosters = {str(name): Location(str(path)).read_bytes() for name, path in batch["boosters"][0]}
    return predict_file(Location(str(batch["path"][0])), boosters)


def _parameters(config: Boost, seed: int) -> dict[str, Any]:
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


@contextmanager
def _xgboost_ray() -> Iterator[Any]:
    """xgboost-ray, with what it changes in this process put back afterwards."""
    # an autoscaler may need minutes to bring the actors' machines; its own limit is 100 s
    os.environ.setdefault("RXGB_PLACEMENT_GROUP_TIMEOUT_S", "1800")
    start_method = multiprocessing.get_start_method(allow_none=True)
    with warnings.catch_warnings():
        # It was written for an older pandas, and says that a GPU needs `gpu_hist`, which xgboost 2 calls device=cuda.
        warnings.simplefilter("ignore")
        import xgboost_ray  # 2 s, which a stage that does not regress need not pay

        try:
            yield xgboost_ray
        finally:
            multiprocessing.set_start_method(start_method, force=True)  # its tracker forces "fork" on everyone
