"""Sets of bins as sorted ranges: 60 million bins of which a few ten thousand are bound are a few thousand numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from epilm.genome.intervals import merge


@dataclass(frozen=True, eq=False)
class Runs:
    """A set of bin indices as ranges ``[start, end)``: int64 [r] each, sorted, disjoint, not touching, none empty.

    Make one with :meth:`of` or :meth:`from_mask`; the bare constructor does not sort.
    """

    start: np.ndarray
    end: np.ndarray

    @classmethod
    def of(cls, start: np.ndarray, end: np.ndarray) -> Runs:
        """The union of ranges in any order; overlapping and touching ones are joined, empty ones dropped."""
        return cls(*merge(start, end))

    @classmethod
    def empty(cls) -> Runs:
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))

    @classmethod
    def from_mask(cls, mask: np.ndarray, first: int = 0) -> Runs:
        """The bins ``first + i`` where ``mask[i]`` (bool [n]) holds."""
        padded = np.concatenate([[False], np.asarray(mask, bool), [False]])
        edges = np.flatnonzero(padded[1:] != padded[:-1]).astype(np.int64) + first
        return cls(edges[::2], edges[1::2])

    @cached_property
    def _before(self) -> np.ndarray:
        """Bins before each run, and of all: int64 [r + 1]."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.end - self.start)])

    @cached_property
    def _edges(self) -> np.ndarray:
        """start, end, start, ...: int64 [2 r], ascending."""
        return np.stack([self.start, self.end], axis=1).ravel()

    @property
    def size(self) -> int:
        """Number of bins."""
        return int(self._before[-1])

    def __len__(self) -> int:
        """Number of ranges."""
        return len(self.start)

    def __bool__(self) -> bool:
        return len(self.start) > 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Runs):
            return NotImplemented
        return np.array_equal(self.start, other.start) and np.array_equal(self.end, other.end)

    def at(self, i: np.ndarray) -> np.ndarray:
        """The i-th bin in ascending order, ``0 <= i < size``: int64 [m] -> int64 [m].

        Raises:
            IndexError: an ``i`` out of that range.
        """
        i = np.asarray(i, np.int64)
        if i.size and (i.min() < 0 or i.max() >= self.size):
            raise IndexError(f"bins {i.min()} to {i.max()} were asked of a set of {self.size}.")
        run = np.searchsorted(self._before, i, side="right") - 1
        return self.start[run] + (i - self._before[run]) if i.size else i

    def contains(self, index: np.ndarray) -> np.ndarray:
        """Whether each bin is in the set: int64 [n] -> bool [n]."""
        # an odd number of edges lies at or before a bin that is inside
        return (np.searchsorted(self._edges, np.asarray(index, np.int64), side="right") & 1).astype(bool)

    def mask(self, first: int, last: int) -> np.ndarray:
        """bool [last - first]: which of the bins ``[first, last)`` are in the set."""
        low, high = np.searchsorted(self.end, first, side="right"), np.searchsorted(self.start, last, side="left")
        edges = np.zeros(last - first + 1, np.int8)
        edges[np.maximum(self.start[low:high], first) - first] = 1  # runs do not touch: no edge is set twice
        edges[np.minimum(self.end[low:high], last) - first] = -1
        return np.cumsum(edges[:-1], dtype=np.int8).view(bool)

    def indices(self) -> np.ndarray:
        """Every bin, ascending: int64 [size]."""
        return self.at(np.arange(self.size))

    def union(self, *others: Runs) -> Runs:
        every = (self, *others)
        return Runs.of(np.concatenate([runs.start for runs in every]), np.concatenate([runs.end for runs in every]))

    def intersect(self, other: Runs) -> Runs:
        """Bins in both."""
        low = np.searchsorted(other.end, self.start, side="right")
        high = np.searchsorted(other.start, self.end, side="left")
        count = np.maximum(high - low, 0)
        mine = np.repeat(np.arange(len(self)), count)
        theirs = np.repeat(low, count) + np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        # parts of two sets of ranges that do not touch do not touch either
        return Runs(np.maximum(self.start[mine], other.start[theirs]), np.minimum(self.end[mine], other.end[theirs]))

    def subtract(self, other: Runs) -> Runs:
        """Bins of this set that are not in the other."""
        if not self or not other:
            return self
        first, last = int(self.start[0]), int(self.end[-1])
        edges = np.concatenate([[first], np.clip(np.stack([other.start, other.end], 1).ravel(), first, last), [last]])
        gaps = edges.reshape(-1, 2)
        some = gaps[:, 1] > gaps[:, 0]
        return self.intersect(Runs(gaps[some, 0], gaps[some, 1]))
