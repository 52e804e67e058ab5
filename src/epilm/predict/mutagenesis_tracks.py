"""The bases' importance as bigWig, from finished parts. Imports little: it runs in tasks whose processes start with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.predict.genome_tracks import TrackPiece, bigwig_bytes, write_bigwig
from epilm.storage import Location, whole_file

_HEADER_BYTES = 64
"""Of a bigWig block: what a stretch of its own costs beside its values."""


@dataclass(frozen=True)
class ImportanceTracks:
    """Writes the bigWig of one (cell type, factor), reading the parts one after the other. Picklable.

    A base that several intervals hold shows the mean of what they say of it.
    """

    folder: Location
    parts: tuple[Location, ...]
    contigs: tuple[tuple[str, int], ...]
    """(name, length), in the corpus' order."""
    num_columns: int
    names: tuple[str, ...]
    """File of every column, in the folder."""
    pending: tuple[int, ...]
    """Columns to write."""

    def __call__(self, number: int) -> None:
        column = self.pending[number]
        pieces = list(self._pieces(column))
        num_stretches = sum(1 + int((piece.start[1:] != piece.end[:-1]).sum()) for piece in pieces)
        room = bigwig_bytes(sum(len(piece.start) for piece in pieces)) + _HEADER_BYTES * num_stretches
        with whole_file(self.folder / self.names[column], at_most_bytes=room) as path:
            write_bigwig(path, self.contigs, pieces)

    def _pieces(self, column: int) -> Iterator[TrackPiece]:
        wanted = ["chrom", "start", "end", "importance"]
        mine = pa.concat_tables([self._rows(part, wanted, column) for part in self.parts])
        chrom = mine["chrom"].to_numpy()
        for name, _ in self.contigs:
            rows = mine.filter(pa.array(chrom == name))
            if rows.num_rows:
                yield mean_track(name, rows)

    def _rows(self, part: Location, columns: list[str], column: int) -> pa.Table:
        """A column's own rows of a part."""
        table = pq.read_table(part.path, filesystem=part.fs, columns=columns)
        return table.take(pa.array(np.arange(column, len(table), self.num_columns)))


def mean_track(chrom: str, rows: pa.Table) -> TrackPiece:
    """The mean importance of every known base of the rows' intervals (columns start, end, importance), sorted."""
    start, end = rows["start"].to_numpy(), rows["end"].to_numpy()
    width = end - start
    place = np.repeat(start - (np.cumsum(width) - width), width) + np.arange(int(width.sum()))
    values = rows["importance"].combine_chunks().flatten().to_numpy()
    known = ~np.isnan(values)
    bases, which = np.unique(place[known], return_inverse=True)
    total, count = np.bincount(which, values[known], len(bases)), np.bincount(which, minlength=len(bases))
    return TrackPiece(chrom, bases, bases + 1, (total / np.maximum(count, 1)).astype(np.float32))
