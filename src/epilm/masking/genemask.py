"""GeneMask (Roy et al. 2023): spans around random centres, half of them widened about their best-ranked k-mer.

Every centre c hides its span. Of the span's k-mers the best ranked one (highest NPMI) is the centre's best, b; the centres
whose best ranks highest, half of them, also hide all k-mers that share a base with b. The published program looks the
rank up by position number (:mod:`epilm.masking.published`); here it is the k-mer's.

Shapes: B = sequences, P = k-mers at every base, C = all centres of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from epilm.masking.bases import bases_of_centres, bases_of_kmers, span_offsets, tokens_of_bases
from epilm.masking.contract import MaskInput, Moment, Stateless
from epilm.masking.draws import CENTRES, words
from epilm.masking.fast import places, rows_of
from epilm.masking.limits import check_centres, check_span_fits
from epilm.masking.ranks import NO_RANK, KmerRanks
from epilm.masking.rates import genemask_rate, genemask_thresholds, kept_centres


def preferred_offsets(k: int) -> list[int]:
    """The span's offsets in the order in which equal ranks are preferred: the centre, then left to right."""
    return [0, *(offset for offset in span_offsets(k) if offset)]


def genemask_from_centres(centres: Tensor, rank: Tensor, tie: Tensor, *, k: int, stride: int = 1) -> Tensor:
    """GeneMask of given centres; a pure function.

    Args:
        centres: bool ``[B, P]``, only where ``rank`` is a rank.
        rank: int32 ``[B, P]``, ``NO_RANK`` where there is no k-mer.
        tie: int32 ``[B, P]``; among centres whose best k-mers rank alike, those of the least value are kept.

    Returns:
        bool ``[B, L]``; where tokens overlap a hidden base, also those that hold an N or padding.
    """
    num_kmers = centres.shape[1]
    flat = places(centres)
    row = rows_of(flat, num_kmers)
    best, best_rank = _best_in_span(flat - row * num_kmers, row, rank, k)
    # 17 bits of rank, 24 of tie: room for 2**22 rows
    key = ((row << 17 | best_rank) << 24) | (tie.reshape(-1).index_select(0, flat).to(torch.int64) + 2**31) >> 8
    order = torch.argsort(key, stable=True)
    number = centres.sum(1)
    place = torch.arange(len(row), device=row.device) - (number.cumsum(0) - number)[row]
    chosen = order.index_select(
        0, places(place < kept_centres(number)[row])
    )  # ordered by row first, so that `row` is as it was
    widened = torch.zeros_like(centres)
    widened.view(-1)[row[chosen] * num_kmers + best[chosen]] = True
    return tokens_of_bases(bases_of_kmers(widened, k).logical_or_(bases_of_centres(centres, k)), k=k, stride=stride)


def _best_in_span(centre: Tensor, row: Tensor, rank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Each centre's best k-mer and its rank: int64 ``[C]`` each, from int64 ``[C]``. The row's ends clip the span."""
    num_kmers = rank.shape[1]
    offsets = torch.tensor(preferred_offsets(k), device=rank.device)
    at = centre + offsets[:, None]
    flat = row * num_kmers + at.clamp(0, num_kmers - 1)
    there = rank.reshape(-1).index_select(0, flat.view(-1)).view(at.shape)
    there.masked_fill_((at < 0) | (at >= num_kmers), NO_RANK)
    # the preference (k is at most 8) as the lowest bits: the minimum is unique, whatever the device does with ties
    keys = (there << 3) | torch.arange(k, dtype=torch.int32, device=rank.device)[:, None]
    key = reduce(torch.minimum, keys.unbind(0)).to(torch.int64)
    return centre + offsets[key & 7], key >> 3


@dataclass(frozen=True)
class GeneMaskPolicy(Stateless):
    """Centres ~ Bernoulli over the real k-mers; the probability is what reaches ``rate``, unless it is given."""

    rate: float
    ranks: KmerRanks
    centre_probability: float | None = None
    name: str = "genemask"
    """The policy of the recipe, for messages."""

    def check(self, *, num_tokens: int, num_kmers: int, k: int, stride: int) -> None:
        check_span_fits(self.name, num_kmers=num_kmers, k=k)
        self.ranks.check(k=k, stride=stride)
        check_centres("genemask", self.centre_probability, genemask_rate(num_kmers, k, stride))

    def mask(self, batch: MaskInput, moment: Moment) -> Tensor:
        real = batch.real_kmers
        wanted = genemask_thresholds(self.rate, self.centre_probability, batch.k, batch.stride, real.shape[1])
        draws = words(batch.seed, CENTRES, batch.position, real.shape[1])
        centres = (draws < wanted.on(real.device)[real.sum(1)][:, None]).logical_and_(real)
        # the draw that made a centre breaks ties: given that it is one, its draw is uniform below the threshold
        mask = genemask_from_centres(centres, self.ranks.of(batch.kmer_ids), draws, k=batch.k, stride=batch.stride)
        return mask & (real if batch.ids is batch.kmer_ids else batch.real)
