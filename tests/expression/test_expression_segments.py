"""Segments are even, cover the bins, and there are no more of them than bins."""

from __future__ import annotations

import numpy as np
import pytest

from epilm.errors import RecipeError
from epilm.expression.segments import segment_edges


@pytest.mark.parametrize(
    ("bins", "segments", "edges"),
    [(200, 20, list(range(0, 201, 10))), (10, 4, [0, 2, 5, 7, 10]), (3, 3, [0, 1, 2, 3]), (3, None, [0, 1, 2, 3])],
)
def test_edges(bins, segments, edges):
    assert segment_edges(bins, segments).tolist() == edges


@pytest.mark.parametrize(("bins", "segments"), [(7, 3), (200, 33), (41, 40)])
def test_they_are_even_and_cover_the_bins(bins, segments):
    widths = np.diff(segment_edges(bins, segments))
    assert (widths.sum(), len(widths)) == (bins, segments)
    assert widths.min() >= 1
    assert widths.max() - widths.min() <= 1


@pytest.mark.parametrize("segments", [0, 12])
def test_more_than_bins_are_refused(segments):
    with pytest.raises(RecipeError, match=f"head.segments={segments}: allowed are 1 to 11, one a bin"):
        segment_edges(11, segments, setting="head.segments")
