"""r over seeds, its intervals, margins and the choice: against a slow reference, and what is undefined stays so."""

from __future__ import annotations

import numpy as np
import pytest

from epilm.errors import EpilmError
from epilm.expression.scores import choose_best, margin, seed_scores, seed_summary

BOOTSTRAP = {"num": 50, "seed": 3, "level": 0.9}


def slow_resamples(n: int) -> np.ndarray:
    """The resamples' genes: they depend on the seed, the genes and the number alone."""
    return np.random.Generator(np.random.Philox(BOOTSTRAP["seed"])).integers(n, size=(BOOTSTRAP["num"], n))


def slow_interval(values: list[float]) -> tuple[float, float]:
    return float(np.quantile(values, 0.05)), float(np.quantile(values, 0.95))


def slow_mean_r(truth: np.ndarray, predictions: np.ndarray) -> float:
    return float(np.mean([np.corrcoef(truth, prediction)[0, 1] for prediction in predictions]))


@pytest.fixture
def toy() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=60)
    return truth, truth + rng.normal(size=(3, 60)), truth + 3 * rng.normal(size=(2, 60))


def test_scores_are_those_of_a_slow_reference(toy):
    truth, predictions, _ = toy
    found = seed_scores(truth, predictions, **BOOTSTRAP)
    each = [np.corrcoef(truth, prediction)[0, 1] for prediction in predictions]
    assert found["values"] == pytest.approx(each, abs=1e-6)
    assert found["mean"] == pytest.approx(np.mean(each), abs=1e-6)
    assert found["sd"] == pytest.approx(np.std(each, ddof=1), abs=1e-6)
    drawn = slow_resamples(60)
    low, high = slow_interval([slow_mean_r(truth[rows], predictions[:, rows]) for rows in drawn])
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-6)
    together = predictions.mean(axis=0)[None]
    low, high = slow_interval([slow_mean_r(truth[rows], together[:, rows]) for rows in drawn])
    expected = {"value": slow_mean_r(truth, together), "low": low, "high": high}
    assert found["ensemble"] == pytest.approx(expected, abs=1e-6)
    assert found["ensemble"]["value"] > max(found["values"]), "independent errors cancel"


def test_a_literal_case():
    found = seed_scores([0, 1, 2, 3], [[0, 1, 2, 3], [3, 2, 1, 0]], num=20, seed=0)
    assert found["values"] == [1.0, -1.0]
    assert found["mean"] == 0.0
    assert found["sd"] == pytest.approx(np.sqrt(2), abs=1e-6)
    assert (found["low"], found["high"]) == (0.0, 0.0), "the two cancel in each resample"
    assert found["ensemble"] == {"value": None, "low": None, "high": None}, "the mean prediction is constant"


def test_one_seed_has_no_spread_and_is_its_own_ensemble(toy):
    truth, predictions, _ = toy
    found = seed_scores(truth, predictions[:1], **BOOTSTRAP)
    assert found["sd"] is None
    assert found["ensemble"] == {"value": found["mean"], "low": found["low"], "high": found["high"]}


@pytest.mark.parametrize("failed", [np.zeros(60), np.full(60, 0.1), np.full(60, np.nan), np.full(60, np.inf)], ids=str)
def test_a_failed_seed_is_undefined_and_never_0(toy, failed):
    truth, predictions, other = toy
    mixed = np.stack([predictions[0], failed])
    found = seed_scores(truth, mixed, **BOOTSTRAP)
    assert found["values"] == [seed_scores(truth, predictions[:1], **BOOTSTRAP)["mean"], None]
    assert {found[key] for key in ("mean", "sd", "low", "high")} == {None}
    assert margin(truth, mixed, other, **BOOTSTRAP) == {"value": None, "low": None, "high": None}
    assert seed_summary(truth, failed[None]) == {"mean": None, "sd": None, "values": [None]}


def test_infinities_of_two_seeds_do_not_meet(toy):
    truth, predictions, _ = toy
    opposite = predictions[:2].copy()
    opposite[0, 5], opposite[1, 5] = np.inf, -np.inf
    assert seed_scores(truth, opposite, **BOOTSTRAP)["ensemble"]["value"] is None


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_genes_are_undefined(n):
    found = seed_scores(np.ones(n), np.ones((2, n)), **BOOTSTRAP)
    assert (found["values"], found["mean"], found["low"]) == ([None, None], None, None)


def test_resamples_that_are_constant_are_left_out():
    truth, prediction = np.arange(6.0), np.array([[0, 0, 0, 0, 0, 1.0]])
    found = seed_scores(truth, prediction, num=200, seed=0)
    assert found["low"] is not None
    assert 0 < found["low"] < found["mean"] <= found["high"]


def test_margins_are_paired(toy):
    truth, first, second = toy
    found = margin(truth, first, second, **BOOTSTRAP)
    drawn = slow_resamples(60)
    gains = [slow_mean_r(truth[rows], first[:, rows]) - slow_mean_r(truth[rows], second[:, rows]) for rows in drawn]
    low, high = slow_interval(gains)
    value = slow_mean_r(truth, first) - slow_mean_r(truth, second)
    assert found == pytest.approx({"value": value, "low": low, "high": high}, abs=1e-6)
    back = margin(truth, second, first, **BOOTSTRAP)
    assert back == pytest.approx({"value": -value, "low": -high, "high": -low}, abs=1e-6)
    assert margin(truth, first, 2 * first + 1, **BOOTSTRAP) == pytest.approx({"value": 0, "low": 0, "high": 0})


def test_the_resamples_do_not_depend_on_how_many_are_held_at_once(toy, monkeypatch):
    truth, predictions, _ = toy
    whole = seed_scores(truth, predictions, **BOOTSTRAP)
    monkeypatch.setattr("epilm.evaluate.metrics._CHUNK_VALUES", 7 * 60)
    assert seed_scores(truth, predictions, **BOOTSTRAP) == whole


@pytest.mark.parametrize("shape", [(60,), (2, 59), (0, 60), (2, 60, 1)])
def test_predictions_of_another_shape_are_refused(toy, shape):
    with pytest.raises(EpilmError, match="seeds, genes"):
        seed_scores(toy[0], np.zeros(shape), **BOOTSTRAP)
    with pytest.raises(EpilmError, match="seeds, genes"):
        margin(toy[0], toy[1], np.zeros(shape), **BOOTSTRAP)


def row(arm: str, mean: float | None, test: float = 0.0) -> dict[str, object]:
    return {"arm": arm, "validation": {"mean": mean}, "test": {"mean": test}}


def test_the_best_is_that_of_validation():
    rows = [row("a", None, 0.9), row("b", -0.2, 0.8), row("c", 0.5), row("d", 0.5, 0.7)]
    assert choose_best(rows)["arm"] == "c", "ties by order, whatever the test says"
    assert choose_best(rows[:2])["arm"] == "b"
    assert choose_best([row("a", None), row("b", None)])["arm"] == "a"
    with pytest.raises(EpilmError, match="no row"):
        choose_best([])
