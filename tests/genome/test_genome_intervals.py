"""Interval arithmetic against sets of bases."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from epilm.genome.intervals import covered_bp, merge, overlap_bp, overlaps, rename

PAIRS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), max_size=12)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    start = np.array([s for s, _ in pairs], np.int64)
    return start, start + np.array([w for _, w in pairs], np.int64)


def bases(start: np.ndarray, end: np.ndarray) -> set[int]:
    return {base for s, e in zip(start, end, strict=True) for base in range(s, e)}


def test_literal_merge() -> None:
    start, end = merge(np.array([10, 0, 5, 30, 20]), np.array([15, 5, 8, 30, 22]))
    assert (start.tolist(), end.tolist()) == ([0, 10, 20], [8, 15, 22])


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_merge_holds_the_same_bases_once(pairs: list[tuple[int, int]]) -> None:
    start, end = merge(*columns(pairs))
    assert bases(start, end) == bases(*columns(pairs))
    assert (end > start).all()
    assert (start[1:] > end[:-1]).all()


@settings(max_examples=60, deadline=None)
@given(PAIRS, PAIRS)
def test_covered_counts_bases(pairs: list[tuple[int, int]], regions: list[tuple[int, int]]) -> None:
    start, end = columns(pairs)
    union = bases(*columns(regions))
    expected = [len(union & set(range(s, e))) for s, e in zip(start, end, strict=True)]
    assert covered_bp(start, end, *merge(*columns(regions))).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(PAIRS, PAIRS)
def test_overlap_is_by_contig(pairs: list[tuple[int, int]], regions: list[tuple[int, int]]) -> None:
    start, end = columns(pairs)
    chrom = ["ab"[i % 2] for i in range(len(pairs))]
    table = pd.DataFrame({"chrom": ["ab"[i % 3 // 2] for i in range(len(regions))]})
    table["start"], table["end"] = columns(regions)
    expected = []
    for c, s, e in zip(chrom, start, end, strict=True):
        mine = table[table["chrom"] == c]
        expected.append(len(bases(mine["start"].to_numpy(), mine["end"].to_numpy()) & set(range(s, e))))
    assert overlap_bp(chrom, start, end, table).tolist() == expected
    assert overlaps(chrom, start, end, table).tolist() == [value > 0 for value in expected]


def test_touching_is_no_overlap() -> None:
    regions = pd.DataFrame({"chrom": ["1"], "start": [10], "end": [20]})
    assert overlap_bp(
        ["1", "1", "1", "2"], np.array([0, 20, 19, 12]), np.array([10, 25, 21, 14]), regions
    ).tolist() == [
        0,
        0,
        1,
        0,
    ]


def test_rename_drops_what_has_no_partner() -> None:
    table = pd.DataFrame({"chrom": ["II", "Mito", "IV", "x"], "start": [1, 2, 3, 4]})
    renamed = rename(table, {"II": "chrII", "IV": "chrIV"})
    assert renamed.to_dict("list") == {"chrom": ["chrII", "chrIV"], "start": [1, 3]}
    assert renamed.index.tolist() == [0, 1]
