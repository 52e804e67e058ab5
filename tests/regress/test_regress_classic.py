import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from epilm.config import parse_recipe
from epilm.errors import RecipeError
from epilm.regress.classic import RidgeConfig, Scaler, SvrConfig, fit_ridge, fit_svr

FITS = [(fit_svr, SvrConfig), (fit_ridge, RidgeConfig)]


def problem(rows=120, features=20, seed=0):
    """Training, validation and test: features of different scales, two of them constant in training."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3 * rows, features)) * np.exp(rng.normal(size=features)) + 5 * rng.normal(size=features)
    y = np.sin(x[:, 0]) + x[:, 1] / x[:, 1].std() + 0.5 * rng.normal(size=3 * rows) + 3
    x[: 2 * rows, 5] = 0.1  # its float32 mean is not exactly 0.1
    x[:, 6] = -7
    return [(part.astype(np.float32), y[i * rows : (i + 1) * rows]) for i, part in enumerate(np.split(x, 3))]


def best_of(pipelines, train, validation):
    """The slow way: fit each, keep the first of the highest r on validation."""
    fitted = [pipeline.fit(*train) for pipeline in pipelines]
    scores = [np.corrcoef(pipeline.predict(validation[0]), validation[1])[0, 1] for pipeline in fitted]
    best = int(np.argmax(scores))
    return best, fitted[best], scores[best]


@pytest.mark.parametrize("seed", [0, 1])
def test_svr_equals_scikit_learns_pipelines(seed):
    train, validation, test = problem(seed=seed)
    grid = [(c, epsilon) for c in (0.01, 1.0, 30.0) for epsilon in (0.1, 0.5)]
    pipelines = [make_pipeline(StandardScaler(), SVR(C=c, epsilon=epsilon)) for c, epsilon in grid]
    best, expected, score = best_of(pipelines, train, validation)
    chosen = fit_svr(*train, *validation, parse_recipe(SvrConfig, {"c": [0.01, 1, 30], "epsilon": [0.1, 0.5]}))
    assert chosen.settings == dict(zip(("c", "epsilon"), grid[best], strict=True))
    assert chosen.validation_r == pytest.approx(score, abs=1e-4)
    values = test[0].copy()
    values[:, 5] = 0.1  # scikit-learn divides a constant by 1, we by infinity
    np.testing.assert_allclose(
        chosen.predict(values), expected.predict(values), atol=2e-3
    )  # the solver's own tolerance


@pytest.mark.parametrize("shape", [(120, 20), (40, 300), (60, 60)])
def test_ridge_equals_scikit_learns_pipelines(shape):
    train, validation, test = problem(*shape)
    alphas = (0.5, 10.0, 1e3)
    pipelines = [make_pipeline(StandardScaler(), Ridge(alpha=alpha)) for alpha in alphas]
    best, expected, score = best_of(pipelines, train, validation)
    chosen = fit_ridge(*train, *validation, parse_recipe(RidgeConfig, {"alpha": alphas}))
    assert chosen.settings == {"alpha": alphas[best]}
    assert chosen.validation_r == pytest.approx(score, abs=1e-5)
    values = test[0].copy()
    values[:, 5] = 0.1
    np.testing.assert_allclose(chosen.predict(values), expected.predict(values), atol=1e-4)
    assert chosen.predict(values).dtype == np.float64


@pytest.mark.parametrize(("fit", "config"), FITS)
def test_a_constant_feature_says_nothing(fit, config):
    train, validation, test = problem()
    chosen = fit(*train, *validation, config())
    changed = test[0].copy()
    changed[:, [5, 6]] = 1e6
    np.testing.assert_array_equal(chosen.predict(changed), chosen.predict(test[0]))


def test_a_penalty_below_the_rounding_is_refused():
    x = np.repeat(np.random.default_rng(0).normal(size=(30, 1)), 3, axis=1)  # one feature, three times
    with pytest.raises(RecipeError, match=r"ridge\.alpha=1e-30 is too small for 3 features of 30 rows"):
        fit_ridge(x, x[:, 0], x, x[:, 0], parse_recipe(RidgeConfig, {"alpha": [1e-30]}))


@pytest.mark.parametrize("raw", [{"alpha": []}, {"alpha": [0]}, {"alpha": ["inf"]}])
def test_penalties_that_no_recipe_may_have(raw):
    with pytest.raises(RecipeError, match="alpha"):
        parse_recipe(RidgeConfig, raw)


def test_scaler_by_hand():
    scaler = Scaler.of(np.array([[1, 3, 0.1], [3, 3, 0.1], [5, 3, 0.1]], np.float32))
    np.testing.assert_allclose(
        scaler(np.array([[3, 9, 9], [7, 0, 0]])), [[0, 0, 0], [4 / np.sqrt(8 / 3), 0, 0]], rtol=1e-6
    )


def test_of_equal_settings_the_first_is_taken():
    x = np.array([[1.0], [-1], [1], [-1]])  # one feature, whose weight is exactly halved by each next penalty
    y = np.array([1.0, 0.5, 2, -1])
    for alpha in ([12.0, 4.0, 28.0], [28.0, 12.0], [4.0, 12.0]):
        assert fit_ridge(x, y, x, y, parse_recipe(RidgeConfig, {"alpha": alpha})).settings == {"alpha": alpha[0]}


def test_svr_that_predicts_one_value_is_last():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 30, 1))
    y = 2 * x[..., 0] + rng.normal(size=(2, 30))
    svr = parse_recipe(
        SvrConfig, {"c": [2.0], "epsilon": [1e3, 1e4]}
    )  # tubes so wide that they hold all: no support vector
    chosen = fit_svr(x[0], y[0], x[1], y[1], svr)
    assert chosen.settings == {"c": 2.0, "epsilon": 1e3}
    assert np.isnan(chosen.validation_r)
    some = fit_svr(x[0], y[0], x[1], y[1], parse_recipe(SvrConfig, {"c": [2.0], "epsilon": [1e3, 0.1, 1e4]}))
    assert some.settings["epsilon"] == 0.1
    assert some.validation_r > 0.4


@pytest.mark.parametrize(("fit", "config"), FITS)
@pytest.mark.parametrize(
    ("part", "value", "message"),
    [(0, np.nan, "1 training features"), (1, np.inf, "1 training targets"), (2, np.nan, "1 validation features")],
)
def test_values_that_are_missing_are_refused(fit, config, part, value, message):
    train, validation, _ = problem()
    given = [array.copy() for array in (*train, *validation)]
    given[part].flat[3] = value
    with pytest.raises(RecipeError, match=message):
        fit(*given, config())


@pytest.mark.parametrize(("fit", "config"), FITS)
def test_nothing_can_be_chosen_on_equal_targets(fit, config):
    train, validation, _ = problem()
    with pytest.raises(RecipeError, match="do not vary"):
        fit(*train, validation[0], np.ones(120), config())


@pytest.mark.parametrize(("fit", "config"), FITS)
def test_all_features_constant(fit, config):
    x, y = np.ones((20, 3), np.float32), np.arange(20.0)
    chosen = fit(x, y, x, y, config())
    assert np.isnan(chosen.validation_r)
    assert np.ptp(chosen.predict(x)) == 0
