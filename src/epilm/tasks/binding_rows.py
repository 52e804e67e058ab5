"""Rows of (bin, cell type) samples, gathered from the contigs view: no labelled window is ever stored."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from epilm.corpus.gather import ContigReader
from epilm.corpus.manifest import CorpusManifest
from epilm.corpus.schema import bins_per_window
from epilm.corpus.source import as_fixed_bytes
from epilm.hashing import permute
from epilm.labels.label_set import LabelSet
from epilm.models.binding_config import BindingConfig
from epilm.storage import Location
from epilm.tasks.binding_sampling import BindingSampler, CellBins

_EVAL = 43


@dataclass(frozen=True)
class BindingRows:
    """Reads samples; picklable, every process opens its own files.

    Args:
        labels: of the targets in the model's order; its cell types number the samples' cells.
    """

    corpus: Location
    manifest: CorpusManifest
    labels: LabelSet
    config: BindingConfig
    uses_states: bool

    @cached_property
    def _reader(self) -> ContigReader:
        return ContigReader(self.corpus, self.manifest)

    def _corpus_rows(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places in the corpus of each sample's states, int64 [n, 1] ([n, 0] where unread), and of its tracks, [n, T].

        Of the cell types asked alone: one that is kept for the test may have neither.
        """
        asked, which = np.unique(cells, return_inverse=True)
        names = [self.labels.cell_types[cell] for cell in asked]
        signals = [signal.name for signal in self.manifest.signals]
        wanted = self.config.tracks.values()
        states = [[self.manifest.cell_types.index(name)] if self.uses_states else [] for name in names]
        tracks = [[signals.index(track.signal_for(name)) for track in wanted] for name in names]
        of_states = np.array(states, np.int64).reshape(len(names), int(self.uses_states))
        of_tracks = np.array(tracks, np.int64).reshape(len(names), len(wanted))
        return of_states[which], of_tracks[which]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row as shipped."""
        states = bins_per_window(self.config.input_bp, self.manifest.bin_bp) if self.uses_states else 0
        signals = 0
        if self.config.tracks:
            signals = 4 * len(self.config.tracks) * bins_per_window(self.config.input_bp, self.manifest.signal_bp)
        return self.config.input_bp + states + signals + len(self.config.targets) + 40

    def read(self, position: np.ndarray, bins: np.ndarray, cells: np.ndarray) -> pa.Table:
        """Rows of the samples, in their order: ``position, bin, cell, phase, dna, labels[, states][, signals, signal_phase]``.

        Args:
            position, bins, cells: int64 [n]; the number of each sample, its bin on the labels' axis, its cell type.
        """
        contig, start = self.labels.grid.locate(bins)
        names = self.labels.grid.names[contig]
        states, tracks = self._corpus_rows(cells)
        gathered = self._reader.gather(
            names, start - self.config.flank_bp, self.config.input_bp, cells=states, tracks=tracks
        )
        columns = {
            "position": pa.array(position),
            "bin": pa.array(bins),
            "cell": pa.array(cells),
            "phase": pa.array(gathered.phase.astype(np.int32)),
            "dna": as_fixed_bytes(gathered.dna),
            "labels": as_fixed_bytes(self.labels.codes(bins, cells)),
        }
        if self.uses_states:
            assert gathered.states is not None
            columns["states"] = as_fixed_bytes(gathered.states[:, 0])
        if self.config.tracks:
            assert gathered.signals is not None
            assert gathered.signal_phase is not None
            signals = np.ascontiguousarray(gathered.signals, "<f4").reshape(len(bins), -1)
            columns["signals"] = as_fixed_bytes(signals.view(np.uint8))
            columns["signal_phase"] = pa.array(gathered.signal_phase.astype(np.int32))
        return pa.table(columns)


@dataclass(frozen=True)
class BindingSource:
    """The training stream: a :class:`~epilm.corpus.source.SampleSource`."""

    rows: BindingRows
    sampler: BindingSampler
    cells: tuple[int, ...]
    """Cell type of the labels for each one that the sampler numbers."""

    @property
    def samples_per_pass(self) -> int:
        return self.sampler.epoch_size

    @property
    def in_memory(self) -> bool:
        return False

    @property
    def row_bytes(self) -> int:
        return self.rows.row_bytes

    def members(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(bins, cells) of the samples at positions of the run, both int64 [n]; cells index ``labels.cell_types``."""
        bins, cells = self.sampler.locate(positions)
        return bins, np.asarray(self.cells, np.int64)[cells]

    def read(self, positions: np.ndarray) -> pa.Table:
        return self.rows.read(np.asarray(positions, np.int64), *self.members(positions))


def draw_members(members: CellBins, taken: int, seed: int, *, kind: int) -> np.ndarray:
    """``taken`` distinct members of a kind for an evaluation, by hash: int64 [taken]."""
    return permute(np.arange(taken), members.size, seed, _EVAL, kind) if taken else np.empty(0, np.int64)


@dataclass(frozen=True)
class BindingEvalSet:
    """A fixed draw of bins: positives (bound by any factor) first, then others, each weighted up to all of its kind."""

    rows: BindingRows
    positives: CellBins
    others: CellBins
    cells: tuple[int, ...]
    max_positives: int
    max_negatives: int
    seed: int

    @property
    def num_positives(self) -> int:
        return min(self.max_positives, self.positives.size)

    @property
    def num_others(self) -> int:
        return min(self.max_negatives, self.others.size)

    @property
    def num_samples(self) -> int:
        return self.num_positives + self.num_others

    def members(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(bins int64, cells int64, weight float64), each [n]: cells index ``labels.cell_types``, the weight is how many bins
        of the contigs each stands for."""
        bins, cells, weight = self._drawn
        return bins[indices], cells[indices], weight[indices]

    @cached_property
    def _drawn(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All members, each kind in genome order: a chunk of the corpus is then read once an evaluation."""
        parts = []
        for kind, (members, taken) in enumerate([(self.positives, self.num_positives), (self.others, self.num_others)]):
            bins, cells = members.at(draw_members(members, taken, self.seed, kind=kind))
            order = np.lexsort((cells, bins))
            parts.append((bins[order], cells[order], np.full(taken, members.size / max(1, taken))))
        bins, cells, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
        return bins, np.asarray(self.cells, np.int64)[cells], weight

    def read(self, indices: np.ndarray) -> pa.Table:
        """Rows as of training, with ``weight``."""
        bins, cells, weight = self.members(indices)
        return self.rows.read(np.asarray(indices, np.int64), bins, cells).append_column("weight", pa.array(weight))
