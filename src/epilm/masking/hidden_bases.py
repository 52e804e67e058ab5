"""The common question of every evaluation: which base is this, given all bases around it?

A masking policy decides what a model is trained on, so a loss over a policy's own masks says more about the policy than
about the model: one that hides easy tokens would win. And losses per token cannot be compared between k = 5 and k = 7.
Here the same isolated bases are hidden whatever the policy, the k and the stride (but for those that only some
tokenisations cannot ask: beside an N, and behind the last token): one in every 45 bp, never two in one token, with every
token that holds one. Of the model's distribution over k-mers only the four that agree with the visible
bases of the token are kept: nats per base, 1.386 for a model that knows nothing.

Shapes: B = sequences, L = tokens, H = hidden bases; token ``t`` covers bases ``t * stride`` to ``t * stride + k``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from epilm.masking.hashing import uniform
from epilm.tokens.vocab import NUM_SPECIAL

SPACING_BP = 45
"""One base is hidden in each stretch of this length: with k = 7 side by side, 16 % of the tokens are masked."""
_DRAWN_BP = 37
"""It is drawn from the first 37, so that neighbours lie at least 9 apart: no token (k <= 8) holds two."""


@dataclass(frozen=True)
class HiddenBases:
    """What an evaluation hides and asks."""

    mask: Tensor
    """bool ``[B, L]``: tokens that hold a hidden base."""
    offset: Tensor
    """int64 ``[B, L]``: where a hidden base is asked for, its place in the token (0 to k - 1); -1 elsewhere. Of the tokens
    that hold a base, the one is asked in which it is nearest to the middle."""


def hide_bases(ids: Tensor, *, k: int, stride: int, uniforms: Tensor) -> HiddenBases:
    """Choose the bases of each sequence.

    Args:
        ids: int64 ``[B, L]`` tokens; special ids are neither masked nor asked.
        uniforms: float32 ``[B, num_stretches(length_bp)]`` in [0, 1), ``length_bp`` = bases that the tokens cover.
    """
    num = ids.shape[1]
    stretch = torch.arange(uniforms.shape[1], device=ids.device)
    base = stretch * SPACING_BP + (uniforms * _DRAWN_BP).to(torch.int64).clamp_(max=_DRAWN_BP - 1)
    first = torch.div(base - k + stride, stride, rounding_mode="floor").clamp_(min=0)
    last = torch.div(base, stride, rounding_mode="floor").clamp_(max=num - 1)
    asked = torch.div(base - (k - 1) // 2 + stride // 2, stride, rounding_mode="floor")
    asked = torch.minimum(torch.maximum(asked, first), last).clamp_(min=0)
    held = first <= last  # not in a gap (stride > k), nor among the unused bases behind the last token

    edges = torch.zeros(len(ids), num + 1, dtype=torch.int64, device=ids.device)
    edges.scatter_add_(1, torch.where(held, first, num), held.long())
    edges.scatter_add_(1, torch.where(held, last + 1, num), -held.long())
    real = ids >= NUM_SPECIAL
    mask = (edges.cumsum(1)[:, :num] > 0) & real

    offset = torch.full((len(ids), num + 1), -1, dtype=torch.int64, device=ids.device)
    offset.scatter_(1, torch.where(held, asked, num), base - asked * stride)
    return HiddenBases(mask, torch.where(real, offset[:, :num], -1))


def num_stretches(length_bp: int) -> int:
    """Hidden bases of a sequence at most."""
    return -(-length_bp // SPACING_BP)


def draw_bases(ids: Tensor, *, k: int, stride: int, seed: int, stream: int, position: Tensor) -> HiddenBases:
    """:func:`hide_bases` with random numbers from (seed, position): the same for every model."""
    length_bp = (ids.shape[1] - 1) * stride + k
    return hide_bases(ids, k=k, stride=stride, uniforms=uniform(seed, stream, position, num_stretches(length_bp)))


def base_candidates(labels: Tensor, offset: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
    """The four k-mers that a token may be once its other bases are known, and which of them it is.

    Args:
        labels: int64 ``[H]`` true k-mer ids.
        offset: int64 ``[H]`` place of the hidden base in the k-mer.

    Returns:
        ids ``[H, 4]`` with A, C, G, T at that place, and the true base ``[H]``.
    """
    weight = 4 ** (k - 1 - offset)
    base = torch.div(labels - NUM_SPECIAL, weight, rounding_mode="floor") % 4
    choices = torch.arange(4, device=labels.device)
    return labels[:, None] + (choices[None, :] - base[:, None]) * weight[:, None], base


def score_bases(scores: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
    """Summed negative log likelihood (nats) and hits; ``scores`` float ``[H, 4]`` of the candidates, ``base`` ``[H]``."""
    loss = F.cross_entropy(scores.float(), base, reduction="sum")
    return loss, (scores.argmax(dim=-1) == base).sum()
