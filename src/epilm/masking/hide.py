"""80/10/10 drawn at the masked positions alone: the same result as drawing everywhere, at a fraction of the work."""

from __future__ import annotations

import torch
from torch import Tensor

from epilm.masking.fast import places
from epilm.masking.hashing import uniform_at
from epilm.tokens.vocab import IGNORE, MASK, NUM_SPECIAL


def hide(
    ids: Tensor,
    mask: Tensor,
    *,
    seed: int,
    position: Tensor,
    choice_stream: int,
    random_stream: int,
    vocab_size: int,
    mask_frac: float = 0.8,
    random_frac: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """Equal, to the last bit, to :func:`epilm.masking.mlm.corrupt` with the draws ``uniform(seed, stream, position, L)``.

    Args:
        ids: int64 ``[B, L]``.
        mask: bool ``[B, L]``, the positions to predict.
        position: int64 ``[B]``, sample positions.
        choice_stream, random_stream: streams of the hash: which of MASK, random and kept; which random k-mer.

    Returns:
        ``(input_ids, labels)``, int64 ``[B, L]``; labels are -100 where nothing is predicted.
    """
    length = ids.shape[1]
    flat = places(mask)
    row = flat // length
    column = flat - row * length
    hidden = ids.reshape(-1).index_select(0, flat)

    num_kmers = vocab_size - NUM_SPECIAL
    choice = uniform_at(seed, choice_stream, position, row, column)
    drawn = uniform_at(seed, random_stream, position, row, column)
    shown = (drawn * num_kmers).to(torch.int64).clamp_(max=num_kmers - 1).add_(NUM_SPECIAL)
    shown.masked_fill_(choice < mask_frac, MASK)
    shown = torch.where(choice >= mask_frac + random_frac, hidden, shown)
    inputs = ids.reshape(-1).index_copy(0, flat, shown).view(ids.shape)
    labels = torch.full_like(ids, IGNORE).view(-1).index_copy_(0, flat, hidden).view(ids.shape)
    return inputs, labels
