"""The masks that the published programs have recorded, given the centres they drew; and what their error does."""

import json
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from slow_policies import random_rows, random_scores, scores_of
from torch import Tensor

from epilm.masking.contract import Moment
from epilm.masking.genemask import genemask_from_centres, preferred_offsets
from epilm.masking.global_pmi import distinct_keys, global_of_number
from epilm.masking.policy import build_policy
from epilm.masking.published import rank_of_position
from epilm.masking.ranks import kmer_ranks, published_ranks
from epilm.masking.rates import kept_centres
from epilm.masking.recipe import DnaMaskConfig
from epilm.masking.span import span_from_centres
from epilm.ngrams.table import KmerScores
from epilm.tokens.orders import inverse, published_rows
from epilm.tokens.vocab import NUM_SPECIAL, PAD

START = Moment(0, 1, {})


@dataclass(frozen=True)
class Oracle:
    ids: Tensor
    """int64 [24, 511], in our vocabulary; CLS dropped, SEP as PAD."""
    scores: KmerScores
    variants: dict[str, dict[str, list[list[int]]]]

    @property
    def real(self) -> Tensor:
        return self.ids >= NUM_SPECIAL

    def places(self, variant: str, kind: str) -> Tensor:
        """``centers`` or ``mask`` of a variant: bool [24, 511]."""
        result = torch.zeros(self.ids.shape, dtype=torch.bool)
        for row, at in enumerate(self.variants[variant][kind]):
            result[row, [position - 1 for position in at]] = True  # position 0 is CLS
        return result


@pytest.fixture(scope="module")
def oracle(shared_data: Path) -> Oracle:
    folder = shared_data / "genemask" / "oracle"
    published = torch.tensor(json.loads((folder / "inputs.json").read_text())["input_ids"])
    ours = torch.from_numpy(inverse(published_rows(6))[NUM_SPECIAL:])
    ids = torch.where(published >= NUM_SPECIAL, ours[(published - NUM_SPECIAL).clamp(min=0)], PAD)[:, 1:]
    table = np.loadtxt(folder / "rank_by_token_id.tsv", dtype=np.int64)
    rank = np.zeros(4**6, np.int32)
    rank[ours.numpy() - NUM_SPECIAL] = table[NUM_SPECIAL:, 1]
    scores = replace(scores_of(rank, 6), npmi=1.0 / rank)
    return Oracle(ids, scores, json.loads((folder / "masks.json").read_text()))


def no_ties(ids: Tensor) -> Tensor:
    """Equal ranks in the order of position."""
    return torch.arange(ids.shape[1], dtype=torch.int32).expand(ids.shape)


def wrong_rows(mask: Tensor, oracle: Oracle, variant: str) -> list[int]:
    return (mask != oracle.places(variant, "mask")).any(1).nonzero()[:, 0].tolist()


@pytest.mark.real_data
def test_span(oracle):
    mask = span_from_centres(oracle.places("dnabert_span_s1", "centers"), k=6) & oracle.real
    assert mask.any(1).sum() > 20
    assert wrong_rows(mask, oracle, "dnabert_span_s1") == []


@pytest.mark.real_data
@pytest.mark.parametrize("kind", ["described", "published"])
def test_global(oracle, kind):
    variant = f"global_{kind}_s1"
    ranks = published_ranks(oracle.scores, unknown_first=False) if kind == "published" else kmer_ranks(oracle.scores)
    key = distinct_keys(ranks.of(oracle.ids), torch.zeros(1, dtype=torch.int16))
    number = oracle.places(variant, "centers").sum(1)
    mask = global_of_number(key, number, k=6, stride=1) & oracle.real
    assert wrong_rows(mask, oracle, variant) == []


@pytest.mark.real_data
def test_genemask_published(oracle):
    variant = "genemask_published_s1"
    rank = published_ranks(oracle.scores, unknown_first=True).of(oracle.ids)
    mask = genemask_from_centres(oracle.places(variant, "centers"), rank, no_ties(oracle.ids), k=6) & oracle.real
    assert wrong_rows(mask, oracle, variant) == []


@pytest.mark.real_data
def test_genemask_described_but_for_the_choice_among_equal_ranks(oracle):
    variant = "genemask_described_s1"
    centres, rank = oracle.places(variant, "centers"), kmer_ranks(oracle.scores).of(oracle.ids)
    mask = genemask_from_centres(centres, rank, no_ties(oracle.ids), k=6) & oracle.real
    wrong = wrong_rows(mask, oracle, variant)
    assert len(wrong) <= 1
    for row in wrong:
        at = centres[row].nonzero()[:, 0].tolist()
        best = [min(int(rank[row, c + o]) for o in preferred_offsets(6) if c + o >= 0) for c in at]
        kept = kept_centres(len(at))
        cut = sorted(best)[kept - 1]
        tied = [c for c, r in zip(at, best, strict=True) if r == cut]
        room = kept - sum(r < cut for r in best)
        assert room < len(tied), "the cut must fall among equal ranks"
        recorded = oracle.places(variant, "mask")[row]
        choices = [first_of(oracle, row, centres, rank, chosen) for chosen in combinations(tied, room)]
        assert any(torch.equal(choice, recorded) for choice in choices)


def first_of(oracle: Oracle, row: int, centres: Tensor, rank: Tensor, chosen: tuple[int, ...]) -> Tensor:
    """The row's mask where the chosen ones of the tied centres are kept."""
    tie = torch.full((1, rank.shape[1]), 1000, dtype=torch.int32)
    tie[0, list(chosen)] = 0
    one = slice(row, row + 1)
    return (genemask_from_centres(centres[one], rank[one], tie * 256, k=6) & oracle.real[one])[0]


@pytest.mark.parametrize("policy", ["genemask", "global"])
def test_published_masks_do_not_look_at_the_sequence(policy):
    one, other = random_rows(6, 1, seed=1), random_rows(6, 1, seed=2)
    known = one.real & other.real  # N and padding would give them away
    one, other = (replace(b, ids=(ids := torch.where(known, b.ids, PAD)), kmer_ids=ids) for b in (one, other))

    def masks(published: bool) -> list[Tensor]:
        config = DnaMaskConfig(policy=policy, table="scores", published=published, rate=0.3)
        return [build_policy(config, scores=random_scores(6)).mask(batch, START) for batch in (one, other)]

    assert torch.equal(*masks(True))
    assert not torch.equal(*masks(False))


def test_position_numbers_name_kmers_in_the_order_a_t_c_g():
    assert rank_of_position(np.array([1, 2, 3, 4], np.int32), 1, special=9).tolist() == [9] * 4 + [1, 4, 2, 3]
    assert rank_of_position(np.arange(16, dtype=np.int32), 2, special=99)[4 + 0b0111] == 3 * 4 + 2  # TG


def test_columns_behind_the_published_vocabulary_are_unknown():
    scores = random_scores(1)
    rank = published_ranks(scores, unknown_first=False).of(torch.full((1, 12), NUM_SPECIAL))
    assert rank[0].tolist()[8:] == [int(scores.rank.max())] * 4
