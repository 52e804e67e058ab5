"""Optuna's search over a space, and how much each setting mattered."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from ray.tune.search.optuna import OptunaSearch

from epilm.tune.plan import NUMBER
from epilm.tune.records import TrialRecord
from epilm.tune.space import Drawn, Parameter, Scalar, Value, draw
from epilm.tune.trainable import VALUE

FEWEST = 8
"""Trials below which the importance of settings is not told."""
MANY = 40
"""Trials from which it is told without a warning."""


class Drawing:
    """Optuna's define-by-run function: draws the keys that take part, and numbers the trial."""

    def __init__(self, space: Mapping[str, Parameter]) -> None:
        self._space = dict(space)

    def __call__(self, trial: Any) -> dict[str, Any]:
        lists: dict[str, Any] = {}

        def choose(key: str, parameter: Parameter) -> Value:
            found = distribution(parameter)
            if isinstance(found, CategoricalDistribution):
                value = trial.suggest_categorical(key, found.choices)
                of_text = {_choice(v): v for v in parameter.values or () if isinstance(v, tuple)}
                if isinstance(value, str) and value in of_text:
                    value = of_text[value]
                    lists[key] = list(value)
                return value
            if isinstance(found, IntDistribution):
                return trial.suggest_int(key, found.low, found.high, step=found.step, log=found.log)
            assert isinstance(found, FloatDistribution)
            return trial.suggest_float(key, found.low, found.high, step=found.step, log=found.log)

        draw(self._space, choose)
        return {**lists, NUMBER: trial.number}


def distribution(parameter: Parameter) -> BaseDistribution:
    """Optuna's form of a parameter."""
    if parameter.values is not None:
        return CategoricalDistribution([_choice(value) for value in parameter.values])
    assert parameter.low is not None
    assert parameter.high is not None
    if parameter.int:
        return IntDistribution(
            round(parameter.low), round(parameter.high), log=parameter.log, step=round(parameter.step or 1)
        )
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def _choice(value: Any) -> Scalar:
    """Optuna chooses among numbers and text alone: a list as its JSON."""
    return json.dumps(value) if isinstance(value, tuple | list) else value


def make_search(space: Mapping[str, Parameter], *, mode: str, seed: int, trials: int) -> OptunaSearch:
    """A seeded tree-structured Parzen estimator (Bergstra et al. 2011); its first draws are random, a third of the trials
    but 4 to 10."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, min(10, trials // 3)))
    return OptunaSearch(Drawing(space), metric=VALUE, mode=mode, sampler=sampler)


def importance(
    records: list[TrialRecord], space: Mapping[str, Parameter], *, mode: str, evaluations: int
) -> tuple[dict[str, float] | None, str]:
    """(setting -> share of how much it tells good trials from others, what to know about it).

    PED-ANOVA (Watanabe et al. 2023). Values are compared at equal tokens: at the end, or, where early stop left too few
    there, at the last evaluation that enough trials reached.
    """
    values: dict[int, list[tuple[Drawn, float]]] = {}
    for record in records:
        for evaluation in record.evaluations:
            if evaluation.value is not None:
                values.setdefault(evaluation.index, []).append((record.parameters, evaluation.value))
    index = max((i for i, found in values.items() if len(found) >= FEWEST), default=None)
    if index is None:
        most = max(map(len, values.values()), default=0)
        equal = " at equal tokens" if evaluations > 1 else ""
        return None, f"{most} trials can be compared{equal}; the importance of settings needs {FEWEST}."
    points = values[index]
    shares = _ped_anova(points, space, mode)
    note = f"PED-ANOVA over {len(points)} trials at evaluation {index} of {evaluations}"
    if index < evaluations:
        note += ", the last that so many trials reached"
    if len(points) < MANY:
        note += f"; with fewer than {MANY} trials it is a hint, not a measurement"
    return shares, f"{note}."


def _ped_anova(points: list[tuple[Drawn, float]], space: Mapping[str, Parameter], mode: str) -> dict[str, float]:
    study = optuna.create_study(direction="minimize" if mode == "min" else "maximize")
    for parameters, value in points:
        distributions = {key: distribution(space[key]) for key in parameters}
        params = {key: _choice(value) for key, value in parameters.items()}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
    # its authors ask for at least five trials among the good ones
    evaluator = PedAnovaImportanceEvaluator(target_quantile=min(0.5, max(0.1, 5 / len(points))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {key: float(share) for key, share in get_param_importances(study, evaluator=evaluator).items()}
