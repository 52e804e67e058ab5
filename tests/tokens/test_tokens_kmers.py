"""K-mer ids against a row-by-row reference, for every k, strides, odd lengths and N."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from epilm.errors import RecipeError
from epilm.tokens import vocab
from epilm.tokens.kmers import tokenize_kmers
from epilm.tokens.kmers_numpy import kmer_dtype, kmer_tokens

BASES = "ACGTN"


def reference(row: np.ndarray, k: int, stride: int) -> list[int]:
    """The definition: cut the text, look each word up in the sorted list of words."""
    text = "".join(BASES[code] for code in row)
    ids = []
    for start in range(0, len(text) - k + 1, stride):
        word = text[start : start + k]
        ids.append(vocab.UNK if "N" in word else 5 + int(word.translate(str.maketrans("ACGT", "0123")), 4))
    return ids


def random_codes(batch: int, length: int, n_share: float = 0.02, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (batch, length), dtype=np.uint8)
    codes[rng.random((batch, length)) < n_share] = 4
    return codes


@pytest.mark.parametrize("k", range(1, 9))
@pytest.mark.parametrize("stride", [1, 2, 3, 7, 8, 11])
def test_ids_are_those_of_the_reference(k, stride):
    for length in (k, k + 1, 57, 102):
        codes = random_codes(6, length, seed=k * 100 + stride)
        expected = np.array([reference(row, k, stride) for row in codes])
        assert expected.shape[1] == vocab.num_tokens(length, k, stride)
        got = tokenize_kmers(torch.from_numpy(codes), k=k, stride=stride)
        assert got.dtype == torch.int64
        np.testing.assert_array_equal(got.numpy(), expected)
        twin = kmer_tokens(codes, k=k, stride=stride)
        assert twin.dtype == kmer_dtype(k)
        np.testing.assert_array_equal(twin, expected)


@settings(max_examples=60, deadline=None)
@given(st.text("ACGTN", min_size=8, max_size=60), st.integers(1, 8), st.integers(1, 12))
def test_any_sequence(text, k, stride):
    codes = np.array([[BASES.index(base) for base in text]], dtype=np.uint8)
    expected = [reference(codes[0], k, stride)]
    assert tokenize_kmers(torch.from_numpy(codes), k=k, stride=stride).tolist() == expected
    assert kmer_tokens(codes, k=k, stride=stride).tolist() == expected
    assert kmer_tokens(codes[0], k=k, stride=stride).tolist() == expected[0]


def test_the_papers_window_has_142_tokens():
    assert vocab.num_tokens(1000, 7, 7) == 142
    assert vocab.num_tokens(515, 6, 1) == 510
    assert vocab.dna_vocab_size(7) == 16_384 + 5


def test_first_and_last_kmer_of_the_vocabulary():
    codes = torch.tensor([[0] * 6, [3] * 6], dtype=torch.uint8)
    assert tokenize_kmers(codes, k=6, stride=1).tolist() == [[5], [5 + 4**6 - 1]]


def test_kmers_of_all_n_are_unknown_even_at_k_8():
    codes = torch.full((2, 40), 4, dtype=torch.uint8)
    for k in range(1, 9):
        assert (tokenize_kmers(codes, k=k, stride=1) == vocab.UNK).all()
        assert (kmer_tokens(codes.numpy(), k=k, stride=3) == vocab.UNK).all()


def test_blocks_of_many_rows_and_non_contiguous_input():
    codes = random_codes(700, 1030, n_share=1e-4)[:, 7:1022]
    np.testing.assert_array_equal(
        kmer_tokens(codes, k=6, stride=1), tokenize_kmers(torch.from_numpy(codes.copy()), k=6, stride=1).numpy()
    )
    np.testing.assert_array_equal(
        kmer_tokens(codes, k=7, stride=7), tokenize_kmers(torch.from_numpy(codes.copy()), k=7, stride=7).numpy()
    )


def test_an_empty_batch_has_no_rows():
    assert kmer_tokens(np.zeros((0, 20), np.uint8), k=6, stride=1).shape == (0, 15)
    assert tokenize_kmers(torch.zeros((0, 20), dtype=torch.uint8), k=6, stride=1).shape == (0, 15)


@pytest.mark.parametrize(("k", "stride", "length"), [(0, 1, 20), (9, 1, 20), (6, 0, 20), (6, 1, 5)])
def test_impossible_settings_are_refused(k, stride, length):
    for tokenize, codes in (
        (tokenize_kmers, torch.zeros(1, length, dtype=torch.uint8)),
        (kmer_tokens, np.zeros((1, length), np.uint8)),
    ):
        with pytest.raises(RecipeError, match=r"k=|stride=|window of"):
            tokenize(codes, k=k, stride=stride)
