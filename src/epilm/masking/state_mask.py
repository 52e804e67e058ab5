"""The state mask of EBERT: score the state at one masked DNA position, and hide the states around it.

The paper hides ``100/k`` tokens on each side. States come in runs of one bin (200 bp, ~29 tokens of 7), so unless the
centre is mid-bin, tokens of its own bin stay visible and the answer is read off. ``whole_bin`` closes that leak, and
:func:`copy_nearest_visible` is the baseline that shows how much of an accuracy is copying.

Shapes: B = sequences, L = tokens; token ``t`` covers bases ``t * stride`` to ``t * stride + k`` of the window, so the
masks are drawn before CLS and SEP are added.
"""

from __future__ import annotations

import torch
from torch import Tensor

from epilm.tokens.vocab import IGNORE, NUM_STATE_SPECIAL, STATE_MASK, STATE_PAD


def state_mask(
    dna_mask: Tensor,
    state_ids: Tensor,
    *,
    k: int,
    stride: int,
    bin_bp: int,
    phase_bp: Tensor,
    flank_bp: int,
    whole_bin: bool,
    u_centre: Tensor,
) -> tuple[Tensor, Tensor]:
    """Draw the scored state of each sequence and the states to hide.

    Args:
        dna_mask: bool ``[B, L]``, the masked DNA positions.
        state_ids: int64 ``[B, L]``.
        phase_bp: int ``[B]``, distance from the start of the first bin to the window's first base.
        flank_bp: hides the tokens that start within ``flank_bp`` of the centre's start, ``flank_bp // stride`` a side
            (EBERT: 100).
        whole_bin: also hides every token that has a base in a bin that the centre token touches.
        u_centre: float32 ``[B]`` in [0, 1), draws the centre among the masked positions whose state is known.

    Returns:
        ``(hidden, centre)``, bool ``[B, L]``. ``centre`` has one True a row, none where no masked position has a known
        state; ``hidden`` contains it. PAD is never hidden.
    """
    candidates = dna_mask & (state_ids >= NUM_STATE_SPECIAL)
    rank = candidates.cumsum(1)
    count = rank[:, -1]
    drawn = torch.minimum((u_centre * count).to(torch.int64), (count - 1).clamp(min=0))
    centre = candidates & (rank == drawn[:, None] + 1)

    token = torch.arange(state_ids.shape[1], device=state_ids.device)
    at = centre.to(torch.int64).argmax(1)
    hidden = (token[None, :] - at[:, None]).abs() <= flank_bp // stride
    if whole_bin:
        first_bin = (phase_bp.to(torch.int64)[:, None] + token[None, :] * stride) // bin_bp
        last_bin = (phase_bp.to(torch.int64)[:, None] + token[None, :] * stride + k - 1) // bin_bp
        touched = (last_bin >= first_bin.gather(1, at[:, None])) & (first_bin <= last_bin.gather(1, at[:, None]))
        hidden = hidden | touched
    return hidden & centre.any(1, keepdim=True) & (state_ids != STATE_PAD), centre


def hide_states(state_ids: Tensor, hidden: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """``(input_state_ids, labels)``: MASK where hidden; the state at the centre, -100 elsewhere. int64 ``[B, L]``."""
    return torch.where(hidden, STATE_MASK, state_ids), torch.where(centre, state_ids, IGNORE)


def copy_nearest_visible(state_ids: Tensor, hidden: Tensor, centre: Tensor) -> Tensor:
    """The baseline's prediction: the state of the nearest visible token with data; of two as near, the left one.

    Returns:
        int64 ``[B]`` state ids; -100 where a row has no centre, or no visible state (that counts as wrong).
    """
    visible = ~hidden & (state_ids >= NUM_STATE_SPECIAL)
    token = torch.arange(state_ids.shape[1], device=state_ids.device)[None, :]
    at = centre.to(torch.int64).argmax(1, keepdim=True)
    distance = 2 * (token - at).abs() + (token > at)
    distance = torch.where(visible, distance, 2 * state_ids.shape[1] + 2)
    nearest = state_ids.gather(1, distance.argmin(1, keepdim=True))[:, 0]
    return torch.where(centre.any(1) & visible.any(1), nearest, IGNORE)
