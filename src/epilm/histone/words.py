"""Values of marks as words: a letter a mark, a word a bin, a line a gene (GeneGPT-2, section 5.2).

A value's level is how many of its mark's *cuts* it reaches; a level is a letter; the letters of a bin's marks, in their
order, are its word. Two more lines a gene hold the words of the difference of two cell types, one for each order.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

import numpy as np

from epilm.errors import RecipeError
from epilm.histone.config import WordsConfig

LINES = ("first", "second", "difference", "reversed")
"""The lines of a gene: its words in either cell type, those of first - second and those of second - first."""

EXCHANGED = {"first": "second", "second": "first", "difference": "reversed", "reversed": "difference"}
"""What each line is when the cell types change places."""

INPUT_LINES: dict[str, tuple[str, ...]] = {
    "raw_c": ("first", "second"),
    "raw_d": ("difference",),
    "raw": ("first", "second", "difference"),
}
"""Lines that a regressor sees under each name of its inputs."""

_ABOVE_ZERO = float(np.finfo(np.float64).tiny)
"""Reached by everything above 0: differences of float32 numbers are 0 or at least 1.4e-45."""


@dataclass(frozen=True)
class Cuts:
    """The values at which levels begin, rising along each mark's row."""

    cells: np.ndarray
    """float64 [marks, levels - 1] for values of a cell type; equal cuts leave out the level between them."""
    difference: np.ndarray
    """float64 [marks, levels - 1] for the difference of two cell types."""


def fit_cuts(config: WordsConfig, first: np.ndarray, second: np.ndarray) -> Cuts:
    """The cuts of the configuration; only quantiles (``config.levels``) look at the values.

    A quantile's cut is the smallest value above it, so that a mark that is mostly 0 has its zeros in the lowest level and
    everything else above it. Where no value is above, it is the largest value. A mark of few different values may thus
    have equal cuts, and a level between that never occurs, but never one level alone.

    Args:
        first, second: [genes, bins, marks] of the training genes in the two cell types, which are taken together.

    Raises:
        RecipeError: for quantiles, where values are not finite, there are none, or a mark has the same value everywhere
            (its letter would say nothing).
    """
    num_marks = first.shape[-1]
    assert second.shape[-1] == num_marks
    if config.levels is None:
        cells = np.tile(np.asarray(config.thresholds, np.float64), (num_marks, 1))
    else:
        quantiles = np.arange(1, config.levels) / config.levels
        pooled = (np.concatenate([first[..., m].ravel(), second[..., m].ravel()]) for m in range(num_marks))
        cells = np.stack([_quantile_cuts(values, quantiles, m, num_marks) for m, values in enumerate(pooled)])
    difference = (0.0, _ABOVE_ZERO) if config.difference_thresholds is None else config.difference_thresholds
    return Cuts(cells, np.tile(np.asarray(difference, np.float64), (num_marks, 1)))


def to_levels(values: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Number of a mark's cuts that each value reaches (cut <= value): [..., marks] and [marks, k] -> uint8 [..., marks].

    Raises:
        RecipeError: values that are not finite.
    """
    assert values.shape[-1] == cuts.shape[0]
    _check_finite(values)
    levels = np.zeros(values.shape, np.uint8)
    for cut in cuts.T:
        levels += values >= cut
    return levels


def letters(num_levels: int) -> str:
    """The letters of levels, lowest first: ``lh`` for two, ``lmh`` for three, else ``abc...`` (at most 26)."""
    assert 2 <= num_levels <= len(string.ascii_lowercase)
    return {2: "lh", 3: "lmh"}.get(num_levels, string.ascii_lowercase[:num_levels])


def to_lines(levels: np.ndarray, num_levels: int = 3) -> list[str]:
    """uint8 [n, bins, marks] -> n lines of words with a space between: ``mmlml mllmm ...``.

    Args:
        num_levels: levels that there are, whether or not all occur; they say which letters stand for them.
    """
    num, num_bins, num_marks = levels.shape
    if not levels.size:
        return [""] * num
    assert levels.max() < num_levels
    text = np.full((num, num_bins, num_marks + 1), ord(" "), np.uint8)
    text[..., :-1] = np.frombuffer(letters(num_levels).encode(), np.uint8)[levels]
    text[:, -1, -1] = ord("\n")
    return text.tobytes().decode("ascii").splitlines()


def lines_of(first: np.ndarray, second: np.ndarray, cuts: Cuts) -> dict[str, list[str]]:
    """The lines of n genes, under the names ``LINES``; a gene's lines depend on its own values and the cuts alone.

    Args:
        first, second: [n, bins, marks] values in the two cell types.

    Raises:
        RecipeError: values that are not finite.
    """
    assert first.shape == second.shape
    values = {
        "first": (first, cuts.cells),
        "second": (second, cuts.cells),
        # in float64, lest two float32 values that differ are rounded across a threshold
        "difference": (np.subtract(first, second, dtype=np.float64), cuts.difference),
        "reversed": (np.subtract(second, first, dtype=np.float64), cuts.difference),
    }
    return {name: to_lines(to_levels(array, of), of.shape[1] + 1) for name, (array, of) in values.items()}


def _quantile_cuts(values: np.ndarray, quantiles: np.ndarray, mark: int, num_marks: int) -> np.ndarray:
    _check_finite(values)
    if not values.size:
        raise RecipeError("words.levels needs training genes for its quantiles, and there are none. Give thresholds.")
    ordered = np.sort(values.astype(np.float64))
    if ordered[0] == ordered[-1]:
        raise RecipeError(
            f"words.levels: mark {mark + 1} of {num_marks} is {ordered[0]:g} in all bins of the training genes, in both cell "
            "types: it has no quantiles. Leave it out (marks), or give thresholds."
        )
    above = np.searchsorted(ordered, np.quantile(ordered, quantiles), side="right")
    return ordered[np.minimum(above, ordered.size - 1)]


def _check_finite(values: np.ndarray) -> None:
    if values.dtype.kind == "f" and (num := int(values.size - np.count_nonzero(np.isfinite(values)))):
        raise RecipeError(
            f"{num} of {values.size} values of marks are NaN or infinite, and no word stands for them. "
            "Leave their genes out, or fill the gaps."
        )
