"""From literal results of the stages to the comparison and its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from study_toy import study_recipe

from epilm.config import parse_recipe
from epilm.evaluate.ranking import METRICS
from epilm.report.binding_study import pair_table, study_view
from epilm.report.collect import RunRecord
from epilm.studies.check import check_eval_binding
from epilm.studies.comparison import Finished, comparison_of
from epilm.studies.plan import BindingPlan
from epilm.studies.recipe import EvalBindingRecipe
from epilm.studies.table import format_comparison

PAIRS = [(cell, target) for cell in ("blood", "heart", "lung") for target in ("TF1", "TF2")]
RUNS = {"ebert-s0": 0.50, "ebert-s1": 0.60, "few-s0": 0.30, "few-s1": 0.38, "kmers": 0.10}
"""AUPRC on TF1 in blood; .01 more on each data set after it."""
NUM = 20


@pytest.fixture(scope="module")
def plan(toy: Path) -> BindingPlan:
    rivals = {"kmers": {"predictor": {"kind": "kmer_logistic", "k": 2}}}
    return check_eval_binding(parse_recipe(EvalBindingRecipe, study_recipe(toy, rivals=rivals)))


def finished() -> Finished:
    """Resamples ``r`` shift every figure by ``r`` thousandths, alike in all runs."""
    data_sets, rows = [], []
    for place, (cell, target) in enumerate(PAIRS):
        submissions = {}
        for name, first in RUNS.items():
            auprc = first + 0.01 * place
            submissions[name] = {"metrics": dict.fromkeys(METRICS, 0.5) | {"auprc": auprc, "recall_at_10_fdr": None}}
            for r in range(NUM):
                drawn = dict.fromkeys(METRICS, 0.5) | {"auprc": auprc + 0.001 * r}
                rows.append({"cell_type": cell, "target": target, "submission": name, "resample": r, **drawn})
        submissions["base_rate"] = {"metrics": dict.fromkeys(METRICS, 0.04)}
        counts = {"num_positives": 50 + place, "num_negatives": 100}
        data_sets.append({"cell_type": cell, "target": target, **counts, "submissions": submissions})
    shuffled = pd.DataFrame(rows).sample(frac=1, random_state=0)
    evaluation = {"data_sets": data_sets, "bootstrap": {"num": NUM, "level": 0.95, "num_blocks": 16}, "leaks": {}}
    fits: dict[str, dict[str, Any]] = {
        name: {"best": {"auprc": value + 0.05}, "best_step": 2, "positives": 16 if name[:3] == "few" else 300}
        for name, value in RUNS.items()
    }
    return Finished(fits, evaluation, shuffled)


@pytest.fixture(scope="module")
def comparison(plan: BindingPlan) -> dict[str, Any]:
    return comparison_of(plan, finished())


def arm(comparison: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in comparison["arms"] if one["name"] == name)


def test_means_are_over_trained_and_held_out_cell_types(comparison: dict[str, Any]) -> None:
    assert comparison["test"]["means"] == {
        "test_contigs": ["TF1 in blood", "TF2 in blood", "TF1 in heart", "TF2 in heart"],
        "held_out_cell_types": ["TF1 in lung", "TF2 in lung"],
    }
    summary = arm(comparison, "ebert")["summary"]
    assert summary["test_contigs/auprc"]["mean"] == pytest.approx(0.55 + 0.015)
    assert summary["held_out_cell_types/auprc"]["mean"] == pytest.approx(0.55 + 0.045)
    assert summary["test_contigs/auprc"]["sd"] == pytest.approx(np.std([0.5, 0.6], ddof=1))
    assert summary["TF2 in lung/auprc"]["mean"] == pytest.approx(0.60)
    assert summary["validation/auprc"]["mean"] == pytest.approx(0.60)
    assert "low" not in summary["validation/auprc"]
    assert summary["test_contigs/base_rate_auprc"]["mean"] == pytest.approx(0.04)
    assert "test_contigs/recall_at_10_fdr" not in summary  # undefined somewhere: no figure rather than half of one


def test_intervals_span_resamples_and_seeds(comparison: dict[str, Any]) -> None:
    found = arm(comparison, "ebert")["summary"]["test_contigs/auprc"]
    assert 0.515 <= found["low"] < 0.535 < 0.60 < found["high"] <= 0.615 + 0.02
    rival = arm(comparison, "kmers")["summary"]["test_contigs/auprc"]  # one run: the genome alone
    assert (rival["low"], rival["high"]) == pytest.approx((0.115 + 0.001 * 0.475, 0.115 + 0.001 * 18.525))
    assert rival["sd"] is None


def test_margins_to_the_baseline_and_all_other_pairs(comparison: dict[str, Any]) -> None:
    margins = {(m["arm"], m["metric"]): m for m in comparison["margins"]}
    few = margins["few", "held_out_cell_types/auprc"]
    assert few["mean"] == pytest.approx(-0.21)
    # the shift of a resample falls out of a difference; what is left are the seeds: -.20, -.22, or both
    assert (few["low"], few["high"]) == pytest.approx((-0.22, -0.20))
    assert margins["kmers", "test_contigs/auprc"]["mean"] == pytest.approx(-0.45)
    assert ("few", "TF1 in lung/auprc") in margins
    (pair,) = [m for m in comparison["pairs"] if m["metric"] == "test_contigs/auprc"]
    assert (pair["arm"], pair["baseline"], pair["mean"]) == ("kmers", "few", pytest.approx(0.10 - 0.34))
    assert {m["metric"].split("/")[0] for m in comparison["pairs"]} == {"test_contigs", "held_out_cell_types"}


def test_every_run_is_told_with_its_labels(comparison: dict[str, Any]) -> None:
    few, kmers = arm(comparison, "few"), arm(comparison, "kmers")
    assert (few["positives"], few["overrides"]) == (16, {"task.sampling.max_positives": 16})
    assert [(run["seed"], run["run"], run["best_step"]) for run in few["runs"]] == [
        (0, "runs/few-s0", 2),
        (1, "runs/few-s1", 2),
    ]
    assert few["runs"][1]["metrics"]["TF1 in blood/auprc"] == pytest.approx(0.38)
    assert (kmers["kind"], kmers["overrides"]) == ("rival", {"predictor.kind": "kmer_logistic", "predictor.k": 2})
    assert comparison["data_sets"][4] == {
        "name": "TF1 in lung",
        "held_out": True,
        "cell_type": "lung",
        "target": "TF1",
        "num_positives": 54,
        "num_negatives": 100,
    }


def test_the_table_has_all_arms_and_the_base_rate(comparison: dict[str, Any]) -> None:
    blocks = dict(block.split("\n", 1) for block in format_comparison(comparison).split("\n\n"))
    assert list(blocks)[:2] == ["test_contigs/auprc", "test_contigs/auroc"]
    assert "TF2 in lung/auprc" in blocks
    heads, ebert, few, kmers, rate = (line.split() for line in blocks["held_out_cell_types/auprc"].split("\n"))
    assert heads[:4] == ["arm", "mean", "sd", "n"]
    assert (ebert[:4], ebert[-1]) == (["ebert", "0.5950", "0.0707", "2"], "baseline")
    assert few[-3:] == ["-0.2100", "[-0.2200,", "-0.2000]"]
    assert kmers[:4] == ["kmers", "0.1450", "-", "1"]
    assert rate[:3] == ["(base", "rate)", "0.0400"]


def test_the_report_shows_what_the_study_writes(comparison: dict[str, Any]) -> None:
    record = RunRecord("study", "runs/study", "finished", stage="eval-binding", result=comparison)
    view = study_view(record)
    assert view is not None
    assert view.levels[0].title == "AUPRC on test contigs"
    assert [row.label for row in view.levels[0].rows] == ["ebert", "few", "kmers"]
    assert view.levels[0].remark == "higher is better; share of bound bins: 0.0400"
    assert ("Bound training bins", "ebert 300, few 16") in view.facts
    assert [row[:2] for row in pair_table(record)[1]] == [("kmers", "few")] * 2
