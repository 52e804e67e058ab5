"""The bins of a corpus: one axis through all contigs, so that a set of bins is a set of integers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from epilm.corpus.manifest import CorpusManifest
from epilm.errors import CorpusError, RecipeError
from epilm.labels.runs import Runs


@dataclass(frozen=True)
class GridContig:
    """The bins of one contig: ``num_bins`` of them, the first at ``first_bp`` and numbered ``offset``."""

    name: str
    first_bp: int
    num_bins: int
    offset: int


@dataclass(frozen=True)
class BinGrid:
    """Bins of ``bin_bp`` bases that start every ``step_bp`` bases, numbered 0 .. num_bins through the contigs in order.

    The bins of a contig start at the multiples of ``step_bp`` and lie wholly in the part of the contig that the corpus
    holds, so that two corpora of one assembly agree on where bins are. A contig that is too short has none.
    """

    contigs: tuple[GridContig, ...]
    bin_bp: int
    step_bp: int

    @classmethod
    def of(cls, manifest: CorpusManifest, bin_bp: int = 200, step_bp: int = 50) -> BinGrid:
        """The bins of a corpus.

        Raises:
            RecipeError: not a single bin fits.
        """
        spans = [(contig.name, contig.start_bp, contig.end_bp) for contig in manifest.contigs]
        return cls.of_spans(spans, bin_bp, step_bp)

    @classmethod
    def of_spans(cls, spans: Iterable[tuple[str, int, int]], bin_bp: int, step_bp: int) -> BinGrid:
        """The bins of (contig, start_bp, end_bp), 0-based half-open; contigs once each."""
        contigs, offset, longest = [], 0, 0
        for name, start_bp, end_bp in spans:
            first_bp = -(-start_bp // step_bp) * step_bp
            num_bins = max(0, (end_bp - bin_bp - first_bp) // step_bp + 1)
            contigs.append(GridContig(name, first_bp, num_bins, offset))
            offset, longest = offset + num_bins, max(longest, end_bp - start_bp)
        if not offset:
            raise RecipeError(
                f"no contig holds a bin of bin_bp={bin_bp} every step_bp={step_bp}: the longest has {longest:,} bp. "
                "Choose shorter bins."
            )
        return cls(tuple(contigs), bin_bp, step_bp)

    @property
    def num_bins(self) -> int:
        return sum(contig.num_bins for contig in self.contigs)

    @cached_property
    def names(self) -> np.ndarray:
        """Contig names, object [num_contigs]."""
        return np.array([contig.name for contig in self.contigs], object)

    @cached_property
    def _offsets(self) -> np.ndarray:
        return np.array([contig.offset for contig in self.contigs], np.int64)

    @cached_property
    def _first_bp(self) -> np.ndarray:
        return np.array([contig.first_bp for contig in self.contigs], np.int64)

    @cached_property
    def _num_bins(self) -> np.ndarray:
        return np.array([contig.num_bins for contig in self.contigs], np.int64)

    def contig(self, name: str) -> GridContig:
        """The bins of a contig.

        Raises:
            CorpusError: the corpus lacks it.
        """
        for contig in self.contigs:
            if contig.name == name:
                return contig
        raise CorpusError(f"contig {name!r} is not in the corpus. It has: {', '.join(self.names[:12])}.")

    def range_of(self, name: str) -> tuple[int, int]:
        """(first, last) of a contig's bins, half-open; empty where no bin fits it."""
        contig = self.contig(name)
        return contig.offset, contig.offset + contig.num_bins

    def select(self, names: Iterable[str]) -> Runs:
        """All bins of some contigs."""
        ranges = np.array([self.range_of(name) for name in names], np.int64).reshape(-1, 2)
        return Runs.of(ranges[:, 0], ranges[:, 1])

    def all_bins(self) -> Runs:
        return Runs.of(np.zeros(1, np.int64), np.array([self.num_bins], np.int64))

    def locate(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where bins lie: int64 [n] -> (index of the contig int64 [n], first base int64 [n]).

        Raises:
            IndexError: a bin out of 0 .. num_bins.
        """
        index = np.asarray(index, np.int64)
        if index.size and (index.min() < 0 or index.max() >= self.num_bins):
            raise IndexError(f"bins {index.min()} to {index.max()} were asked of a grid of {self.num_bins}.")
        # contigs without bins share the offset of the one behind them, which "right" finds
        contig = np.searchsorted(self._offsets, index, side="right") - 1
        return contig, self._first_bp[contig] + (index - self._offsets[contig]) * self.step_bp

    def index(self, chrom: np.ndarray | str, start_bp: np.ndarray) -> np.ndarray:
        """Number of the bin that starts at a base: int64 [n], -1 where none does (off the grid, past an end, no contig).

        Args:
            chrom: object [n], or one name for all.
        """
        start_bp = np.asarray(start_bp, np.int64)
        chroms = np.array([chrom], object) if isinstance(chrom, str) else np.asarray(chrom, object)
        contig = np.broadcast_to(pd.Index(self.names).get_indexer(pd.Index(chroms)), start_bp.shape)
        return self.index_in(contig, start_bp)

    def index_in(self, contig: np.ndarray, start_bp: np.ndarray) -> np.ndarray:
        """The same for numbers of contigs (int [n], -1 for none)."""
        known = np.maximum(contig, 0)
        past = start_bp - self._first_bp[known]
        number = past // self.step_bp
        fits = (contig >= 0) & (past >= 0) & (past % self.step_bp == 0) & (number < self._num_bins[known])
        return np.where(fits, self._offsets[known] + number, -1)

    def place(self, contig: np.ndarray, start_bp: np.ndarray, num_bins: np.ndarray) -> Runs:
        """Stretches of bins as runs: the inverse of :meth:`split`; what reaches past a contig's bins is cut off.

        Args:
            contig: int64 [r], index into ``contigs``; -1 is left out.
            start_bp: int64 [r], first base of the first bin, a multiple of ``step_bp``.
            num_bins: int64 [r].
        """
        known = contig >= 0
        contig, start_bp, num_bins = contig[known], start_bp[known], num_bins[known]
        first = (start_bp - self._first_bp[contig]) // self.step_bp
        ends = self._num_bins[contig]
        offset = self._offsets[contig]
        return Runs.of(offset + np.clip(first, 0, ends), offset + np.clip(first + num_bins, 0, ends))

    def split(self, runs: Runs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Runs cut at the ends of contigs: (index of the contig, first base of the first bin, number of bins), int64 [r]."""
        some = np.flatnonzero(self._num_bins)
        ranges = Runs(self._offsets[some], self._offsets[some] + self._num_bins[some])
        pieces = runs.intersect(ranges)
        contig, start_bp = self.locate(pieces.start)
        return contig, start_bp, pieces.end - pieces.start
