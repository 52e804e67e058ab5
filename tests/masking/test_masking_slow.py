"""Every policy against its row-by-row twin, on rows with N, padding, repeats and few bases; any batching alike."""

from dataclasses import replace

import pytest
import torch
from slow_policies import genemask_row, global_row, random_rows, random_scores, span_row, tokens_sharing

from epilm.masking.contract import MaskInput, Moment
from epilm.masking.draws import BINOMIAL, CENTRES, ROUNDING, TIES, short_words, thresholds, words
from epilm.masking.hashing import uniform
from epilm.masking.policy import build_policy
from epilm.masking.rates import genemask_thresholds, span_thresholds
from epilm.masking.recipe import DnaMaskConfig
from epilm.tokens.vocab import NUM_SPECIAL

START = Moment(0, 100, {})
CUTS = [(k, stride) for k in range(3, 9) for stride in (1, k)] + [(6, 4), (5, 7)]


def config(policy: str, **settings) -> DnaMaskConfig:
    scored = policy not in ("uniform", "span")
    return DnaMaskConfig.model_validate({"policy": policy, "table": "scores" if scored else None, **settings})


def mask_of(batch: MaskInput, policy: str, moment: Moment = START, **settings) -> torch.Tensor:
    return build_policy(config(policy, **settings), scores=random_scores(batch.k)).mask(batch, moment)


def centres_of(batch: MaskInput, wanted) -> list[list[int]]:
    real = batch.real_kmers
    below = torch.from_numpy(wanted.array)[real.sum(1)][:, None]
    drawn = (words(batch.seed, CENTRES, batch.position, real.shape[1]) < below) & real
    return [row.nonzero()[:, 0].tolist() for row in drawn]


def ranks_of(batch: MaskInput) -> list[dict[int, int]]:
    rank = random_scores(batch.k).rank
    return [
        {at: int(rank[token - NUM_SPECIAL]) for at, token in enumerate(row) if token >= NUM_SPECIAL}
        for row in batch.kmer_ids.tolist()
    ]


def as_sets(mask: torch.Tensor) -> list[set[int]]:
    return [set(row.nonzero()[:, 0].tolist()) for row in mask]


@pytest.mark.parametrize(("k", "stride"), CUTS)
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_span(k, stride, rate):
    batch = random_rows(k, stride)
    centres = centres_of(batch, span_thresholds(rate, None, k, stride, batch.kmer_ids.shape[1]))
    rows = zip(centres, batch.ids.tolist(), strict=True)
    wanted = [tokens_sharing(span_row(row, k), ids, k, stride) for row, ids in rows]
    assert any(wanted)
    assert as_sets(mask_of(batch, "span", rate=rate)) == wanted


@pytest.mark.parametrize(("k", "stride"), CUTS)
@pytest.mark.parametrize("rate", [0.15, 0.4])  # at 0.4 rows have more than 9 centres, of which half are widened
def test_genemask(k, stride, rate):
    batch = random_rows(k, stride)
    num_kmers = batch.kmer_ids.shape[1]
    centres = centres_of(batch, genemask_thresholds(rate, None, k, stride, num_kmers))
    assert rate < 0.4 or max(map(len, centres)) > 8
    tie = words(batch.seed, CENTRES, batch.position, num_kmers) >> 8
    rows = zip(centres, ranks_of(batch), tie.tolist(), batch.ids.tolist(), strict=True)
    wanted = [tokens_sharing(genemask_row(row, rank, t, k), ids, k, stride) for row, rank, t, ids in rows]
    assert as_sets(mask_of(batch, "genemask", rate=rate)) == wanted


@pytest.mark.parametrize(("k", "stride"), CUTS)
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_global_to_the_rate(k, stride, rate):
    batch = random_rows(k, stride)
    tie = short_words(batch.seed, TIES, batch.position, batch.kmer_ids.shape[1]) & (2**14 - 1)
    u_last = uniform(batch.seed, ROUNDING, batch.position, 1)[:, 0].tolist()
    wanted = []
    for rank, t, u, ids in zip(ranks_of(batch), tie.tolist(), u_last, batch.ids.tolist(), strict=True):
        key = {at: value << 14 | t[at] for at, value in rank.items()}
        wanted.append(global_row(key, ids, rate, u, k, stride))
    assert as_sets(mask_of(batch, "global", rate=rate)) == wanted


@pytest.mark.parametrize(("k", "stride"), CUTS)
@pytest.mark.parametrize("settings", [{"fixed_m": 4}, {"binomial_m": 0.05}], ids=str)
def test_global_of_a_number(k, stride, settings):
    batch = random_rows(k, stride)
    num_kmers = batch.kmer_ids.shape[1]
    tie = short_words(batch.seed, TIES, batch.position, num_kmers).tolist()
    drawn = (words(batch.seed, BINOMIAL, batch.position, num_kmers) < int(thresholds(0.05))) & batch.real_kmers
    number = [4] * len(tie) if "fixed_m" in settings else drawn.sum(1).tolist()
    wanted = []
    for rank, t, m, ids in zip(ranks_of(batch), tie, number, batch.ids.tolist(), strict=True):
        first = sorted(rank, key=lambda at, rank=rank, t=t: (rank[at], t[at], at))[:m]
        wanted.append(tokens_sharing({at + i for at in first for i in range(k)}, ids, k, stride))
    assert any(wanted)
    assert as_sets(mask_of(batch, "global", global_pmi=settings)) == wanted


@pytest.mark.parametrize("stride", [1, 6])
def test_uniform_is_what_it_was(stride):
    batch = random_rows(6, stride)
    draws = uniform(batch.seed, 11, batch.position, batch.ids.shape[1])
    assert torch.equal(mask_of(batch, "uniform", rate=0.2), (draws < 0.2) & batch.real)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("policy", ["span", "genemask", "global"])
def test_the_shortest_kmers(k, policy):
    batch = random_rows(k, 1, num_rows=300)
    mask = mask_of(batch, policy, rate=0.3)
    assert not mask[~batch.real].any()
    assert (mask.sum() / batch.real.sum()).item() == pytest.approx(0.3, abs=0.02)


HALFWAY = Moment(50, 100, {"evaluations": [], "below": 1, "switched_at": 40})
ALL = ("uniform", "span", "genemask", "global", "cm-step", "cm-gems")


@pytest.mark.parametrize("stride", [1, 6])
@pytest.mark.parametrize("policy", ALL)
def test_any_batching_hides_the_same(policy, stride):
    batch = random_rows(6, stride)
    policy = build_policy(config(policy), scores=random_scores(6))
    whole = policy.mask(batch, HALFWAY)
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    for rows in order.split([1, 2, 17, len(whole) - 20]):
        ids = batch.ids[rows]
        kmer_ids = ids if stride == 1 else batch.kmer_ids[rows]
        part = replace(batch, ids=ids, kmer_ids=kmer_ids, position=batch.position[rows])
        assert torch.equal(policy.mask(part, HALFWAY), whole[rows])
    assert not torch.equal(policy.mask(replace(batch, seed=12), HALFWAY), whole)
    assert not torch.equal(policy.mask(replace(batch, position=batch.position + 1), HALFWAY), whole)


@pytest.mark.parametrize("policy", ALL)
def test_rows_without_a_kmer(policy):
    batch = random_rows(6, 1)
    empty = torch.zeros_like(batch.ids)
    policy = build_policy(config(policy), scores=random_scores(6))
    assert not policy.mask(replace(batch, ids=empty, kmer_ids=empty), HALFWAY).any()
    nothing = replace(batch, ids=empty[:0], kmer_ids=empty[:0], position=batch.position[:0])
    assert policy.mask(nothing, HALFWAY).shape == (0, empty.shape[1])
