"""Span masking (DNABERT; Ji et al. 2021): a random base is hidden, and with it all k-mers that hold it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from epilm.masking.bases import bases_of_centres, tokens_of_bases
from epilm.masking.contract import MaskInput, Moment, Stateless
from epilm.masking.draws import CENTRES, words
from epilm.masking.limits import check_centres, check_span_fits
from epilm.masking.rates import span_rate, span_thresholds


def span_from_centres(centres: Tensor, *, k: int, stride: int = 1) -> Tensor:
    """The tokens that hold base ``c + k//2`` of a centre c: bool ``[B, P]`` -> ``[B, L]`` (k=6, stride 1: c-2 ... c+3)."""
    return tokens_of_bases(bases_of_centres(centres, k), k=k, stride=stride)


@dataclass(frozen=True)
class SpanPolicy(Stateless):
    """Centres ~ Bernoulli over the real k-mers; the probability is what reaches ``rate``, unless it is given."""

    rate: float
    centre_probability: float | None = None
    name: str = "span"
    """The policy of the recipe, for messages."""

    def check(self, *, num_tokens: int, num_kmers: int, k: int, stride: int) -> None:
        check_span_fits(self.name, num_kmers=num_kmers, k=k)
        check_centres("span", self.centre_probability, span_rate(num_kmers, k, stride))

    def mask(self, batch: MaskInput, moment: Moment) -> Tensor:
        real = batch.real_kmers
        wanted = span_thresholds(self.rate, self.centre_probability, batch.k, batch.stride, real.shape[1])
        below = wanted.on(real.device)[real.sum(1)][:, None]
        centres = (words(batch.seed, CENTRES, batch.position, real.shape[1]) < below).logical_and_(real)
        mask = span_from_centres(centres, k=batch.k, stride=batch.stride)
        return mask & (real if batch.ids is batch.kmer_ids else batch.real)
