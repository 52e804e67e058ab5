"""What is shown of the masked tokens (Devlin et al. 2019, section 3.1): 80 % MASK, 10 % a random k-mer, 10 % as they are.

Drawn at the masked positions alone: the same result as drawing everywhere, at a fraction of the work.
"""

from __future__ import annotations

import torch
from torch import Tensor

from epilm.masking.fast import places, rows_of
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
    """Show MASK, a random k-mer (never a special) or the k-mer itself in the place of every masked token.

    The draws of token ``t`` are those of ``uniform(seed, stream, position, L)[:, t]``.

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
    row = rows_of(flat, length)
    column = flat - row * length
    hidden = ids.reshape(-1).index_select(0, flat)

    num_kmers = vocab_size - NUM_SPECIAL
    choice = uniform_at(seed, choice_stream, position, row, column)
    drawn = uniform_at(seed, random_stream, position, row, column)
    # 24-bit draws below 1, times 4**k: exact in float32, and so below 4**k
    shown = drawn.mul_(num_kmers).to(torch.int64).add_(NUM_SPECIAL)
    shown.masked_fill_(choice < mask_frac, MASK)
    shown = torch.where(choice >= mask_frac + random_frac, hidden, shown)
    inputs = ids.reshape(-1).index_copy(0, flat, shown).view(ids.shape)
    labels = torch.full_like(ids, IGNORE).view(-1).index_copy_(0, flat, hidden).view(ids.shape)
    return inputs, labels
