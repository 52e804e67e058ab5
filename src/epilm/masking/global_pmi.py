"""Global PMI masking (Roy et al. 2024): hide the sequence's k-mers of the highest NPMI, with all that share a base.

The number of k-mers is unpublished; the published program draws it from a binomial and, as the spans overlap, realises
11-13 %. Here k-mers are hidden from the best rank on until ``rate`` is reached.

Shapes: B = sequences, P = k-mers at every base, L = tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from epilm.masking.bases import bases_of_kmers, least_of_sharing, tokens_of_bases
from epilm.masking.contract import MaskInput, Moment, Stateless
from epilm.masking.draws import BINOMIAL, ROUNDING, TIES, short_words, thresholds, words
from epilm.masking.fast import sorted_rows
from epilm.masking.hashing import uniform
from epilm.masking.limits import check_number, check_span_fits
from epilm.masking.ranks import NO_RANK, KmerRanks

_TIE_BITS = 14  # beside 17 bits of rank in an int32
_WIDE_TIE_BITS, _COLUMN_BITS = 16, 28  # beside them in an int64
_NEVER = torch.iinfo(torch.int32).max  # no key is above it, and only k-mers without a rank come near


def global_to_rate(key: Tensor, real: Tensor, u_last: Tensor, *, rate: float, k: int, stride: int) -> Tensor:
    """Hide k-mers in the order of ``key`` until ``rate`` of the real tokens is masked; a pure function.

    The last k-mer would mask some tokens too many: it is hidden with the probability that makes the expected share of
    each row exactly ``rate``, whatever its length.

    Args:
        key: int32 ``[B, P]``, the order in which k-mers are hidden (equal keys together); what has no rank comes last.
        real: bool ``[B, L]``, tokens that may be masked.
        u_last: float64 ``[B]`` in [0, 1).

    Returns:
        bool ``[B, L]``.
    """
    # when a token is covered: the least key of the k-mers that share a base with it
    covered = torch.where(real, least_of_sharing(key, k=k, stride=stride), _NEVER)
    ordered = sorted_rows(covered)
    target = rate * torch.searchsorted(ordered, torch.full_like(ordered[:, :1], _NEVER)).to(torch.float64)
    last = ordered.gather(1, (target.ceil().to(torch.int64) - 1).clamp(min=0))
    before = torch.searchsorted(ordered, last)
    upto = torch.searchsorted(ordered, last, right=True)
    take_last = u_last[:, None] * (upto - before) < target - before
    return covered <= torch.where(take_last, last, last - 1)


def distinct_keys(rank: Tensor, tie: Tensor) -> Tensor:
    """Order by rank, then tie, then column: int64 ``[B, P]`` from int32 ranks and int16 ties."""
    column = torch.arange(rank.shape[1], device=rank.device)
    wide_tie = (tie.to(torch.int64) + 2**15) << _COLUMN_BITS
    return (rank.to(torch.int64) << _COLUMN_BITS + _WIDE_TIE_BITS) | wide_tie | column


def global_of_number(key: Tensor, number: Tensor, *, k: int, stride: int) -> Tensor:
    """Hide the ``number`` k-mers of the least :func:`distinct_keys` of each row: int64 ``[B, P]``, ``[B]`` -> bool ``[B, L]``."""
    ordered, at = key.sort(dim=1)
    wanted = (torch.arange(key.shape[1], device=key.device) < number[:, None]) & (
        ordered < NO_RANK << _COLUMN_BITS + _WIDE_TIE_BITS
    )
    chosen = torch.zeros_like(wanted).scatter_(1, at, wanted)
    return tokens_of_bases(bases_of_kmers(chosen, k), k=k, stride=stride)


@dataclass(frozen=True)
class GlobalPmiPolicy(Stateless):
    """To the rate; or a given number of k-mers (``fixed_m``), or one drawn as the published program does."""

    rate: float
    ranks: KmerRanks
    fixed_m: int | None = None
    binomial_m: float | None = None
    name: str = "global"
    """The policy of the recipe, for messages."""

    def check(self, *, num_tokens: int, num_kmers: int, k: int, stride: int) -> None:
        check_span_fits(self.name, num_kmers=num_kmers, k=k)
        self.ranks.check(k=k, stride=stride)
        sizes = {"num_tokens": num_tokens, "num_kmers": num_kmers, "k": k, "stride": stride}
        check_number(fixed_m=self.fixed_m, binomial_m=self.binomial_m, **sizes)

    def mask(self, batch: MaskInput, moment: Moment) -> Tensor:
        rank = self.ranks.of(batch.kmer_ids)
        # equal ranks (equal k-mers, all unknown ones) in random order
        tie = short_words(batch.seed, TIES, batch.position, rank.shape[1])
        if self.fixed_m is not None or self.binomial_m is not None:
            mask = global_of_number(distinct_keys(rank, tie), self._number(batch), k=batch.k, stride=batch.stride)
            return mask & batch.real
        key = (rank << _TIE_BITS).bitwise_or_(tie & (2**_TIE_BITS - 1))
        u_last = uniform(batch.seed, ROUNDING, batch.position, 1)[:, 0].to(torch.float64)
        return global_to_rate(key, batch.real, u_last, rate=self.rate, k=batch.k, stride=batch.stride)

    def _number(self, batch: MaskInput) -> Tensor:
        """How many k-mers are hidden: int64 ``[B]``."""
        if self.binomial_m is None:
            return torch.full_like(batch.position, self.fixed_m or 0)
        real = batch.real_kmers
        below = int(thresholds(self.binomial_m))
        return (words(batch.seed, BINOMIAL, batch.position, real.shape[1]) < below).logical_and_(real).sum(1)
