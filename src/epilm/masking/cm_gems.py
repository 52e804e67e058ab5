"""CM-GEMS (Roy et al. 2024): GeneMask until perplexity falls no faster than a threshold, then Global PMI for good."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor

from epilm.masking.contract import MaskInput, Moment
from epilm.masking.curriculum import TwoPolicies


class GemsState(TypedDict):
    """What is kept in checkpoints."""

    evaluations: list[tuple[int, float]]
    """``[step, perplexity]``, oldest first, no more of them than the window needs."""
    below: int
    """Evaluations in a row whose drop fell short."""
    switched_at: int | None
    """Batches from this step on are Global PMI's; None while GeneMask goes on."""


@dataclass(frozen=True)
class SwitchRule:
    """When GeneMask has taught what it can.

    An evaluation at step s is compared with the latest one at ``s - window_steps`` or before; without such a one nothing
    is decided. Where perplexity has dropped by less than ``threshold`` (a rise is a drop below 0) the evaluation falls
    short; ``patience`` such evaluations in a row switch.
    """

    threshold: float
    window_steps: int
    patience: int

    def start(self) -> GemsState:
        return {"evaluations": [], "below": 0, "switched_at": None}

    def after(self, state: GemsState, *, step: int, perplexity: float) -> GemsState:
        """The state after an evaluation; a pure function.

        A perplexity that is not finite is passed over, and so is a step no later than the last one seen.
        """
        seen = state["evaluations"]
        if state["switched_at"] is not None or not math.isfinite(perplexity) or (seen and step <= seen[-1][0]):
            return state
        too_old = [at for at, _ in seen if at <= step - self.window_steps]
        if not too_old:
            return {**state, "evaluations": [*seen, (step, perplexity)]}
        seen = [(at, value) for at, value in seen if at >= too_old[-1]]
        below = state["below"] + 1 if seen[0][1] - perplexity < self.threshold else 0
        if below >= self.patience:
            return {"evaluations": [], "below": below, "switched_at": step}
        return {"evaluations": [*seen, (step, perplexity)], "below": below, "switched_at": None}


@dataclass(frozen=True)
class CmGemsPolicy:
    policies: TwoPolicies
    rule: SwitchRule

    def check(self, *, num_tokens: int, num_kmers: int, k: int, stride: int) -> None:
        self.policies.check(num_tokens=num_tokens, num_kmers=num_kmers, k=k, stride=stride)

    def initial_state(self) -> dict[str, Any]:
        return _as_json(self.rule.start())

    def observe(self, state: Mapping[str, Any], *, step: int, perplexity: float) -> dict[str, Any]:
        return _as_json(self.rule.after(_from_json(state), step=step, perplexity=perplexity))

    def mask(self, batch: MaskInput, moment: Moment) -> Tensor:
        is_hard = torch.full_like(batch.position, _has_switched(moment), dtype=torch.bool)
        return self.policies.mask_by(is_hard, batch, moment)

    def describe(self, moment: Moment) -> dict[str, float]:
        switched = float(_has_switched(moment))
        return {"global_share": switched, "switched": switched}


def _has_switched(moment: Moment) -> bool:
    switched_at = moment.state["switched_at"]
    return switched_at is not None and moment.step >= switched_at


def _as_json(state: GemsState) -> dict[str, Any]:
    return {**state, "evaluations": [list(pair) for pair in state["evaluations"]]}


def _from_json(state: Mapping[str, Any]) -> GemsState:
    pairs = [(int(at), float(value)) for at, value in state["evaluations"]]
    return {"evaluations": pairs, "below": int(state["below"]), "switched_at": state["switched_at"]}
