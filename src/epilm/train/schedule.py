"""Learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from epilm.train.recipe import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """Rate of optimizer step ``step`` (0-based): linear warm-up to ``lr``, then the schedule down to 0 after the last step."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    remaining = (total_steps - step) / max(1, total_steps - config.warmup_steps)
    if config.schedule == "linear":
        return config.lr * remaining
    return config.lr * 0.5 * (1 + math.cos(math.pi * (1 - remaining)))
