"""Masked language modelling (Devlin et al. 2019): choose positions, then 80 % MASK, 10 % random, 10 % kept.

Shapes: B = sequences, L = tokens. The random numbers are arguments (:func:`epilm.masking.hashing.uniform`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from epilm.tokens.vocab import IGNORE, MASK, NUM_SPECIAL


def uniform_mask(ids: Tensor, *, rate: float, uniforms: Tensor) -> Tensor:
    """Positions to predict, each with probability ``rate``: bool ``[B, L]``; never PAD, UNK or another special.

    Args:
        ids: int64 ``[B, L]`` k-mer ids.
        uniforms: float32 ``[B, L]`` in [0, 1).
    """
    return (uniforms < rate) & (ids >= NUM_SPECIAL)


def corrupt(
    ids: Tensor,
    mask: Tensor,
    *,
    vocab_size: int,
    u_choice: Tensor,
    u_random: Tensor,
    mask_frac: float = 0.8,
    random_frac: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """Hide the masked positions: MASK, a random k-mer (never a special) or the k-mer itself.

    Args:
        ids: int64 ``[B, L]``.
        mask: bool ``[B, L]``, the positions to predict.
        u_choice, u_random: float32 ``[B, L]`` in [0, 1): which of the three, and which random k-mer.

    Returns:
        ``(input_ids, labels)``, int64 ``[B, L]``; labels are -100 where nothing is predicted.
    """
    num_kmers = vocab_size - NUM_SPECIAL
    # In place, and one `where` an output: those are what costs on a CPU.
    shown = (u_random * num_kmers).to(torch.int64).clamp_(max=num_kmers - 1).add_(NUM_SPECIAL)
    shown.masked_fill_(u_choice < mask_frac, MASK)
    kept = (u_choice >= mask_frac + random_frac).logical_or_(~mask)
    return torch.where(kept, ids, shown), torch.where(mask, ids, IGNORE)
