"""Feature files: Ray Data tasks read slices of the rows and write ``features/<label>/<split>/part-*.parquet``.

The driver holds only the rows table. A file has the columns ``ROW``, ``TARGET`` and one float32 column a feature, as
xgboost-ray reads it; it is written whole or not at all, so a resumed run keeps what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from epilm import errors
from epilm.errors import EpilmError, user_error
from epilm.regress.columns import ROW, TARGET, feature_name
from epilm.regress.features import Maker
from epilm.regress.rows import SPLITS
from epilm.storage import Location

PART_BYTES = 64_000_000
"""Most bytes of features in a file; a task holds a few times as much."""


@dataclass(frozen=True)
class FeaturePart:
    """Rows ``first`` to ``last`` (excluded) of one split, in one file of one feature set."""

    label: str
    split: str
    index: int
    first: int
    last: int

    def location(self, folder: Location) -> Location:
        return folder / self.label / self.split / f"part-{self.index:05d}.parquet"


def plan_parts(
    num_rows: Mapping[str, int], num_columns: Mapping[str, int], *, rows_per_part: int, num_actors: int
) -> list[FeaturePart]:
    """Cut every split of every feature set into files of nearly equal size.

    Args:
        num_rows: split -> rows; num_columns: label -> features.
        rows_per_part: most rows in a file; fewer where they would pass ``PART_BYTES``.
        num_actors: least number of files of ``train`` and ``validation``: each actor of a fit reads its own.
    """
    parts = []
    for label, columns in num_columns.items():
        most = max(1, min(rows_per_part, PART_BYTES // (4 * columns)))
        for split in SPLITS:
            rows = num_rows[split]
            count = max(-(-rows // most), 1 if split == "test" else num_actors)
            edges = np.linspace(0, rows, count + 1).astype(int)
            parts += [FeaturePart(label, split, i, int(edges[i]), int(edges[i + 1])) for i in range(count)]
    return parts


def write_features(
    rows: pd.DataFrame, makers: Mapping[str, Maker], parts: list[FeaturePart], folder: Location, *, resumed: bool
) -> int:
    """Write the parts that are not there yet; return how many that were.

    Raises:
        EpilmError: what a task met (a corrupted shard, a full disk).
    """
    pending = [part for part in parts if not (resumed and part.location(folder).exists())]
    if not pending:
        return 0
    of_split = {split: rows[rows["split"] == split].reset_index(drop=True) for split in SPLITS}
    for label, split in {(part.label, part.split) for part in pending}:
        (folder / label / split).mkdir()
    blocks = [
        pa.Table.from_pandas(
            of_split[part.split].iloc[part.first : part.last].assign(label=part.label, path=str(part.location(folder))),
            preserve_index=False,
        )
        for part in pending
    ]
    dataset = ray.data.from_arrow(blocks)
    dataset.context.raise_original_map_exception = True  # otherwise the user's error arrives as text alone
    dataset = dataset.map_batches(
        _write_part,  # pyright: ignore[reportArgumentType]
        fn_kwargs={"makers": dict(makers)},
        batch_size=None,
        batch_format="pyarrow",
    )
    written = 0
    try:
        for row in dataset.iter_rows():
            if row["error"]:
                raise getattr(errors, row["error_kind"], EpilmError)(row["error"])
            written += row["rows"]
    except Exception as error:
        raise user_error(error) or error from error
    assert written == sum(part.last - part.first for part in pending)
    return len(pending)


def feature_table(rows: pd.DataFrame, maker: Maker) -> pa.Table:
    """``ROW``, ``TARGET`` and the features of n rows, one float32 column each."""
    values = maker.read(rows)
    names = [feature_name(name) for name in maker.columns]
    assert values.shape == (len(rows), len(names))
    assert len(set(names)) == len(names)
    columns = np.ascontiguousarray(values.T, dtype=np.float32)
    return pa.table(
        [
            pa.array(rows["row"].to_numpy(np.int64)),
            pa.array(rows["target"].to_numpy(np.float32)),
            *map(pa.array, columns),
        ],
        names=[ROW, TARGET, *names],
    )


def _write_part(block: pa.Table, makers: Mapping[str, Maker]) -> pa.Table:
    """A user's error travels as a row: one that a task raises is logged by Ray Data with its whole traceback."""
    try:
        _write_rows(block, makers)
    except EpilmError as error:
        return pa.table({"rows": [0], "error": [str(error)], "error_kind": [type(error).__name__]})
    return pa.table({"rows": [block.num_rows], "error": [""], "error_kind": [""]})


def _write_rows(block: pa.Table, makers: Mapping[str, Maker]) -> None:
    rows = block.to_pandas()
    (label,), (path,) = rows["label"].unique(), rows["path"].unique()
    sink = pa.BufferOutputStream()
    # thousands of columns: a dictionary and statistics for each cost more than the values
    pq.write_table(
        feature_table(rows, makers[label]), sink, compression="zstd", use_dictionary=False, write_statistics=False
    )
    Location(path).write_bytes(sink.getvalue().to_pybytes())
