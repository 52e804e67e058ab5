"""The labels of a corpus: for every measured (cell type, factor) the runs of bins that are bound, ambiguous or unlabelled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd

from epilm.errors import CorpusError
from epilm.labels.codes import AMBIGUOUS, BOUND, EXCLUDED, UNBOUND, UNMEASURED
from epilm.labels.grid import BinGrid
from epilm.labels.runs import Runs

Pair = tuple[str, str]
"""(cell type, target)."""


@dataclass(frozen=True)
class LabelSet:
    """Labels of all bins of a grid. Picklable; make one with :meth:`build`.

    ``bound``, ``ambiguous`` and ``unlabelled`` are disjoint, and disjoint from ``excluded``; all other bins of a
    measured pair are unbound. A pair absent from ``bound`` was not measured.
    """

    grid: BinGrid
    cell_types: tuple[str, ...]
    targets: tuple[str, ...]
    bound: dict[Pair, Runs]
    ambiguous: dict[Pair, Runs]
    excluded: Runs
    """Bins without a label for any pair: blacklisted, or no source lists them."""
    unlabelled: dict[Pair, Runs] = field(default_factory=dict)
    """Bins that a measured pair has no label for (a label file of its own left them out); absent where there are none."""

    @classmethod
    def build(
        cls,
        grid: BinGrid,
        cell_types: Sequence[str],
        targets: Sequence[str],
        *,
        bound: Mapping[Pair, Runs],
        ambiguous: Mapping[Pair, Runs],
        excluded: Runs,
        unlabelled: Mapping[Pair, Runs] | None = None,
    ) -> LabelSet:
        """A set from runs that may overlap: excluded wins over unlabelled over bound over ambiguous."""
        none = Runs.empty()
        missing = {pair: runs.subtract(excluded) for pair, runs in (unlabelled or {}).items() if pair in bound}
        taken = {pair: excluded.union(missing.get(pair, none)) for pair in bound}
        kept = {pair: runs.subtract(taken[pair]) for pair, runs in bound.items()}
        maybe = {pair: ambiguous.get(pair, none).subtract(taken[pair].union(kept[pair])) for pair in bound}
        return cls(
            grid=grid,
            cell_types=tuple(cell_types),
            targets=tuple(targets),
            bound=kept,
            ambiguous=maybe,
            excluded=excluded,
            unlabelled={pair: runs for pair, runs in missing.items() if runs},
        )

    def measured(self, cell_type: str, target: str) -> bool:
        return (cell_type, target) in self.bound

    def unbound(self, cell_type: str, target: str) -> Runs:
        """The negatives of a measured pair."""
        return self.labelled(cell_type, target).subtract(
            self.bound[cell_type, target].union(self.ambiguous[cell_type, target])
        )

    def labelled(self, cell_type: str, target: str) -> Runs:
        """Bins that are bound, ambiguous or unbound; none of a pair that was not measured."""
        if not self.measured(cell_type, target):
            return Runs.empty()
        missing = self.unlabelled.get((cell_type, target), Runs.empty())
        return self.grid.all_bins().subtract(self.excluded.union(missing))

    def codes(self, bins: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Codes of (bin, cell type) for every target.

        Args:
            bins: int64 [n], numbers of the grid.
            cells: int64 [n], indices into ``cell_types``.

        Returns:
            uint8 [n, num_targets].
        """
        bins, cells = np.broadcast_arrays(np.asarray(bins, np.int64), np.asarray(cells, np.int64))
        result = np.full((bins.size, len(self.targets)), UNMEASURED, np.uint8)
        for cell in np.unique(cells):
            rows = np.flatnonzero(cells == cell)
            mine = bins[rows]
            for column, target in enumerate(self.targets):
                pair = (self.cell_types[cell], target)
                if pair in self.bound:
                    result[rows, column] = self._codes(mine, pair)
        result[self.excluded.contains(bins)] = EXCLUDED
        return result

    def _codes(self, bins: np.ndarray, pair: Pair) -> np.ndarray:
        codes = np.full(bins.size, UNBOUND, np.uint8)
        codes[self.ambiguous[pair].contains(bins)] = AMBIGUOUS
        codes[self.bound[pair].contains(bins)] = BOUND
        if pair in self.unlabelled:
            codes[self.unlabelled[pair].contains(bins)] = UNMEASURED
        return codes

    def dense(self, contig: str, cell_type: str, target: str) -> np.ndarray:
        """Codes of every bin of a contig in order: uint8 [num_bins of the contig]."""
        first, last = self.grid.range_of(contig)
        pair = (cell_type, target)
        codes = np.full(last - first, UNBOUND if pair in self.bound else UNMEASURED, np.uint8)
        for runs, code in (
            (self.ambiguous.get(pair), AMBIGUOUS),
            (self.bound.get(pair), BOUND),
            (self.unlabelled.get(pair), UNMEASURED),
            (self.excluded, EXCLUDED),
        ):
            if runs:
                codes[runs.mask(first, last)] = code
        return codes

    def counts(self, within: Runs | None = None) -> pd.DataFrame:
        """Bins by label of every measured pair: cell_type, target, bound, ambiguous, unbound, unlabelled, excluded.

        Args:
            within: count these bins alone (a split, a contig).
        """
        space = self.grid.all_bins() if within is None else within
        excluded = self.excluded.intersect(space).size
        rows = []
        for cell_type in self.cell_types:
            for target in self.targets:
                pair = (cell_type, target)
                if pair not in self.bound:
                    continue
                bound, maybe, missing = (
                    runs.get(pair, Runs.empty()).intersect(space).size
                    for runs in (self.bound, self.ambiguous, self.unlabelled)
                )
                unbound = space.size - excluded - bound - maybe - missing
                rows.append((cell_type, target, bound, maybe, unbound, missing, excluded))
        names = ["cell_type", "target", "bound", "ambiguous", "unbound", "unlabelled", "excluded"]
        return pd.DataFrame(rows, columns=pd.Index(names))

    def restrict(self, cell_types: Sequence[str] | None = None, targets: Sequence[str] | None = None) -> LabelSet:
        """Some cell types and targets alone, in the given order; of all cell types those in which a target was measured.

        Raises:
            CorpusError: one is not there.
        """
        cells = _chosen(cell_types, self.cell_types, "cell type")
        names = _chosen(targets, self.targets, "target")
        if cell_types is None:
            cells = tuple(cell for cell in cells if any(self.measured(cell, name) for name in names))

        def keep(runs: dict[Pair, Runs]) -> dict[Pair, Runs]:
            return {pair: value for pair, value in runs.items() if pair[0] in cells and pair[1] in names}

        return LabelSet(
            grid=self.grid,
            cell_types=cells,
            targets=names,
            bound=keep(self.bound),
            ambiguous=keep(self.ambiguous),
            excluded=self.excluded,
            unlabelled=keep(self.unlabelled),
        )

    def fingerprint(self) -> str:
        """Identity of the labels (16 hex digits): grid, names and every run."""
        digest = hashlib.sha256()
        head = [asdict(self.grid), self.cell_types, self.targets]
        digest.update(json.dumps(head, sort_keys=True).encode())
        every = [("", self.excluded)]
        for kind, table in (("b", self.bound), ("a", self.ambiguous), ("u", self.unlabelled)):
            every += [(json.dumps([kind, *pair]), table[pair]) for pair in sorted(table)]
        for name, runs in every:
            digest.update(f"{name} {len(runs)} ".encode())
            digest.update(np.stack([runs.start, runs.end]).astype("<i8").tobytes())
        return digest.hexdigest()[:16]


def _chosen(wanted: Sequence[str] | None, known: tuple[str, ...], what: str) -> tuple[str, ...]:
    if wanted is None:
        return known
    absent = [name for name in wanted if name not in known]
    if absent:
        raise CorpusError(f"no labels of {what} {absent[0]!r}. There are labels of: {', '.join(known[:20])}.")
    return tuple(dict.fromkeys(wanted))
