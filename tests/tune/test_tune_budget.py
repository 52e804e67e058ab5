"""Steps follow from a budget of tokens, the same for every trial."""

from __future__ import annotations

import pytest

from epilm.errors import RecipeError
from epilm.tasks.recipe import TokensConfig
from epilm.train.recipe import OptimizerConfig, TrainConfig
from epilm.tune.budget import MOST_OFF, Budget


def train(batch: int = 8, steps: int = 100, warmup: int = 10, **more) -> TrainConfig:
    return TrainConfig(
        steps=steps, global_batch=batch, num_workers=1, optimizer=OptimizerConfig(warmup_steps=warmup), **more
    )


@pytest.mark.parametrize(
    ("batch", "k", "stride", "tokens", "steps"),
    [
        (8, 6, 1, 64_000, 80),  # 100 tokens a window
        (8, 6, None, 64_000, 472),  # (105 - 6) // 6 + 1 = 17: 470.6 steps, in eighths
        (16, 6, 1, 64_000, 40),
        (8, 5, 5, 84_000, 496),  # 21 tokens: 500 steps, 62.5 in each eighth
    ],
)
def test_steps_spend_the_budget(batch, k, stride, tokens, steps):
    budget = Budget(tokens, 8, None, window_bp=105)
    settings = budget.settings(train(batch), TokensConfig(k=k, stride=stride))
    assert settings["train.steps"] == steps
    assert settings["train.eval_every_steps"] * 8 == steps
    spent = steps * budget.tokens_per_step(train(batch), TokensConfig(k=k, stride=stride))
    assert abs(spent - tokens) <= MOST_OFF * tokens


def test_warm_up_is_a_share():
    tokens = TokensConfig(k=6, stride=1)
    assert Budget(64_000, 4, None, 105).settings(train(), tokens)["train.optimizer.warmup_steps"] == 8
    assert Budget(64_000, 4, 0.25, 105).settings(train(), tokens)["train.optimizer.warmup_steps"] == 20
    assert Budget(64_000, 4, 0.0, 105).settings(train(), tokens)["train.optimizer.warmup_steps"] == 0


def test_a_budget_that_steps_cannot_meet_is_refused():
    with pytest.raises(RecipeError, match=r"12\.0 steps of 800 tokens; 8 equal evaluations make 16, 33% off") as told:
        Budget(9_600, 8, None, 105).settings(train(), TokensConfig(k=6, stride=1))
    assert "at least 64,000 tokens" in str(told.value)
    Budget(64_000 + 3_200, 8, None, 105).settings(train(), TokensConfig(k=6, stride=1))


def test_without_a_budget_the_recipe_itself_says():
    budget = Budget(None, 8, None, 105)
    settings = budget.settings(train(eval_every_steps=30), TokensConfig(k=6, stride=1))
    assert settings == {"train.steps": 100, "train.eval_every_steps": 30, "train.optimizer.warmup_steps": 10}
    assert budget.settings(train(), TokensConfig())["train.eval_every_steps"] == 100
