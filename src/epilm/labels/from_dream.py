"""Labels from ENCODE-DREAM label files, moved from the bins of the files to those of a corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from epilm.corpus.manifest import CorpusManifest
from epilm.errors import CorpusError
from epilm.genome.contigs import match_contigs
from epilm.labels.dream import DreamRows, read_dream, read_dream_header
from epilm.labels.gathered import Gathered, Names
from epilm.labels.grid import BinGrid
from epilm.labels.label_set import Pair
from epilm.labels.peaks import refuse_past_end
from epilm.labels.recipe import DreamLabels
from epilm.labels.runs import Runs


def files_of(config: DreamLabels, target: str) -> tuple[str, ...]:
    given = config.files[target]
    return (given,) if isinstance(given, str) else given


def measured_in_dream(config: DreamLabels) -> dict[str, tuple[str, ...]]:
    """Target -> its cell types, from the headers of its files (which are the only thing read)."""
    headers = {target: [read_dream_header(path) for path in files_of(config, target)] for target in config.files}
    return {target: tuple(dict.fromkeys(c for cells in found for c in cells)) for target, found in headers.items()}


def gather_dream(
    config: DreamLabels,
    manifest: CorpusManifest,
    grid: BinGrid,
    names: Names,
    progress: Callable[[str], None] = lambda message: None,
) -> Gathered:
    """Read the files of the chosen targets, one after the other, in bounded memory.

    Raises:
        GenomeError: a file is not what it should be, or of another assembly.
        CorpusError: two files label one bin of a (cell type, target), or none a bin of the corpus.
    """
    found = Gathered()
    listed: dict[Pair, Runs] = {}
    for target, path, cells in _chosen(config, names):
        progress(f"labels: reading {path} ({target}: {', '.join(cells)})")
        rows = read_dream(path, cell_types=cells, bin_bp=grid.bin_bp, step_bp=grid.step_bp)
        onto = _Onto(rows, manifest, grid, path)
        found.contig_names[path] = onto.names
        found.notes += [onto.note] if onto.note else []
        if config.outside == "error":
            onto.refuse_past_end()
        mine = onto(rows.listed)
        for cell in cells:
            pair = (names.cells[cell], target)
            twice = listed.get(pair, Runs.empty()).intersect(mine).size
            if twice:
                raise CorpusError(
                    f"files.{target}: {path} labels {twice:,} bins of {cell} that a file before it has labelled, too. "
                    "Give each bin of a cell type in one file."
                )
            for table, runs in (
                (listed, mine),
                (found.bound, onto(rows.bound[cell])),
                (found.ambiguous, onto(rows.ambiguous[cell])),
            ):
                table[pair] = table.get(pair, Runs.empty()).union(runs)
    _leave_out_unlisted(found, listed, grid, manifest)
    return found


def _chosen(config: DreamLabels, names: Names) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for target in names.targets:
        for path in files_of(config, target):
            cells = tuple(cell for cell in read_dream_header(path) if cell in names.cells)
            if cells:
                yield target, path, cells


def _leave_out_unlisted(found: Gathered, listed: dict[Pair, Runs], grid: BinGrid, manifest: CorpusManifest) -> None:
    anywhere = Runs.empty().union(*listed.values())
    if not anywhere:
        raise CorpusError(
            f"the label files have no bin in what the corpus {manifest.name} holds: "
            + ", ".join(f"{c.name}:{c.start_bp}-{c.end_bp}" for c in manifest.contigs[:5])
            + ". Use files of the same assembly and contigs."
        )
    found.excluded = grid.all_bins().subtract(anywhere)
    found.unlabelled = {pair: anywhere.subtract(runs) for pair, runs in listed.items()}
    if found.excluded:
        found.notes.append(f"the label files leave out {found.excluded.size:,} of {grid.num_bins:,} bins of the corpus")


class _Onto:
    """Moves runs from the axis of a file to that of a corpus."""

    def __init__(self, rows: DreamRows, manifest: CorpusManifest, grid: BinGrid, path: str) -> None:
        self.rows, self.manifest, self.grid, self.path = rows, manifest, grid, path
        reference: dict[str, int | None] = {contig.name: None for contig in manifest.contigs}
        self.names = match_contigs(reference, dict.fromkeys(rows.contigs), source=path)
        order = {name: number for number, name in enumerate(reference)}
        self._number = np.array([order[self.names[c]] if c in self.names else -1 for c in rows.contigs], np.int64)
        lost = [name for name in rows.contigs if name not in self.names]
        shown = ", ".join(lost[:8]) + (f", ... ({len(lost)} in all)" if len(lost) > 8 else "")
        self.note = f"{path}: its contigs {shown} are not in the corpus" if lost else ""

    def __call__(self, runs: Runs) -> Runs:
        contig, start_bp, num_bins = self.rows.rows(runs, self.grid.step_bp)
        return self.grid.place(self._number[contig], start_bp, num_bins)

    def refuse_past_end(self) -> None:
        """Refuse a file whose bins reach past the end of a contig; its message names the last of them there."""
        contig, start_bp, num_bins = self.rows.rows(self.rows.listed, self.grid.step_bp)
        number = self._number[contig]
        last_bp = start_bp + (num_bins - 1) * self.grid.step_bp
        ends = np.array([c.end_bp for c in self.manifest.contigs], np.int64)
        wrong = np.flatnonzero((number >= 0) & (last_bp + self.grid.bin_bp > ends[number]))
        past = pd.DataFrame(
            {
                "chrom": self.grid.names[number[wrong]],
                "start": last_bp[wrong],
                "end": last_bp[wrong] + self.grid.bin_bp,
            }
        )
        refuse_past_end(past, self.manifest, source=self.path)
