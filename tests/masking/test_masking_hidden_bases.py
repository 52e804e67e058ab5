"""The common question of every evaluation: isolated bases, the tokens that hold them, four candidates each."""

from __future__ import annotations

import math

import pytest
import torch

from epilm.masking.hidden_bases import (
    SPACING_BP,
    base_candidates,
    draw_bases,
    hide_bases,
    num_stretches,
    score_bases,
)
from epilm.tokens.kmers import tokenize_kmers
from epilm.tokens.vocab import NUM_SPECIAL, UNK


def random_dna(rows: int, length_bp: int, *, with_n: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(length_bp)
    dna = torch.randint(0, 4, (rows, length_bp), generator=generator, dtype=torch.uint8)
    if with_n:
        dna[torch.rand(rows, length_bp, generator=generator) < 0.01] = 4
    return dna


def slow(ids: list[int], k: int, stride: int, uniforms: list[float]) -> tuple[list[bool], list[int]]:
    """Base by base, token by token."""
    mask, offset = [False] * len(ids), [-1] * len(ids)
    for stretch, u in enumerate(uniforms):
        base = stretch * 45 + int(u * 37)
        holders = [t for t in range(len(ids)) if t * stride <= base < t * stride + k]
        if not holders:
            continue
        for t in holders:
            mask[t] = ids[t] >= NUM_SPECIAL
        asked = min(holders, key=lambda t: (abs((base - t * stride) - (k - 1) / 2), -t))
        if ids[asked] >= NUM_SPECIAL:
            offset[asked] = base - asked * stride
    return mask, offset


@pytest.mark.parametrize(("k", "stride"), [(6, 1), (7, 7), (5, 5), (8, 1), (3, 1), (6, 3), (4, 6), (1, 1)])
@pytest.mark.parametrize("length_bp", [47, 400])
def test_tokens_that_hold_a_hidden_base_are_masked_and_one_of_them_is_asked(k, stride, length_bp) -> None:
    dna = random_dna(20, length_bp, with_n=True)
    ids = tokenize_kmers(dna, k=k, stride=stride)
    uniforms = torch.rand(20, num_stretches(length_bp), generator=torch.Generator().manual_seed(k))
    found = hide_bases(ids, k=k, stride=stride, uniforms=uniforms)
    for row in range(20):
        mask, offset = slow(ids[row].tolist(), k, stride, uniforms[row].tolist())
        assert found.mask[row].tolist() == mask
        places = [(t, o) for t, o in enumerate(found.offset[row].tolist()) if o >= 0]
        wanted = [(t, o) for t, o in enumerate(offset) if o >= 0]
        assert [t * stride + o for t, o in places] == [t * stride + o for t, o in wanted], "the same bases are asked"
        middle = (k - 1) / 2
        for (_, got), (_, best) in zip(places, wanted, strict=True):
            assert abs(got - middle) == abs(best - middle), "in a token that has them in its middle"


@pytest.mark.parametrize(("k", "stride"), [(6, 1), (8, 1), (7, 7)])
def test_no_token_holds_two_hidden_bases(k: int, stride: int) -> None:
    """Else the bases that are taken as visible would not be."""
    ids = tokenize_kmers(random_dna(50, 1000), k=k, stride=stride)
    extremes = (torch.arange(50 * num_stretches(1000)).view(50, -1) % 2).float().clamp(max=1 - 2**-24)
    for uniforms in (extremes, 1 - 2**-24 - extremes):
        found = hide_bases(ids, k=k, stride=stride, uniforms=uniforms)
        held = torch.zeros(50, 1000, dtype=torch.bool)
        rows, tokens = (found.offset >= 0).nonzero(as_tuple=True)
        held[rows, tokens * stride + found.offset[rows, tokens]] = True
        for t in range(ids.shape[1]):
            assert int(held[:, t * stride : t * stride + k].sum(1).max()) <= 1


def test_the_same_bases_whatever_the_tokens() -> None:
    """Losses of different k and stride are about the same question."""
    dna, position = random_dna(30, 990), torch.arange(30)

    def bases(k: int, stride: int) -> set[tuple[int, int]]:
        ids = tokenize_kmers(dna, k=k, stride=stride)
        offset = draw_bases(ids, k=k, stride=stride, seed=3, stream=11, position=position).offset
        rows, tokens = (offset >= 0).nonzero(as_tuple=True)
        found = tokens * stride + offset[rows, tokens]
        return {(int(r), int(b)) for r, b in zip(rows, found, strict=True) if b < 980}  # the tails differ by a token

    assert bases(6, 1) == bases(5, 5) == bases(7, 7) == bases(4, 1)
    assert len(bases(6, 1)) == pytest.approx(30 * 980 / SPACING_BP, rel=0.02)


def test_candidates_differ_in_the_hidden_base_alone() -> None:
    ids = tokenize_kmers(torch.tensor([[0, 1, 2, 3]], dtype=torch.uint8), k=4, stride=1)[0]  # ACGT
    candidates, base = base_candidates(ids.repeat(2), torch.tensor([0, 2]), k=4)
    spelled = [
        ["".join("ACGT"[(int(c) - NUM_SPECIAL) >> s & 3] for s in (6, 4, 2, 0)) for c in row] for row in candidates
    ]
    assert spelled == [["ACGT", "CCGT", "GCGT", "TCGT"], ["ACAT", "ACCT", "ACGT", "ACTT"]]
    assert base.tolist() == [0, 2]


def test_a_model_that_knows_nothing_loses_log_four_and_one_that_knows_loses_nothing() -> None:
    base = torch.tensor([0, 3, 2])
    loss, hits = score_bases(torch.zeros(3, 4), base)
    assert loss.item() == pytest.approx(3 * math.log(4), rel=1e-6)
    sure = torch.zeros(3, 4).scatter(1, base[:, None], 50.0)
    loss, hits = score_bases(sure, base)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert int(hits) == 3


def test_a_token_with_an_n_is_neither_masked_nor_asked() -> None:
    ids = torch.full((4, 300), UNK)
    found = draw_bases(ids, k=6, stride=1, seed=0, stream=1, position=torch.arange(4))
    assert not found.mask.any()
    assert (found.offset == -1).all()
