"""Early stop by asynchronous successive halving, over evaluations instead of Tune's count of reports."""

from __future__ import annotations

import math
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from epilm.tune.plan import Plan
from epilm.tune.recipe import AshaConfig
from epilm.tune.records import evaluations_of
from epilm.tune.trainable import EVALUATION, VALUE


class Halving(AsyncHyperBandScheduler):
    """ASHA that knows what a restored sweep reached before, and ends a trial that diverged.

    Tune keeps no state of a scheduler: without the evaluations of former trials, the cut-offs would begin anew. A trial at
    its last evaluation is left to end by itself.

    Args:
        asha: None = no trial is stopped unless it diverged.
    """

    def __init__(self, plan: Plan, asha: AshaConfig | None, *, evaluations: int, mode: str) -> None:
        super().__init__(
            time_attr=EVALUATION,
            max_t=evaluations,
            grace_period=asha.grace if asha else evaluations,
            reduction_factor=asha.reduction_factor if asha else 2,
        )
        self._plan, self._evaluations, self._sign = plan, evaluations, 1.0 if mode == "max" else -1.0
        self._stopped: set[str] = set()
        """Trials that had been stopped when the sweep was killed, and that Tune starts again all the same."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        if not trial.last_result:
            return
        ended = trial.status == Trial.TERMINATED
        for evaluation in evaluations_of(self._plan.folder, self._plan.trial(trial.config), self._plan.metric):
            if ended and evaluation.index > trial.last_result[EVALUATION]:
                break  # trained on while Tune ended it: it had been stopped before
            if evaluation.value is None or evaluation.index >= self._evaluations:
                continue
            bracket = self._trial_info[trial.trial_id]
            if bracket.on_result(trial, evaluation.index, self._sign * evaluation.value) == TrialScheduler.STOP:
                self._stopped.add(trial.trial_id)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if not math.isfinite(result[VALUE]) or trial.trial_id in self._stopped:
            return TrialScheduler.STOP
        if result[EVALUATION] >= self._evaluations:
            return TrialScheduler.CONTINUE
        return super().on_trial_result(tune_controller, trial, result)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        if math.isfinite(result.get(VALUE, math.nan)):
            super().on_trial_complete(tune_controller, trial, result)
