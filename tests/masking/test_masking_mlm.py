"""Masked language modelling: rate, shares, and what is never touched."""

import pytest
import torch

from epilm.masking.hashing import uniform
from epilm.masking.mlm import corrupt, uniform_mask
from epilm.tokens.vocab import IGNORE, MASK, NUM_SPECIAL

VOCAB = NUM_SPECIAL + 4**6


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(NUM_SPECIAL, VOCAB, (1500, 144), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, -1] = 2, 3
    ids[::3, 20:40] = 1
    ids[::5, -12:] = 0
    mask = uniform_mask(ids, rate=0.15, uniforms=uniform(0, 0, torch.arange(1500), 144))
    u_choice, u_random = uniform(0, 1, torch.arange(1500), 144), uniform(0, 2, torch.arange(1500), 144)
    inputs, labels = corrupt(ids, mask, vocab_size=VOCAB, u_choice=u_choice, u_random=u_random)
    return {"ids": ids, "mask": mask, "inputs": inputs, "labels": labels}


def test_rate_over_real_kmers(batch):
    real = batch["ids"] >= NUM_SPECIAL
    assert (batch["mask"].sum() / real.sum()).item() == pytest.approx(0.15, abs=0.003)


def test_specials_and_unknown_are_never_chosen(batch):
    special = batch["ids"] < NUM_SPECIAL
    assert not batch["mask"][special].any()
    assert torch.equal(batch["inputs"][special], batch["ids"][special])


def test_labels_agree_with_the_mask(batch):
    assert torch.equal(batch["labels"] != IGNORE, batch["mask"])
    assert torch.equal(batch["labels"][batch["mask"]], batch["ids"][batch["mask"]])
    assert torch.equal(batch["inputs"][~batch["mask"]], batch["ids"][~batch["mask"]])


def test_shares_of_mask_random_and_kept(batch):
    inputs, ids = batch["inputs"][batch["mask"]], batch["ids"][batch["mask"]]
    masked, kept = inputs == MASK, inputs == ids
    assert masked.float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert kept.float().mean().item() == pytest.approx(0.1, abs=0.01)
    drawn = inputs[~masked & ~kept]
    assert drawn.min() >= NUM_SPECIAL
    assert drawn.max() < VOCAB
    assert (drawn - NUM_SPECIAL).float().mean().item() == pytest.approx(4**6 / 2, rel=0.05)


def test_the_last_uniform_still_draws_a_kmer():
    ids, mask = torch.tensor([[7]]), torch.tensor([[True]])
    inputs, _ = corrupt(
        ids, mask, vocab_size=65541, u_choice=torch.tensor([[0.85]]), u_random=torch.tensor([[1 - 2**-24]])
    )
    assert inputs.item() == 65540


def test_other_fractions():
    ids, mask = torch.full((1, 1000), 9), torch.ones(1, 1000, dtype=torch.bool)
    u = uniform(0, 0, torch.arange(1), 1000)
    inputs, _ = corrupt(ids, mask, vocab_size=VOCAB, u_choice=u, u_random=u, mask_frac=0.0, random_frac=0.0)
    assert torch.equal(inputs, ids)
    inputs, _ = corrupt(ids, mask, vocab_size=VOCAB, u_choice=u, u_random=u, mask_frac=1.0, random_frac=0.0)
    assert (inputs == MASK).all()
