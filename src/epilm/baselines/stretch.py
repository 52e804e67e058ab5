"""A stretch of consecutive bins, read once: what a predictor needs to score a million bases in a few passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from epilm.corpus.gather import ContigReader
from epilm.labels.grid import BinGrid
from epilm.predict.genome_parts import GenomePart
from epilm.tokens.vocab import BASE_N

STRETCH_BP = 1 << 20
"""Bases read at a time: the arrays of a predictor are some tens of MB then, however long the contig."""


@dataclass(frozen=True)
class Stretch:
    """``rows`` bins, each ``step_bp`` behind the one before, and the bases within ``flank_bp`` of them."""

    first_bin: int
    """Number of the first bin in the grid."""
    rows: int
    bin_bp: int
    step_bp: int
    flank_bp: int
    dna: np.ndarray
    """uint8 [flank_bp + span + flank_bp], span = (rows - 1) * step_bp + bin_bp; N outside the contig."""
    states: np.ndarray | None
    """uint8 [cells, epigenome bins] of the cell types asked; None where none were."""
    phase: int
    """Bases from the start of the first epigenome bin to ``dna[0]``."""
    signals: np.ndarray | None
    """float32 [signals asked, signal bins], NaN = not covered; None where none were."""
    signal_phase: int

    @property
    def input_bp(self) -> int:
        return self.bin_bp + 2 * self.flank_bp

    def starts(self) -> np.ndarray:
        """Index in ``dna`` of each bin's first base, int64 [rows]; its input begins ``flank_bp`` before."""
        return self.flank_bp + np.arange(self.rows) * self.step_bp

    def known(self) -> np.ndarray:
        """bool [rows]: bins with at least one base that is not N. The others have no prediction."""
        return self.sums(self.dna < BASE_N, self.starts(), self.bin_bp) > 0

    def sums(self, values: np.ndarray, first: np.ndarray, width: int) -> np.ndarray:
        """Sum of ``width`` neighbouring values from each index on: [m] -> float64 [rows]; int64 for booleans."""
        total = np.concatenate([[0], np.cumsum(values, dtype=np.int64 if values.dtype == bool else np.float64)])
        return total[first + width] - total[first]


def read_stretches(
    reader: ContigReader,
    grid: BinGrid,
    part: GenomePart,
    *,
    flank_bp: int,
    cells: tuple[int, ...] = (),
    signals: tuple[int, ...] = (),
) -> Iterator[Stretch]:
    """The stretches of a part in order; memory does not grow with the part.

    Args:
        cells, signals: places in the manifest's ``cell_types`` and ``signals`` of what is to be read.
    """
    rows_at_once = max(1, (STRETCH_BP - grid.bin_bp) // grid.step_bp + 1)
    for first in range(0, part.rows, rows_at_once):
        rows = min(rows_at_once, part.rows - first)
        start = part.first_start + first * grid.step_bp - flank_bp
        length_bp = (rows - 1) * grid.step_bp + grid.bin_bp + 2 * flank_bp
        found = reader.gather(
            np.array([part.chrom], object),
            np.array([start], np.int64),
            length_bp,
            cells=np.array([cells], np.int64),
            tracks=np.array([signals], np.int64),
        )
        yield Stretch(
            first_bin=part.first_bin + first,
            rows=rows,
            bin_bp=grid.bin_bp,
            step_bp=grid.step_bp,
            flank_bp=flank_bp,
            dna=found.dna[0],
            states=found.states[0] if found.states is not None and cells else None,
            phase=int(found.phase[0]),
            signals=found.signals[0] if found.signals is not None and signals else None,
            signal_phase=int(found.signal_phase[0]) if found.signal_phase is not None else 0,
        )
