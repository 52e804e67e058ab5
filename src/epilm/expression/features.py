"""Features of genes' lines for regressors: levels, token ids, embeddings, hidden states. Pure numpy.

A gene's row depends on that gene alone: neither on the other genes nor on any target. The columns depend on the widths of
the arrays (bins, tokens of the longest line), so that the genes of all splits are given together. n = genes, L = tokens of
the longest line, V = vocabulary, H = width of the vectors, F = columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

from epilm.errors import RecipeError
from epilm.expression.segments import segment_edges
from epilm.histone.bpe import EncodedLines
from epilm.histone.words import INPUT_LINES
from epilm.tasks.expression_recipe import Inputs

Pooling = Literal["bins", "mean", "last"]

_CHUNK = 512
"""Genes at a time: temporaries stay small beside the table."""


@dataclass(frozen=True)
class Features:
    """A table for a regressor, and what its columns are of."""

    values: np.ndarray
    """float32 [n, F]."""
    names: tuple[str, ...]
    """Unique: ``first.b017.H3K4me3``, ``difference.t0033``, ``second.s04.e012`` (bin, token, segment; embedding axis)."""


def level_features(
    first: np.ndarray, second: np.ndarray, marks: Sequence[str], inputs: Inputs, segments: int | None = None
) -> Features:
    """The bins' values themselves, or their means over segments; the difference is that of the numbers, not of words.

    Args:
        first, second: float [n, bins, marks] values in the two cell types.
    """
    num, num_bins, num_marks = first.shape
    assert second.shape == first.shape
    assert len(marks) == num_marks
    names = INPUT_LINES[inputs]
    edges = segment_edges(num_bins, segments)
    values = np.empty((num, len(names), edges.size - 1, num_marks), np.float32)
    for line, name in enumerate(names):
        out = values[:, line]
        if segments is None:
            _line_values(first, second, name, out)
            continue
        for part in _chunks(num):
            sums = np.add.reduceat(_line_values(first[part], second[part], name), edges[:-1], axis=1)
            out[part] = sums / np.diff(edges)[:, None]
    places = _numbered("b" if segments is None else "s", edges.size - 1)
    columns = tuple(f"{line}.{place}.{mark}" for line in names for place in places for mark in marks)
    return Features(values.reshape(num, len(columns)), columns)


def token_features(lines: Mapping[str, EncodedLines], inputs: Inputs) -> Features:
    """Token ids as numbers, -1 behind a line's end (GeneGPT-2's baseline)."""
    names = INPUT_LINES[inputs]
    widths = [lines[name].ids.shape[1] for name in names]
    values = np.full((len(lines[names[0]].lengths), sum(widths)), -1, np.float32)
    for encoded, (begin, width) in zip((lines[name] for name in names), _spans(widths), strict=True):
        np.copyto(values[:, begin : begin + width], encoded.ids, where=encoded.bins >= 0, casting="same_kind")
    columns = (
        f"{name}.{place}" for name, width in zip(names, widths, strict=True) for place in _numbered("t", width, 4)
    )
    return Features(values, tuple(columns))


def static_features(
    lines: Mapping[str, EncodedLines],
    embedding: np.ndarray,
    inputs: Inputs,
    num_bins: int,
    segments: int | None = None,
) -> Features:
    """Rows of an input embedding: the tokens' side by side, or means over segments of bins.

    A segment's mean is that of its bins, a bin's that of its tokens; padding does not count. Side by side, tokens behind
    a line's end are 0.

    Args:
        embedding: float32 [V, H].
    """
    names = INPUT_LINES[inputs]
    num, hidden = len(lines[names[0]].lengths), embedding.shape[1]
    if segments is not None:
        edges = segment_edges(num_bins, segments)
        values = np.empty((num, len(names), segments, hidden), np.float32)
        for line, name in enumerate(names):
            encoded = lines[name]
            for part in _chunks(num):
                mean = _segment_means(encoded.bins[part], edges, encoded.ids[part], len(embedding))
                values[part, line] = (mean @ embedding).reshape(-1, segments, hidden)
        return _vectors(values, names, [_numbered("s", segments)] * len(names), hidden)
    widths = [lines[name].ids.shape[1] for name in names]
    values = np.zeros((num, sum(widths), hidden), np.float32)
    for name, (begin, width) in zip(names, _spans(widths), strict=True):
        encoded = lines[name]
        for part in _chunks(num):
            real = encoded.bins[part] >= 0
            values[part, begin : begin + width][real] = embedding[encoded.ids[part][real]]
    return _vectors(values, names, [_numbered("t", width, 4) for width in widths], hidden)


def contextual_features(
    hidden: Mapping[str, np.ndarray],
    lines: Mapping[str, EncodedLines],
    inputs: Inputs,
    num_bins: int,
    pooling: Pooling,
    segments: int | None = None,
) -> Features:
    """Hidden states of lines, pooled; what stands at padding is never read.

    Args:
        hidden: line -> float32 [n, L, H], of the tokens of ``lines``.
        pooling: ``bins``: the mean of each bin's tokens, then of each segment's bins; ``mean``: of a line's tokens;
            ``last``: the last token's.

    Raises:
        RecipeError: segments with another pooling, or more of them than bins.
    """
    if segments is not None and pooling != "bins":
        raise RecipeError(f"segments={segments} need pooling: bins; pooling={pooling} has one vector a line.")
    names = INPUT_LINES[inputs]
    num, width = len(lines[names[0]].lengths), hidden[names[0]].shape[2]
    edges = segment_edges(num_bins, segments) if pooling == "bins" else np.array([0, num_bins])
    values = np.empty((num, len(names), edges.size - 1, width), np.float32)
    for line, name in enumerate(names):
        encoded, states = lines[name], hidden[name]
        assert states.shape[:2] == encoded.ids.shape
        for part in _chunks(num):
            flat = states[part].reshape(-1, width)
            values[part, line] = (_pooling(encoded, part, pooling, edges) @ flat).reshape(-1, edges.size - 1, width)
    places = _numbered("b" if segments is None else "s", edges.size - 1) if pooling == "bins" else [pooling]
    return _vectors(values, names, [places] * len(names), width)


def _pooling(encoded: EncodedLines, part: slice, pooling: Pooling, edges: np.ndarray) -> csr_array:
    """Weights of the tokens of a chunk of lines, flattened, in each pooled vector."""
    bins, lengths = encoded.bins[part], encoded.lengths[part]
    num, width = bins.shape
    position = np.arange(bins.size).reshape(bins.shape)
    if pooling == "bins":
        return _segment_means(bins, edges, position, bins.size)
    assert (lengths > 0).all()
    if pooling == "last":
        last = position[np.arange(num), lengths - 1]
        return csr_array((np.ones(num, np.float32), last, np.arange(num + 1)), shape=(num, bins.size))
    weights = np.repeat((1 / lengths).astype(np.float32), lengths)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return csr_array((weights, position[np.arange(width) < lengths[:, None]], ends), shape=(num, bins.size))


def _segment_means(bins: np.ndarray, edges: np.ndarray, columns: np.ndarray, num_columns: int) -> csr_array:
    """Means over segments as a sparse matrix [n x segments, num_columns], which has no entry for padding.

    Args:
        bins: int [n, L], rising along a line, -1 for padding; every bin has a token.
        edges: bins at which segments begin, then the number of bins.
        columns: int [n, L], the row of each token's vector in what the matrix is multiplied with.
    """
    num, num_bins, num_segments = len(bins), int(edges[-1]), edges.size - 1
    row, token = np.nonzero(bins >= 0)
    bin_of = bins[row, token].astype(np.int64)
    cell = row * num_bins + bin_of
    tokens_in = np.bincount(cell, minlength=num * num_bins)
    assert tokens_in.size == num * num_bins, "a token beyond the last bin"
    assert tokens_in.all(), "a bin without a token"
    segment = np.searchsorted(edges, bin_of, side="right") - 1
    weights = 1 / (tokens_in[cell] * np.diff(edges)[segment])
    counts = np.bincount(row * num_segments + segment, minlength=num * num_segments)
    ends = np.concatenate([[0], np.cumsum(counts)])
    shape = (num * num_segments, num_columns)
    return csr_array((weights.astype(np.float32), columns[row, token], ends), shape=shape)


def _line_values(first: np.ndarray, second: np.ndarray, name: str, out: np.ndarray | None = None) -> np.ndarray:
    """A line's values in float64, or written to ``out`` in its type."""
    if name == "difference":
        # float64, lest the difference of two large counts is rounded before the mean
        return np.subtract(first, second, out=out, dtype=np.float64, casting="same_kind")
    own = first if name == "first" else second
    if out is None:
        return own.astype(np.float64)
    out[...] = own
    return out


def _chunks(num: int) -> list[slice]:
    return [slice(start, min(start + _CHUNK, num)) for start in range(0, num, _CHUNK)]


def _spans(widths: Sequence[int]) -> list[tuple[int, int]]:
    """Begin and width of each part of a row."""
    return list(zip(np.cumsum([0, *widths[:-1]]).tolist(), widths, strict=True))


def _numbered(letter: str, num: int, digits: int | None = None) -> list[str]:
    """``b000``, ``b001``, ...: with leading zeros, so that names sort in order."""
    least = digits or {"s": 2}.get(letter, 3)
    width = max(least, len(str(num - 1)))
    return [f"{letter}{i:0{width}d}" for i in range(num)]


def _vectors(values: np.ndarray, names: Sequence[str], places: Sequence[Sequence[str]], hidden: int) -> Features:
    """[n, ..., H] with a vector a place of a line -> a column an axis of it."""
    axes = _numbered("e", hidden)
    named = (f"{name}.{place}" for name, there in zip(names, places, strict=True) for place in there)
    columns = tuple(f"{place}.{axis}" for place in named for axis in axes)
    return Features(values.reshape(len(values), len(columns)), columns)
