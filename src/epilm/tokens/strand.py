"""The other strand: reverse complement of base codes and of the bins that cover them, on any torch device."""

from __future__ import annotations

import torch
from torch import Tensor

from epilm.tokens.vocab import BASE_N


def reverse_complement(dna_codes: Tensor, rows: Tensor | None = None) -> Tensor:
    """Reverse complement of base codes; N stays N. An involution.

    Args:
        dna_codes: uint8 ``[B, length_bp]``, A0 C1 G2 T3 N4.
        rows: bool ``[B]``, the rows to turn; all where None.
    """
    turned = dna_codes.flip(-1)
    turned = torch.where(turned >= BASE_N, turned, 3 - turned)
    return turned if rows is None else torch.where(rows[:, None], turned, dna_codes)


def reverse_bins(
    bins: Tensor, phase_bp: Tensor, *, bin_bp: int, length_bp: int, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Bins and phases of windows read from the other strand; goes with :func:`reverse_complement`. An involution.

    The bins are those of the whole row, so the new phase may be ``bin_bp`` or more when the row has spare bins;
    ``tokenize_states`` takes that. ``phase_bp`` in and out is int64 ``[B]``; the bins are ``[B, num_bins]``.
    """
    turned = bins.flip(-1)
    turned_phase = bins.shape[-1] * bin_bp - length_bp - phase_bp.to(torch.int64)
    if rows is None:
        return turned, turned_phase
    return torch.where(rows[:, None], turned, bins), torch.where(rows, turned_phase, phase_bp.to(torch.int64))
