"""The actor of ``epilm embed``: holds the model and a corpus reader, embeds parts and writes them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from epilm.corpus.gather import ContigReader
from epilm.predict.encode import Intervals, encode_intervals
from epilm.predict.load import load_model
from epilm.predict.parts import Part, part_table, read_intervals, write_part
from epilm.predict.recipe import EmbedRecipe
from epilm.storage import Location


class PartWriter:
    """The actor: embeds the parts that it is handed, and writes them."""

    def __init__(
        self,
        *,
        recipe: EmbedRecipe,
        folder: Location,
        parts: list[Part],
        cells: tuple[int, ...],
        names: tuple[str, ...],
    ):
        torch.set_num_threads(recipe.cpus_per_worker)  # more threads than cores only wait for each other
        self.recipe, self.folder, self.parts, self.cells, self.names = recipe, folder, parts, cells, names
        self.loaded = load_model(Location(recipe.model), device="auto", dtype=recipe.dtype)
        self.reader = ContigReader(Location(recipe.corpus))
        self.intervals = read_intervals(folder)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        entries = [self._write(self.parts[index]) for index in batch["part"].tolist()]
        return {"part": batch["part"], "sha256": np.array([entry["sha256"] for entry in entries])}

    def _write(self, part: Part) -> dict[str, object]:
        rows = self.intervals.slice(part.first, part.last - part.first)
        encoded = encode_intervals(
            self.loaded,
            self.reader,
            interval_columns(rows),
            cells=self.cells,
            pooling=self.recipe.pooling,
            batch_size=self.recipe.batch_size,
        )
        return write_part(self.folder, part, part_table(rows, encoded, cell_types=self.names))


def interval_columns(table: pa.Table) -> Intervals:
    """The columns of an interval table as arrays; strand ``.`` is read forwards."""
    return Intervals(
        chrom=table.column("chrom").to_numpy(),
        start=table.column("start").to_numpy(),
        end=table.column("end").to_numpy(),
        reverse=pc.equal(table.column("strand"), "-").to_numpy(),  # pyright: ignore[reportAttributeAccessIssue]
    )
