"""Support vector regression and ridge regression of scikit-learn, their settings chosen on the validation genes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from scipy.linalg import cho_factor, cho_solve

from epilm.config import Config
from epilm.errors import RecipeError
from epilm.evaluate.metrics import pearson

# scikit-learn (1 s) is imported where it is used: a recipe needs none of it.

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SvrConfig(Config):
    """Support vector regression with a radial kernel, on standardised features; the best of the grid on validation."""

    c: tuple[Positive, ...] = Field(default=(0.1, 1.0, 10.0), min_length=1)
    """Weights of the errors against the smoothness of the fit."""
    epsilon: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = Field(default=(0.1, 0.5), min_length=1)
    """Errors that cost nothing, in units of the target."""


class RidgeConfig(Config):
    """Linear regression with an L2 penalty, on standardised features; the best penalty on validation."""

    alpha: tuple[Positive, ...] = Field(default=(1.0, 10.0, 100.0, 1e3, 1e4, 1e5), min_length=1)
    """Penalties, as scikit-learn's ``Ridge`` counts them: against the sum of squared errors."""


@dataclass(frozen=True)
class Scaler:
    """Standardises features by the training rows."""

    mean: np.ndarray
    """float32 [F]."""
    factor: np.ndarray
    """float32 [F]: 1 / standard deviation, 0 where all training rows are equal, so that such a feature says nothing."""

    @classmethod
    def of(cls, train: np.ndarray) -> Scaler:
        """Of the training rows [n, F]."""
        mean = train.mean(axis=0, dtype=np.float64)
        sd = train.std(axis=0, dtype=np.float64)
        varies = train.max(axis=0) > train.min(axis=0)  # a rounding of the mean lets a constant seem to vary
        factor = np.divide(1.0, sd, out=np.zeros_like(sd), where=varies & (sd > 0))
        return cls(mean.astype(np.float32), factor.astype(np.float32))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """[n, F] -> float32 [n, F]."""
        result = np.subtract(values, self.mean, dtype=np.float32)
        result *= self.factor
        return result


@dataclass(frozen=True)
class Chosen:
    """A fitted regressor with the settings that were best on validation."""

    settings: dict[str, float]
    validation_r: float
    """Pearson's r of its predictions on the validation rows; NaN where it predicts one value for all."""
    scaler: Scaler
    regress: Callable[[np.ndarray], np.ndarray]
    """Standardised features [n, F] -> predictions [n]."""

    def predict(self, values: np.ndarray) -> np.ndarray:
        """Features [n, F] as they were given to the fit -> float64 [n]."""
        return np.asarray(self.regress(self.scaler(values)), np.float64)


@dataclass(frozen=True)
class Linear:
    """x @ weights + intercept."""

    weights: np.ndarray
    """float64 [F]."""
    intercept: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return values @ self.weights + self.intercept


@dataclass(frozen=True)
class Radial:
    """Weighted radial kernels exp(-gamma |x - s|^2) at support vectors s, and an intercept."""

    support: np.ndarray
    """float32 [S, F]."""
    weights: np.ndarray
    """float64 [S]."""
    intercept: float
    gamma: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        from sklearn.metrics.pairwise import rbf_kernel

        if not len(self.support):  # all targets lie in the tube
            return np.full(len(values), self.intercept)
        return rbf_kernel(values, self.support, gamma=self.gamma) @ self.weights + self.intercept


Merge = Callable[[np.ndarray], np.ndarray]
"""From predictions of the validation rows to what is compared with the validation targets."""


def _as_they_are(predictions: np.ndarray) -> np.ndarray:
    return predictions


def fit_svr(
    train_x: np.ndarray,
    train_y: np.ndarray,
    validation_x: np.ndarray,
    validation_y: np.ndarray,
    config: SvrConfig,
    merge: Merge = _as_they_are,
) -> Chosen:
    """scikit-learn's ``SVR`` (radial kernel, ``gamma="scale"``) for every C and epsilon of the grid.

    The kernel matrix [n, n] is made once, in blocks of matrix products: with thousands of features it is most of the work.

    Args:
        train_x, validation_x: float [n, F] and [v, F], finite.
        train_y, validation_y: float [n] and [v], or as many as ``merge`` gives.

    Raises:
        RecipeError: values are missing or infinite, or the validation targets are all equal.
    """
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.svm import SVR

    scaler = _checked(train_x, train_y, validation_x, validation_y)
    train = scaler(train_x)
    variance = float(train.var(dtype=np.float64))
    gamma = 1 / (train.shape[1] * variance) if variance else 1.0
    kernel = rbf_kernel(train, gamma=gamma).astype(np.float64)

    def candidates() -> Iterable[tuple[dict[str, float], Radial]]:
        for c, epsilon in itertools.product(config.c, config.epsilon):
            model = SVR(kernel="precomputed", C=c, epsilon=epsilon).fit(kernel, train_y)
            support = Radial(train[model.support_], model.dual_coef_[0], float(model.intercept_[0]), gamma)
            yield {"c": c, "epsilon": epsilon}, support

    return _choose(candidates(), scaler, validation_x, validation_y, merge)


def fit_ridge(
    train_x: np.ndarray,
    train_y: np.ndarray,
    validation_x: np.ndarray,
    validation_y: np.ndarray,
    config: RidgeConfig,
    merge: Merge = _as_they_are,
) -> Chosen:
    """Ridge regression (scikit-learn's ``Ridge``: the intercept is free) for every penalty of the grid.

    The smaller of the products X'X [F, F] and XX' [n, n] is made once: for a penalty a, the weights are (X'X + a)^-1 X'y or,
    the same, X'(XX' + a)^-1 y. A Cholesky factor for each a costs less than one decomposition into eigenvectors for all.

    Args: as :func:`fit_svr`.

    Raises:
        RecipeError: as :func:`fit_svr`, or a penalty is too small beside the features' squares for double precision.
    """
    scaler = _checked(train_x, train_y, validation_x, validation_y)
    # centred in double precision, as the free intercept asks
    train = scaler(train_x).astype(np.float64)
    centre = train.mean(axis=0)
    train -= centre
    mean = float(np.mean(train_y, dtype=np.float64))
    residual = np.asarray(train_y, np.float64) - mean
    wide = train.shape[0] < train.shape[1]
    product = train @ train.T if wide else train.T @ train
    wanted = residual if wide else train.T @ residual
    diagonal = np.diagonal(product).copy()

    def candidates() -> Iterable[tuple[dict[str, float], Linear]]:
        for alpha in config.alpha:
            np.fill_diagonal(product, diagonal + alpha)
            try:
                solved = cho_solve(cho_factor(product), wanted)
            except np.linalg.LinAlgError as error:
                raise RecipeError(
                    f"ridge.alpha={alpha:g} is too small for {train.shape[1]} features of {train.shape[0]} rows, whose "
                    f"squares sum to {diagonal.sum():.3g}. Allowed are penalties above some 1e-15 of it, e.g. 1."
                ) from error
            weights = train.T @ solved if wide else solved
            yield {"alpha": alpha}, Linear(weights, mean - float(centre @ weights))

    return _choose(candidates(), scaler, validation_x, validation_y, merge)


def _choose(
    candidates: Iterable[tuple[dict[str, float], Callable[[np.ndarray], np.ndarray]]],
    scaler: Scaler,
    validation_x: np.ndarray,
    validation_y: np.ndarray,
    merge: Merge,
) -> Chosen:
    """The candidate with the highest r on validation; of equal ones the first. A constant prediction has no r: it is last."""
    validation = scaler(validation_x)
    best: Chosen | None = None
    for settings, regress in candidates:
        found = Chosen(settings, float(pearson(merge(regress(validation)), validation_y)), scaler, regress)
        if (
            best is None
            or found.validation_r > best.validation_r
            or np.isnan(best.validation_r) > np.isnan(found.validation_r)
        ):
            best = found
    assert best is not None
    return best


def _checked(train_x: np.ndarray, train_y: np.ndarray, validation_x: np.ndarray, validation_y: np.ndarray) -> Scaler:
    assert train_x.shape == (len(train_y), validation_x.shape[1])
    given: dict[str, Any] = {
        "training features": train_x,
        "training targets": train_y,
        "validation features": validation_x,
        "validation targets": validation_y,
    }
    for what, values in given.items():
        if not np.isfinite(values).all():
            raise RecipeError(
                f"{np.size(values) - np.isfinite(values).sum()} {what} are missing or infinite, which svr and ridge cannot "
                "use. Use regressor: boost, or leave such rows and features out."
            )
    if len(validation_y) < 2 or np.ptp(validation_y) == 0:
        raise RecipeError(
            f"the {len(validation_y)} validation targets do not vary, so nothing can be chosen by Pearson's r. "
            "Give two or more validation rows with different targets."
        )
    return Scaler.of(train_x)
