"""A booster is the same with one actor, with two, with one that is killed, and from plain xgboost."""

import os
import signal
import threading
import time

import numpy as np
import psutil
import pytest
import xgboost

from epilm.config import parse_recipe
from epilm.regress.boost import FitJob, fit_all, gains, num_rounds, parameters, predict, predict_file
from epilm.regress.matrix import write_matrix
from epilm.regress.quantiles import Quantiles, quantiles_of, round_down
from epilm.regress.recipe import Boost
from epilm.storage import Location

NAMES = [f"x{i}" for i in range(12)]
"""More than ten, so that the order by name is not that of the columns."""
SEED = 7
ACTOR = b"_RemoteRayXGBoostActor.train"
"""In the title of an actor's process while it trains."""


def boost(**changes):
    settings = {"max_rounds": 900, "learning_rate": 0.03, "colsample_bytree": 0.4, "max_bin": 32, **changes}
    return parse_recipe(Boost, settings)


class Problem:
    """Continuous features, some of them missing, in files of uneven size."""

    def __init__(self, folder):
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(4500, len(NAMES))).astype(np.float32)
        self.x[:, 3] = np.exp(2 * self.x[:, 3])
        self.y = self.x[:, 0] * self.x[:, 1] + np.sin(2 * self.x[:, 10]) + 0.5 * rng.normal(size=4500)
        self.x[rng.random(self.x.shape) < 0.02] = np.nan
        self.split = dict(zip(("train", "validation", "test"), np.split(np.arange(4500), [3001, 3701]), strict=True))
        self.genes = np.array([f"gene{i}" for i in range(4500)])
        self.files = {
            name: write_matrix(
                Location(str(folder / name)), self.x[r], NAMES, self.genes[r], 10_000 - r, self.y[r], num_files=3
            )
            for name, r in self.split.items()
        }

    def job(self, label):
        return FitJob(label, SEED, self.files["train"], self.files["validation"])

    def dmatrix(self, name):
        order, rows = np.argsort(NAMES), self.split[name]
        names = [NAMES[position] for position in order]
        return xgboost.DMatrix(self.x[rows][:, order], self.y[rows], feature_names=names, nthread=1)

    def plain(self, config):
        booster = xgboost.train(
            {**parameters(config, SEED), "nthread": 1},
            self.dmatrix("train"),
            config.max_rounds,
            evals=[(self.dmatrix("validation"), "validation")],
            early_stopping_rounds=config.early_stopping_rounds,
            verbose_eval=False,
        )
        return booster[: booster.best_iteration + 1], booster.best_score

    def predictions(self, booster_json):
        """By plain xgboost, from the booster's file."""
        booster = xgboost.Booster()
        booster.load_model(bytearray(booster_json))
        return booster.predict(self.dmatrix("test"))


@pytest.fixture(scope="module")
def problem(ray_local, tmp_path_factory):
    return Problem(tmp_path_factory.mktemp("boost"))


@pytest.fixture(scope="module")
def two_actors(problem):
    ((_, fitted),) = fit_all([problem.job("two")], boost(num_actors=2))
    return fitted


def check_equal(problem, fitted, config):
    plain, score = problem.plain(config)
    expected = plain.predict(problem.dmatrix("test"))
    assert np.corrcoef(expected, problem.y[problem.split["test"]])[0, 1] > 0.65
    assert fitted.rounds == num_rounds(fitted.booster_json) == plain.num_boosted_rounds() < config.max_rounds
    assert fitted.validation_rmse == pytest.approx(score, abs=1e-6)
    np.testing.assert_allclose(problem.predictions(fitted.booster_json), expected, rtol=0, atol=1e-6)


@pytest.mark.ray
@pytest.mark.parametrize("subsample", [1.0, 0.7])
def test_one_actor_equals_plain_xgboost(problem, subsample):
    config = boost(subsample=subsample)
    ((_, fitted),) = fit_all([problem.job("one")], config)
    check_equal(problem, fitted, config)


@pytest.mark.ray
def test_two_actors_equal_plain_xgboost(problem, two_actors):
    check_equal(problem, two_actors, boost())


def kill_one_that_trains(killed, seen, done):
    """SIGKILL one of this Ray's actors a moment after it began to train; note every actor that trains."""
    began = None
    while not done.is_set():
        for process in psutil.Process().children(recursive=True):
            try:
                with open(f"/proc/{process.pid}/cmdline", "rb") as line:
                    trains = ACTOR in line.read()
            except OSError:  # ended meanwhile
                continue
            if trains:
                seen.add(process.pid)
                began = began or time.monotonic()
                if not killed and time.monotonic() - began > 0.5:
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
        time.sleep(0.02)


@pytest.mark.ray
def test_a_killed_actor_changes_nothing(problem, two_actors):
    killed, seen, done = [], set(), threading.Event()
    thread = threading.Thread(target=kill_one_that_trains, args=(killed, seen, done))
    thread.start()
    try:
        ((_, fitted),) = fit_all([problem.job("killed")], boost(num_actors=2))
    finally:
        done.set()
        thread.join()
    assert len(killed) == 1
    assert len(seen) == 3, "two actors, and one more in the place of the killed"
    assert fitted.rounds == two_actors.rounds
    np.testing.assert_allclose(
        problem.predictions(fitted.booster_json), problem.predictions(two_actors.booster_json), rtol=0, atol=1e-6
    )


@pytest.mark.ray
def test_predictions_keep_to_their_rows(problem, two_actors, tmp_path):
    """Several files in another order than they were written: every prediction still is that of its own row and gene."""
    booster = Location(str(tmp_path / "booster.json"))
    booster.write_bytes(two_actors.booster_json)
    files = problem.files["test"][::-1]
    table = predict({"b": booster}, {"set": files}, group_of={"b": "set"})
    rows = problem.split["test"]
    table = table.set_index("row").loc[10_000 - rows]
    assert table["gene_id"].tolist() == problem.genes[rows].tolist()
    np.testing.assert_array_equal(table["prediction"], problem.predictions(two_actors.booster_json))
    alone = predict_file(files[1], {"b": two_actors.booster_json})
    assert alone.column_names == ["row", "gene_id", "booster", "prediction"]
    np.testing.assert_array_equal(
        alone.column("prediction").to_numpy(), table["prediction"].loc[alone.column("row").to_numpy()]
    )


@pytest.mark.ray
def test_ids_and_targets_are_no_features(two_actors):
    assert set(gains(two_actors.booster_json, 99)) <= set(NAMES)


@pytest.mark.parametrize("max_bin", [2, 16])
def test_rounding_down_leaves_xgboosts_bins(max_bin):
    """A booster is the same on rounded values as on original ones, of which some are missing."""
    rng = np.random.default_rng(0)
    columns = [rng.normal(size=900), rng.integers(0, 3, 900), np.full(900, 5), -rng.exponential(size=900), np.ones(900)]
    x = np.column_stack(columns).astype(np.float32)
    y = x[:, 0] + x[:, 1] + rng.normal(size=900)
    x[::13, 0] = x[::17, 3] = x[:, 4] = np.nan
    rounded = round_down(x, quantiles_of(x, list("abcde"), max_bin))
    assert all(len(np.unique(column[~np.isnan(column)])) <= max_bin + 1 for column in rounded.T)
    np.testing.assert_array_equal(np.isnan(rounded), np.isnan(x))
    settings = {"tree_method": "hist", "max_bin": max_bin, "nthread": 1}
    one, other = (xgboost.train(settings, xgboost.DMatrix(values, y), 20) for values in (x, rounded))
    assert one.get_dump() == other.get_dump()


def test_rounding_down_by_hand():
    quantiles = Quantiles(("a", "b"), np.array([-1, 0, 2.5, 7], np.float32), np.array([0, 3, 4]))
    values = np.array([[-1, 7], [-0.5, 7], [0, np.nan], [2.4, 7], [2.5, 7]], np.float32)
    expected = [[-1, 7], [-1, 7], [0, np.nan], [0, 7], [2.5, 7]]
    np.testing.assert_array_equal(round_down(values, quantiles), expected)
