"""Labels from peaks: files or a table, placed on the corpus, resized, and read by the rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from epilm.corpus.manifest import CorpusManifest
from epilm.errors import CorpusError, RecipeError
from epilm.labels.gathered import Gathered, Names
from epilm.labels.grid import BinGrid
from epilm.labels.peaks import place_regions, read_peaks
from epilm.labels.recipe import PeakFileLabels, PeakLabels, PeakSets, PeakTableLabels
from epilm.labels.rule import covered_bins, resized
from epilm.labels.runs import Runs


def measured_in_files(config: PeakFileLabels) -> dict[str, tuple[str, ...]]:
    return {target: tuple(cells) for target, cells in config.files.items()}


def measured_in_table(table: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Target -> its cell types, both in the order of the table's rows."""
    pairs = table[["target", "cell_type"]].drop_duplicates()
    return {str(target): tuple(rows) for target, rows in pairs.groupby("target", sort=False)["cell_type"]}


def paths_of(config: PeakFileLabels, names: Names) -> tuple[str, ...]:
    """The files of the chosen targets and cell types."""
    return tuple(path for _, _, sets in _chosen(config, names) for path in (sets.conservative, sets.relaxed) if path)


def gather_files(config: PeakFileLabels, manifest: CorpusManifest, grid: BinGrid, names: Names) -> Gathered:
    """Read a file or two a (cell type, target).

    Raises:
        GenomeError: a file is not what it should be, or of another assembly.
        CorpusError: it has no peak on a contig of the corpus.
        RecipeError: all its peaks are too short.
    """
    found, rule = Gathered(), _Rule(config, manifest, grid)
    for cell, target, sets in _chosen(config, names):
        pair = (names.cells[cell], target)
        conservative = rule.placed(read_peaks(sets.conservative), sets.conservative, found)
        rule.refuse_short(conservative, sets.conservative)
        relaxed = None if sets.relaxed is None else rule.placed(read_peaks(sets.relaxed), sets.relaxed, found)
        rule.refuse_missing(conservative if relaxed is None else pd.concat([conservative, relaxed]), sets.conservative)
        found.bound[pair] = rule.bins(conservative, config.min_overlap_bp)
        found.ambiguous[pair] = Runs.empty() if relaxed is None else rule.bins(relaxed, 1)
    return found


def gather_table(
    config: PeakTableLabels, table: pd.DataFrame, manifest: CorpusManifest, grid: BinGrid, names: Names
) -> Gathered:
    """Take the chosen pairs out of a table of :func:`~epilm.labels.peaks.read_peak_table`; raises as above.

    A pair of which the table has relaxed peaks alone was measured, and has no bound bin.
    """
    found, rule = Gathered(), _Rule(config, manifest, grid)
    chosen = table[table["target"].isin(names.targets) & table["cell_type"].isin(list(names.cells))]
    placed = rule.placed(chosen, config.path, found)
    rule.refuse_short(placed[placed["set"] == "conservative"], config.path)
    rule.refuse_missing(placed, config.path)
    for cell, target in chosen[["cell_type", "target"]].drop_duplicates().itertuples(index=False, name=None):
        found.bound[names.cells[cell], target] = found.ambiguous[names.cells[cell], target] = Runs.empty()
    for (cell, target, which), rows in placed.groupby(["cell_type", "target", "set"], sort=False):
        pair = (names.cells[str(cell)], str(target))
        if which == "conservative":
            found.bound[pair] = rule.bins(rows, config.min_overlap_bp)
        else:
            found.ambiguous[pair] = rule.bins(rows, 1)
    return found


def _chosen(config: PeakFileLabels, names: Names) -> Iterator[tuple[str, str, PeakSets]]:
    for target in names.targets:
        for cell, given in config.files[target].items():
            if cell in names.cells:
                yield cell, target, given if isinstance(given, PeakSets) else PeakSets(conservative=given)


@dataclass(frozen=True)
class _Rule:
    """The recipe's rule on one corpus."""

    config: PeakLabels
    manifest: CorpusManifest
    grid: BinGrid

    def placed(self, peaks: pd.DataFrame, source: str, found: Gathered) -> pd.DataFrame:
        """Peaks on the corpus, at the size that the rule sees."""
        placed, found.contig_names[source], note = place_regions(
            peaks, self.manifest, source=source, outside=self.config.outside
        )
        found.notes += [note] if note else []
        if self.config.resize_bp is not None:
            columns = (placed[name].to_numpy(np.int64) for name in ("start", "end", "summit"))
            start, end = resized(*columns, resize_bp=self.config.resize_bp)
            placed = placed.assign(start=start, end=end)
        return placed

    def bins(self, placed: pd.DataFrame, min_overlap_bp: int) -> Runs:
        contig, start, end = (placed[name].to_numpy(np.int64) for name in ("contig", "start", "end"))
        return covered_bins(self.grid, contig, start, end, min_overlap_bp=min_overlap_bp)

    def refuse_short(self, placed: pd.DataFrame, source: str) -> None:
        longest = int((placed["end"] - placed["start"]).max()) if len(placed) else self.config.min_overlap_bp
        if longest < self.config.min_overlap_bp:
            raise RecipeError(
                f"{source}: its longest peak has {longest} bp, less than min_overlap_bp={self.config.min_overlap_bp}, so "
                f"that no bin could be bound. Set resize_bp (to {self.config.bin_bp}, say): peaks are then taken as so "
                "many bases round their summit or middle."
            )

    def refuse_missing(self, placed: pd.DataFrame, source: str) -> None:
        if self.config.missing_contigs == "no_peaks":
            return
        there = set(placed["contig"])
        bare = [c.name for number, c in enumerate(self.grid.contigs) if c.num_bins and number not in there]
        if bare:
            shown = ", ".join(bare[:8]) + (f", ... ({len(bare)} in all)" if len(bare) > 8 else "")
            raise CorpusError(
                f"{source} has no peak on {shown} of the corpus, whose bins would all be unbound. Where that is so, set "
                "missing_contigs: no_peaks; where the file is of some chromosomes alone, give one of all, or leave the "
                "contigs out of the corpus."
            )
