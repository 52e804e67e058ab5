"""What a baseline learns from: the positives, the negatives and the validation bins of a fine-tuning with the same split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from epilm.corpus.manifest import CorpusManifest
from epilm.corpus.source import fixed_bytes
from epilm.hashing import permute
from epilm.labels.codes import BOUND, UNBOUND
from epilm.labels.label_set import LabelSet
from epilm.labels.places import Place, bins_near, bins_within, read_places
from epilm.labels.runs import Runs
from epilm.models.binding_config import BindingConfig
from epilm.storage import Location
from epilm.tasks.binding_recipe import BindingEvalConfig, SamplingConfig, SplitConfig
from epilm.tasks.binding_rows import BindingRows, split_bins
from epilm.tasks.binding_sampling import BindingSampler
from epilm.tasks.binding_strata import negative_strata

_EVAL = 43
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Samples:
    """n bins in cell types, with what predictors read of them."""

    bins: np.ndarray
    """int64 [n], numbers of the labels' grid."""
    dna: np.ndarray
    """uint8 [n, input_bp], A0 C1 G2 T3 N4, the bin in the middle."""
    labels: np.ndarray
    """uint8 [n, num_targets], codes of ``labels/codes.py``."""
    weight: np.ndarray
    """float64 [n], how many bins each stands for."""
    states: np.ndarray | None = None
    """uint8 [n, bins], the states of the sample's cell type over its DNA; None where they are not read."""
    phase: np.ndarray | None = None
    """int64 [n], bases from the start of the first epigenome bin to the first base."""
    signals: np.ndarray | None = None
    """float32 [n, num_tracks, signal bins]; None without tracks."""
    signal_phase: np.ndarray | None = None
    """int64 [n], as ``phase``."""

    def __len__(self) -> int:
        return len(self.bins)

    def scored(self, target: int) -> np.ndarray:
        """bool [n]: bound or unbound; ambiguous, excluded and unmeasured bins are neither learned from nor scored."""
        codes = self.labels[:, target]
        return (codes == BOUND) | (codes == UNBOUND)

    def bound(self, target: int) -> np.ndarray:
        """bool [n]"""
        return self.labels[:, target] == BOUND


@dataclass(frozen=True)
class BaselineSplit:
    """The bins of a split of a label set."""

    corpus: Location
    manifest: CorpusManifest
    labels: LabelSet
    split: SplitConfig
    sampling: SamplingConfig
    evaluation: BindingEvalConfig
    flank_bp: int
    """Bases beside a bin that the predictor reads: training keeps away so far from what is held out."""
    seed: int

    def places(self, setting: str) -> list[Place]:
        """Contigs and regions of a setting of the split."""
        known = [contig.name for contig in self.manifest.contigs]
        return read_places(getattr(self.split, setting) or (), known, setting=f"split.{setting}")

    @cached_property
    def train_places(self) -> list[Place]:
        if self.split.train_contigs is not None:
            return self.places("train_contigs")
        kept = {*self.split.validation_contigs, *self.split.test_contigs}
        return [(contig.name, None, None) for contig in self.manifest.contigs if contig.name not in kept]

    @cached_property
    def train_bins(self) -> Runs:
        """Of the training contigs, those whose input meets nothing that is held out."""
        grid, held = self.labels.grid, self.places("validation_contigs") + self.places("test_contigs")
        return bins_within(grid, self.train_places).subtract(bins_near(grid, held, self.flank_bp))

    @cached_property
    def validation_bins(self) -> Runs:
        return bins_within(self.labels.grid, self.places("validation_contigs"))

    @property
    def train_contigs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name, _, _ in self.train_places))

    @property
    def train_regions(self) -> tuple[tuple[str, int, int], ...] | None:
        """What the training inputs cover, where parts of contigs stand in the split; None for whole contigs."""
        split, grid = self.split, self.labels.grid
        names = [*split.validation_contigs, *split.test_contigs, *(split.train_contigs or ())]
        if {contig.name for contig in self.manifest.contigs}.issuperset(names):
            return None
        contig, start, num = grid.split(self.train_bins)
        ends = start + (num - 1) * grid.step_bp + grid.bin_bp + self.flank_bp
        firsts = np.maximum(start - self.flank_bp, 0)
        return tuple(zip(grid.names[contig].tolist(), firsts.tolist(), ends.tolist(), strict=True))

    @cached_property
    def train_cell_types(self) -> tuple[str, ...]:
        held_out = self.split.held_out_cell_types
        return self.split.cell_types or tuple(name for name in self.labels.cell_types if name not in held_out)

    @property
    def cells(self) -> tuple[int, ...]:
        """Places in ``labels.cell_types`` of the cell types that are trained on."""
        return tuple(self.labels.cell_types.index(name) for name in self.train_cell_types)

    @cached_property
    def sampler(self) -> BindingSampler:
        """The draw of a fine-tuning with this seed."""
        positives, negatives, _ = split_bins(self.labels, self.cells, self.train_bins)
        positives = replace(positives, limit=self.sampling.max_positives, subset_seed=self.sampling.subset_seed)
        strata = negative_strata(
            self.corpus,
            self.manifest,
            self.labels.grid,
            negatives,
            self.train_cell_types,
            positives.size,
            self.sampling,
        )
        return BindingSampler(positives, strata, self.seed)

    def training(self, config: BindingConfig, *, states: bool, epochs: int, max_samples: int) -> Samples:
        """The samples of the first epochs, in genome order; of more than ``max_samples`` a random part.

        The order of an epoch is random, so that its beginning is such a part, with the epoch's share of positives.
        """
        num = epochs * self.sampler.epoch_size
        bins, cells = self.sampler.locate(np.arange(min(num, max_samples)))
        return self._read(config, states, bins, cells, np.ones(len(bins)))

    def validation(self, config: BindingConfig, *, states: bool) -> Samples:
        """Bins of the validation contigs: all, or a draw that is weighted up to all."""
        positives, _, others = split_bins(self.labels, self.cells, self.validation_bins)
        limits, parts = self.evaluation, []
        for kind, (members, limit) in enumerate([(positives, limits.max_positives), (others, limits.max_negatives)]):
            taken = min(limit, members.size)
            if taken:
                drawn = permute(np.arange(taken), members.size, limits.seed, _EVAL, kind)
                parts.append((*members.at(drawn), np.full(taken, members.size / taken)))
        bins, cells, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
        return self._read(config, states, bins, cells, weight)

    def _read(
        self, config: BindingConfig, states: bool, bins: np.ndarray, cells: np.ndarray, weight: np.ndarray
    ) -> Samples:
        """Samples sorted by place, so that each chunk of the corpus is read once, in blocks; cells number the trained ones."""
        order = np.lexsort((cells, bins))
        bins, cells, weight = bins[order], cells[order], weight[order]
        labels = self.labels.restrict(cell_types=self.train_cell_types)
        rows = BindingRows(self.corpus, self.manifest, labels, config, states)
        columns: dict[str, list[np.ndarray]] = {}
        for first in range(0, len(bins), _ROWS_AT_ONCE):
            some = slice(first, first + _ROWS_AT_ONCE)
            table = rows.read(np.arange(len(bins[some])), bins[some], cells[some])
            for name in ("dna", "labels", "states", "signals"):
                if name in table.column_names:
                    columns.setdefault(name, []).append(fixed_bytes(table.column(name)))
            for name in ("phase", "signal_phase"):
                if name in table.column_names:
                    columns.setdefault(name, []).append(table.column(name).to_numpy().astype(np.int64))
        read = {name: np.concatenate(parts) for name, parts in columns.items()}
        if not states:
            read.pop("phase", None)
        if "signals" in read:
            read["signals"] = read["signals"].view("<f4").reshape(len(bins), len(config.tracks), -1)
        return Samples(bins=bins, weight=weight, **read)
