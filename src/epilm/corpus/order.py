"""The order of samples, a pure function of (seed, position): what makes resume exact on any number of workers.

Positions 0, 1, 2, ... number the samples of a run; optimizer step t uses positions [t G, (t + 1) G) for the global batch
G. A pass is ``num_loci`` positions and shows every locus once; in pass p locus i shows cell type ``permutation_i(p)``,
so that ``num_cells`` passes show every (locus, cell type) once. There is no other state: not a generator's, not a rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from epilm.errors import RecipeError
from epilm.hashing import hash_u64

# Streams keep the different random choices of one seed apart.
_UNITS, _ROWS, _CELL_OFFSET, _CELL_STRIDE = 1, 2, 3, 4


@dataclass(frozen=True)
class Samples:
    """Where n positions lie; every array has shape [n]."""

    position: np.ndarray
    pass_index: np.ndarray
    unit: np.ndarray
    """Row group, numbered through all files in the manifest's order."""
    row: np.ndarray
    """Row inside the row group."""
    locus: np.ndarray
    """Row number through all files: the identity of a locus."""
    cell: np.ndarray
    """Index into the cell types that the run uses."""


@dataclass(frozen=True)
class Order:
    """Order of the loci of a corpus split.

    Args:
        unit_rows: rows of each row group, in the order of the files.
        num_cells: cell types that the run shows; 1 where it uses none.
    """

    unit_rows: tuple[int, ...]
    num_cells: int
    seed: int

    @property
    def num_loci(self) -> int:
        """Samples of a pass."""
        return sum(self.unit_rows)

    def locate(self, positions: np.ndarray) -> Samples:
        """Samples at global positions (int64 [n], any order)."""
        positions = np.asarray(positions, dtype=np.int64)
        pass_index, index = np.divmod(positions, self.num_loci)
        unit = np.empty_like(positions)
        slot = np.empty_like(positions)
        for p in np.unique(pass_index):
            chosen = pass_index == p
            order, starts = _unit_order(self.unit_rows, self.seed, int(p))
            rank = np.searchsorted(starts, index[chosen], side="right") - 1
            unit[chosen] = order[rank]
            slot[chosen] = index[chosen] - starts[rank]
        row = self._row_of_slot(pass_index, unit, slot)
        first_row = _first_rows(self.unit_rows)
        locus = first_row[unit] + row
        return Samples(positions, pass_index, unit, row, locus, self._cell(pass_index, locus))

    def _row_of_slot(self, pass_index: np.ndarray, unit: np.ndarray, slot: np.ndarray) -> np.ndarray:
        """Rows of a unit are permuted afresh in each pass, so that neighbours in a batch change."""
        row = np.empty_like(slot)
        for p, u in np.unique(np.stack([pass_index, unit]), axis=1).T:
            chosen = (pass_index == p) & (unit == u)
            keys = hash_u64(self.seed, _ROWS, int(p), int(u), np.arange(self.unit_rows[u]))
            row[chosen] = np.argsort(keys, kind="stable")[slot[chosen]]
        return row

    def _cell(self, pass_index: np.ndarray, locus: np.ndarray) -> np.ndarray:
        """``(a + b p) mod num_cells`` with a, b drawn per locus and cycle and b prime to num_cells: a permutation."""
        cycle, step = np.divmod(pass_index, self.num_cells)
        strides = np.array([b for b in range(1, self.num_cells + 1) if math.gcd(b, self.num_cells) == 1])
        offset = hash_u64(self.seed, _CELL_OFFSET, cycle, locus) % np.uint64(self.num_cells)
        stride = strides[hash_u64(self.seed, _CELL_STRIDE, cycle, locus) % np.uint64(len(strides))]
        return (offset.astype(np.int64) + stride * step) % self.num_cells


@lru_cache(maxsize=8)
def _unit_order(unit_rows: tuple[int, ...], seed: int, pass_index: int) -> tuple[np.ndarray, np.ndarray]:
    """(units in the order of a pass, position inside the pass at which each of them starts)."""
    rows = np.asarray(unit_rows, dtype=np.int64)
    order = np.argsort(hash_u64(seed, _UNITS, pass_index, np.arange(len(rows))), kind="stable")
    starts = np.concatenate([[0], np.cumsum(rows[order])[:-1]])
    return order, starts


@lru_cache(maxsize=8)
def _first_rows(unit_rows: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.asarray(unit_rows, dtype=np.int64))[:-1]])


@dataclass(frozen=True)
class BlockPlan:
    """How the positions of many steps are cut into equal blocks, one rank's rows of several steps each.

    Block b holds what rank ``b % num_workers`` consumes in steps ``start + (b // num_workers) * steps_per_block + ...``:
    Ray hands blocks round robin, so each rank gets its own, whole, in order. A block may be as large as reads want
    (8 MB and more), whatever the batch: only the rows of a step must divide by the workers.
    """

    start_step: int
    num_steps: int
    global_batch: int
    num_workers: int
    steps_per_block: int

    @property
    def num_blocks(self) -> int:
        """A multiple of the workers; the last steps of the last blocks may lie past the end and are not consumed."""
        return -(-self.num_steps // self.steps_per_block) * self.num_workers

    def positions(self, block: int) -> np.ndarray:
        """Global positions of a block, in the order of its rank's steps; int64 [steps_per_block * rows_per_step]."""
        group, rank = divmod(block, self.num_workers)
        first = self.start_step + group * self.steps_per_block
        steps = np.arange(first, first + self.steps_per_block)
        return np.concatenate([step_positions(int(s), rank, self.global_batch, self.num_workers) for s in steps])


def step_positions(step: int, rank: int, global_batch: int, num_workers: int) -> np.ndarray:
    """Positions that a rank consumes in an optimizer step; int64 [global_batch / num_workers]."""
    rows = global_batch // num_workers
    first = step * global_batch + rank * rows
    return np.arange(first, first + rows, dtype=np.int64)


def check_batch(global_batch: int, workers: Sequence[int]) -> None:
    """Every allowed number of workers must divide the global batch.

    Raises:
        RecipeError: with the nearest batches that would do.
    """
    wrong = [w for w in workers if global_batch % w]
    if wrong:
        common = math.lcm(*workers)
        below, above = global_batch // common * common, -(-global_batch // common) * common
        near = " or ".join(str(b) for b in (below, above) if b)
        raise RecipeError(
            f"train.global_batch={global_batch} is not a multiple of train.num_workers={wrong[0]}. Try {near}, "
            "or another number of workers."
        )
