"""Thinning, numbers as text, regression scores and verdicts: the pure parts of the report."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from epilm.report.collect import RunRecord
from epilm.report.corpora import state_colours
from epilm.report.generic import block
from epilm.report.learning import final_tables, headline_tiles
from epilm.report.regression import differences, feature_sets, panels, read_score
from epilm.report.settings import differences as settings_differences
from epilm.report.settings import glance
from epilm.report.text import number, show, words
from epilm.report.thin import thin


def record(name: str, stage: str, result: dict[str, Any] | None = None, recipe: Any = None) -> RunRecord:
    return RunRecord(name, f"runs/{name}", "finished", stage=stage, result=result or {}, recipe=recipe or {})


def test_thin_keeps_every_extreme() -> None:
    values = np.sin(np.arange(10_000) / 50)
    values[4321] = 99.0
    values[17] = np.nan
    steps, columns = thin(np.arange(10_000), {"loss": values}, 100)
    column = columns["loss"]
    assert len(steps) == 100
    assert (steps[0], steps[-1]) == (0, 9999)
    assert column.high is not None
    assert column.low is not None
    assert column.high.max() == 99.0
    assert column.low.min() == pytest.approx(np.nanmin(values))
    assert column.mean[50] == pytest.approx(values[5000:5100].mean())
    assert column.mean[0] == pytest.approx(np.nanmean(values[:100]))


def test_thin_leaves_a_short_history_alone() -> None:
    steps, columns = thin(np.arange(3), {"loss": np.array([1.0, np.inf, 2.0])}, 100)
    assert steps.tolist() == [0, 1, 2]
    assert np.isnan(columns["loss"].mean[1])
    assert columns["loss"].low is None


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (None, "number", "–"),
        (True, "number", "yes"),
        (float("nan"), "percent", "not a number"),
        (float("-inf"), "number", "−∞"),
        (1234567, "number", "1,234,567"),
        (0.00001234, "number", "1.23e−05"),
        (-0.25, "signed", "−0.250"),
        (0.7812, "percent", "78.1 %"),
        (0.0031, "percent", "0.31 %"),
        (1_500_000, "bp", "1.5 Mb"),
        (2048, "bytes", "2 KiB"),
        (0.0123, "seconds", "12.3 ms"),
        ("chr1", "number", "chr1"),
    ],
)
def test_show(value: Any, style: str, text: str) -> None:
    assert show(value, style) == text


def test_number_and_words() -> None:
    assert number("7") is None
    assert number(True) is None
    assert number(10**400) is None
    assert words("held_out_cell_types") == "held-out cell types"
    assert words("held_out_both") == "held-out contigs and cell types"


def test_regression_scores_with_their_seeds() -> None:
    entry = {
        "pearson": {"value": 0.5, "low": 0.4, "high": 0.6},
        "r2": 0.2,
        "seeds": {"pearson": {"mean": 0.5, "sd": 0.01, "values": [0.49, 0.51]}, "r2": {"values": [0.2]}},
    }
    score = read_score(entry, "pearson")
    assert (score.value, score.low, score.high, score.seeds) == (0.5, 0.4, 0.6, (0.49, 0.51))
    assert read_score(entry, "r2").value == 0.2
    assert read_score(entry, "r2").seeds == ()
    assert read_score(entry, "spearman").value is None


def test_regression_bars_are_ordered_and_placed() -> None:
    features = {
        "mean": {"pearson": {"value": None, "low": None, "high": None}},
        "kmers": {"pearson": {"value": -0.1, "low": -0.2, "high": 0.0}},
        "ebert": {"pearson": {"value": 0.5, "low": 0.4, "high": 0.6}},
    }
    (panel,) = panels(feature_sets([record("fit", "regress", {"features": features})]))
    assert [bar.label for bar in panel.bars] == ["ebert", "kmers", "mean"]
    assert [bar.best for bar in panel.bars] == [True, False, False]
    ebert, kmers, mean = panel.bars
    assert ebert.left == pytest.approx(panel.zero)
    assert kmers.left + kmers.width == pytest.approx(panel.zero)
    assert ebert.width == pytest.approx(5 * kmers.width)
    assert ebert.low is not None
    assert ebert.high is not None
    assert ebert.low < ebert.left + ebert.width < ebert.high
    assert (mean.text, mean.width, mean.interval) == ("–", 0.0, "")


def test_regression_differences_name_their_runs() -> None:
    interval = {"value": -0.3, "low": -0.5, "high": -0.1}
    result = {"features": {}, "differences": [{"first": "a", "second": "b", "pearson": interval}]}
    one, two = record("one", "regress", result), record("two", "regress", result)
    assert differences([one]) == (("a", "b", "−0.300 [−0.500, −0.100]", "second is better"),)
    assert [row[0] for row in differences([one, two])] == ["a · one", "a · two"]


def test_learning_verdict_needs_every_baseline_beaten() -> None:
    metrics = {"state_accuracy": 0.70, "copy_state_accuracy": 0.72, "majority_state_accuracy": 0.4}
    (table,) = final_tables([record("ebert", "pretrain", {"final": {"held_out_contigs": metrics}})])
    cell = table.rows[0][2][0]
    assert (cell.verdict, cell.note) == ("below", "−2.0 points against the best baseline")
    metrics["state_accuracy"] = 0.75
    (table,) = final_tables([record("ebert", "pretrain", {"final": {"held_out_contigs": metrics}})])
    assert table.rows[0][2][0].verdict == "above"


def test_headline_puts_held_out_contigs_first() -> None:
    final = {"held_out_cell_types": {"state_accuracy": 0.7}, "held_out_contigs": {"state_accuracy": 0.8}}
    tiles = headline_tiles([record("ebert", "pretrain", {"final": final})])
    assert [tile.subtitle for tile in tiles] == ["on held-out contigs", "on held-out cell types"]


def test_settings_show_only_what_differs() -> None:
    a = record("a", "pretrain", recipe={"name": "a", "seed": 1, "train": {"lr": 0.1, "steps": 5}})
    b = record("b", "pretrain", recipe={"name": "b", "seed": 1, "train": {"lr": 0.2, "steps": 5}})
    assert settings_differences([a, b]).rows == (("train.lr", ("0.1", "0.2")),)


def test_settings_at_a_glance_carry_their_units() -> None:
    result = {"stage": "pretrain", "median_step_time_s": 0.25, "tokens_per_s": 1e4, "corpus": "runs/x", "final": {}}
    rows = glance([record("a", "pretrain", result)]).rows
    assert rows == (("median step time", ("250 ms",)), ("tokens per s", ("10,000",)))


def test_generic_block_lays_out_facts_tables_and_blocks() -> None:
    shown = block(
        "bench", {"cores": 2, "results": [{"name": "a", "ratio": 2.0}, {"name": "b"}], "more": {"x": {"y": 1}}}
    )
    assert shown.facts == (("cores", "2"),)
    table, nested = shown.children
    assert table.columns == ("name", "ratio")
    assert table.rows[1] == ("b", "–")
    assert nested.children[0].facts == (("y", "1"),)


def test_state_colours_are_customary_and_distinct() -> None:
    colours = state_colours(["1_TssA", "2_TssFlnk", "4_Enh", "18_Quiescent/low_signal", "word7"])
    assert colours["1_TssA"] == "#e0483e"
    assert len(set(colours.values())) == 5
