"""Sequences of varied length: how many tokens, where SEP stands, what is padding."""

from __future__ import annotations

import pytest
import torch

from epilm.tasks.lengths import attention_mask, cut, draw_lengths, frame, mean_length
from epilm.tasks.recipe import LengthsConfig


def test_half_are_whole_and_the_rest_uniform() -> None:
    config = LengthsConfig()
    uniforms = torch.rand(40_000, 2, generator=torch.Generator().manual_seed(0))
    drawn = draw_lengths(config, 510, uniforms)
    assert (drawn == 510).float().mean().item() == pytest.approx(0.5, abs=0.01)
    short = drawn[uniforms[:, 0] >= 0.5]
    assert (int(short.min()), int(short.max())) == (5, 510)
    assert short.float().mean().item() == pytest.approx((5 + 510) / 2, rel=0.01)
    counts = torch.bincount(short - 5, minlength=506).float()
    assert counts.max() < 2.2 * counts.mean(), "no length is drawn out of turn"
    assert drawn.float().mean().item() == pytest.approx(mean_length(config, 510), rel=0.01)


def test_ends_of_the_uniform_numbers() -> None:
    drawn = draw_lengths(LengthsConfig(full_share=0.0, min_kmers=3), 7, torch.tensor([[0.0, 0.0], [0.9, 1 - 2**-24]]))
    assert drawn.tolist() == [3, 7]


def test_literal_frame() -> None:
    ids = torch.tensor([[10, 11, 12, 13], [20, 21, 22, 23], [30, 31, 32, 33]])
    lengths = torch.tensor([4, 2, 1])
    assert cut(ids, lengths).tolist() == [[10, 11, 12, 13], [20, 21, 0, 0], [30, 0, 0, 0]]
    assert frame(ids, lengths, cls=2, sep=3, pad=0).tolist() == [
        [2, 10, 11, 12, 13, 3],
        [2, 20, 21, 3, 0, 0],
        [2, 30, 3, 0, 0, 0],
    ]
    assert attention_mask(lengths, 4).tolist() == [[1] * 6, [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]]


def test_overlapping_kmers_of_a_cut_sequence_end_with_its_last_token() -> None:
    """k = 3 side by side, two tokens: bases 0 to 5, whose overlapping 3-mers begin at 0, 1, 2 and 3."""
    overlapping = torch.arange(10, 20)[None]
    assert cut(overlapping, torch.tensor([2]), stride=3).tolist() == [[10, 11, 12, 13, 0, 0, 0, 0, 0, 0]]
