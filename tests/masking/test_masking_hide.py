"""80/10/10 at the masked positions alone: the same as everywhere, to the last bit."""

import pytest
import torch
from slow_policies import random_rows

from epilm.masking.hashing import uniform, uniform_at
from epilm.masking.hide import hide
from epilm.masking.mlm import corrupt, uniform_mask
from epilm.tokens.vocab import IGNORE, dna_vocab_size


def test_draws_at_places_are_those_of_the_whole():
    position = torch.tensor([0, 5, 2**40, -3])
    whole = uniform(9, 12, position, 70)
    row, column = torch.tensor([3, 0, 2, 2]), torch.tensor([69, 0, 7, 8])
    assert torch.equal(uniform_at(9, 12, position, row, column), whole[row, column])


@pytest.mark.parametrize(("mask_frac", "random_frac"), [(0.8, 0.1), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (0.3, 0.3)])
def test_same_as_corrupt(mask_frac, random_frac):
    batch = random_rows(6, 1)
    num_tokens = batch.ids.shape[1]
    mask = uniform_mask(batch.ids, rate=0.3, uniforms=uniform(0, 11, batch.position, num_tokens))
    shares = {"mask_frac": mask_frac, "random_frac": random_frac, "vocab_size": dna_vocab_size(6)}
    choice, drawn = (uniform(4, stream, batch.position, num_tokens) for stream in (12, 13))
    wanted = corrupt(batch.ids, mask, u_choice=choice, u_random=drawn, **shares)
    before = batch.ids.clone()
    got = hide(batch.ids, mask, seed=4, position=batch.position, choice_stream=12, random_stream=13, **shares)
    assert torch.equal(batch.ids, before)
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def test_nothing_masked():
    ids = torch.full((2, 9), 7)
    none = torch.zeros_like(ids, dtype=torch.bool)
    position = torch.arange(2)
    inputs, labels = hide(ids, none, seed=0, position=position, choice_stream=12, random_stream=13, vocab_size=69)
    assert torch.equal(inputs, ids)
    assert (labels == IGNORE).all()
