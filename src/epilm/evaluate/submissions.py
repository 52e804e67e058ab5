"""Where a submission's scores lie: one column of a predictions folder, placed on the grid of the labels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from epilm.corpus.manifest import CorpusManifest
from epilm.errors import CorpusError, GenomeError
from epilm.evaluate.predictions import PREDICTIONS_FILE, PredictedPart, Predictions
from epilm.genome.contigs import match_contigs
from epilm.labels.grid import BinGrid, GridContig
from epilm.labels.label_set import Pair
from epilm.storage import Location


@dataclass(frozen=True)
class GridPart:
    """A parquet part: its rows ``skip`` to ``skip + rows`` are the bins ``first`` to ``first + rows`` of the grid."""

    path: str
    first: int
    rows: int
    skip: int
    """Rows before the piece of the contig that the corpus holds."""
    part_rows: int


@dataclass(frozen=True)
class ScoreColumn:
    """The scores of one (cell type, factor). Picklable; files are opened where they are read."""

    folder: Location
    name: str
    """Column of the parts, ``p<i>``."""
    parts: tuple[GridPart, ...]

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        """Scores of the bins ``[first, last)``, float32; NaN where there is no prediction.

        Raises:
            CorpusError: a part is missing or is not what the manifest says, or a score is negative.
        """
        scores = np.full(last - first, np.nan, np.float32)
        for part in self.parts:
            low, high = max(first, part.first), min(last, part.first + part.rows)
            if low < high:
                scores[low - first : high - first] = self._rows(part)[low - part.first : high - part.first]
        if (scores < 0).any():
            raise CorpusError(
                f"{self.folder}: column {self.name} has {int((scores < 0).sum()):,} scores below 0 among {last - first:,}. A bin "
                "without a prediction scores 0, so that scores must be probabilities, or 0 and more."
            )
        return scores

    def covered(self, first: int, last: int) -> int:
        """Bins of ``[first, last)`` that the parts list."""
        return sum(max(0, min(last, part.first + part.rows) - max(first, part.first)) for part in self.parts)

    def _rows(self, part: GridPart) -> NDArray[np.float32]:
        place = self.folder / part.path
        try:
            table = pq.read_table(place.path, columns=[self.name], filesystem=place.fs)
        except (OSError, pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise CorpusError(
                f"{place} cannot be read ({error}). Copy the folder again, or predict again with --overwrite."
            ) from error
        if table.num_rows != part.part_rows:
            raise CorpusError(f"{place} has {table.num_rows:,} rows, its {PREDICTIONS_FILE} says {part.part_rows:,}.")
        return table.column(self.name).to_numpy()[part.skip : part.skip + part.rows]


def place_columns(
    folder: Location, predictions: Predictions, grid: BinGrid, manifest: CorpusManifest
) -> dict[Pair, ScoreColumn]:
    """Every column of a folder of predictions, its parts numbered as the labels' bins are.

    Raises:
        CorpusError: another assembly, bins of another length or off the grid.
    """
    if predictions.assembly != manifest.assembly:
        raise CorpusError(
            f"{folder} is of assembly {predictions.assembly!r}, the labels' corpus of {manifest.assembly!r}. Predict with a "
            "corpus of the labels' assembly."
        )
    if (predictions.bin_bp, predictions.step_bp) != (grid.bin_bp, grid.step_bp):
        raise CorpusError(
            f"{folder} has bins of {predictions.bin_bp} bp every {predictions.step_bp}, the labels of {grid.bin_bp} bp every "
            f"{grid.step_bp}. Set both alike."
        )
    names = _contig_names(folder, predictions, manifest)
    placed = [
        _place(folder, part, grid.contig(names[part.chrom]), grid) for part in predictions.parts if part.chrom in names
    ]
    parts = sorted((part for part in placed if part.rows > 0), key=lambda part: part.first)
    for left, right in itertools.pairwise(parts):
        if left.first + left.rows > right.first:
            raise CorpusError(f"{folder}: the parts {left.path} and {right.path} hold the same bins. Predict again.")
    return {
        (column.cell_type, column.target): ScoreColumn(folder, f"p{i}", tuple(parts))
        for i, column in enumerate(predictions.columns)
    }


def _contig_names(folder: Location, predictions: Predictions, manifest: CorpusManifest) -> Mapping[str, str]:
    """Name in the predictions -> name in the corpus. Lengths are not compared: a corpus may hold a piece of a contig."""
    ours: dict[str, int | None] = dict.fromkeys(contig.name for contig in manifest.contigs)
    theirs: dict[str, int | None] = dict.fromkeys(predictions.contigs)
    try:
        return match_contigs(ours, theirs, source=str(folder))
    except GenomeError as error:
        raise CorpusError(str(error)) from error


def _place(folder: Location, part: PredictedPart, contig: GridContig, grid: BinGrid) -> GridPart:
    number, off = divmod(part.first_start - contig.first_bp, grid.step_bp)
    if off:
        raise CorpusError(
            f"{folder / part.path} begins at {contig.name}:{part.first_start}, where no bin of {grid.bin_bp} bp every "
            f"{grid.step_bp} does. Predict with the bins of the labels."
        )
    low, high = max(number, 0), min(number + part.rows, contig.num_bins)
    return GridPart(part.path, contig.offset + low, high - low, low - number, part.rows)
