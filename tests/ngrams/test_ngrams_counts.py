"""Counts of n-grams against a Counter: N, every chunking, every border."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slow_ngrams import LETTERS, slow_counts

from epilm.errors import RecipeError
from epilm.ngrams.counts import add_counts, count_ngrams, known_runs, no_counts
from epilm.tokens import counts as counts_module

DNA = st.text(alphabet="ACGTACGTN", max_size=40)


def encode(text: str) -> np.ndarray:
    return np.array([LETTERS.index(letter) for letter in text], np.uint8)


def as_lists(counts: tuple[np.ndarray, ...]) -> list[list[int]]:
    return [count.tolist() for count in counts]


@given(text=DNA, max_n=st.integers(1, 5))
def test_counts_equal_a_counter(text: str, max_n: int) -> None:
    assert as_lists(count_ngrams(encode(text), max_n)) == slow_counts([text], max_n)


@given(text=DNA, max_n=st.integers(1, 5), borders=st.sets(st.integers(0, 40)))
def test_chunks_add_up_wherever_their_borders_lie(text: str, max_n: int, borders: set[int]) -> None:
    codes = encode(text)
    edges = [0, *sorted(b for b in borders if 0 < b < len(text)), len(text)]
    total = no_counts(max_n)
    for start, end in pairwise(edges):
        chunk = count_ngrams(codes[start : end + max_n - 1], max_n, num_starts=end - start)
        total = add_counts(total, chunk)
    assert as_lists(total) == slow_counts([text], max_n)


@pytest.mark.parametrize("chunk", range(1, 14))
def test_every_chunk_length_of_a_literal_sequence(chunk: int) -> None:
    text = "ACGTNNACANTTTTGCANA"
    codes = encode(text)
    total = no_counts(4)
    for start in range(0, len(text), chunk):
        # more bases behind the chunk than it needs change nothing
        total = add_counts(total, count_ngrams(codes[start:], 4, num_starts=min(chunk, len(text) - start)))
    assert as_lists(total) == slow_counts([text], 4)


def test_a_literal_case() -> None:
    one, two, three = count_ngrams(encode("ACANGT"), 3)
    assert one.tolist() == [2, 1, 1, 1]
    assert {code: count for code, count in enumerate(two.tolist()) if count} == {0b0001: 1, 0b0100: 1, 0b1011: 1}
    assert {code: count for code, count in enumerate(three.tolist()) if count} == {0b000100: 1}


def test_blocks_of_long_sequences_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "_BLOCK_BP", 64)
    codes = np.random.default_rng(0).choice(5, 1_000, p=[0.3, 0.2, 0.2, 0.29, 0.01]).astype(np.uint8)
    text = "".join(LETTERS[code] for code in codes)
    assert as_lists(count_ngrams(codes, 6)) == slow_counts([text], 6)


@pytest.mark.parametrize("max_n", [1, 6, 8])
def test_lengths_and_types_also_of_nothing(max_n: int) -> None:
    for codes in (np.zeros(0, np.uint8), np.full(50, 4, np.uint8)):
        counts = count_ngrams(codes, max_n)
        assert [count.shape for count in counts] == [(4**n,) for n in range(1, max_n + 1)]
        assert all(count.dtype == np.int64 and not count.any() for count in counts)


def test_a_sequence_shorter_than_the_longest_word() -> None:
    assert as_lists(count_ngrams(encode("ACG"), 5)) == slow_counts(["ACG"], 5)


def test_max_n_out_of_range_is_refused() -> None:
    with pytest.raises(RecipeError, match="k=9"):
        count_ngrams(np.zeros(30, np.uint8), 9)


@pytest.mark.parametrize(
    ("text", "runs"),
    [("", []), ("NN", []), ("ACG", [(0, 3)]), ("NACNNTN", [(1, 3), (5, 6)]), ("ANA", [(0, 1), (2, 3)])],
)
def test_runs_of_known_bases(text: str, runs: list[tuple[int, int]]) -> None:
    start, end = known_runs(encode(text))
    assert list(zip(start.tolist(), end.tolist(), strict=True)) == runs
