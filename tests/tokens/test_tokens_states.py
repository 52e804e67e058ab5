"""State tokens against a base-by-base reference, and the reverse strand."""

from collections import Counter

import numpy as np
import pytest
import torch

from epilm.errors import RecipeError
from epilm.tokens.kmers import tokenize_kmers
from epilm.tokens.states import tokenize_states
from epilm.tokens.strand import reverse_bins, reverse_complement
from epilm.tokens.vocab import num_tokens


def reference(bins, phase, bin_bp, k, stride, length) -> list[int]:
    per_base = [int(bins[(phase + j) // bin_bp]) for j in range(length)]
    ids = []
    for start in range(0, length - k + 1, stride):
        counts = Counter(per_base[start : start + k]).most_common()
        tied = len(counts) > 1 and counts[0][1] == counts[1][1]
        state = per_base[start + k // 2] if tied else counts[0][0]
        ids.append(2 if state == 255 else 3 + state)
    return ids


def random_bins(batch: int, num_bins: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    bins = rng.integers(0, 3, (batch, num_bins), dtype=np.uint8)
    bins[rng.random(bins.shape) < 0.15] = 255
    return bins


@pytest.mark.parametrize("k", range(1, 9))
@pytest.mark.parametrize("bin_bp", [1, 2, 3, 4, 5, 6, 7, 8, 25, 200])
def test_states_are_those_of_the_reference(k, bin_bp):
    length = 61
    for stride in (1, 3, 7):
        bins = random_bins(8, -(-length // bin_bp) + 1, seed=k + bin_bp)
        phase = np.arange(8) % bin_bp
        expected = [reference(b, p, bin_bp, k, stride, length) for b, p in zip(bins, phase, strict=True)]
        got = tokenize_states(
            torch.from_numpy(bins), torch.from_numpy(phase), bin_bp=bin_bp, k=k, stride=stride, length_bp=length
        )
        assert got.dtype == torch.int64
        assert got.tolist() == expected


def test_states_align_with_kmers_at_the_end_of_the_window():
    bins, phase = torch.arange(6, dtype=torch.uint8)[None], torch.tensor([199], dtype=torch.int16)
    ids = tokenize_states(bins, phase, bin_bp=200, k=7, stride=7, length_bp=1000)
    assert ids.shape == (1, num_tokens(1000, 7, 7))
    assert ids[0, 0] == 3 + 1  # one base in bin 0, six in bin 1
    assert ids[0, -1] == 3 + 5


def test_bins_that_do_not_cover_the_window_are_refused():
    with pytest.raises(RecipeError, match="4 bins of 200 bp do not cover a window of 1000 bp"):
        tokenize_states(torch.zeros(1, 4, dtype=torch.uint8), torch.zeros(1), bin_bp=200, k=7, stride=7, length_bp=1000)


def test_reverse_complement_of_a_literal():
    codes = torch.tensor([[0, 1, 4, 2, 2]], dtype=torch.uint8)  # ACNGG -> CCNGT
    assert reverse_complement(codes).tolist() == [[1, 1, 4, 2, 3]]


def test_reverse_complement_is_an_involution():
    codes = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (9, 101), dtype=np.uint8))
    rows = torch.arange(9) % 2 == 0
    once = reverse_complement(codes, rows)
    assert once.dtype == torch.uint8
    assert torch.equal(once[1], codes[1])
    assert not torch.equal(once[0], codes[0])
    assert torch.equal(reverse_complement(once, rows), codes)
    assert torch.equal(reverse_complement(reverse_complement(codes)), codes)


@pytest.mark.parametrize("bin_bp", [1, 3, 25, 200])
def test_reversed_bins_give_every_base_its_own_state(bin_bp):
    length = 64
    bins = torch.from_numpy(random_bins(7, -(-length // bin_bp) + 1))
    phase = torch.arange(7) % bin_bp
    turned, turned_phase = reverse_bins(bins, phase, bin_bp=bin_bp, length_bp=length)
    base = torch.arange(length)
    forward = bins.gather(1, (phase[:, None] + base) // bin_bp)
    backward = turned.gather(1, (turned_phase[:, None] + base) // bin_bp)
    assert torch.equal(backward, forward.flip(1))
    again, again_phase = reverse_bins(turned, turned_phase, bin_bp=bin_bp, length_bp=length)
    assert torch.equal(again, bins)
    assert torch.equal(again_phase, phase)


def test_only_the_chosen_rows_are_turned():
    bins, phase = torch.from_numpy(random_bins(4, 6)), torch.tensor([0, 5, 10, 199])
    rows = torch.tensor([True, False, True, False])
    turned, turned_phase = reverse_bins(bins, phase, bin_bp=200, length_bp=1000, rows=rows)
    assert turned_phase.tolist() == [200, 5, 190, 199]
    assert torch.equal(turned[1], bins[1])
    assert torch.equal(turned[2], bins[2].flip(0))


def test_both_strands_of_a_palindromic_stride_have_the_same_tokens_reversed():
    """With k = stride and a length that is a multiple of k, the reverse strand's tokens sit on the same bases."""
    length, k = 70, 7
    bins, phase = torch.from_numpy(random_bins(5, 8)), torch.arange(5)
    turned, turned_phase = reverse_bins(bins, phase, bin_bp=10, length_bp=length)
    settings = {"bin_bp": 10, "k": k, "stride": k, "length_bp": length}
    forward = tokenize_states(bins, phase, **settings)
    assert torch.equal(tokenize_states(turned, turned_phase, **settings).flip(1), forward)
    codes = torch.randint(0, 4, (5, length), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ids = tokenize_kmers(reverse_complement(codes), k=k, stride=k).flip(1)
    complement = 5 + (4**k - 1) - (tokenize_kmers(codes.flip(1), k=k, stride=k).flip(1) - 5)
    assert torch.equal(ids, complement)
