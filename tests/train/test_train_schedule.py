"""The learning rate, literally."""

from __future__ import annotations

import pytest

from epilm.train.recipe import OptimizerConfig
from epilm.train.schedule import learning_rate


def rates(total: int, **settings: object) -> list[float]:
    config = OptimizerConfig.model_validate({"lr": 1.0, **settings})
    return [learning_rate(config, step, total) for step in range(total)]


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1, 1, 1, 1]),
        ("constant", 2, [0.5, 1, 1, 1]),
        ("linear", 0, [1, 0.75, 0.5, 0.25]),
        ("linear", 4, [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", 0, [1, 0.8535534, 0.5, 0.1464466]),
        ("cosine", 2, [0.5, 1, 1, 0.75, 0.25]),
        ("linear", 3, [1 / 3, 2 / 3, 1]),
    ],
)
def test_literal_rates(schedule: str, warmup: int, expected: list[float]) -> None:
    assert rates(len(expected), schedule=schedule, warmup_steps=warmup) == pytest.approx(expected)


def test_peak_scales_everything() -> None:
    small = rates(10, lr=2e-4, schedule="cosine", warmup_steps=3)
    assert small == pytest.approx([2e-4 * rate for rate in rates(10, schedule="cosine", warmup_steps=3)])
    assert max(small) == 2e-4
