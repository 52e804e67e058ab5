"""The files of ``epilm predict`` for genome browsers and for the challenge, one a (cell type, factor), from finished parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from epilm.labels.grid import BinGrid
from epilm.labels.runs import Runs
from epilm.predict.genome_parts import GenomePart, read_column
from epilm.predict.genome_submission import write_submission
from epilm.predict.genome_tracks import ShownBases, TrackPiece, bigwig_bytes, write_bigwig
from epilm.storage import Location, whole_file


@dataclass(frozen=True)
class ColumnFile:
    """A file of one column."""

    kind: str
    """``bigwig`` or ``dream``: also the name of its folder."""
    column: int
    name: str

    @property
    def path(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class ColumnWriter:
    """Writes files of columns, reading the parts one after the other. Picklable."""

    folder: Location
    grid: BinGrid
    asked: Runs
    spans: dict[str, tuple[int, int]]
    """What the corpus holds of each contig: (start, end), in the corpus' order."""
    parts: list[GenomePart]
    files: list[ColumnFile]

    def __call__(self, number: int) -> None:
        file = self.files[number]
        target = self.folder / file.path
        if file.kind == "dream":
            with whole_file(target) as path:
                write_submission(path, self._submitted(file.column), bin_bp=self.grid.bin_bp)
            return
        with whole_file(target, at_most_bytes=bigwig_bytes(self.asked.size)) as path:
            header = [(name, end) for name, (_, end) in self.spans.items()]
            write_bigwig(path, header, self._shown(file.column))

    def _asked(self, column: int) -> Iterator[tuple[GenomePart, np.ndarray, np.ndarray]]:
        """(part, rows int64 [n] that were asked for, their values float32 [n]) of every part."""
        for part in self.parts:
            rows = np.flatnonzero(self.asked.mask(part.first_bin, part.first_bin + part.rows))
            yield part, rows, read_column(self.folder, part, column)[rows]

    def _submitted(self, column: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for part, rows, values in self._asked(column):
            yield part.chrom, part.first_start + rows * self.grid.step_bp, values

    def _shown(self, column: int) -> Iterator[TrackPiece]:
        shown = ShownBases.of(self.grid, self.asked, self.spans)
        for part, rows, values in self._asked(column):
            known = ~np.isnan(values)
            rows, values = rows[known], values[known]
            start, end = shown.of_bins(part.first_bin + rows, part.first_start + rows * self.grid.step_bp)
            yield TrackPiece(part.chrom, start, end, values)
