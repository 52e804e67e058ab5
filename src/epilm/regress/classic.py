"""Support vector regression and ridge regression of scikit-learn, their settings chosen on the validation genes."""

from __future__ import annotations

from pydantic import Field

from epilm.config import Config


class SvrConfig(Config):
    """Support vector regression with a radial kernel, on standardised features; the best of the grid on validation."""

    c: tuple[float, ...] = Field(default=(0.1, 1.0, 10.0), min_length=1)
    epsilon: tuple[float, ...] = Field(default=(0.1, 0.5), min_length=1)


class RidgeConfig(Config):
    """Linear regression with an L2 penalty, on standardised features; the best penalty on validation."""

    alpha: tuple[float, ...] = Field(default=(1.0, 10.0, 100.0, 1e3, 1e4, 1e5), min_length=1)
