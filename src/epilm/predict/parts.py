"""The output of ``epilm embed``: parquet parts, each a fixed stretch of the intervals.

What a part holds depends on the recipe and the intervals alone, never on the number of workers; a part is written whole
or not at all. So finished parts are kept when a run resumes, and any number of workers writes the same rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.predict.encode import Encoded
from epilm.predict.load import TokenLayout
from epilm.predict.tiles import count_tiles, count_tokens
from epilm.storage import Location

EMBEDDINGS_FILE = "embeddings.json"
INTERVALS_FILE = "intervals.parquet"
COLUMNS = ("id", "chrom", "start", "end", "strand")

WITHOUT_DNA = b"epilm.intervals_without_dna"

MAX_PART_BYTES = 256_000_000
"""Bytes of embeddings in a part: per-token embeddings of long intervals would fill the memory otherwise."""


class OutputPart(Protocol):
    """A file of any stage that writes its output in parts."""

    @property
    def index(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def sequences(self) -> int:
        """Forward passes of one window that it takes."""
        ...


@dataclass(frozen=True)
class Part:
    """Intervals ``first`` to ``last`` (excluded) and the number of rows they give."""

    index: int
    first: int
    last: int
    rows: int
    sequences: int
    """Forward passes of one window: (tile, cell type) pairs."""

    @property
    def path(self) -> str:
        return f"part-{self.index:05d}.parquet"


def plan_parts(
    length_bp: np.ndarray, *, layout: TokenLayout, num_cells: int, pooling: str, sequences_per_part: int
) -> list[Part]:
    """Cut a list of intervals into parts of about ``sequences_per_part`` windows and at most ``MAX_PART_BYTES``.

    An interval is never cut; one that is larger than a part is a part of its own.
    """
    num_tokens = count_tokens(length_bp, k=layout.k, stride=layout.stride)
    sequences = count_tiles(num_tokens, layout.max_tokens) * num_cells
    vectors = num_tokens if pooling == "tokens" else np.ones_like(num_tokens)
    num_bytes = vectors * num_cells * layout.hidden_size * 4
    share = np.maximum(sequences / sequences_per_part, num_bytes / MAX_PART_BYTES)
    parts: list[Part] = []
    filled = np.concatenate([[0.0], np.cumsum(share)])
    done = np.concatenate([[0], np.cumsum(sequences)])
    first = 0
    while first < len(num_tokens):
        last = max(first + 1, int(np.searchsorted(filled, filled[first] + 1 + 1e-9, side="right")) - 1)
        parts.append(Part(len(parts), first, last, (last - first) * num_cells, int(done[last] - done[first])))
        first = last
    return parts


def write_intervals(folder: Location, intervals: pa.Table) -> None:
    """Keep the intervals in the run folder, where every actor reads them."""
    sink = pa.BufferOutputStream()
    pq.write_table(intervals.select(COLUMNS), sink, compression="zstd")
    (folder / INTERVALS_FILE).write_bytes(sink.getvalue())


def read_intervals(folder: Location) -> pa.Table:
    """The intervals of a run, one chunk a column."""
    return pq.read_table(pa.py_buffer((folder / INTERVALS_FILE).read_bytes())).combine_chunks()


def part_table(intervals: pa.Table, encoded: Encoded, *, cell_types: Sequence[str]) -> pa.Table:
    """Rows (interval, cell type) of a part: the interval's columns, ``cell_type`` and ``embedding``.

    ``embedding`` is ``fixed_size_list<float>[D]``, or a list of those for per-token embeddings. ``cell_types`` is
    ``("",)`` for a model of DNA alone.
    """
    num_cells, dim = len(cell_types), encoded.values.shape[1]
    repeated = intervals.take(pa.array(np.repeat(np.arange(intervals.num_rows), num_cells)))
    cell_type = pa.array(list(cell_types), pa.string()).take(
        pa.array(np.tile(np.arange(num_cells), intervals.num_rows))
    )
    vectors: pa.Array = pa.FixedSizeListArray.from_arrays(pa.array(encoded.values.reshape(-1)), dim)
    if encoded.offsets is not None:
        vectors = pa.ListArray.from_arrays(pa.array(encoded.offsets.astype(np.int32)), vectors)
    columns = {name: repeated.column(name) for name in COLUMNS}
    table = pa.table({**columns, "cell_type": cell_type, "embedding": vectors})
    return table.replace_schema_metadata({WITHOUT_DNA: str(int((encoded.num_known == 0).sum()))})


def write_part(folder: Location, part: Part, table: pa.Table) -> dict[str, object]:
    """Write a part whole; return its entry in ``embeddings.json``.

    Nothing is compressed: random-looking floats would shrink by 8 % at a fifth of the speed.
    """
    assert table.num_rows == part.rows
    sink = pa.BufferOutputStream()
    labels = ["id", "chrom", "strand", "cell_type"]
    pq.write_table(table, sink, compression="none", use_dictionary=labels, write_statistics=labels)  # pyright: ignore
    data = sink.getvalue()
    (folder / part.path).write_bytes(data)
    return {"path": part.path, "rows": part.rows, "sha256": hashlib.sha256(data).hexdigest()}


def finished_parts(folder: Location, parts: Sequence[OutputPart]) -> dict[int, dict[str, object]]:
    """Entries of the parts that lie in the folder with the right number of rows, by their index."""
    names = set(folder.children())
    return {
        part.index: {"path": part.path, "rows": part.rows, "sha256": (folder / part.path).sha256()}
        for part in parts
        if part.path in names and _num_rows(folder / part.path) == part.rows
    }


def remove_leftovers(folder: Location) -> None:
    """Delete the halves of files that a killed run left behind in a folder of its own."""
    for name in folder.children():
        if name.endswith(".tmp"):
            (folder / name).delete()


def count_without_dna(folder: Location, parts: Sequence[OutputPart]) -> int:
    """Intervals without a single known k-mer, from the parts' footers."""
    return sum(int(_footer(folder / part.path).metadata[WITHOUT_DNA]) for part in parts)


def _footer(location: Location) -> pq.FileMetaData:
    with location.fs.open_input_file(location.path) as stream:
        return pq.read_metadata(stream)


def _num_rows(location: Location) -> int:
    try:
        return _footer(location).num_rows
    except (pa.ArrowInvalid, OSError):
        return -1  # not a whole parquet file: it is written again
