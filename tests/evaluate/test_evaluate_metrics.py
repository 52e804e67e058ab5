import numpy as np
import pytest
from scipy import stats

from epilm.errors import EpilmError
from epilm.evaluate.metrics import bootstrap_interval, pearson, r2, spearman


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("scale", [1.0, 1e-160, 1e160])
def test_pearson_equals_scipy_at_any_scale(rng, scale):
    x = rng.normal(size=50)
    y = x + rng.normal(size=50)
    assert pearson(x * scale, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("num_values", [2, 3, 1000])  # 2: almost all tied
def test_spearman_equals_scipy_with_ties(rng, num_values):
    x = rng.integers(num_values, size=200).astype(float)
    y = x + rng.integers(num_values, size=200)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_metrics_work_a_row_at_a_time(rng):
    x, y = rng.normal(size=(2, 3, 4, 25))
    for metric in (pearson, spearman, r2):
        rows = [[metric(x[i, j], y[i, j]) for j in range(4)] for i in range(3)]
        np.testing.assert_allclose(metric(x, y), rows, atol=1e-12)


def test_perfect_and_opposite():
    x = np.array([1.0, 2.0, 4.0, 8.0])
    assert pearson(x, 3 * x - 1) == pytest.approx(1)
    assert pearson(x, -x) == pytest.approx(-1)
    assert spearman(x, np.exp(x)) == pytest.approx(1)
    assert r2(x, x) == 1.0


def test_r2_is_the_coefficient_of_determination():
    truth = np.array([1.0, 2.0, 3.0])
    assert r2(truth, np.full(3, 2.0)) == 0.0  # as good as the mean
    assert r2(truth, truth + 10) == pytest.approx(1 - 300 / 2)  # a shift keeps the correlation, not r2
    assert r2(truth, np.array([1.0, 2.0, 4.0])) == pytest.approx(0.5)


@pytest.mark.parametrize("metric", [pearson, spearman, r2])
def test_undefined_is_nan_without_warning(metric):
    constant, varying = np.full(7, 0.1), np.arange(7.0)
    assert np.isnan(metric(constant, varying))
    assert np.isnan(metric([], []))
    assert np.isnan(metric([1.0], [1.0]))
    for missing in (np.nan, np.inf):
        assert np.isnan(metric([1.0, missing, 3.0], [1.0, 2.0, 3.5]))


def test_constant_prediction_has_no_correlation_but_an_r2():
    assert np.isnan(pearson(np.arange(5.0), np.full(5, 0.1)))
    assert r2(np.arange(5.0), np.full(5, 2.0)) == 0.0


def test_wrong_shapes_are_named():
    with pytest.raises(EpilmError, match=r"\(3,\) and \(4,\)"):
        pearson(np.zeros(3), np.zeros(4))
    with pytest.raises(EpilmError, match=r"level=1\.5"):
        bootstrap_interval(pearson, np.zeros(3), np.zeros(3), num=10, seed=0, level=1.5)


def test_bootstrap_covers_the_known_correlation(rng):
    covered = 0
    for repeat in range(100):
        x = rng.normal(size=200)
        y = 0.6 * x + 0.8 * rng.normal(size=200)
        low, high = bootstrap_interval(pearson, x, y, num=300, seed=repeat)
        covered += low <= 0.6 <= high
    assert 88 <= covered <= 99  # 95 expected, sd 2.2; the percentile interval is slightly narrow


def test_bootstrap_agrees_with_scipy(rng):
    x = rng.normal(size=150)
    y = x + rng.normal(size=150)
    result = stats.bootstrap(
        (x, y), lambda a, b, axis: pearson(a, b), paired=True, vectorized=True, method="percentile", n_resamples=4000
    )
    low, high = bootstrap_interval(pearson, x, y, num=4000, seed=1)
    assert low == pytest.approx(result.confidence_interval.low, abs=0.015)
    assert high == pytest.approx(result.confidence_interval.high, abs=0.015)


def test_bootstrap_is_seeded_and_independent_of_chunks(rng, monkeypatch):
    x, y = rng.normal(size=(2, 40))
    whole = bootstrap_interval(spearman, x, y, num=50, seed=3)
    assert whole == bootstrap_interval(spearman, x, y, num=50, seed=3)
    assert whole != bootstrap_interval(spearman, x, y, num=50, seed=4)
    monkeypatch.setattr("epilm.evaluate.metrics._CHUNK_VALUES", 100)
    assert whole == bootstrap_interval(spearman, x, y, num=50, seed=3)


def test_bootstrap_of_degenerate_input_is_nan():
    assert np.isnan(bootstrap_interval(pearson, np.ones(5), np.arange(5.0), num=20, seed=0)).all()
    assert np.isnan(bootstrap_interval(pearson, [], [], num=20, seed=0)).all()
    low, high = bootstrap_interval(pearson, [1.0, 2.0], [3.0, 5.0], num=50, seed=0)  # half the resamples are constant
    assert (low, high) == pytest.approx((1.0, 1.0))
