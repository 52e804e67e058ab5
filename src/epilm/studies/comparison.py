"""From finished runs to the comparison: what every arm reached on each data set and over them, and paired margins. Pure but
for :func:`read_scores`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from epilm.evaluate.ranking import METRICS
from epilm.evaluate.recipe import BASE_RATE
from epilm.studies.figures import ArmScores, all_pairs, margins, summaries, with_means
from epilm.studies.plan import RIVALS, RUNS, BindingPlan, means_over
from epilm.studies.recipe import run_name
from epilm.tune.figures import summary

VALIDATION = "validation/auprc"
"""Key of the figure that a run was stopped by."""
SHOWN = ("auprc", *(name for name in METRICS if name != "auprc"))
"""Metrics in the order of tables and pages."""


@dataclass(frozen=True)
class Finished:
    """What the stages left.

    Args:
        fits: run name -> result of its fine-tuning.
        evaluation: result of the evaluation.
        resamples: its metrics in every resample: ``cell_type, target, submission, resample`` and a column a metric.
    """

    fits: Mapping[str, Mapping[str, Any]]
    evaluation: Mapping[str, Any]
    resamples: pd.DataFrame


def comparison_of(plan: BindingPlan, finished: Finished) -> dict[str, Any]:
    """``arms``, ``margins`` to the baseline, ``pairs`` of all others, and what they were tested on."""
    recipe, data_sets = plan.recipe, finished.evaluation["data_sets"]
    means = {name: [set_name(*pair) for pair in pairs] for name, pairs in means_over(plan.test).items()}
    arms = _arm_scores(plan, finished, means)
    level = recipe.bootstrap.level
    found = summaries(arms, level=level, seed=recipe.seed)
    base_rates = _base_rates(data_sets, means)
    first, rest = _split_pairs(list(arms), recipe.baseline)
    over_means = {name: _only(scores, means) for name, scores in arms.items()}
    return {
        "seeds": list(recipe.seeds),
        "baseline": recipe.baseline,
        "test": {
            "contigs": list(recipe.base.task.split.test_contigs),
            "cell_types": list(plan.test.cell_types),
            "held_out_cell_types": list(plan.test.held_out_cell_types),
            "means": means,
        },
        "data_sets": [_data_set(plan, one) for one in data_sets],
        "bootstrap": finished.evaluation["bootstrap"],
        "leaks": finished.evaluation["leaks"],
        "arms": [
            _arm(plan, name, arms[name], finished.fits) | {"summary": found[name] | base_rates} for name in recipe.arms
        ]
        + [_rival(plan, name, arms[name]) | {"summary": found[name] | base_rates} for name in recipe.rivals],
        "margins": margins(arms, first, level=level, seed=recipe.seed),
        "pairs": margins(over_means, rest, level=level, seed=recipe.seed),
    }


def set_name(cell_type: str, target: str) -> str:
    """Name of a data set, as it is read on the page."""
    return f"{target} in {cell_type}"


def read_scores(evaluation: Mapping[str, Any], resamples: pd.DataFrame) -> dict[str, ArmScores]:
    """Submission -> its metrics on every data set, one run each; a metric that is not defined is left out."""
    drawn = {
        key: table.sort_values("resample")
        for key, table in resamples.groupby(["submission", "cell_type", "target"], sort=False)
    }
    found: dict[str, ArmScores] = {}
    for one in evaluation["data_sets"]:
        place = set_name(one["cell_type"], one["target"])
        for name, entry in one["submissions"].items():
            scores = found.setdefault(name, ArmScores({}, {}))
            table = drawn.get((name, one["cell_type"], one["target"]))
            for metric, value in entry["metrics"].items():
                if value is not None:
                    scores.values[f"{place}/{metric}"] = np.array([value])
                    if table is not None:
                        scores.resampled[f"{place}/{metric}"] = table[metric].to_numpy(np.float64)[None]
    return found


def _arm_scores(plan: BindingPlan, finished: Finished, means: Mapping[str, Sequence[str]]) -> dict[str, ArmScores]:
    """Every arm with its runs stacked by seed, and the rivals with one run."""
    single = read_scores(finished.evaluation, finished.resamples)
    runs = {arm: [run_name(arm, seed) for seed in plan.recipe.seeds] for arm in plan.recipe.arms}
    found = {}
    for name, members in (runs | {name: [name] for name in plan.recipe.rivals}).items():
        found[name] = with_means(stacked([single[member] for member in members]), means, SHOWN)
        if name in runs:
            best = [finished.fits[member]["best"].get("auprc") for member in members]
            if all(value is not None for value in best):
                found[name].values[VALIDATION] = np.array(best, np.float64)
    return found


def stacked(runs: Sequence[ArmScores]) -> ArmScores:
    """Several runs as one arm: the metrics that all of them have."""
    first = runs[0]
    return ArmScores(
        {k: np.concatenate([r.values[k] for r in runs]) for k in first.values if all(k in r.values for r in runs)},
        {
            k: np.concatenate([r.resampled[k] for r in runs])
            for k in first.resampled
            if all(k in r.resampled for r in runs)
        },
    )


def _only(scores: ArmScores, means: Mapping[str, Any]) -> ArmScores:
    def kept(table: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in table.items() if key.rpartition("/")[0] in means}

    return ArmScores(kept(scores.values), kept(scores.resampled))


def _split_pairs(names: list[str], baseline: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    pairs = all_pairs(names, baseline)
    return [p for p in pairs if p[1] == baseline], [p for p in pairs if p[1] != baseline]


def _base_rates(data_sets: Sequence[Mapping[str, Any]], means: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """AUPRC of a constant score (the share of bound bins) on every data set and over them."""
    rates = {
        set_name(one["cell_type"], one["target"]): one["submissions"][BASE_RATE]["metrics"]["auprc"]
        for one in data_sets
    }
    over = {name: float(np.mean([rates[one] for one in sets])) for name, sets in means.items()}
    return {
        f"{name}/{BASE_RATE}_auprc": summary([value]) for name, value in (over | rates).items() if value is not None
    }


def _arm(plan: BindingPlan, name: str, scores: ArmScores, fits: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    runs = []
    for number, seed in enumerate(plan.recipe.seeds):
        result = fits[run_name(name, seed)]
        runs.append(
            {
                "seed": seed,
                "metrics": {key: float(values[number]) for key, values in scores.values.items()},
                "run": f"{RUNS}/{run_name(name, seed)}",
                **{key: result.get(key) for key in ("best_step", "steps", "stopped_early", "epochs")},
            }
        )
    first = fits[run_name(name, plan.recipe.seeds[0])]
    told = ("model_kind", "pretrained", "positives", "samples_per_epoch", "parameters")
    return {
        "name": name,
        "kind": "model",
        "overrides": plan.recipe.arms[name],
        **{key: first.get(key) for key in told},
        "runs": runs,
    }


def _rival(plan: BindingPlan, name: str, scores: ArmScores) -> dict[str, Any]:
    settings = plan.recipe.rivals[name].predictor.model_dump(mode="json", exclude_unset=True)
    metrics = {key: float(values[0]) for key, values in scores.values.items()}
    return {
        "name": name,
        "kind": "rival",
        "overrides": {f"predictor.{key}": value for key, value in settings.items()},
        "runs": [{"seed": plan.recipe.seeds[0], "metrics": metrics, "run": f"{RIVALS}/{name}"}],
    }


def _data_set(plan: BindingPlan, one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": set_name(one["cell_type"], one["target"]),
        "held_out": one["cell_type"] in plan.test.held_out_cell_types,
        **{key: one[key] for key in ("cell_type", "target", "num_positives", "num_negatives")},
    }
