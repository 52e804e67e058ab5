"""The contract of predicted probabilities: what ``epilm predict`` and the baselines write and ``epilm evaluate`` reads.

A folder of parquet parts in genome order and ``predictions.json``. A part holds consecutive bins of one contig: ``start``
(int64, first base of the bin, 0-based) and a float32 column ``p0``, ``p1``, ... for every column of the manifest; NaN where
there is no prediction (a bin without a known base).
"""

from __future__ import annotations

import json

import pyarrow as pa
from pydantic import ValidationError

from epilm.config import Config
from epilm.errors import CorpusError
from epilm.models.provenance import Provenance
from epilm.storage import Location

PREDICTIONS_FILE = "predictions.json"


class PredictedColumn(Config):
    """One (cell type, factor) of a predictions folder."""

    cell_type: str
    target: str


class PredictedPart(Config):
    """One parquet file: the bins ``first_start, first_start + step_bp, ...`` of a contig."""

    path: str
    chrom: str
    first_start: int
    rows: int
    sha256: str


class Predictions(Config):
    """``predictions.json``."""

    assembly: str
    bin_bp: int
    step_bp: int
    columns: tuple[PredictedColumn, ...]
    parts: tuple[PredictedPart, ...]
    contig_lengths: dict[str, int]
    """End in bp of what the corpus holds of every predicted contig (its length, but for a piece), by its name there."""
    predictor: str
    """What made them: ``model`` or the kind of a baseline."""
    provenance: Provenance | None = None
    """Of the model; None for what was trained on nothing (a position-weight matrix)."""
    selected_on: tuple[str, ...] = ()
    """Contigs on which training was stopped or settings were chosen: no test either."""
    corpus_fingerprint: str | None = None

    @property
    def contigs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(part.chrom for part in self.parts))

    def column_name(self, cell_type: str, target: str) -> str | None:
        """``p<i>`` of a (cell type, factor); None where it was not predicted."""
        for i, column in enumerate(self.columns):
            if (column.cell_type, column.target) == (cell_type, target):
                return f"p{i}"
        return None


def predictions_schema(num_columns: int) -> pa.Schema:
    """Schema of a part."""
    return pa.schema(
        [pa.field("start", pa.int64(), nullable=False)] + [pa.field(f"p{i}", pa.float32()) for i in range(num_columns)]
    )


def write_predictions(folder: Location, predictions: Predictions) -> None:
    """Write the manifest; it comes last, so that a folder without one is known to be unfinished."""
    (folder / PREDICTIONS_FILE).write_text(predictions.model_dump_json(indent=1) + "\n")


def read_predictions(folder: Location) -> Predictions:
    """Read a folder's manifest.

    Raises:
        CorpusError: no finished predictions lie there.
    """
    path = folder / PREDICTIONS_FILE
    if not path.exists():
        what = f"has no {PREDICTIONS_FILE} (unfinished? go on with --resume)" if folder.exists() else "does not exist"
        raise CorpusError(f"no predictions at {folder}: the folder {what}. Give the folder of an `epilm predict` run.")
    try:
        return Predictions.model_validate(json.loads(path.read_text()))
    except (json.JSONDecodeError, ValidationError) as error:
        raise CorpusError(f"{path} is not a manifest of predictions: {error}") from error
