"""A batch of which some samples are masked by an easy policy and the others by a hard one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from epilm.masking.contract import MaskInput, MaskPolicy, Moment


@dataclass(frozen=True)
class TwoPolicies:
    """The easy and the hard policy of a curriculum."""

    easy: MaskPolicy
    hard: MaskPolicy

    def check(self, *, num_tokens: int, num_kmers: int, k: int, stride: int) -> None:
        for policy in (self.easy, self.hard):
            policy.check(num_tokens=num_tokens, num_kmers=num_kmers, k=k, stride=stride)

    def mask_by(self, is_hard: Tensor, batch: MaskInput, moment: Moment) -> Tensor:
        """Each row by the policy that ``is_hard`` (bool ``[B]``) names; rows are masked once."""
        mask = torch.zeros(batch.ids.shape, dtype=torch.bool, device=batch.ids.device)
        mask[is_hard] = self.hard.mask(batch.rows(is_hard), moment)
        mask[~is_hard] = self.easy.mask(batch.rows(~is_hard), moment)
        return mask
