"""Stretches that the bins around a gene are divided into."""

from __future__ import annotations

import numpy as np

from epilm.errors import RecipeError


def segment_edges(num_bins: int, segments: int | None, *, setting: str = "segments") -> np.ndarray:
    """Bins at which segments begin, as even as whole bins allow, then ``num_bins``: int64 [segments + 1].

    Args:
        segments: absent: one a bin.
        setting: what an error calls it.

    Raises:
        RecipeError: more segments than bins.
    """
    if segments is None:
        return np.arange(num_bins + 1)
    if not 1 <= segments <= num_bins:
        raise RecipeError(f"{setting}={segments}: allowed are 1 to {num_bins}, one a bin. Give fewer.")
    return np.arange(segments + 1) * num_bins // segments
