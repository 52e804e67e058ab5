"""What a baseline learns from and chooses by: bins of a fine-tuning's draw, read into memory at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from epilm.corpus.source import fixed_bytes
from epilm.labels.codes import BOUND, UNBOUND
from epilm.tasks.binding_draw import BindingDraw
from epilm.tasks.binding_rows import BindingRows

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


def training_samples(draw: BindingDraw, rows: BindingRows, *, epochs: int, max_samples: int) -> Samples:
    """The samples of the first epochs, in genome order; of more than ``max_samples`` a random part.

    The order of an epoch is random, so that its beginning is such a part, with the epoch's share of positives.
    """
    num = min(epochs * draw.sampler.epoch_size, max_samples)
    bins, cells = draw.source(rows).members(np.arange(num))
    return _read(rows, bins, cells, np.ones(num))


def validation_samples(draw: BindingDraw, rows: BindingRows) -> Samples:
    """The bins on which a fine-tuning is stopped, in genome order."""
    members = draw.validation(rows)
    return _read(rows, *members.members(np.arange(members.num_samples)))


def _read(rows: BindingRows, bins: np.ndarray, cells: np.ndarray, weight: np.ndarray) -> Samples:
    """Samples sorted by place, so that each chunk of the corpus is read once, in blocks."""
    order = np.lexsort((cells, bins))
    bins, cells, weight = bins[order], cells[order], weight[order]
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
    if not rows.uses_states:
        read.pop("phase", None)
    if "signals" in read:
        read["signals"] = read["signals"].view("<f4").reshape(len(bins), len(rows.config.tracks), -1)
    return Samples(bins=bins, weight=weight, **read)
