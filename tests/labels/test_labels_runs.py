"""Sets of bins as ranges do what sets of integers do."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epilm.labels.runs import Runs

masks = st.lists(st.booleans(), min_size=0, max_size=40).map(lambda flags: np.array(flags, bool))


def members(runs: Runs) -> set[int]:
    return {i for start, end in zip(runs.start.tolist(), runs.end.tolist(), strict=True) for i in range(start, end)}


def assert_canonical(runs: Runs) -> None:
    assert runs.start.dtype == runs.end.dtype == np.int64
    assert (runs.end > runs.start).all()
    assert (runs.start[1:] > runs.end[:-1]).all()  # not even touching


@given(masks, masks)
def test_set_algebra(a, b):
    left, right = Runs.from_mask(a, 3), Runs.from_mask(b, 5)
    one, two = {i + 3 for i in np.flatnonzero(a).tolist()}, {i + 5 for i in np.flatnonzero(b).tolist()}
    for got, wanted in [
        (left, one),
        (left.union(right), one | two),
        (left.intersect(right), one & two),
        (left.subtract(right), one - two),
        (right.subtract(left), two - one),
    ]:
        assert_canonical(got)
        assert members(got) == wanted
        assert got.size == len(wanted)
        assert bool(got) == bool(wanted)
        assert got.indices().tolist() == sorted(wanted)


@given(masks, st.integers(0, 40), st.integers(0, 40))
def test_membership_and_masks(flags, first, length):
    runs = Runs.from_mask(flags)
    index = np.arange(-3, len(flags) + 3)
    assert runs.contains(index).tolist() == [0 <= i < len(flags) and bool(flags[i]) for i in index.tolist()]
    wide = np.concatenate([flags, np.zeros(90, bool)])
    assert runs.mask(first, first + length).tolist() == wide[first : first + length].tolist()


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=12))
def test_ranges_in_any_order_are_joined_where_they_touch(ranges):
    runs = Runs.of(np.array([a for a, _ in ranges], np.int64), np.array([b for _, b in ranges], np.int64))
    assert_canonical(runs)
    assert members(runs) == {i for a, b in ranges for i in range(a, b)}


def test_literal_runs():
    runs = Runs.of(np.array([10, 2, 4]), np.array([12, 4, 5]))
    assert (runs.start.tolist(), runs.end.tolist(), len(runs), runs.size) == ([2, 10], [5, 12], 2, 5)
    assert runs.at(np.array([4, 0, 3])).tolist() == [11, 2, 10]
    assert runs == Runs.of(np.array([2, 10]), np.array([5, 12]))
    assert runs != Runs.empty()
    assert pickle.loads(pickle.dumps(runs)) == runs
    assert Runs.empty().at(np.zeros(0, np.int64)).tolist() == []
    assert Runs.empty().size == 0
    for wrong in (-1, 5):
        with pytest.raises(IndexError, match="of a set of 5"):
            runs.at(np.array([0, wrong]))
