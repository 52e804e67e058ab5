"""The actor of ``epilm embed``: holds the model and a corpus reader, embeds parts and writes them."""

from __future__ import annotations

from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
import torch

from epilm.corpus.gather import ContigReader
from epilm.predict.encode import Intervals, encode_intervals
from epilm.predict.load import LoadedModel, load_model
from epilm.predict.parts import Part, part_table, read_intervals, write_part
from epilm.predict.pool import PartActor
from epilm.predict.recipe import EmbedRecipe
from epilm.storage import Location


class PartWriter(PartActor):
    """The actor: embeds the parts that it is handed, and writes them."""

    def __init__(
        self,
        *,
        recipe: EmbedRecipe,
        folder: Location,
        model: Location,
        corpus: Location,
        parts: list[Part],
        cells: tuple[int, ...],
        names: tuple[str, ...],
        device: str,
    ):
        self.recipe, self.folder, self.parts, self.cells, self.names = recipe, folder, parts, cells, names
        # not the recipe's paths: an actor of a cluster runs in a folder of its own, where a relative one means another
        self.model, self.corpus, self.device = model, corpus, device

    @cached_property
    def loaded(self) -> LoadedModel:
        torch.set_num_threads(self.recipe.cpus_per_worker)  # more threads than cores only wait for each other
        return load_model(self.model, device=self.device, dtype=self.recipe.dtype)

    @cached_property
    def reader(self) -> ContigReader:
        return ContigReader(self.corpus)

    @cached_property
    def intervals(self) -> pa.Table:
        return read_intervals(self.folder)

    def write(self, index: int) -> dict[str, object]:
        part = self.parts[index]
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
