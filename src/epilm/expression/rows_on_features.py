"""Rows of the table whose regressor reads features: written as parquet by Ray tasks, then boosted, or fitted in a task."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError

from epilm.errors import user_error
from epilm.expression.both_orders import combine, orders_of
from epilm.expression.feature_jobs import FeatureMaker
from epilm.expression.plan import RowKey
from epilm.expression.store import Outcome
from epilm.memory import give_back
from epilm.regress import boost
from epilm.regress.classic import Chosen, RidgeConfig, SvrConfig, fit_ridge, fit_svr
from epilm.regress.matrix import write_matrix
from epilm.regress.recipe import Boost
from epilm.storage import Location
from epilm.tasks.gene_table import Genes, GeneTable

Progress = Callable[[str], None]


@dataclass(frozen=True)
class FeatureRow:
    """A row from one seed, and what makes its features.

    Args:
        same_features: name of features that several seeds share; they are written once.
    """

    key: RowKey
    seed: int
    maker: FeatureMaker
    same_features: str


@dataclass(frozen=True)
class Fitting:
    """How boosters are fitted.

    Args:
        fit_on, stop_on: splits of the genes that trees are grown on, and on which the rounds are chosen.
    """

    config: Boost
    fit_on: tuple[str, ...] = ("train",)
    stop_on: tuple[str, ...] = ("validation",)


_TABLES_AT_ONCE, _COPIES = 4, 4
"""Most feature tables being made, and what each takes as a multiple of itself: a split of it is copied, and packed as parquet."""
_KERNEL_BYTES, _KERNELS_BYTES = 12, 6 << 30
"""Of a pair of rows in support vector regression, and of all fits that run side by side."""

ASKED = ("validation", "test")
"""Splits whose genes are predicted."""


def boosted(
    rows: Sequence[FeatureRow],
    table: GeneTable,
    fitting: Fitting,
    *,
    features: Location,
    boosters: Location,
) -> Iterator[Outcome]:
    """Write features, fit a booster a row with xgboost-ray, predict; yield each row's outcome.

    Needs a connected Ray. Boosters are kept as ``<boosters>/<arm>/<inputs>/seed-<n>.json``.

    Raises:
        EpilmError: what a task met.
    """
    written = _write_all(rows, table, features, num_files=fitting.config.num_actors)
    by_label = {f"{row.key.arm}/{row.key.inputs}/{row.seed}": row for row in rows}
    jobs = [
        boost.FitJob(
            label,
            row.seed,
            _files(written[row.same_features], fitting.fit_on),
            _files(written[row.same_features], fitting.stop_on),
        )
        for label, row in by_label.items()
    ]
    paths, rounds = {}, {}
    for job, fitted in boost.fit_all(jobs, fitting.config):
        key = by_label[job.label].key
        paths[job.label] = (boosters / key.arm / key.inputs).mkdir() / f"seed-{job.seed}.json"
        paths[job.label].write_bytes(fitted.booster_json)
        rounds[job.label] = {"rounds": fitted.rounds, "validation_rmse": round(fitted.validation_rmse, 6)}
    predicted = boost.predict(
        paths,
        {name: [file for split in ASKED for file in parts.files[split]] for name, parts in written.items()},
        group_of={label: row.same_features for label, row in by_label.items()},
    )
    for label, of_row in predicted.groupby("booster"):
        row = by_label[str(label)]
        values = np.full((1 + row.maker.antisymmetric, len(table.genes.genes)), np.nan)
        values.flat[of_row["row"].to_numpy()] = of_row["prediction"].to_numpy(np.float64)
        yield Outcome(
            row.key, row.seed, combine([*values]), rounds[str(label)], written[row.same_features].num_features
        )


def classic(
    rows: Sequence[FeatureRow], table: GeneTable, configs: Mapping[str, SvrConfig | RidgeConfig], *, models: Location
) -> Iterator[Outcome]:
    """Fit a support vector or ridge regression a row, each in a Ray task.

    Args:
        configs: arm -> what is fitted.
        models: folder of the fitted ones, ``<arm>/<inputs>/seed-<n>.pkl``.
    """
    orders = 1 + max(row.maker.antisymmetric for row in rows)
    num_rows = orders * len(table.genes.rows("train"))
    at_once = min(tables_at_once(rows, table), max(1, _KERNELS_BYTES // (_KERNEL_BYTES * num_rows**2)))
    calls = [(row, (row, table, configs[row.key.arm], models)) for row in rows]
    for _, outcome in _in_tasks(_fit_classic, calls, at_once=at_once):
        yield outcome


def _in_tasks(
    work: Callable[..., Any], calls: Sequence[tuple[Any, tuple[Any, ...]]], *, at_once: int
) -> Iterator[tuple[Any, Any]]:
    """Run calls (what they are for, arguments) in Ray tasks, some at a time; yield each with its result as it is done."""

    def done_with(*arguments: Any) -> Any:
        try:
            return work(*arguments)
        finally:
            give_back()

    task: Any = ray.remote(done_with)
    waiting, running = list(calls), {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                name, arguments = waiting.pop(0)
                running[task.remote(*arguments)] = name
            (done,), _ = ray.wait(list(running), num_returns=1)
            yield running.pop(done), ray.get(done)
    except RayError as error:
        raise user_error(error) or error from error
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


@dataclass(frozen=True)
class _Written:
    files: dict[str, tuple[Location, ...]]
    num_features: int


def _files(written: _Written, splits: tuple[str, ...]) -> tuple[Location, ...]:
    return tuple(file for split in splits for file in written.files[split])


def _write_all(
    rows: Sequence[FeatureRow], table: GeneTable, folder: Location, *, num_files: int
) -> dict[str, _Written]:
    makers = {row.same_features: row for row in rows}
    calls = [(name, (row.maker, row.key, table, folder / name, num_files)) for name, row in makers.items()]
    return dict(_in_tasks(_write, calls, at_once=tables_at_once(list(makers.values()), table)))


def tables_at_once(rows: Sequence[FeatureRow], table: GeneTable) -> int:
    """Tables of features that the cluster's memory holds, one at least: that of 20,000 genes' embeddings takes gigabytes."""
    largest = max(_table_bytes(row, table) for row in rows)
    return max(1, min(_TABLES_AT_ONCE, int(ray.cluster_resources().get("memory", 0) // (_COPIES * largest))))


def _table_bytes(row: FeatureRow, table: GeneTable) -> int:
    genes = table.genes
    return 4 * (1 + row.maker.antisymmetric) * len(genes.genes) * row.maker.width(genes, row.key.inputs)


def _write(maker: FeatureMaker, key: RowKey, table: GeneTable, folder: Location, num_files: int) -> _Written:
    """Rows of the second order are numbered behind those of the first."""
    genes = table.genes
    orders = orders_of(genes, antisymmetric=maker.antisymmetric)
    values, names = _stacked(maker, key, orders)
    target = np.concatenate([order.target for order in orders])
    files = {}
    for split in ("train", *ASKED):
        index = _rows(orders, split)
        files[split] = write_matrix(
            folder / split,
            values[index],
            names,
            np.tile(genes.genes, len(orders))[index],
            index,
            target[index],
            num_files=1 if split == "test" else num_files,
        )
    return _Written(files, len(names))


def _stacked(maker: FeatureMaker, key: RowKey, orders: Sequence[Genes]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Features of all genes in each order, [orders x n, F], and their names."""
    given = maker.make(orders[0], key.inputs)
    if len(orders) == 1:
        return given.values, given.names
    names, (num, width) = given.names, given.values.shape
    values = np.empty((len(orders) * num, width), np.float32)
    values[:num] = given.values
    del given  # it takes as much room as a half of the table
    for number, order in enumerate(orders[1:], 1):
        exchanged = maker.make(order, key.inputs)
        assert exchanged.names == names
        values[number * num : (number + 1) * num] = exchanged.values
    return values, names


def _rows(orders: Sequence[Genes], split: str) -> np.ndarray:
    """A split's rows among the genes of all orders."""
    genes = orders[0]
    return np.concatenate([genes.rows(split) + number * len(genes.genes) for number in range(len(orders))])


def _fit_classic(row: FeatureRow, table: GeneTable, config: SvrConfig | RidgeConfig, models: Location) -> Outcome:
    orders = orders_of(table.genes, antisymmetric=row.maker.antisymmetric)
    x, names = _stacked(row.maker, row.key, orders)
    y = np.concatenate([order.target for order in orders])
    train, validation = _rows(orders, "train"), table.genes.rows("validation")
    fit: Any = fit_svr if isinstance(config, SvrConfig) else fit_ridge

    def merge(predictions: np.ndarray) -> np.ndarray:
        return combine([*predictions.reshape(len(orders), -1)])

    chosen: Chosen = fit(x[train], y[train], x[_rows(orders, "validation")], y[validation], config, merge)
    values = np.full(len(y), np.nan)
    for split in ASKED:
        asked = _rows(orders, split)
        values[asked] = chosen.predict(x[asked])
    folder = (models / row.key.arm / row.key.inputs).mkdir()
    (folder / f"seed-{row.seed}.pkl").write_bytes(pickle.dumps((names, chosen)))
    return Outcome(row.key, row.seed, merge(values), dict(chosen.settings), x.shape[1])
