"""Means, intervals and paired margins against loops that say what they are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from epilm.studies.figures import ArmScores, all_pairs, margins, over_seeds, seed_weights, summaries, with_means

RESAMPLES = 60
SETS = ("TF1 in blood", "TF1 in lung")


def made(num_runs: int, *, seed: int, shift: float = 0.0) -> ArmScores:
    rng = np.random.default_rng(seed)
    values = {f"{name}/auprc": rng.uniform(0, 1, num_runs) + shift for name in SETS}
    resampled = {key: value[:, None] + rng.normal(0, 0.1, (num_runs, RESAMPLES)) for key, value in values.items()}
    return ArmScores(values, resampled)


def drawn_seeds(num_seeds: int, resample: int) -> list[int]:
    """The seeds that a resample drew, from its weights."""
    weights = seed_weights(num_seeds, num=RESAMPLES, seed=9)[resample]
    return [s for s in range(num_seeds) for _ in range(round(weights[s] * num_seeds))]


def slow_interval(values: list[float], level: float = 0.9) -> tuple[float, float]:
    ordered = sorted(values)

    def quantile(share: float) -> float:
        place = share * (len(ordered) - 1)
        low = int(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (place - low) * (ordered[high] - ordered[low])

    return quantile((1 - level) / 2), quantile((1 + level) / 2)


def test_seeds_are_drawn_with_replacement_and_the_same_for_all() -> None:
    weights = seed_weights(3, num=4000, seed=1)
    assert np.allclose(weights.sum(axis=1), 1)
    assert set(np.round(3 * weights.ravel()).astype(int)) == {0, 1, 2, 3}
    # each seed once in 6 of 27 draws, the same one thrice in 3 of 27
    assert (weights == 1 / 3).all(axis=1).mean() == pytest.approx(6 / 27, abs=0.03)
    assert (weights == 1).any(axis=1).mean() == pytest.approx(3 / 27, abs=0.03)
    assert np.array_equal(weights[:100], seed_weights(3, num=100, seed=1))
    assert not np.array_equal(weights, seed_weights(3, num=4000, seed=2))
    assert np.array_equal(seed_weights(1, num=5, seed=0), np.ones((5, 1)))


def test_an_interval_holds_genome_and_seeds() -> None:
    scores = made(3, seed=0)
    found = summaries({"ebert": scores}, level=0.9, seed=9)["ebert"]
    for key, values in scores.values.items():
        slow = [np.mean([scores.resampled[key][s, r] for s in drawn_seeds(3, r)]) for r in range(RESAMPLES)]
        low, high = slow_interval(slow)
        assert found[key] == {
            "mean": pytest.approx(sum(values) / 3),
            "sd": pytest.approx(np.sqrt(sum((v - sum(values) / 3) ** 2 for v in values) / 2)),
            "min": min(values),
            "max": max(values),
            "n": 3,
            "low": pytest.approx(low),
            "high": pytest.approx(high),
        }


def test_margins_are_paired_by_seed_and_resample() -> None:
    """An arm that is better by .1 in every seed and on every stretch: its interval is a point, however far seeds lie apart."""
    one = made(3, seed=0)
    better = ArmScores({k: v + 0.1 for k, v in one.values.items()}, {k: v + 0.1 for k, v in one.resampled.items()})
    (first, _) = margins({"a": better, "b": one}, [("a", "b")], level=0.95, seed=9)
    assert first == {
        "arm": "a",
        "baseline": "b",
        "metric": "TF1 in blood/auprc",
        "mean": pytest.approx(0.1),
        "low": pytest.approx(0.1),
        "high": pytest.approx(0.1),
        "n": 3,
    }
    other = made(3, seed=5)
    found = {m["metric"]: m for m in margins({"a": other, "b": one}, [("a", "b")], level=0.9, seed=9)}
    for key in one.values:
        slow = [
            np.mean([other.resampled[key][s, r] - one.resampled[key][s, r] for s in drawn_seeds(3, r)])
            for r in range(RESAMPLES)
        ]
        assert (found[key]["low"], found[key]["high"]) == pytest.approx(slow_interval(slow))
        assert found[key]["mean"] == pytest.approx(
            np.mean([other.values[key][s] - one.values[key][s] for s in range(3)])
        )


def test_a_rival_of_one_run_stands_against_every_run() -> None:
    arm, rival = made(2, seed=0), made(1, seed=3)
    key = "TF1 in lung/auprc"
    for pair, sign in ((("rival", "arm"), 1), (("arm", "rival"), -1)):
        found = next(m for m in margins({"arm": arm, "rival": rival}, [pair], level=0.9, seed=9) if m["metric"] == key)
        slow = [
            sign * (rival.resampled[key][0, r] - np.mean([arm.resampled[key][s, r] for s in drawn_seeds(2, r)]))
            for r in range(RESAMPLES)
        ]
        assert (found["low"], found["high"]) == pytest.approx(slow_interval(slow))
        assert found["mean"] == pytest.approx(sign * (rival.values[key][0] - arm.values[key].mean()))
        assert found["n"] == 2


def test_means_over_data_sets_leave_out_what_is_not_defined() -> None:
    scores = made(2, seed=0)
    blood, lung = (f"{name}/auprc" for name in SETS)
    scores.resampled[lung][:, 7] = np.nan  # drew no bound bin in lung
    found = with_means(scores, {"test": SETS, "lung": ["TF1 in lung"], "none": ["TF1 in liver"]}, ["auprc", "auroc"])
    assert list(found.values) == ["test/auprc", "lung/auprc", blood, lung]
    for s, r in itertools.product(range(2), range(RESAMPLES)):
        both = [scores.resampled[blood][s, r]] + ([] if r == 7 else [scores.resampled[lung][s, r]])
        assert found.resampled["test/auprc"][s, r] == pytest.approx(sum(both) / len(both))
    assert np.isnan(found.resampled["lung/auprc"][0, 7])
    assert found.values["test/auprc"] == pytest.approx((scores.values[blood] + scores.values[lung]) / 2)
    assert summaries({"a": found}, level=0.9, seed=9)["a"]["lung/auprc"]["low"] is not None


def test_without_resamples_there_are_no_intervals() -> None:
    scores = ArmScores({"x/auprc": np.array([0.1, 0.3])}, {})
    assert "low" not in summaries({"a": scores}, level=0.95, seed=0)["a"]["x/auprc"]
    (margin,) = margins({"a": scores, "b": scores}, [("a", "b")], level=0.95, seed=0)
    assert (margin["mean"], margin["low"], margin["high"]) == (0.0, None, None)
    assert over_seeds(scores, 0) == {}


def test_every_pair_once_and_the_baselines_first() -> None:
    assert all_pairs(["a", "b", "c", "d"], "b") == [
        ("a", "b"),
        ("c", "b"),
        ("d", "b"),
        ("c", "a"),
        ("d", "a"),
        ("d", "c"),
    ]
