"""Levels, cuts and words: literal cases, a slow reference, and the published files."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epilm.errors import RecipeError
from epilm.histone.config import WordsConfig
from epilm.histone.words import EXCHANGED, INPUT_LINES, LINES, Cuts, fit_cuts, letters, lines_of, to_levels, to_lines

NUM_BINS, NUM_MARKS = 200, 5
SPLITS = ("train", "valid", "test")


def counts(rng: np.random.Generator, num: int = 6, bins: int = 7, marks: int = 3) -> np.ndarray:
    return rng.poisson(0.8, (num, bins, marks)).astype(np.float32)


def slow_lines(values: np.ndarray, cuts: np.ndarray, alphabet: str) -> list[str]:
    lines = []
    for gene in values:
        words = []
        for one in gene:
            words.append("".join(alphabet[sum(bool(v >= cut) for cut in cuts[m])] for m, v in enumerate(one)))
        lines.append(" ".join(words))
    return lines


def test_a_literal_gene():
    first = np.array([[[0, 1, 2], [9, 0, 0]]], np.float32)
    second = np.array([[[1, 1, 0], [9, 3, 0]]], np.float32)
    cuts = fit_cuts(WordsConfig(), first, second)
    assert lines_of(first, second, cuts) == {
        "first": ["lmh hll"],
        "second": ["mml hhl"],
        "difference": ["lmh mlm"],
        "reversed": ["hml mhm"],
    }
    assert tuple(lines_of(first, second, cuts)) == LINES
    assert INPUT_LINES["raw_c"] + INPUT_LINES["raw_d"] == INPUT_LINES["raw"] == LINES[:3]


@pytest.mark.parametrize(
    ("config", "cells", "difference"),
    [
        (WordsConfig(), "lmh", "lmh"),
        (WordsConfig(thresholds=(0.5,)), "lh", "lmh"),
        (WordsConfig(thresholds=(1, 2, 3), difference_thresholds=(0,)), "abcd", "lh"),
        (WordsConfig(thresholds=None, levels=4, difference_thresholds=(-2, -1, 1, 2)), "abcd", "abcde"),
    ],
)
def test_lines_are_those_of_a_plain_loop(config, cells, difference):
    rng = np.random.default_rng(1)
    first, second = counts(rng), counts(rng)
    cuts = fit_cuts(config, first, second)
    lines = lines_of(first, second, cuts)
    assert lines["first"] == slow_lines(first, cuts.cells, cells)
    assert lines["second"] == slow_lines(second, cuts.cells, cells)
    assert lines["difference"] == slow_lines(first - second, cuts.difference, difference)
    exchanged = lines_of(second, first, cuts)
    assert lines == {name: exchanged[EXCHANGED[name]] for name in LINES}


def test_the_smallest_differences_have_a_sign():
    one = np.float32(1e-3)
    second = np.full((1, 3, 1), one)
    first = np.array([np.nextafter(one, np.float32(0)), one, np.nextafter(one, np.float32(1))]).reshape(1, 3, 1)
    assert lines_of(first, second, fit_cuts(WordsConfig(), first, second))["difference"] == ["l m h"]


def test_a_difference_is_not_rounded_over_a_threshold():
    first, second = np.full((1, 1, 1), 2**24 + 2, np.float32), np.full((1, 1, 1), 1.5, np.float32)
    cuts = Cuts(np.array([[1.0]]), np.array([[2.0**24 + 1]]))  # the difference is 2^24 + 0.5, in float32 2^24
    assert lines_of(first, second, cuts)["difference"] == ["l"]
    cuts = Cuts(np.array([[1.0]]), np.array([[2.0**24 + 0.25]]))
    assert lines_of(first, second, cuts)["difference"] == ["h"]


def test_letters():
    assert letters(2) == "lh"
    assert letters(3) == "lmh"
    assert letters(4) == "abcd"
    assert letters(26) == "abcdefghijklmnopqrstuvwxyz"


def test_one_mark_many_marks_no_genes():
    assert to_lines(np.array([[[0], [2]], [[1], [1]]], np.uint8)) == ["l h", "m m"]
    assert to_lines(np.full((1, 2, 9), 25, np.uint8), 26) == ["z" * 9 + " " + "z" * 9]
    assert to_lines(np.zeros((0, 200, 5), np.uint8)) == []


def test_quantiles_make_equal_levels_of_continuous_values():
    rng = np.random.default_rng(2)
    first, second = rng.gamma(2, 3, (30, 20, 2)), rng.gamma(2, 9, (30, 20, 2))
    first[..., 1] *= 100  # each mark has its own
    cuts = fit_cuts(WordsConfig(thresholds=None, levels=5), first, second).cells
    assert cuts.shape == (2, 4)
    for mark in range(2):
        both = np.stack([first, second])[..., mark : mark + 1]
        levels = to_levels(both, cuts[mark : mark + 1])
        np.testing.assert_array_equal(np.bincount(levels.ravel()), [240] * 5)  # 2 x 30 x 20 / 5


def test_a_mark_of_zeros_mostly_keeps_them_apart_from_the_rest():
    values = np.zeros((1, 10, 1), np.float32)
    values[0, 7:, 0] = 1, 2, 3  # both quantiles of three levels are 0
    cuts = fit_cuts(WordsConfig(thresholds=None, levels=3), values, values).cells
    np.testing.assert_array_equal(cuts, [[1, 1]])
    assert to_lines(to_levels(values, cuts)) == ["l l l l l l l h h h"]


def test_a_mark_that_is_mostly_at_its_top_keeps_the_rest_apart():
    values = np.full((1, 10, 1), 8, np.float32)
    values[0, :2, 0] = 1, 5
    cuts = fit_cuts(WordsConfig(thresholds=None, levels=3), values, values).cells
    np.testing.assert_array_equal(cuts, [[8, 8]])
    assert to_lines(to_levels(values, cuts)) == ["l l h h h h h h h h"]


def test_thresholds_do_not_look_at_the_values():
    rng = np.random.default_rng(3)
    one, other = counts(rng), counts(rng) * 100
    a, b = (fit_cuts(WordsConfig(), values, values) for values in (one, other))
    np.testing.assert_array_equal(a.cells, [[1, 2]] * 3)
    np.testing.assert_array_equal(a.cells, b.cells)
    np.testing.assert_array_equal(a.difference, b.difference)


def test_values_without_words_are_refused():
    rng = np.random.default_rng(4)
    good = counts(rng)
    quantiles = WordsConfig(thresholds=None, levels=3)
    cuts = fit_cuts(WordsConfig(), good, good)
    for value in (np.nan, np.inf):
        bad = good.copy()
        bad[2, 3, 1] = value
        with pytest.raises(RecipeError, match="1 of 126 values of marks are NaN or infinite"):
            lines_of(good, bad, cuts)
        with pytest.raises(RecipeError, match="NaN or infinite"):
            fit_cuts(quantiles, good, bad)
    flat = good.copy()
    flat[..., 1] = 7
    with pytest.raises(RecipeError, match="mark 2 of 3 is 7 in all bins"):
        fit_cuts(quantiles, flat, flat)
    fit_cuts(quantiles, flat, good)  # the other cell type has more than one value
    with pytest.raises(RecipeError, match="needs training genes"):
        fit_cuts(quantiles, good[:0], good[:0])


def read_counts(folder: Path, cell: int, split: str) -> np.ndarray:
    table = pd.read_csv(folder / "deepdiff" / f"Cell{cell}.{split}.csv.gz", header=None)
    return table.iloc[:, 1:].to_numpy(np.float32).reshape(-1, NUM_BINS, NUM_MARKS)


def read_lines(path: Path) -> list[str]:
    return gzip.decompress(path.read_bytes()).decode().splitlines()


@pytest.mark.real_data
@pytest.mark.parametrize("split", SPLITS)
def test_published_words_are_reproduced(shared_data, split):
    first, second = (read_counts(shared_data, cell, split) for cell in (1, 2))
    lines = lines_of(first, second, fit_cuts(WordsConfig(), first, second))
    assert len(first) == 200
    for line, published in zip(INPUT_LINES["raw"], ("C1", "C2", "Diff"), strict=True):
        theirs = read_lines(shared_data / "genegpt2_words" / f"{published}{split.title()}.csv.gz")
        assert [f"{words} <mask>" for words in lines[line]] == theirs


@pytest.mark.real_data
def test_the_published_corpus_is_both_cell_types_of_train_and_validation(shared_data):
    corpus: list[str] = []
    for split in ("train", "valid"):
        first, second = (read_counts(shared_data, cell, split) for cell in (1, 2))
        lines = lines_of(first, second, fit_cuts(WordsConfig(), first, second))
        corpus += lines["first"] + lines["second"]
    assert corpus == read_lines(shared_data / "genegpt2_words" / "trainValidCorpus.txt.gz")
