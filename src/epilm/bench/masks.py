"""Masks of a batch against the row-by-row loops that published training programs run."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor

from epilm.bench.measure import Case, Duel, Workbench
from epilm.masking.contract import MaskInput, Moment
from epilm.masking.hide import hide
from epilm.masking.state_mask import state_mask
from epilm.masking.uniform import UniformPolicy
from epilm.tokens.vocab import IGNORE, MASK, NUM_SPECIAL, NUM_STATE_SPECIAL, dna_vocab_size

RATE, MASK_FRACTION, RANDOM_FRACTION = 0.15, 0.8, 0.1


def one_thread() -> Callable[[], None]:
    """Let torch compute on one thread; returns what undoes it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    return lambda: torch.set_num_threads(before)


def mlm_mask(bench: Workbench) -> Duel:
    """15 % of 510 tokens, 80/10/10, with the random numbers; ours is what training runs, from the stateless hash of positions.

    The peer is the loop of BERT's ``create_masked_lm_predictions`` (and of its many copies): shuffle a row's positions,
    take the first 15 %, decide on each. Random on both sides, so shares are compared.
    """
    k, length = 6, 510
    num_ours, num_theirs = bench.scaled(4_096, 256), bench.scaled(512, 256)
    vocab_size = dna_vocab_size(k)
    generator = torch.Generator().manual_seed(bench.seed)
    ids = torch.randint(NUM_SPECIAL, vocab_size, (num_ours, length), generator=generator)
    position = torch.arange(num_ours)
    shuffle = random.Random(bench.seed)
    batch_rows, policy = 256, UniformPolicy(RATE)

    def ours() -> tuple[Tensor, Tensor]:
        parts = [batch(rows, at) for rows, at in zip(ids.split(batch_rows), position.split(batch_rows), strict=True)]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def batch(rows: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        mask = policy.mask(MaskInput(rows, rows, at, bench.seed, k, 1), Moment(0, 1, {}))
        return hide(rows, mask, seed=bench.seed, position=at, choice_stream=12, random_stream=13, vocab_size=vocab_size)

    def theirs() -> tuple[Tensor, Tensor]:
        pairs = [mask_row(row.tolist(), shuffle, vocab_size) for row in ids[:num_theirs]]
        return torch.tensor([p[0] for p in pairs]), torch.tensor([p[1] for p in pairs])

    def compare(mine: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> str:
        wanted = (RATE, MASK_FRACTION, RANDOM_FRACTION)
        shares = shares_masked(ids, *mine), shares_masked(ids[:num_theirs], *other)
        close = all(abs(got - want) < 0.02 for side in shares for got, want in zip(side, wanted, strict=True))
        return "" if close else f"shares masked, shown as [MASK], random: {shares}, wanted {wanted}"

    return Duel(ours, theirs, num_ours, num_theirs, compare, lambda: f"rows of {length} tokens", close=one_thread())


def mask_row(tokens: list[int], shuffle: random.Random, vocab_size: int) -> tuple[list[int], list[int]]:
    """One row of the peer: exactly 15 % of the tokens, one at a time."""
    candidates = [i for i, token in enumerate(tokens) if token >= NUM_SPECIAL]
    shuffle.shuffle(candidates)
    labels = [IGNORE] * len(tokens)
    for i in candidates[: max(1, round(len(tokens) * RATE))]:
        labels[i] = tokens[i]
        if shuffle.random() < MASK_FRACTION:
            tokens[i] = MASK
        elif shuffle.random() < RANDOM_FRACTION / (1 - MASK_FRACTION):
            tokens[i] = shuffle.randrange(NUM_SPECIAL, vocab_size)
    return tokens, labels


def shares_masked(ids: Tensor, shown: Tensor, labels: Tensor) -> tuple[float, float, float]:
    """Share of the tokens that is scored; shares of those that are shown as MASK and as another k-mer."""
    scored = labels != IGNORE
    masked = shown[scored] == MASK
    changed = (shown[scored] != ids[scored]) & ~masked
    return scored.float().mean().item(), masked.float().mean().item(), changed.float().mean().item()


def state_masks(bench: Workbench) -> Duel:
    """Centre and hidden states of 142 tokens (k = stride = 7, 200-bp bins, whole bins); same draws on both sides."""
    k, length, bin_bp, flank_bp = 7, 142, 200, 100
    num_ours, num_theirs = bench.scaled(8_192, 128), bench.scaled(1_024, 128)
    generator = torch.Generator().manual_seed(bench.seed)
    states = torch.randint(NUM_STATE_SPECIAL - 1, 20, (num_ours, length), generator=generator)
    dna_mask = torch.rand(num_ours, length, generator=generator) < RATE
    dna_mask[::50] = False  # rows without a centre
    phase_bp = torch.randint(0, bin_bp, (num_ours,), generator=generator)
    # steps of 2**-12: products with small counts are exact in every precision
    u_centre = torch.randint(0, 4096, (num_ours,), generator=generator) / 4096
    batch_rows = 1_024

    def ours() -> tuple[Tensor, Tensor]:
        columns = [x.split(batch_rows) for x in (dna_mask, states, phase_bp, u_centre)]
        parts = [
            state_mask(
                mask, ids, k=k, stride=k, bin_bp=bin_bp, phase_bp=phase, flank_bp=flank_bp, whole_bin=True, u_centre=u
            )
            for mask, ids, phase, u in zip(*columns, strict=True)
        ]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def theirs() -> tuple[Tensor, Tensor]:
        columns = (x[:num_theirs].tolist() for x in (dna_mask, states, phase_bp, u_centre))
        pairs = [state_mask_row(*row, k=k, bin_bp=bin_bp, flank_bp=flank_bp) for row in zip(*columns, strict=True)]
        return torch.tensor([p[0] for p in pairs]), torch.tensor([p[1] for p in pairs])

    def compare(mine: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> str:
        same = all(torch.equal(a[:num_theirs], b) for a, b in zip(mine, other, strict=True))
        return "" if same else "hidden states"

    return Duel(ours, theirs, num_ours, num_theirs, compare, lambda: f"rows of {length} tokens", close=one_thread())


def state_mask_row(
    mask: list[bool], states: list[int], phase_bp: int, u_centre: float, *, k: int, bin_bp: int, flank_bp: int
) -> tuple[list[bool], list[bool]]:
    """One row of the peer: draw the centre, then look at every token."""
    length = len(states)
    hidden, centre = [False] * length, [False] * length
    candidates = [t for t in range(length) if mask[t] and states[t] >= NUM_STATE_SPECIAL]
    if candidates:
        at = candidates[int(u_centre * len(candidates))]
        centre[at] = True
        first_bp = (phase_bp + at * k) // bin_bp * bin_bp
        end_bp = ((phase_bp + at * k + k - 1) // bin_bp + 1) * bin_bp
        for t in range(length):
            start_bp = phase_bp + t * k
            hidden[t] = abs(t - at) <= flank_bp // k or (start_bp < end_bp and start_bp + k > first_bp)
    return hidden, centre


CASES = (
    Case(
        name="mlm_mask",
        about="15 % of the tokens with 80/10/10, random numbers included",
        peer="BERT's row-by-row loop in Python",
        unit="krows/s",
        target=12,
        build=mlm_mask,
        scale=1e3,
    ),
    Case(
        name="state_mask",
        about="scored state of each row, and the states hidden around it",
        peer="a row-by-row loop in Python",
        unit="krows/s",
        target=15,
        build=state_masks,
        scale=1e3,
    ),
)
