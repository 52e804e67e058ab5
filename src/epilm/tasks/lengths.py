"""Sequences of varied length: half of DNABERT's samples are whole windows, half are cut to a random length.

Shapes: B = sequences, L = tokens without CLS and SEP. A cut sequence is PAD behind its last token.
"""

from __future__ import annotations

import torch
from torch import Tensor

from epilm.tasks.recipe import LengthsConfig
from epilm.tokens.vocab import PAD


def draw_lengths(config: LengthsConfig, num_tokens: int, uniforms: Tensor) -> Tensor:
    """Tokens of each sequence, int64 ``[B]``; ``uniforms`` float32 ``[B, 2]``: whether it is whole, and how long if not."""
    span = num_tokens - config.min_kmers + 1
    short = config.min_kmers + (uniforms[:, 1] * span).to(torch.int64).clamp_(max=span - 1)
    return torch.where(uniforms[:, 0] < config.full_share, num_tokens, short)


def mean_length(config: LengthsConfig, num_tokens: int) -> float:
    """Expected tokens of a sequence."""
    return config.full_share * num_tokens + (1 - config.full_share) * (config.min_kmers + num_tokens) / 2


def cut(ids: Tensor, lengths: Tensor, *, stride: int = 1) -> Tensor:
    """PAD what lies behind a sequence's last token. ``[B, L]``.

    Args:
        lengths: int64 ``[B]`` tokens of each sequence.
        stride: bases from one token to the next, where ``ids`` are the overlapping k-mers of the same bases: the last
            one then begins with the last token.
    """
    last = (lengths - 1) * stride
    return torch.where(torch.arange(ids.shape[1], device=ids.device)[None, :] <= last[:, None], ids, PAD)


def frame(ids: Tensor, lengths: Tensor, *, cls: int, sep: int, pad: int) -> Tensor:
    """``[B, L]`` to ``[B, L + 2]``: ``cls`` in front, ``sep`` right behind the last token, ``pad`` after it."""
    batch, num = ids.shape
    token = torch.arange(num + 1, device=ids.device)[None, :]
    behind = torch.cat([ids, ids.new_full((batch, 1), pad)], dim=1)
    behind = torch.where(token < lengths[:, None], behind, torch.where(token == lengths[:, None], sep, pad))
    return torch.cat([ids.new_full((batch, 1), cls), behind], dim=1)


def attention_mask(lengths: Tensor, num_tokens: int) -> Tensor:
    """1 at CLS, tokens and SEP, 0 at PAD: int64 ``[B, num_tokens + 2]``."""
    return (torch.arange(num_tokens + 2, device=lengths.device)[None, :] < lengths[:, None] + 2).long()
