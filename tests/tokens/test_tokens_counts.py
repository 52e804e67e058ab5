"""k-mer counts against a plain Counter."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from epilm.errors import RecipeError
from epilm.tokens import counts as counts_module
from epilm.tokens.counts import count_kmers


def counted(rows: list[str], k: int) -> list[int]:
    counter = Counter(row[i : i + k] for row in rows for i in range(len(row) - k + 1))
    return [counter["".join(word)] for word in product("ACGT", repeat=k)]


def random_rows(shape: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    codes = np.random.default_rng(1).choice(5, shape, p=[0.3, 0.2, 0.2, 0.28, 0.02]).astype(np.uint8)
    return codes, ["".join("ACGTN"[c] for c in row) for row in codes]


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6, 8])
def test_counts_equal_a_counter_and_never_cross_n_or_rows(k: int) -> None:
    codes, rows = random_rows((7, 61))
    assert count_kmers(codes, k).tolist() == counted(rows, k)


@pytest.mark.parametrize("k", [1, 6, 8])
def test_block_borders_lose_and_repeat_nothing(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "_BLOCK_BP", 64)
    for shape in [(1, 64 * 3 + k - 1), (1, 64 * 3 + k), (1, 64), (5, 30), (3, 64 + k - 1)]:
        codes, rows = random_rows(shape)
        assert count_kmers(codes, k).tolist() == counted(rows, k), shape


def test_sequence_shorter_than_k_has_no_kmers() -> None:
    result = count_kmers(np.zeros(3, np.uint8), 4)
    assert result.shape == (256,)
    assert result.dtype == np.int64
    assert result.sum() == 0
    assert count_kmers(np.zeros(0, np.uint8), 2).sum() == 0


def test_k_out_of_range_is_refused() -> None:
    with pytest.raises(RecipeError, match="k=9"):
        count_kmers(np.zeros(30, np.uint8), 9)
