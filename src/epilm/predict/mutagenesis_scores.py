"""Every single-base substitution of intervals, and attributions of the same windows, in one process. Knows nothing of Ray.

Shapes: I = intervals, C = cell types, T = factors, L = bases of a window, S = substitutions, P = bases of all intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from epilm.genome.dna import BASE_N
from epilm.models.attribution import Method, attribute, spread_to_bases
from epilm.models.binding import EbertForBinding
from epilm.models.binding_inputs import BindingWindows, binding_inputs
from epilm.predict.binding_scorer import BindingScorer
from epilm.predict.variants_odds import log_odds_in_batches, take

_OF_NO_TARGET = ("attention", "rollout")
"""Methods that say the same for every factor."""


@dataclass(frozen=True)
class Mutated:
    """What is known of the bases of I intervals, one interval behind the other (P bases in all)."""

    offsets: np.ndarray
    """int64 [I + 1]: bases ``offsets[i]`` to ``offsets[i + 1]`` are interval ``i``'s."""
    dna: np.ndarray
    """uint8 [P], the reference; N outside the contig."""
    odds: np.ndarray
    """float32 [I, C, T], log-odds of the reference."""
    change: np.ndarray
    """float32 [P, 4, C, T], change of the log-odds with A, C, G or T there; 0 for the reference's own, NaN where that is N."""
    attributions: dict[str, np.ndarray]
    """float32 [P, C, T] by method."""

    @property
    def importance(self) -> np.ndarray:
        """float32 [P, C, T]: how much the log-odds fall when the base is lost, minus the mean change of its substitutions."""
        return -self.change.sum(axis=1) / 3


@dataclass(frozen=True)
class Substitutions:
    """int64 [S] each: interval, place in its window, and base put there."""

    interval: np.ndarray
    place: np.ndarray
    base: np.ndarray


def mutate(
    scorer: BindingScorer,
    chrom: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    bin_start: np.ndarray,
    *,
    num_cells: int,
    methods: Sequence[Method] = (),
) -> Mutated:
    """Predict the bin of every interval with each of its bases replaced by each other base, all else as it is.

    Args:
        chrom, start, end: the intervals, object [I], int64 [I]; each inside the window of its bin.
        bin_start: first base of the bin that is predicted, int64 [I].
        num_cells: C, the scorer's first cell types.
    """
    num, rows = len(start), np.repeat(np.arange(len(start)), num_cells)
    windows = scorer.windows(chrom[rows], bin_start[rows], np.tile(np.arange(num_cells), num))
    dna = windows.dna[::num_cells].cpu().numpy()
    first = start - (bin_start - scorer.binding.flank_bp)
    last = first + (end - start)
    places = substitutions(dna, first, last)
    odds = _odds(scorer, windows, np.arange(len(rows)))
    shape = (-1, num_cells, odds.shape[-1])
    mutant = _mutant_odds(scorer, windows, dna, places, num_cells).reshape(shape)
    odds = odds.reshape(shape)
    offsets = np.concatenate([[0], np.cumsum(end - start)])
    change = np.full((offsets[-1], 4, *odds.shape[1:]), np.nan, np.float32)
    inside = _inside(dna.shape[1], first, last)
    codes = dna[inside]
    known = np.flatnonzero(codes < BASE_N)
    change[known, codes[known]] = 0
    change[offsets[places.interval] + places.place - first[places.interval], places.base] = (
        mutant - odds[places.interval]
    )
    attributed = {
        method: attribution(scorer, windows, method)
        .reshape(num, num_cells, -1, dna.shape[1])
        .transpose(0, 3, 1, 2)[inside]
        for method in methods
    }
    return Mutated(offsets=offsets, dna=codes, odds=odds, change=change, attributions=attributed)


def substitutions(dna: np.ndarray, first: np.ndarray, last: np.ndarray) -> Substitutions:
    """Every other base at every known base of places ``first`` to ``last`` (excluded) of each window.

    Args:
        dna: uint8 [I, L].
        first, last: int64 [I].
    """
    mutable = _inside(dna.shape[1], first, last) & (dna < BASE_N)
    interval, place, base = np.nonzero(mutable[:, :, None] & (dna[:, :, None] != np.arange(4)))
    return Substitutions(interval, place, base)


def attribution(scorer: BindingScorer, windows: BindingWindows, method: Method) -> np.ndarray:
    """A method's contributions of every base, float32 [windows, T, L]: each token's divided evenly among its bases.

    Where the model averages both strands, the mean of what both readings give.
    """
    model, num_targets = scorer.model, len(scorer.binding.targets)
    asked = range(1 if method in _OF_NO_TARGET else num_targets)
    parts = []
    for first in range(0, len(windows), scorer.batch_size):
        batch = take(windows, np.arange(first, min(first + scorer.batch_size, len(windows))))
        both = [_read(model, batch, method, asked, reverse=False)]
        if scorer.binding.both_strands:
            both.append(_read(model, batch, method, asked, reverse=True).flip(-1))
        parts.append(torch.stack(both).mean(0).expand(-1, num_targets, -1).cpu().numpy())
    return np.concatenate(parts)


def _read(model: EbertForBinding, batch: BindingWindows, method: Method, targets: range, *, reverse: bool) -> Tensor:
    """Contributions of the bases in the order of reading, float32 [B, len(targets), L]."""
    turned = torch.full((len(batch),), reverse, device=batch.dna.device)
    inputs = binding_inputs(batch, encoder=model.config, config=model.binding, reverse=turned)
    settings = {"k": model.config.k, "stride": model.config.stride, "length_bp": model.binding.input_bp}
    return torch.stack([spread_to_bases(attribute(model, inputs, t, method), **settings) for t in targets], dim=1)


def _inside(length_bp: int, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """bool [I, L]: the places of each window that belong to its interval."""
    place = np.arange(length_bp)
    return (place >= first[:, None]) & (place < last[:, None])


def _odds(scorer: BindingScorer, windows: BindingWindows, rows: np.ndarray) -> np.ndarray:
    cuts = range(0, len(rows), scorer.batch_size)
    batches = (take(windows, rows[at : at + scorer.batch_size]) for at in cuts)
    return log_odds_in_batches(scorer.model, batches, num_windows=len(rows))


def _mutant_odds(
    scorer: BindingScorer, windows: BindingWindows, dna: np.ndarray, places: Substitutions, num_cells: int
) -> np.ndarray:
    """Log-odds float32 [S * C, T] in the order (substitution, cell type), edited batch by batch."""
    total = len(places.interval) * num_cells

    def batches():
        for at in range(0, total, scorer.batch_size):
            number = np.arange(at, min(at + scorer.batch_size, total))
            s, cell = number // num_cells, number % num_cells
            edited = dna[places.interval[s]]
            edited[np.arange(len(s)), places.place[s]] = places.base[s]
            yield take(windows, places.interval[s] * num_cells + cell, edited)

    return log_odds_in_batches(scorer.model, batches(), num_windows=total)
