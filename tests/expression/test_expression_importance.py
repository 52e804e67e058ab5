"""Occlusion: known functions have known importances, and what is not looked at has none."""

from __future__ import annotations

import numpy as np
import pytest

from epilm.errors import EpilmError
from epilm.expression.importance import occlusion, typical

BINS, MARKS = 10, 3


@pytest.fixture
def genes() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.poisson(2, (7, BINS, MARKS)).astype(np.float32), rng.poisson(1, (7, BINS, MARKS)).astype(np.float32)


def test_a_linear_function_has_its_own_importances(genes):
    first, second = genes
    weights = np.random.default_rng(6).normal(size=(2, BINS, MARKS))
    fill = typical(first, second)

    def linear(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.einsum("nbm,bm->n", a, weights[0]) + np.einsum("nbm,bm->n", b, weights[1])

    found = occlusion(linear, first, second, marks=MARKS, segments=4, fill=fill)
    # of one gene: the sum over the stretch, in both cell types, of weight x (fill - value)
    change = (fill - first) * weights[0] + (fill - second) * weights[1]
    expected = np.array(
        [[np.abs(change[:, begin:end, mark].sum(axis=1)).mean() for begin, end in ((0, 2), (2, 5), (5, 7), (7, 10))]
         for mark in range(MARKS)]
    )  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_marks_and_stretches_that_are_ignored_have_exactly_0(genes):
    def looks_at_one_place(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.tanh(a[:, 4:6, 1] - b[:, 4:6, 1]).sum(axis=1)

    found = occlusion(looks_at_one_place, *genes, marks=MARKS, segments=5, fill=np.zeros((BINS, MARKS)))
    assert np.argwhere(found).tolist() == [[1, 2]]
    a, b = genes[0][:, 4:6, 1], genes[1][:, 4:6, 1]
    assert found[1, 2] == pytest.approx(np.abs(np.tanh(a - b).sum(axis=1)).mean(), rel=1e-5)


def test_what_is_occluded_has_no_difference_between_the_cells(genes):
    first, second = genes
    seen = []

    def keep(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        seen.append((a.copy(), b.copy()))
        return np.zeros(len(a))

    before = first.copy(), second.copy()
    fill = np.arange(BINS * MARKS).reshape(BINS, MARKS)
    occlusion(keep, first, second, marks=MARKS, segments=2, fill=fill)
    np.testing.assert_array_equal(first, before[0])
    np.testing.assert_array_equal(second, before[1])
    assert len(seen) == 1 + MARKS * 2
    for number, (a, b) in enumerate(seen[1:]):
        mark, begin = number // 2, 5 * (number % 2)
        for values, given in ((a, first), (b, second)):
            expected = given.copy()
            expected[:, begin : begin + 5, mark] = fill[begin : begin + 5, mark]
            np.testing.assert_array_equal(values, expected)


def test_read_only_arrays_are_fine_and_a_failing_model_leaves_them(genes):
    for values in genes:
        values.setflags(write=False)

    def fails(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        raise RuntimeError("no memory")

    found = occlusion(lambda a, b: a.sum((1, 2)), *genes, marks=MARKS, segments=1, fill=np.zeros((BINS, MARKS)))
    np.testing.assert_allclose(found[:, 0], genes[0].sum(axis=1).mean(axis=0))
    with pytest.raises(RuntimeError):
        occlusion(fails, *genes, marks=MARKS, segments=1, fill=np.zeros((BINS, MARKS)))


def test_typical_values_of_counts_are_counts():
    first, second = np.array([[[0, 1]], [[3, 1]]], np.uint8), np.array([[[0, 1]], [[0, 2]]], np.uint8)
    found = typical(first, second)  # means .75 and 1.25
    assert found.tolist() == [[1, 1]]
    assert found.dtype == np.uint8
    levels = typical(np.array([[[0.5]]]), np.array([[[2.0]]]))
    assert levels.tolist() == [[1.25]]


def test_typical_values_do_not_overflow():
    assert typical(np.full((300, 1, 1), 255, np.uint8), np.full((300, 1, 1), 255, np.uint8)).tolist() == [[255]]


def test_shapes_that_do_not_fit_are_refused(genes):
    first, second = genes
    fill = np.zeros((BINS, MARKS))

    def total(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a.sum((1, 2))

    with pytest.raises(EpilmError, match="one shape"):
        occlusion(total, first, second[:, 1:], marks=MARKS, segments=2, fill=fill)
    with pytest.raises(EpilmError, match="marks=5"):
        occlusion(total, first, second, marks=5, segments=2, fill=fill)
    with pytest.raises(EpilmError, match="a gene or more"):
        occlusion(total, first[:0], second[:0], marks=MARKS, segments=2, fill=fill)
    with pytest.raises(EpilmError, match="fill must be"):
        occlusion(total, first, second, marks=MARKS, segments=2, fill=fill[1:])
    with pytest.raises(EpilmError, match=r"one number a gene, \[7\]; got an array of shape \[7, 1\]"):
        occlusion(lambda a, b: total(a, b)[:, None], first, second, marks=MARKS, segments=2, fill=fill)
