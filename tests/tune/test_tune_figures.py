"""Means, spreads and paired margins on figures worked out by hand; the table that shows them."""

from __future__ import annotations

import math

import pytest

from epilm.errors import RecipeError
from epilm.tune.figures import comparable, compare, margin, summary
from epilm.tune.metrics import check_figure, check_metric
from epilm.tune.table import format_comparison

LOSS = "test_contigs/base_loss"

SUMS = ("dna_loss", "base_loss", "unigram_base_loss", "state_accuracy", "copy_state_accuracy")


def test_summary():
    assert summary([1.0, 2.0, 4.5]) == {
        "mean": 2.5,
        "sd": pytest.approx(math.sqrt((2.25 + 0.25 + 4.0) / 2)),
        "min": 1.0,
        "max": 4.5,
        "n": 3,
    }
    assert summary([2.0])["sd"] is None


def test_margins_are_paired_by_seed():
    """Seeds differ far more than arms: unpaired, nothing would show. t(0.975, 2) = 4.302653."""
    found = margin({0: 1.1, 1: 2.2, 2: 3.3}, {0: 1.0, 1: 2.0, 2: 3.0})
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert found == {
        "mean": pytest.approx(0.2),
        "low": pytest.approx(0.2 - half, abs=1e-6),
        "high": pytest.approx(0.2 + half, abs=1e-6),
        "n": 3,
    }


def test_a_margin_takes_common_seeds_alone():
    assert margin({0: 1.5, 7: 9.0}, {0: 1.0, 3: 2.0}) == {"mean": 0.5, "low": None, "high": None, "n": 1}
    assert margin({0: 1.0}, {1: 1.0}) is None


def test_figures_that_differ_by_token_are_left_out():
    metrics = {
        LOSS: 1.0,
        "test_contigs/dna_loss": 2.0,
        "test_contigs/unigram_base_loss": 1.3,
        "test_contigs/num_samples": 9,
    }
    per_base = {name: value for name, value in metrics.items() if "base" in name}
    assert comparable(metrics, same_tokens=False) == per_base
    assert comparable(metrics, same_tokens=True) == {**per_base, "test_contigs/dna_loss": 2.0}


def test_comparison_and_its_table():
    runs = {
        "uniform": {0: {LOSS: 1.30, "test_contigs/unigram_base_loss": 1.38}, 1: {LOSS: 1.32}},
        "span": {0: {LOSS: 1.25}, 1: {LOSS: 1.29}},
        "lost": {0: {LOSS: None}, 1: {LOSS: None}},
    }
    summaries, margins = compare(runs, "uniform")
    assert summaries["span"][LOSS]["mean"] == pytest.approx(1.27)
    assert summaries["lost"] == {}
    assert [(m["arm"], m["metric"], round(m["mean"], 6), m["n"]) for m in margins] == [("span", LOSS, -0.04, 2)]
    arms = [{"name": name, "summary": summaries[name]} for name in runs]
    table = format_comparison({"arms": arms, "baseline": "uniform", "margins": margins})
    block = table.split("\n\n")[0].splitlines()
    assert block[0] == LOSS
    assert block[1].split()[:5] == ["arm", "mean", "sd", "n", "margin"]
    assert block[2].split() == ["uniform", "1.3100", "0.0141", "2", "baseline"]
    assert block[3].split()[:5] == ["span", "1.2700", "0.0283", "2", "-0.0400"]
    assert block[4].split()[:2] == ["(unigram)", "1.3800"]
    assert len(block) == 5


@pytest.mark.parametrize(
    ("metric", "mode", "keys", "message"),
    [
        ("base_loss", "min", [], "not of the form <set>/<figure>"),
        ("test_contigs/base_loss", "min", [], "nothing may be chosen"),
        ("held_out_contigs/base_loss", "max", [], "mode='min'"),
        ("held_out_contigs/base_accuracy", "min", [], "mode='max'"),
        ("held_out_contigs/dna_loss", "min", ["task.tokens.k"], "varies task.tokens.k"),
        ("held_out_contigs/dna_accuracy", "max", ["task.dna_mask.policy", "task.tokens.stride"], "task.tokens.stride"),
        ("held_out_contigs/loss", "min", ["task.alpha"], "task.alpha"),
        ("held_out_contigs/state_loss", "min", ["task.state_mask.flank_bp"], "task.state_mask.flank_bp"),
    ],
)
def test_metrics_that_cannot_choose_are_refused(metric, mode, keys, message):
    with pytest.raises(RecipeError, match=message):
        check_metric(metric, mode, keys)


def test_metrics_that_can_choose():
    check_metric("held_out_contigs/base_loss", "min", ["task.tokens.k", "task.dna_mask.policy"])
    check_figure("held_out_contigs/dna_perplexity", SUMS)
    for name, message in [
        ("base_los", "Did you mean 'base_loss'"),
        ("unigram_base_loss", "no evaluation of a model"),
        ("copy_state_accuracy", "no evaluation of a model"),
    ]:
        with pytest.raises(RecipeError, match=message):
            check_figure(f"held_out_contigs/{name}", SUMS)
    check_metric("held_out_contigs/base_accuracy", "max", ["task.tokens.stride"])
    check_metric("held_out_contigs/dna_loss", "min", ["train.optimizer.lr", "task.dna_mask.policy"])
    check_metric("held_out_contigs/state_accuracy", "max", ["task.dna_mask.rate"])
