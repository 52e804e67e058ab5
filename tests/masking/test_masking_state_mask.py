"""The state mask against a token-by-token reference, its leak, and the copying baseline."""

import pytest
import torch

from epilm.masking.hashing import uniform
from epilm.masking.state_mask import copy_nearest_visible, hide_states, state_mask
from epilm.tokens.states import tokenize_states
from epilm.tokens.vocab import IGNORE, STATE_MASK, num_tokens


def sample_batch(batch: int, k: int, stride: int, bin_bp: int, length_bp: int = 1000, no_data: float = 0.1):
    generator = torch.Generator().manual_seed(k * 1000 + stride)
    num_bins = -(-length_bp // bin_bp) + 1
    bins = torch.randint(0, 5, (batch, num_bins), generator=generator, dtype=torch.uint8)
    bins[torch.rand(bins.shape, generator=generator) < no_data] = 255
    phase = torch.randint(0, bin_bp, (batch,), generator=generator)
    states = tokenize_states(bins, phase, bin_bp=bin_bp, k=k, stride=stride, length_bp=length_bp)
    dna_mask = torch.rand(states.shape, generator=generator) < 0.15
    dna_mask[0] = False  # a row without any masked position
    return states, dna_mask, phase


def reference(dna_mask, states, phase, u, *, k, stride, bin_bp, flank_bp, whole_bin):
    candidates = [t for t in range(len(states)) if dna_mask[t] and states[t] >= 3]
    if not candidates:
        return [False] * len(states), None
    centre = candidates[int(u * len(candidates))]

    def bins_of(t: int) -> set[int]:
        return {(phase + t * stride + j) // bin_bp for j in range(k)}

    hidden = []
    for t in range(len(states)):
        near = abs(t - centre) * stride <= flank_bp
        shares_bin = whole_bin and bool(bins_of(t) & bins_of(centre))
        hidden.append(near or shares_bin)
    return hidden, centre


@pytest.mark.parametrize(("k", "stride"), [(7, 7), (6, 6), (6, 1), (5, 3), (3, 8)])
@pytest.mark.parametrize("bin_bp", [4, 25, 200])
@pytest.mark.parametrize("whole_bin", [False, True])
@pytest.mark.parametrize("flank_bp", [0, 100])
def test_masks_are_those_of_the_reference(k, stride, bin_bp, whole_bin, flank_bp):
    settings = {"k": k, "stride": stride, "bin_bp": bin_bp, "flank_bp": flank_bp, "whole_bin": whole_bin}
    states, dna_mask, phase = sample_batch(12, k, stride, bin_bp, length_bp=403)
    u = uniform(0, 9, torch.arange(12), 1)[:, 0]
    hidden, centre = state_mask(dna_mask, states, phase_bp=phase, u_centre=u, **settings)
    for row in range(12):
        expected, at = reference(
            dna_mask[row].tolist(), states[row].tolist(), int(phase[row]), float(u[row]), **settings
        )
        assert hidden[row].tolist() == expected
        assert centre[row].nonzero().flatten().tolist() == ([] if at is None else [at])


def test_centres_are_masked_positions_with_a_known_state_and_all_are_drawn():
    states, dna_mask, phase = sample_batch(2000, 7, 7, 200, no_data=0.3)
    dna_mask[:] = dna_mask[5]
    u = uniform(0, 9, torch.arange(2000), 1)[:, 0]
    hidden, centre = state_mask(
        dna_mask, states, k=7, stride=7, bin_bp=200, phase_bp=phase, flank_bp=100, whole_bin=True, u_centre=u
    )
    assert (centre.sum(1) <= 1).all()
    assert dna_mask[centre.any(0).expand_as(dna_mask)].all()
    assert (states[centre] >= 3).all()
    assert hidden[centre].all()
    assert torch.equal(centre.any(0), dna_mask[5])
    without = ~centre.any(1)
    assert not hidden[without].any()
    assert torch.equal(without, ~(dna_mask & (states >= 3)).any(1))


def test_the_flank_of_the_paper_leaks_and_the_whole_bin_does_not():
    """100 bp on each side of a 200-bp bin: unless the centre is mid-bin, tokens of its own bin stay visible."""
    states, dna_mask, phase = sample_batch(3000, 7, 7, 200, no_data=0.0)
    u = uniform(1, 9, torch.arange(3000), 1)[:, 0]
    settings = {"k": 7, "stride": 7, "bin_bp": 200, "phase_bp": phase, "flank_bp": 100, "u_centre": u}
    first_base = phase[:, None] + torch.arange(states.shape[1]) * 7

    def leak_share(whole_bin: bool) -> float:
        hidden, centre = state_mask(dna_mask, states, whole_bin=whole_bin, **settings)
        rows = centre.any(1)
        at = centre.int().argmax(1, keepdim=True)
        first, last = first_base // 200, (first_base + 6) // 200
        same = (last >= first.gather(1, at)) & (first <= last.gather(1, at))
        return ((same & ~hidden).any(1) & rows).sum().item() / rows.sum().item()

    assert leak_share(whole_bin=False) > 0.6
    assert leak_share(whole_bin=True) == 0.0


@pytest.mark.parametrize(("k", "stride", "side"), [(7, 7, 14), (6, 6, 16), (6, 1, 100)])
def test_number_of_tokens_hidden_on_each_side(k, stride, side):
    length = num_tokens(1000, k, stride)
    states, dna_mask = torch.full((1, length), 4), torch.zeros(1, length, dtype=torch.bool)
    dna_mask[0, length // 2] = True
    hidden, _ = state_mask(
        dna_mask, states, k=k, stride=stride, bin_bp=200, phase_bp=torch.tensor([0]), flank_bp=100,
        whole_bin=False, u_centre=torch.tensor([0.5]),
    )  # fmt: skip
    assert hidden.sum().item() == 2 * side + 1


def test_the_last_uniform_draws_the_last_candidate():
    states, dna_mask = torch.full((1, 9), 4), torch.ones(1, 9, dtype=torch.bool)
    for u, expected in ((0.0, 0), (1 - 2**-24, 8)):
        _, centre = state_mask(
            dna_mask, states, k=7, stride=7, bin_bp=200, phase_bp=torch.tensor([0]), flank_bp=0, whole_bin=False,
            u_centre=torch.tensor([u]),
        )  # fmt: skip
        assert centre.int().argmax().item() == expected


def test_padding_is_never_hidden():
    states, dna_mask = torch.tensor([[0, 4, 4, 4, 0]]), torch.tensor([[False, True, True, True, False]])
    hidden, _ = state_mask(
        dna_mask, states, k=7, stride=7, bin_bp=200, phase_bp=torch.tensor([0]), flank_bp=100, whole_bin=True,
        u_centre=torch.tensor([0.0]),
    )  # fmt: skip
    assert hidden.tolist() == [[False, True, True, True, False]]


def test_hidden_states_and_labels():
    states = torch.tensor([[5, 6, 2, 7]])
    hidden = torch.tensor([[False, True, True, False]])
    centre = torch.tensor([[False, True, False, False]])
    inputs, labels = hide_states(states, hidden, centre)
    assert inputs.tolist() == [[5, STATE_MASK, STATE_MASK, 7]]
    assert labels.tolist() == [[IGNORE, 6, IGNORE, IGNORE]]


def test_copying_takes_the_nearest_and_the_left_on_ties():
    def copy(states, hidden, centre) -> int:
        flags = torch.zeros(1, len(states), dtype=torch.bool)
        if centre is not None:
            flags[0, centre] = True
        return copy_nearest_visible(torch.tensor([states]), torch.tensor([hidden], dtype=torch.bool), flags).item()

    assert copy([5, 6, 7, 8, 9], [0, 1, 1, 1, 0], 2) == 5  # two away on both sides
    assert copy([5, 6, 7, 8, 9], [0, 1, 1, 0, 0], 2) == 8
    assert copy([5, 6, 7, 2, 9], [0, 1, 1, 0, 0], 2) == 5  # token 3 has no data
    assert copy([0, 6, 7, 8, 9], [0, 1, 1, 1, 0], 2) == 9  # token 0 is padding
    assert copy([5, 6, 7], [1, 1, 1], 1) == IGNORE
    assert copy([5, 6, 7], [0, 0, 0], None) == IGNORE


def test_masks_do_not_depend_on_the_batch():
    states, dna_mask, phase = sample_batch(30, 7, 7, 200)
    u = uniform(3, 9, torch.arange(30), 1)[:, 0]
    settings = {"k": 7, "stride": 7, "bin_bp": 200, "flank_bp": 100, "whole_bin": True}
    hidden, centre = state_mask(dna_mask, states, phase_bp=phase, u_centre=u, **settings)
    for part in torch.arange(30).split(7):
        some_hidden, some_centre = state_mask(
            dna_mask[part], states[part], phase_bp=phase[part], u_centre=u[part], **settings
        )
        assert torch.equal(some_hidden, hidden[part])
        assert torch.equal(some_centre, centre[part])
