"""Genes at positions for regressors that are trained by the loop: every pass shows every training gene once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from epilm.hashing import permute
from epilm.tasks.gene_table import GeneTable

_ORDER = 66


@dataclass(frozen=True)
class GeneSource:
    """Training genes in an order that follows from the seed. Rows are numbers of genes: the table lies with every worker."""

    table: GeneTable
    seed: int

    @cached_property
    def _rows(self) -> np.ndarray:
        return self.table.genes.rows("train")

    @property
    def samples_per_pass(self) -> int:
        return len(self._rows)

    @property
    def in_memory(self) -> bool:
        return True

    @property
    def row_bytes(self) -> int:
        return 16

    def read(self, positions: np.ndarray) -> pa.Table:
        """Columns position and gene (row of the table)."""
        positions = np.asarray(positions, np.int64)
        passes, slot = np.divmod(positions, self.samples_per_pass)
        index = np.empty_like(slot)
        for number in np.unique(passes):
            chosen = passes == number
            index[chosen] = permute(slot[chosen], self.samples_per_pass, self.seed, _ORDER, int(number))
        return pa.table({"position": pa.array(positions), "gene": pa.array(self._rows[index])})

    def __getstate__(self) -> dict[str, object]:
        return {"table": self.table, "seed": self.seed}


@dataclass(frozen=True)
class GeneSet:
    """A split's genes, in order."""

    table: GeneTable
    split: str

    @property
    def num_samples(self) -> int:
        return len(self.table.genes.rows(self.split))

    def read(self, indices: np.ndarray) -> pa.Table:
        indices = np.asarray(indices, np.int64)
        return pa.table({"position": pa.array(indices), "gene": pa.array(self.table.genes.rows(self.split)[indices])})
