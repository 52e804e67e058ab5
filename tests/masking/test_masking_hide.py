"""What is shown of masked tokens: 80/10/10, never a special, and the same as a token at a time."""

import pytest
import torch
from slow_policies import random_rows, shown_rows

from epilm.masking.contract import MaskInput, Moment
from epilm.masking.hashing import uniform, uniform_at
from epilm.masking.hide import hide
from epilm.masking.uniform import UniformPolicy
from epilm.tokens.vocab import IGNORE, MASK, NUM_SPECIAL, dna_vocab_size

START = Moment(0, 1, {})
STREAMS = {"choice_stream": 12, "random_stream": 13}
VOCAB = dna_vocab_size(6)


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(NUM_SPECIAL, VOCAB, (1500, 144), generator=torch.Generator().manual_seed(0))
    ids[:, 0], ids[:, -1] = 2, 3
    ids[::3, 20:40] = 1
    ids[::5, -12:] = 0
    position = torch.arange(1500)
    mask = UniformPolicy(0.15).mask(MaskInput(ids, ids, position, 0, 6, 1), START)
    inputs, labels = hide(ids, mask, seed=0, position=position, vocab_size=VOCAB, **STREAMS)
    return {"ids": ids, "mask": mask, "inputs": inputs, "labels": labels}


def test_uniform_rate_over_real_kmers(batch):
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


@pytest.mark.parametrize("k", range(1, 9))
def test_the_last_draw_is_still_a_kmer(k):
    """What ``hide`` relies on: the greatest draw times 4**k does not round up to 4**k."""
    greatest = torch.tensor([1 - 2**-24], dtype=torch.float32)
    assert greatest.mul_(4**k).to(torch.int64).item() == 4**k - 1


def test_draws_at_places_are_those_of_the_whole():
    position = torch.tensor([0, 5, 2**40, -3])
    whole = uniform(9, 12, position, 70)
    row, column = torch.tensor([3, 0, 2, 2]), torch.tensor([69, 0, 7, 8])
    assert torch.equal(uniform_at(9, 12, position, row, column), whole[row, column])


@pytest.mark.parametrize(("mask_frac", "random_frac"), [(0.8, 0.1), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (0.3, 0.3)])
def test_same_as_a_token_at_a_time(mask_frac, random_frac):
    batch = random_rows(6, 1)
    mask = UniformPolicy(0.3).mask(batch, START)
    shares = {"mask_frac": mask_frac, "random_frac": random_frac, "vocab_size": VOCAB}
    choice, drawn = (uniform(4, stream, batch.position, batch.ids.shape[1]) for stream in (12, 13))
    wanted = shown_rows(batch.ids, mask, choice, drawn, **shares)
    before = batch.ids.clone()
    got = hide(batch.ids, mask, seed=4, position=batch.position, **STREAMS, **shares)
    assert torch.equal(batch.ids, before)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_nothing_masked():
    ids = torch.full((2, 9), 7)
    none = torch.zeros_like(ids, dtype=torch.bool)
    inputs, labels = hide(ids, none, seed=0, position=torch.arange(2), vocab_size=69, **STREAMS)
    assert torch.equal(inputs, ids)
    assert (labels == IGNORE).all()
