"""Which marks matter to a model, and where: occlusion (Zeiler and Fergus 2014, section 4.2). Pure but for the model.

A stretch of one mark is replaced by what is typical there, in both cell types, and the predictions' mean absolute change
is the stretch's importance. It needs nothing of a model but its predictions, so that trees, embeddings and networks can be
compared. It tells what the model uses, not what causes expression; stretches that stand in for each other look unimportant.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from epilm.errors import EpilmError
from epilm.expression.segments import segment_edges

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(first, second), both [n, bins, marks], to [n] predictions; the same input must give the same prediction."""


def occlusion(
    predict: Predict, first: np.ndarray, second: np.ndarray, *, marks: int, segments: int, fill: np.ndarray
) -> NDArray[np.float64]:
    """Mean over genes of |prediction - prediction with one mark's stretch of bins replaced|, for every mark and stretch.

    Args:
        predict: any model; it is called 1 + marks x segments times, with arrays of its own that it may not keep.
        first, second: [n, bins, marks] values in the two cell types; they stay as they are.
        marks: number of marks, the arrays' last axis.
        segments: stretches that the bins are divided into, at :func:`~epilm.expression.segments.segment_edges`.
        fill: [bins, marks] values that replace, in both cell types (so that they do not differ there), as :func:`typical`.

    Returns:
        float64 [marks, segments], 0 where the model does not look; in the unit of the predictions.

    Raises:
        EpilmError: shapes do not fit together, there is no gene, or a prediction is not [n].
        RecipeError: more segments than bins.
    """
    if first.ndim != 3 or first.shape != second.shape or first.shape[2] != marks or not len(first):
        raise EpilmError(
            f"occlusion takes two arrays [genes, bins, marks={marks}] of one shape, with a gene or more; got {first.shape} "
            f"and {second.shape}."
        )
    if fill.shape != first.shape[1:]:
        raise EpilmError(f"fill must be [bins, marks] = {list(first.shape[1:])}, got {list(fill.shape)}.")
    stops = segment_edges(first.shape[1], segments, setting="importance_segments").tolist()
    own = [np.array(values) for values in (first, second)]
    whole = _predicted(predict, own, len(first))
    result = np.zeros((marks, segments))
    for mark in range(marks):
        for segment in range(segments):
            stretch = (slice(None), slice(stops[segment], stops[segment + 1]), mark)
            for values in own:
                values[stretch] = fill[stretch[1:]]
            result[mark, segment] = np.abs(_predicted(predict, own, len(first)) - whole).mean()
            for values, given in zip(own, (first, second), strict=True):
                values[stretch] = given[stretch]
    return result


def typical(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The mean over genes and both cell types, [n, bins, marks] twice -> [bins, marks] of the arrays' type.

    Rounded where all values are whole: a count's replacement is a count, and gets a word that the model has seen.
    """
    mean = (first.sum(axis=0, dtype=np.float64) + second.sum(axis=0, dtype=np.float64)) / (len(first) + len(second))
    counts = all(np.array_equal(values, np.rint(values)) for values in (first, second))
    return (np.rint(mean) if counts else mean).astype(first.dtype)


def _predicted(predict: Predict, values: list[np.ndarray], n: int) -> NDArray[np.float64]:
    prediction = np.asarray(predict(values[0], values[1]), dtype=np.float64)
    if prediction.shape != (n,):
        raise EpilmError(
            f"predict must return one number a gene, [{n}]; got an array of shape {list(prediction.shape)}."
        )
    return prediction
