import numpy as np
import pandas as pd
import pytest

from epilm.evaluate.metrics import pearson
from epilm.regress.score import baselines, by_cell_type, difference, over_seeds, score, with_interval

OPTIONS = {"num": 300, "seed": 0, "level": 0.9}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_perfect_prediction(rng):
    truth = rng.normal(size=50)
    for scored in score(truth, truth, np.arange(50), **OPTIONS).values():
        assert scored == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_undefined_is_null():
    scored = score(np.arange(5.0), np.zeros(5), np.arange(5), **OPTIONS)
    assert scored["pearson"] == {"value": None, "low": None, "high": None}
    assert scored["r2"]["value"] == -2.0


def test_intervals_resample_groups_not_rows(rng):
    """Copies of each row tell nothing new: with their groups the interval stays, without them it shrinks."""
    truth = rng.normal(size=60)
    prediction = truth + rng.normal(size=60)
    alone = with_interval(pearson, truth, prediction, np.arange(60), **OPTIONS)
    copied = np.repeat(np.arange(60), 9)
    grouped = with_interval(pearson, truth[copied], prediction[copied], copied, **OPTIONS)
    apart = with_interval(pearson, truth[copied], prediction[copied], np.arange(540), **OPTIONS)

    def width(interval):
        return interval["high"] - interval["low"]

    assert grouped["value"] == pytest.approx(alone["value"], abs=1e-6)
    assert width(grouped) == pytest.approx(width(alone), rel=0.25)
    assert width(apart) < 0.5 * width(alone)


def test_groups_of_different_sizes_equal_a_slow_reference(rng):
    group = np.array([2, 0, 0, 1, 2, 2])
    truth, prediction = rng.normal(size=(2, 6))
    seen = []

    def spy(x, y):
        seen.append(np.atleast_2d(x))
        return pearson(x, y)

    with_interval(spy, truth, prediction, group, num=20, seed=0, level=0.9)
    members = {g: sorted(truth[group == g]) for g in range(3)}
    for resample in seen[:-1]:
        values = sorted(resample.ravel())
        counts = [values.count(members[g][0]) for g in range(3)]
        assert sum(counts) == 3  # three groups were drawn, each with all of its rows
        assert values == sorted(v for g in range(3) for v in members[g] * counts[g])


def test_paired_difference(rng):
    truth = rng.normal(size=200)
    good, bad = truth + rng.normal(size=200), rng.normal(size=200)
    minus = difference(truth, good, bad, np.arange(200), **OPTIONS)
    assert minus["value"] == pytest.approx(pearson(truth, good) - pearson(truth, bad), abs=1e-6)
    assert 0 < minus["low"] < minus["value"] < minus["high"]
    assert difference(truth, good, good, np.arange(200), **OPTIONS) == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_baselines_and_cells():
    rows = pd.DataFrame(
        {
            "cell_type": ["a", "a", "b", "a", "b", "c"],
            "target": [1.0, 3.0, 8.0, 0.0, 0.0, 0.0],
            "split": ["train", "train", "train", "test", "test", "test"],
        }
    )
    got = baselines(rows)
    assert got["mean"].tolist() == [4.0] * 3
    assert got["mean_of_cell"].tolist() == [2.0, 8.0, 4.0]  # no training row of c: the mean of all
    assert list(baselines(rows[rows["cell_type"] == "a"])) == ["mean"]


def test_scores_by_cell_type():
    test = pd.DataFrame({"cell_type": ["a", "b", "a", "b"], "target": [1.0, 1.0, 2.0, 2.0]})
    got = by_cell_type(test, np.array([1.0, 2.0, 2.0, 1.0]))
    assert got["a"] == {"pearson": 1.0, "spearman": 1.0, "r2": 1.0, "num_test": 2}
    assert got["b"]["pearson"] == -1.0


def test_spread_over_seeds(rng):
    truth = rng.normal(size=30)
    several = over_seeds(truth, {0: truth, 1: -truth})["pearson"]
    assert several == {"mean": 0.0, "sd": pytest.approx(2**0.5, abs=1e-6), "values": [1.0, -1.0]}
    assert over_seeds(truth, {0: truth})["pearson"]["sd"] is None
