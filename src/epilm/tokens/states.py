"""Epigenome bins to state ids, one per k-mer token, on any torch device.

Shapes: B = sequences, L = tokens. A window begins ``phase_bp`` bases into its first bin.
"""

from __future__ import annotations

import torch
from torch import Tensor

from epilm.errors import RecipeError
from epilm.tokens.vocab import NO_STATE, NUM_STATE_SPECIAL, STATE_UNK, num_tokens


def tokenize_states(bins: Tensor, phase_bp: Tensor, *, bin_bp: int, k: int, stride: int, length_bp: int) -> Tensor:
    """State ids: the most frequent state in each k-mer; ties take the state at its centre base (index ``k // 2``).

    Bases without data count like a state of their own: a k-mer that is mostly without data is UNK.

    Args:
        bins: uint8 ``[B, num_bins]``, the states of one cell type, 255 = no data.
        phase_bp: int ``[B]``, distance from the start of the first bin to the window's first base; values of
            ``bin_bp`` and above are fine as long as the bins cover the window (``reverse_complement`` makes such).

    Returns:
        int64 ``[B, L]``: ``3 + state``, or UNK; aligned with ``tokenize_kmers`` of the same k and stride.

    Raises:
        RecipeError: the bins cannot cover a window of ``length_bp``.
    """
    if bins.shape[1] * bin_bp < length_bp:
        raise RecipeError(
            f"{bins.shape[1]} bins of {bin_bp} bp do not cover a window of {length_bp} bp: "
            f"give at least {-(-length_bp // bin_bp)} bins."
        )
    first_base = torch.arange(num_tokens(length_bp, k, stride), device=bins.device) * stride
    centre = _state_at(bins, phase_bp, first_base + k // 2, bin_bp)
    # A k-mer over at most two bins has more than half of its bases in the bin of its centre, or exactly half, and then
    # the tie goes to the centre: in both cases the rule is the centre's state.
    if k - 1 > bin_bp:
        centre = _majority(bins, phase_bp, first_base, centre, bin_bp, k)
    return torch.where(centre == NO_STATE, STATE_UNK, centre.to(torch.int64) + NUM_STATE_SPECIAL)


def _state_at(bins: Tensor, phase_bp: Tensor, base: Tensor, bin_bp: int) -> Tensor:
    """State byte at each of the window's bases ``base`` [L]: uint8 [B, L]."""
    index = (phase_bp.to(torch.int64)[:, None] + base[None, :]) // bin_bp
    return torch.gather(bins, 1, index)


def _majority(bins: Tensor, phase_bp: Tensor, first_base: Tensor, centre: Tensor, bin_bp: int, k: int) -> Tensor:
    """Most frequent state byte of k-mers that span three bins or more; ``centre`` [B, L] where several are."""
    states_KBL = torch.stack([_state_at(bins, phase_bp, first_base + i, bin_bp) for i in range(k)])
    count_KBL = (states_KBL[:, None] == states_KBL[None]).sum(0)
    most_BL, position_BL = count_KBL.max(0)
    winner = torch.gather(states_KBL, 0, position_BL[None])[0]
    tied = ((count_KBL == most_BL) & (states_KBL != winner)).any(0)
    return torch.where(tied, centre, winner)
