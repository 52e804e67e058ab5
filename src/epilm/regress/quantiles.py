"""The histogram bins of boosted trees, the same for any split of the rows among actors.

xgboost's actors each sketch the quantiles of their own rows and merge the sketches, so that features with more values than
a sketch holds get other thresholds with two actors than with one. Here the thresholds are those that xgboost finds on
all rows together; the actors round the values of their training rows down to them. What is left are at most
``max_bin + 1`` values a feature, which sketches hold and merge exactly. A split is value < threshold, so it parts rounded and
original values alike: the booster is the same as one on the original values, and is made for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import ray

from epilm.regress.matrix import feature_names, read_features
from epilm.storage import Location

BLOCK_BYTES = 64_000_000
"""Most bytes of features that a task holds; it needs a few times as much."""


@dataclass(frozen=True)
class Quantiles:
    """What the values of F features are rounded down to."""

    names: tuple[str, ...]
    edges: np.ndarray
    """float32: of each feature its lowest value, its thresholds, and its highest value, rising, none twice. xgboost parts
    missing from present values at bounds that it makes of the lowest and the highest."""
    starts: np.ndarray
    """int64 [F + 1]: where in ``edges`` those of each feature begin, and the end."""


def quantiles_of_files(files: tuple[Location, ...], max_bin: int) -> Quantiles:
    """What plain xgboost would use on the rows of all files, by Ray tasks that take some features each; ordered by name."""
    task = ray.remote(_of_columns)
    names = sorted(feature_names(files[0]))
    num_rows = sum(pq.read_metadata(file.path, filesystem=file.fs).num_rows for file in files)
    width = max(1, BLOCK_BYTES // (4 * max(num_rows, 1)))
    blocks = [tuple(names[first : first + width]) for first in range(0, len(names), width)]
    parts: list[Quantiles] = ray.get([task.remote(files, block, max_bin) for block in blocks])
    counts = np.concatenate([np.diff(part.starts) for part in parts])
    return Quantiles(tuple(names), np.concatenate([part.edges for part in parts]), np.append(0, np.cumsum(counts)))


def quantiles_of(values: np.ndarray, names: Sequence[str], max_bin: int) -> Quantiles:
    """Of float32 [n, F]; NaN is no value. One thread: the sketch of a feature depends on the order of the rows alone."""
    import xgboost

    starts, cuts = xgboost.QuantileDMatrix(values, max_bin=max_bin, nthread=1).get_quantile_cut()
    # of each feature: a bound below all values, the thresholds, and a bound above all values
    first, last = starts[:-1].astype(np.int64), starts[1:].astype(np.int64) - 1
    lowest, highest = (np.nan_to_num(extreme.reduce(values, axis=0)) for extreme in (np.fmin, np.fmax))
    edges, kept = cuts.astype(np.float32), np.ones(len(cuts), bool)
    edges[first], edges[last] = lowest, highest
    kept[last] = highest > edges[last - 1]  # otherwise it is a threshold already, or all values are equal
    return Quantiles(tuple(names), edges[kept], np.append(0, np.cumsum(last - first + kept[last])))


def round_down(values: np.ndarray, quantiles: Quantiles) -> np.ndarray:
    """The highest edge at or below each value of float32 [n, F], for values that the quantiles are of; NaN stays."""
    result = np.empty_like(values, dtype=np.float32)
    for column, (first, end) in enumerate(zip(quantiles.starts[:-1], quantiles.starts[1:], strict=True)):
        edges = quantiles.edges[first:end]
        result[:, column] = edges[np.searchsorted(edges[1:], values[:, column], side="right")]
    result[np.isnan(values)] = np.nan
    return result


def _of_columns(files: tuple[Location, ...], names: tuple[str, ...], max_bin: int) -> Quantiles:
    return quantiles_of(np.concatenate([read_features(file, names) for file in files]), names, max_bin)
