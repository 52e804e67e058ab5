"""A feature matrix in parquet files, as the fit of boosters reads them, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.errors import RecipeError
from epilm.regress.columns import GENE, ROW, TARGET, feature_name
from epilm.storage import Location


@dataclass(frozen=True)
class Matrix:
    """n rows with F features."""

    names: tuple[str, ...]
    values: np.ndarray
    """float32 [n, F]."""
    genes: np.ndarray
    """str [n]."""
    row: np.ndarray
    """int64 [n]: a number that no other row of the study has."""
    target: np.ndarray
    """float32 [n]."""


def write_matrix(
    folder: Location,
    values: np.ndarray,
    names: Sequence[str],
    genes: Sequence[str] | np.ndarray,
    row: np.ndarray,
    target: np.ndarray,
    *,
    num_files: int,
) -> tuple[Location, ...]:
    """Write rows in their order to ``part-00000.parquet``, ...; each file is written whole or not at all.

    Args:
        values: float32 [n, F]; NaN is a missing value.
        names: F names; xgboost's forbidden characters are replaced (:func:`feature_name`).
        genes, row, target: str, int64 and float [n].
        num_files: files of nearly equal size, at least as many as a fit has actors.

    Raises:
        RecipeError: fewer rows than files.
    """
    count, columns = len(values), [feature_name(name) for name in names]
    assert values.shape == (count, len(columns))
    assert len(genes) == len(row) == len(target) == count
    assert len({*columns, ROW, TARGET, GENE}) == len(columns) + 3
    if not 1 <= num_files <= count:
        raise RecipeError(
            f"{count} rows cannot fill {num_files} file(s), one for each actor, with at least one row each. "
            f"Use boost.num_actors between 1 and {count}, or more rows."
        )
    folder.mkdir()
    edges = np.linspace(0, count, num_files + 1).astype(int)
    files = tuple(folder / f"part-{index:05d}.parquet" for index in range(num_files))
    for file, first, last in zip(files, edges[:-1], edges[1:], strict=True):
        part = np.ascontiguousarray(np.asarray(values[first:last], np.float32).T)
        table = pa.table(
            [
                pa.array(np.asarray(row[first:last], np.int64)),
                pa.array([str(gene) for gene in genes[first:last]], pa.string()),
                pa.array(np.asarray(target[first:last], np.float32)),
                *map(pa.array, part),
            ],
            names=[ROW, GENE, TARGET, *columns],
        )
        file.write_bytes(parquet_bytes(table))
    return files


def read_matrix(files: Sequence[Location]) -> Matrix:
    """The rows of files that :func:`write_matrix` wrote, in the files' order."""
    names = feature_names(files[0])
    tables = [pq.read_table(file.path, filesystem=file.fs, columns=[ROW, GENE, TARGET]) for file in files]
    keys = pa.concat_tables(tables)
    return Matrix(
        names,
        np.concatenate([read_features(file, names) for file in files]),
        np.array(keys.column(GENE).to_pylist(), dtype=np.str_),
        keys.column(ROW).to_numpy(),
        keys.column(TARGET).to_numpy(),
    )


def feature_names(file: Location) -> tuple[str, ...]:
    """Names of a file's features, in its order."""
    return tuple(
        name for name in pq.read_schema(file.path, filesystem=file.fs).names if name not in (ROW, TARGET, GENE)
    )


def read_features(file: Location, names: Sequence[str]) -> np.ndarray:
    """Features of a file, in the order of ``names`` -> float32 [n, F]."""
    table = pq.read_table(file.path, filesystem=file.fs, columns=list(names))
    values = np.empty((table.num_rows, len(names)), np.float32)
    for position, name in enumerate(names):
        values[:, position] = table.column(name).to_numpy()
    return values


def parquet_bytes(table: pa.Table) -> bytes:
    """Thousands of columns: a dictionary and statistics for each cost more than the values."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", use_dictionary=False, write_statistics=False)
    return sink.getvalue().to_pybytes()
