"""What an epoch of fine-tuning shows, held against sets that are written out."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epilm.hashing import permute
from epilm.labels.runs import Runs
from epilm.tasks.binding_sampling import BindingSampler, CellBins, Stratum


def runs(*ranges):
    return Runs.of(np.array([a for a, _ in ranges], np.int64), np.array([b for _, b in ranges], np.int64))


POSITIVES = CellBins((runs((3, 5), (10, 11)), Runs.empty(), runs((7, 9))))
NEGATIVES = CellBins((runs((20, 60)), runs((0, 30)), runs((100, 105))))


def sampler(quota=50, seed=1, strata=None):
    return BindingSampler(POSITIVES, strata or (Stratum(NEGATIVES, quota),), seed)


def pairs(found):
    return list(zip(*(values.tolist() for values in found), strict=True))


def members(bins):
    return {(int(b), c) for c, part in enumerate(bins.runs) for b in part.indices()}


@given(st.integers(1, 3000), st.integers(0, 5), st.integers(0, 5))
def test_permute_is_a_bijection(size, seed, key):
    assert sorted(permute(np.arange(size), size, seed, key)) == list(range(size))


def test_permutations_differ_by_seed_and_key_and_do_not_keep_the_order():
    images = [tuple(permute(np.arange(500), 500, seed, key)) for seed in (0, 1) for key in (0, 1)]
    assert len(set(images)) == 4
    for image in images:
        assert abs(np.corrcoef(np.arange(500), image)[0, 1]) < 0.15


def test_members_are_listed_cell_by_cell():
    assert pairs(POSITIVES.at(np.arange(POSITIVES.size))) == [(3, 0), (4, 0), (10, 0), (7, 2), (8, 2)]


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_an_epoch_holds_every_positive_once_and_distinct_negatives(epoch):
    made = sampler(quota=50)
    assert made.epoch_size == 55
    shown = Counter(pairs(made.locate(epoch * 55 + np.arange(55))))
    assert set(shown.values()) == {1}
    assert members(POSITIVES) <= set(shown)
    assert set(shown) - members(POSITIVES) <= members(NEGATIVES)


def test_each_epoch_draws_and_orders_afresh():
    made = sampler(quota=20)
    first, second = pairs(made.locate(np.arange(25))), pairs(made.locate(25 + np.arange(25)))
    assert set(first) != set(second)
    assert [p for p in first if p in members(POSITIVES)] != [p for p in second if p in members(POSITIVES)]


def test_a_position_has_one_sample_however_it_is_asked():
    made = sampler()
    whole = pairs(made.locate(np.arange(200)))
    order = np.random.default_rng(0).permutation(200)
    assert pairs(made.locate(order)) == [whole[i] for i in order]
    assert [pairs(made.locate(np.array([i])))[0] for i in range(0, 200, 17)] == whole[::17]
    assert pairs(sampler(seed=2).locate(np.arange(200))) != whole


def test_a_stratum_smaller_than_its_quota_is_drawn_through_evenly():
    small = CellBins((runs((0, 4)),))
    shown = Counter(b for b, _ in pairs(sampler(strata=(Stratum(small, 10),)).locate(np.arange(15))) if b < 3)
    assert set(shown.values()) <= {2, 3}


def test_strata_keep_their_quotas():
    inside, outside = CellBins((runs((20, 40)),)), CellBins((runs((200, 400)),))
    made = sampler(strata=(Stratum(inside, 15), Stratum(outside, 30)))
    bins = np.array([b for b, _ in pairs(made.locate(np.arange(made.epoch_size)))])
    assert ((bins >= 20) & (bins < 40)).sum() == 15
    assert (bins >= 200).sum() == 30


def test_a_limit_keeps_one_subset_for_every_epoch_and_seed():
    few = CellBins(POSITIVES.runs, limit=3, subset_seed=4)
    assert few.size == 3
    chosen = set(pairs(few.at(np.arange(3))))
    assert len(chosen) == 3
    assert chosen < members(POSITIVES)
    for seed in (0, 1):
        shown = pairs(BindingSampler(few, (Stratum(NEGATIVES, 5),), seed).locate(np.arange(16)))
        assert Counter(p for p in shown if p in members(POSITIVES)) == dict.fromkeys(chosen, 2)
    assert CellBins(POSITIVES.runs, limit=99).size == 5
