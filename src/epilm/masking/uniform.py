"""Every k-mer alone with the same probability (Devlin et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from epilm.masking.contract import MaskInput, Moment, Stateless
from epilm.masking.hashing import uniform

_STREAM = 11


@dataclass(frozen=True)
class UniformPolicy(Stateless):
    rate: float

    def check(self, *, num_tokens: int, num_kmers: int, k: int, stride: int) -> None:
        """Any row will do."""

    def mask(self, batch: MaskInput, moment: Moment) -> Tensor:
        draws = uniform(batch.seed, _STREAM, batch.position, batch.ids.shape[1])
        return (draws < self.rate).logical_and_(batch.real)
