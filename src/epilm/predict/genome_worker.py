"""The actor of ``epilm predict``: holds the model and a corpus reader, predicts parts and writes them."""

from __future__ import annotations

import hashlib
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from epilm.evaluate.predictions import predictions_schema
from epilm.labels.runs import Runs
from epilm.predict.binding_scorer import BindingScorer
from epilm.predict.genome_parts import GenomePart
from epilm.predict.genome_recipe import PredictRecipe
from epilm.predict.parts import WITHOUT_DNA
from epilm.predict.pool import PartActor
from epilm.storage import Location

STRETCH_BP = 204_800
"""Bases that are gathered at once: hundreds of finely binned tracks of them are some 10 MB; 4096 bins every 50 bp."""

CACHED_CHUNKS = 4
"""Of the corpus: neighbouring stretches share one. The 256 MB that a reader keeps for random places would help nothing."""


def predict_bins(
    scorer: BindingScorer, chrom: str, first_start: int, asked: np.ndarray, *, step_bp: int, num_cells: int
) -> tuple[np.ndarray, int]:
    """Probabilities of consecutive bins in the scorer's first ``num_cells`` cell types.

    Args:
        first_start: first base of the first bin; the others follow every ``step_bp`` bases.
        asked: bool [n], which of the bins to predict.

    Returns:
        float32 [n, C, F], NaN where nothing was asked or the bin has no known base; and how many asked bins have none.
    """
    values = np.full((len(asked), num_cells, len(scorer.binding.targets)), np.nan, np.float32)
    without_dna = 0
    at_once = max(1, STRETCH_BP // step_bp)
    for first in range(0, len(asked), at_once):
        wanted = asked[first : first + at_once]
        if not wanted.any():
            continue
        stretch = scorer.stretch(chrom, first_start + first * step_bp, len(wanted), step_bp, range(num_cells))
        rows = np.flatnonzero(wanted & stretch.known(len(wanted)).cpu().numpy())
        without_dna += int(wanted.sum()) - len(rows)
        if not len(rows):
            continue
        # all rows of the first cell type, then of the next: batches are full but for one a stretch
        row = torch.from_numpy(rows).to(scorer.device).repeat(num_cells)
        cell = torch.arange(num_cells, device=scorer.device).repeat_interleave(len(rows))
        batches = zip(row.split(scorer.batch_size), cell.split(scorer.batch_size), strict=True)
        found = torch.cat([scorer.forward(stretch.windows(*batch)) for batch in batches])
        values[first + rows] = found.reshape(num_cells, len(rows), -1).transpose(0, 1).cpu().numpy()
    return values, without_dna


def write_bins(
    folder: Location, part: GenomePart, values: np.ndarray, without_dna: int, *, step_bp: int
) -> dict[str, object]:
    """Write a part (``evaluate.predictions``) whole; return its entry.

    Args:
        values: float32 [rows, columns].
    """
    assert len(values) == part.rows
    start = part.first_start + np.arange(part.rows) * step_bp
    columns = [pa.array(start), *(pa.array(np.ascontiguousarray(column)) for column in values.T)]
    table = pa.Table.from_arrays(columns, schema=predictions_schema(values.shape[1]))
    sink = pa.BufferOutputStream()
    encodings = dict.fromkeys(table.column_names, "BYTE_STREAM_SPLIT") | {"start": "DELTA_BINARY_PACKED"}
    pq.write_table(
        table.replace_schema_metadata({WITHOUT_DNA: str(without_dna)}),
        sink,
        compression="zstd",  # a fifth less than plain floats, at a tenth of a second a million
        use_dictionary=False,
        column_encoding=encodings,
    )
    data = sink.getvalue()
    (folder / part.path).write_bytes(data)
    return {"path": part.path, "rows": part.rows, "sha256": hashlib.sha256(data).hexdigest()}


class GenomeWriter(PartActor):
    """The actor: predicts the parts that it is handed, and writes them."""

    def __init__(
        self,
        *,
        recipe: PredictRecipe,
        folder: Location,
        model: Location,
        corpus: Location,
        parts: list[GenomePart],
        asked: Runs,
        cells: tuple[str, ...],
        targets: tuple[int, ...],
        column_outputs: tuple[tuple[int, int], ...],
        device: str,
    ) -> None:
        self.recipe, self.folder, self.parts, self.asked = recipe, folder, parts, asked
        self.cells, self.targets, self.column_outputs = cells, targets, column_outputs
        # not the recipe's paths: an actor of a cluster runs in a folder of its own, where a relative one means another
        self.model, self.corpus, self.device = model, corpus, device

    @cached_property
    def scorer(self) -> BindingScorer:
        torch.set_num_threads(self.recipe.cpus_per_worker)  # more threads than cores only wait for each other
        return BindingScorer(
            self.model,
            self.corpus,
            device=self.device,
            dtype=self.recipe.dtype,
            batch_size=self.recipe.batch_size,
            both_strands=self.recipe.both_strands,
            cell_types=self.cells,
            cached_chunks=CACHED_CHUNKS,
        )

    def write(self, index: int) -> dict[str, object]:
        part, step_bp = self.parts[index], self.recipe.step_bp
        asked = self.asked.mask(part.first_bin, part.first_bin + part.rows)
        values, without_dna = predict_bins(
            self.scorer, part.chrom, part.first_start, asked, step_bp=step_bp, num_cells=len(self.cells)
        )
        cells, targets = (np.array(places) for places in zip(*self.column_outputs, strict=True))
        values = values[:, cells, np.array(self.targets)[targets]]
        return write_bins(self.folder, part, values, without_dna, step_bp=step_bp)
