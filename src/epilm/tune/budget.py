"""Equal tokens for every trial: steps, evaluations and warm-up that follow from a budget. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from epilm.errors import RecipeError
from epilm.tasks.recipe import TokensConfig
from epilm.tokens.vocab import num_tokens
from epilm.train.recipe import TrainConfig

MOST_OFF = 0.05
"""How far the tokens of a trial may be from the budget, as a share of it: steps are whole numbers."""


@dataclass(frozen=True)
class Budget:
    """What every trial may spend.

    Args:
        tokens: model positions without [CLS] and [SEP], over all steps; None = the steps of the recipe itself.
        evaluations: how often a trial is evaluated on its way, in equal shares of its steps.
        warmup_share: warm-up as a share of the steps; None = the share that the base has.
        window_bp: length of the corpus's windows.
    """

    tokens: int | None
    evaluations: int
    warmup_share: float | None
    window_bp: int

    def tokens_per_step(self, train: TrainConfig, tokens: TokensConfig) -> int:
        """Tokens of a global batch of whole windows."""
        return train.global_batch * num_tokens(self.window_bp, tokens.k, tokens.step_bp)

    def settings(self, train: TrainConfig, tokens: TokensConfig) -> dict[str, Any]:
        """Dotted settings of a trial: its steps, evaluations, checkpoints and warm-up.

        Raises:
            RecipeError: no whole number of steps comes within 5 % of the budget.
        """
        steps, every = train.steps, train.eval_every_steps or train.steps
        if self.tokens is not None:
            steps = self._steps(self.tokens, self.tokens_per_step(train, tokens))
            every = steps // self.evaluations
        share = train.optimizer.warmup_steps / train.steps if self.warmup_share is None else self.warmup_share
        return {
            "train.steps": steps,
            "train.eval_every_steps": every,
            "train.optimizer.warmup_steps": round(share * steps),
        }

    def _steps(self, budget: int, per_step: int) -> int:
        unit = self.evaluations
        steps = max(1, round(budget / per_step / unit)) * unit
        off = abs(steps * per_step - budget) / budget
        if off > MOST_OFF:
            raise RecipeError(
                f"budget_tokens={budget:,} is {budget / per_step:,.1f} steps of {per_step:,} tokens; {unit} equal evaluations "
                f"make {steps}, {off:.0%} off. Trials must come within {MOST_OFF:.0%} of it: "
                f"give at least {round(unit / 2 / MOST_OFF) * per_step:,} tokens, fewer evaluations, or smaller batches."
            )
        return steps
