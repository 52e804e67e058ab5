"""Which bins an epoch shows: a pure function of (seed, position), so that a run resumes in the middle of one.

An epoch is all positives once and a fresh draw of negatives without replacement (EBERT, section 2.2.1), in an order of its
own. Nothing is written out: bins lie in runs, permutations are computed where they are asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from epilm.hashing import permute
from epilm.labels.runs import Runs

_ORDER, _NEGATIVE, _SUBSET = 41, 42, 44


@dataclass(frozen=True)
class CellBins:
    """Bins of several cell types as one list: those of the first cell type, then of the second, and so on."""

    runs: tuple[Runs, ...]

    limit: int | None = None
    """Only so many of them are members, chosen by ``subset_seed``."""
    subset_seed: int = 0

    @cached_property
    def ends(self) -> np.ndarray:
        """int64 [num_cells]: bins up to and with each cell type."""
        return np.cumsum([part.size for part in self.runs], dtype=np.int64)

    @property
    def size(self) -> int:
        whole = int(self.ends[-1]) if len(self.runs) else 0
        return whole if self.limit is None else min(whole, self.limit)

    def at(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(bins, cells) of the members ``index``, both int64 [n]."""
        if self.limit is not None:
            index = permute(index, int(self.ends[-1]), self.subset_seed, _SUBSET)
        cell = np.searchsorted(self.ends, index, side="right")
        inside = index - np.concatenate([[0], self.ends])[cell]
        bins = np.empty(len(index), np.int64)
        for number in np.unique(cell):
            chosen = cell == number
            bins[chosen] = self.runs[number].at(inside[chosen])
        return bins, cell.astype(np.int64)


@dataclass(frozen=True)
class Stratum:
    """Negatives of one kind, and how many of them an epoch draws."""

    bins: CellBins
    quota: int


@dataclass(frozen=True)
class BindingSampler:
    """Position in the run -> (bin, cell type)."""

    positives: CellBins
    strata: tuple[Stratum, ...]
    seed: int

    @property
    def epoch_size(self) -> int:
        """Samples of an epoch."""
        return self.positives.size + sum(stratum.quota for stratum in self.strata)

    def locate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(bins, cells) of the samples at global positions, both int64 [n]; cells index those that are trained on."""
        epoch, index = np.divmod(np.asarray(positions, np.int64), self.epoch_size)
        bins, cells = np.empty_like(index), np.empty_like(index)
        for number in np.unique(epoch):
            chosen = epoch == number
            slot = permute(index[chosen], self.epoch_size, self.seed, _ORDER, int(number))
            bins[chosen], cells[chosen] = self._of_slots(slot, int(number))
        return bins, cells

    def _of_slots(self, slot: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Slots of an epoch: the positives come first, then each stratum's draw."""
        bins, cells = np.empty_like(slot), np.empty_like(slot)
        first = self.positives.size
        chosen = slot < first
        bins[chosen], cells[chosen] = self.positives.at(slot[chosen])
        for number, stratum in enumerate(self.strata):
            chosen = (slot >= first) & (slot < first + stratum.quota)
            bins[chosen], cells[chosen] = self._draw(number, slot[chosen] - first, epoch)
            first += stratum.quota
        return bins, cells

    def _draw(self, number: int, index: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The ``index``-th of an epoch's draw; a stratum smaller than its quota is drawn through more than once."""
        stratum = self.strata[number].bins
        rounds, index = np.divmod(index, stratum.size)
        member = np.empty_like(index)
        for turn in np.unique(rounds):
            chosen = rounds == turn
            member[chosen] = permute(index[chosen], stratum.size, self.seed, _NEGATIVE, number, epoch, int(turn))
        return stratum.at(member)
