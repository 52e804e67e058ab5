"""Segment BED: contig, start, end, label (ChromHMM's ``18_Quiescent/low_signal``, ``E9``, ``1_TssA``)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from epilm.errors import GenomeError
from epilm.genome import files
from epilm.genome.states.source import CellTable

_MAX_BIN_BP = 1000  # more in common is chance: few segments
_NAMES = pa.dictionary(pa.int32(), pa.string())


def read_segments(path: str) -> CellTable:
    """Read one cell's segments.

    Raises:
        GenomeError: unreadable, not BED, or without the label column.
    """
    columns = [("chrom", _NAMES), ("start", pa.int64()), ("end", pa.int64()), ("label", _NAMES)]
    table = files.read_columns(path, columns, what="segment BED (contig, start, end, state)")
    if table.num_columns < 4:
        raise GenomeError(f"{path} has {table.num_columns} columns; the state label is expected in column 4.")
    start = table["start"].to_numpy()
    grid_bp = int(np.gcd.reduce(start))  # ChromHMM's segments begin on the grid of its bins
    chrom, label = (dictionary_of(table[name]) for name in ("chrom", "label"))
    return CellTable(
        path=path,
        contigs=chrom[0],
        labels=label[0],
        contig=chrom[1],
        start=start,
        end=table["end"].to_numpy(),
        label=label[1],
        bin_bp=grid_bp if 0 < grid_bp <= _MAX_BIN_BP else 1,
    )


def dictionary_of(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Distinct values of a dictionary column, and the index of each row's."""
    joined = column.unify_dictionaries().combine_chunks()
    if isinstance(joined, pa.ChunkedArray):
        joined = joined.chunk(0)
    return joined.dictionary.to_pylist(), joined.indices.to_numpy()
