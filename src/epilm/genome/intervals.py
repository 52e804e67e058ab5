"""Vectorised interval arithmetic on columns (chrom, start, end), 0-based half-open. Pure numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd


def merge(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Union of intervals of one contig as sorted, disjoint (start, end); touching ones are joined, empty ones dropped."""
    start, end = np.asarray(start, np.int64), np.asarray(end, np.int64)
    keep = end > start
    order = np.argsort(start[keep], kind="stable")
    start, end = start[keep][order], np.maximum.accumulate(end[keep][order]) if keep.any() else end[keep]
    first = np.ones(start.size, bool)
    first[1:] = start[1:] > end[:-1]
    last = np.append(np.flatnonzero(first)[1:] - 1, start.size - 1) if start.size else np.zeros(0, np.int64)
    return start[first], end[last]


def covered_bp(start: np.ndarray, end: np.ndarray, merged_start: np.ndarray, merged_end: np.ndarray) -> np.ndarray:
    """Bases of each interval that disjoint sorted regions cover -> int64 [n]."""
    before = np.concatenate([[0], np.cumsum(merged_end - merged_start)])

    def covered_to(position: np.ndarray) -> np.ndarray:
        index = np.searchsorted(merged_start, position, side="right")
        inside = np.where(index > 0, np.minimum(position, merged_end[np.maximum(index, 1) - 1]), 0)
        begun = np.where(index > 0, merged_start[np.maximum(index, 1) - 1], 0)
        return before[np.maximum(index, 1) - 1] + inside - begun

    if merged_start.size == 0:
        return np.zeros(np.shape(start), np.int64)
    start, end = np.asarray(start, np.int64), np.asarray(end, np.int64)
    return np.where(end > start, covered_to(end) - covered_to(start), 0)


def overlap_bp(
    chrom: Sequence[str] | np.ndarray, start: np.ndarray, end: np.ndarray, regions: pd.DataFrame
) -> np.ndarray:
    """Bases of each interval that the union of ``regions`` (columns chrom, start, end) covers -> int64 [n].

    Names must be the same on both sides (see :func:`rename`).
    """
    chrom, start, end = np.asarray(chrom, object), np.asarray(start, np.int64), np.asarray(end, np.int64)
    result = np.zeros(start.size, np.int64)
    rows_of: Mapping = dict(regions.groupby("chrom", sort=False).indices)
    names, codes = np.unique(chrom.astype(str), return_inverse=True)
    region_start, region_end = regions["start"].to_numpy(np.int64), regions["end"].to_numpy(np.int64)
    for code, name in enumerate(names):
        if name in rows_of:
            rows = rows_of[name]
            mine = np.flatnonzero(codes == code)
            merged = merge(region_start[rows], region_end[rows])
            result[mine] = covered_bp(start[mine], end[mine], *merged)
    return result


def overlaps(
    chrom: Sequence[str] | np.ndarray, start: np.ndarray, end: np.ndarray, regions: pd.DataFrame
) -> np.ndarray:
    """Whether each interval shares a base with any region -> bool [n]."""
    return overlap_bp(chrom, start, end, regions) > 0


def rename(table: pd.DataFrame, matches: Mapping[str, str]) -> pd.DataFrame:
    """The rows whose contig is in ``matches`` (name in the file -> name in the reference), renamed."""
    chrom = table["chrom"].map(dict(matches))
    return table.assign(chrom=chrom)[chrom.notna()].reset_index(drop=True)
