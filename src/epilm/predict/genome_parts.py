"""The parts of ``epilm predict``: fixed stretches of bins, one parquet file each, and one column of them read again.

What a part holds depends on the recipe alone, never on the number of workers; a part is written whole or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.errors import StorageError
from epilm.labels.grid import BinGrid
from epilm.labels.runs import Runs
from epilm.storage import Location


@dataclass(frozen=True)
class GenomePart:
    """Consecutive bins of one contig: one parquet file. Bins that were not asked for have no prediction."""

    index: int
    chrom: str
    first_bin: int
    """On the axis of the grid."""
    first_start: int
    """First base of the first bin."""
    rows: int
    sequences: int
    """Windows that the model sees at most: (asked bin, cell type) pairs."""

    @property
    def path(self) -> str:
        return f"part-{self.index:05d}.parquet"


def plan_genome_parts(grid: BinGrid, asked: Runs, *, rows_per_part: int, num_cells: int) -> list[GenomePart]:
    """Cut the asked bins into parts of at most ``rows_per_part`` bins, each from its first asked bin to its last.

    Cuts lie at multiples of ``rows_per_part`` bins of a contig; a stretch between two cuts without an asked bin gives none.
    """
    parts: list[GenomePart] = []
    for contig in grid.contigs:
        end = contig.offset + contig.num_bins
        for low in range(contig.offset, end, rows_per_part):
            high = min(low + rows_per_part, end)
            near = slice(int(np.searchsorted(asked.end, low, "right")), int(np.searchsorted(asked.start, high, "left")))
            starts, ends = np.maximum(asked.start[near], low), np.minimum(asked.end[near], high)
            if not len(starts):
                continue
            first, last = int(starts[0]), int(ends[-1])
            start_bp = contig.first_bp + (first - contig.offset) * grid.step_bp
            num_asked = int((ends - starts).sum())
            parts.append(
                GenomePart(len(parts), contig.name, first, start_bp, last - first, num_asked * max(1, num_cells))
            )
    return parts


def read_column(folder: Location, part: GenomePart, column: int) -> np.ndarray:
    """One column of a part: float32 [rows].

    Raises:
        StorageError: the part has been damaged since it was written.
    """
    path = folder / part.path
    try:
        values = pq.read_table(path.path, filesystem=path.fs, columns=[f"p{column}"]).column(0).to_numpy()
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{path} cannot be read: {error}. Delete it and go on with --resume.") from error
    if len(values) != part.rows:
        raise StorageError(f"{path} has {len(values)} rows, not {part.rows}. Delete it and go on with --resume.")
    return values
