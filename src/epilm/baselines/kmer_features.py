"""Features of bins for the k-mer logistic regression: canonical k-mers, shares of states, pooled signals. Pure.

Counts and shares enter a linear model as sums over bases, so that a stretch of a genome is scored by look-ups and running
sums (:func:`stretch_scores`), without a matrix of features; the fit alone needs one (:func:`kmer_matrix`).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

from epilm.genome.dna import decode_dna
from epilm.models.binding_config import TrackConfig
from epilm.models.binding_inputs import pool_tokens
from epilm.tokens.kmers_numpy import kmer_tokens
from epilm.tokens.vocab import NO_STATE, NUM_SPECIAL

_CELLS_AT_ONCE = 1 << 22
"""Entries of a dense block of counts: 32 MB."""


def canonical_columns(k: int) -> np.ndarray:
    """Column of every k-mer token id, a k-mer and its reverse complement sharing one: int64 [4^k + specials], -1 = none."""
    ids = np.arange(4**k)
    digits = ids[:, None] // 4 ** np.arange(k - 1, -1, -1) % 4
    turned = ((3 - digits) * 4 ** np.arange(k)).sum(axis=1)
    _, column = np.unique(np.minimum(ids, turned), return_inverse=True)
    return np.concatenate([np.full(NUM_SPECIAL, -1), column])


def canonical_names(k: int) -> list[str]:
    """Letters of each column: of the two strands' k-mers the one that comes first by A, C, G, T."""
    columns = canonical_columns(k)[NUM_SPECIAL:]
    first = np.unique(columns, return_index=True)[1]
    digits = first[:, None] // 4 ** np.arange(k - 1, -1, -1) % 4
    return [decode_dna(row) for row in digits.astype(np.uint8)]


def kmer_matrix(dna: np.ndarray, k: int) -> sparse.csr_matrix:
    """Counts of canonical k-mers: uint8 [n, length_bp] -> float64 [n, columns]; k-mers with N are left out."""
    columns = canonical_columns(k)
    width = int(columns.max()) + 1
    columns = np.where(columns < 0, width, columns)  # a column for k-mers with N, dropped after the count
    blocks = [sparse.csr_matrix((0, width))]
    step = max(1, _CELLS_AT_ONCE // (width + 1))
    for first in range(0, len(dna), step):
        column = columns[kmer_tokens(dna[first : first + step], k=k, stride=1)]
        num = len(column)
        column += np.arange(num)[:, None] * (width + 1)
        counts = np.bincount(column.ravel(), minlength=num * (width + 1)).reshape(num, width + 1)
        blocks.append(sparse.csr_matrix(counts[:, :width].astype(np.float64)))
    return sparse.csr_matrix(sparse.vstack(blocks, format="csr"))


def state_shares(
    states: np.ndarray, phase: np.ndarray, *, skip_bp: int, length_bp: int, bin_bp: int, num_states: int
) -> np.ndarray:
    """Share of bases in each state -> float64 [n, num_states + 1], the last column "no data".

    Args:
        states: uint8 [n, bins].
        phase: int64 [n], bases from the start of bin 0 to the input's first base.
        skip_bp: bases of the input before the ``length_bp`` ones that count.
    """
    edges = np.arange(states.shape[1] + 1) * bin_bp - np.asarray(phase, np.int64)[:, None] - skip_bp
    weights = np.diff(np.clip(edges, 0, length_bp), axis=1)
    column = state_columns(states, num_states) + np.arange(len(states))[:, None] * (num_states + 1)
    covered = np.bincount(column.ravel(), weights=weights.ravel(), minlength=len(states) * (num_states + 1))
    return covered.reshape(len(states), num_states + 1) / length_bp


def state_columns(states: np.ndarray, num_states: int) -> np.ndarray:
    """uint8 codes -> int64 columns of :func:`state_shares`."""
    return np.where(states == NO_STATE, num_states, states).astype(np.int64)


def track_columns(
    signals: np.ndarray, start: np.ndarray, tracks: dict[str, TrackConfig], *, length_bp: int, signal_bp: int
) -> np.ndarray:
    """Each track pooled over ``length_bp`` bases and scaled, as a token of that many bases would hold it.

    Args:
        signals: float32 [rows, num_tracks, signal bins], NaN = not covered.
        start: int64 [rows, m], first base of each pooled stretch, counted from the start of the first signal bin.

    Returns:
        float64 [rows, m, num_tracks].
    """
    starts = torch.from_numpy(np.ascontiguousarray(start))
    pooled = []
    for number, track in enumerate(tracks.values()):
        signal = torch.from_numpy(np.array(signals[:, number], np.float32))  # a copy: torch warns of read-only arrays
        value = pool_tokens(signal, starts, track.pool, signal_bp=signal_bp, k=length_bp)
        pooled.append(_scaled(value.numpy().astype(np.float64), track))
    return np.stack(pooled, axis=-1)


def _scaled(pooled: np.ndarray, track: TrackConfig) -> np.ndarray:
    value = pooled * track.factor
    if track.scale == "log1p":
        value = np.log1p(np.maximum(value, 0))
    elif track.scale == "asinh":
        value = np.arcsinh(value)
    return np.where(np.isnan(pooled), track.missing, value)
