"""Arms over seeds, margins against zero, n-gram tables, and what a masking policy did: literal figures, literal words."""

from __future__ import annotations

from typing import Any

import pytest

from epilm.report.collect import RunRecord
from epilm.report.comparisons import comparison_view, margin_verdict
from epilm.report.curves import run_frames, run_marks, stage_curves
from epilm.report.learning import final_tables, headline_tiles
from epilm.report.ngrams import ngram_view
from epilm.report.text import interval, show, signed, spread

LOSS = "held_out_contigs/base_loss"
TEST_LOSS = "test_contigs/base_loss"


def arm(name: str, values: list[float], sd: float | None) -> dict[str, Any]:
    mean = sum(values) / len(values)
    summary = {"mean": mean, "sd": sd, "min": min(values), "max": max(values), "n": len(values)}
    runs = [
        {"seed": seed, "metrics": {LOSS: v, TEST_LOSS: v + 0.01}, "run": f"arms/{name}/seed-{seed}"}
        for seed, v in enumerate(values)
    ]
    unigram = {"mean": 1.357, "sd": 0.0, "min": 1.357, "max": 1.357, "n": len(values)}
    test = {**summary, "mean": mean + 0.01}
    figures = {TEST_LOSS: test, LOSS: summary, "held_out_contigs/unigram_base_loss": unigram}
    return {"name": name, "overrides": {"task.dna_mask.policy": name}, "runs": runs, "summary": figures}


def comparison() -> dict[str, Any]:
    return {
        "arms": [arm("uniform", [1.32, 1.33, 1.34], 0.01), arm("genemask", [1.30, 1.31, 1.32], 0.01)],
        "baseline": "uniform",
        "margins": [{"arm": "genemask", "metric": LOSS, "mean": -0.02, "low": -0.03, "high": -0.01, "n": 3}],
    }


def test_comparison_levels_and_margins() -> None:
    view = comparison_view("masking", comparison())
    assert view is not None
    assert view.seeds == "3 seeds an arm (0, 1, 2)."
    level, test = view.levels
    assert (level.title, test.title) == ("Base loss on held-out contigs", "Base loss on test contigs")
    assert level.remark == "lower is better; unigram frequencies: 1.3570"
    assert [(r.label, r.text, r.detail, r.remark, r.verdict) for r in level.rows] == [
        ("genemask", "1.3100", "± 0.0100", "", "best"),
        ("uniform", "1.3300", "± 0.0100", "baseline", ""),
    ]
    best, baseline = level.rows
    assert len(best.dots) == 3
    assert best.low is not None
    assert best.high is not None
    assert best.low == pytest.approx(best.dots[0])
    assert best.at == pytest.approx(best.dots[1])
    assert best.high == pytest.approx(baseline.dots[0])
    margin, none = view.margins
    assert none is None
    assert margin is not None
    assert margin.zero is not None
    (row,) = margin.rows
    assert (row.text, row.detail, row.remark, row.verdict) == ("−0.0200", "[−0.0300, −0.0100]", "better", "above")
    assert row.high is not None
    assert row.high < margin.zero
    assert margin.remark == "arm minus uniform; below zero is better"


def test_comparison_table_and_single_runs() -> None:
    view = comparison_view("masking", comparison())
    assert view is not None
    assert view.table.heads == ("Base loss on held-out contigs", "Base loss on test contigs")
    name, remark, seeds, cells = view.table.rows[0]
    assert (name, remark, seeds) == ("genemask", "", "3")
    assert [(level, margin.text, margin.verdict) for level, margin in cells] == [
        ("1.3100 ± 0.0100", "−0.0200 [−0.0300, −0.0100]", "above"),
        ("1.3200 ± 0.0100", "", ""),
    ]
    assert view.settings[0] == ("genemask", "task.dna_mask.policy=genemask")
    assert view.single[1][0] == ("genemask", "0", "1.3000", "1.3100", "arms/genemask/seed-0")


def test_comparison_of_one_seed_has_no_spread() -> None:
    content = {
        "arms": [arm("uniform", [1.33], None), arm("span", [1.32], None)],
        "baseline": "uniform",
        "margins": [{"arm": "span", "metric": LOSS, "mean": -0.01, "low": None, "high": None, "n": 1}],
    }
    view = comparison_view("masking", content)
    assert view is not None
    assert view.seeds == "One seed (0): neither spread nor interval can be told."
    assert (view.levels[0].rows[0].detail, view.levels[0].rows[0].low) == ("", None)
    assert view.margins[0] is not None
    assert view.margins[0].rows[0].remark == "no interval"


@pytest.mark.parametrize("broken", [{}, {"arms": []}, {"arms": [{"name": "a"}]}, {"arms": [{"summary": {}}]}])
def test_comparison_without_figures_is_none(broken: dict[str, Any]) -> None:
    assert comparison_view("masking", broken) is None


@pytest.mark.parametrize(
    ("low", "high", "better", "verdict"),
    [
        (-0.03, -0.01, "lower", ("above", "better")),
        (0.01, 0.03, "lower", ("below", "worse")),
        (0.01, 0.03, "higher", ("above", "better")),
        (-0.01, 0.02, "lower", ("", "not told apart")),
        (0.01, 0.02, "", ("", "differs")),
        (None, None, "lower", ("", "no interval")),
    ],
)
def test_comparison_verdict(low: float | None, high: float | None, better: str, verdict: tuple[str, str]) -> None:
    assert margin_verdict(low, high, better) == verdict


def test_figures_of_comparisons_as_text() -> None:
    assert signed(-0.0031, "fine") == "−0.0031"
    assert signed(0.0262, "percent") == "+2.62 points"
    assert interval(-0.01, 0.02, "percent") == "[−1.00, +2.00]"
    assert (spread(0.00004, "fine"), spread(0.0, "fine"), spread(0.0012, "percent")) == ("0.00004", "0.0000", "0.12 %")
    assert [show(s, "duration") for s in (59.0, 600, 18_720, 200_000)] == ["59 s", "10 min", "5 h 12 min", "2 d 7 h"]


def test_ngrams_lists_and_absent_keys() -> None:
    entry = lambda kmer, npmi: {"kmer": kmer, "count": 900, "npmi": npmi, "rank": 1}
    content = {
        "contigs_counted": ["chrI", "chrII"],
        "num_bases": 12_000,
        "ngrams": {"3": {"possible": 64, "seen": 60, "scored_share": 0.5, "lowest_npmi": -0.25}},
        "top_3mers": [entry("AAA", 0.5)],
        "bottom_3mers": [entry("TAG", -0.25)],
        "top_6mers": [entry("AAAAAA", 1.5)],
    }
    view = ngram_view(RunRecord("npmi", "runs/npmi", "finished", stage="npmi", result=content))
    assert view is not None
    assert dict(view.facts) == {"Contigs counted": "2: chrI, chrII", "Bases counted": "12,000"}
    assert view.lengths == (("3", "64", "60", "–", "–", "50.0 %", "−0.250", "–", "–"),)
    assert [item.title for item in view.lists] == [
        "Highest NPMI, 6-mers",
        "Highest NPMI, 3-mers",
        "Lowest NPMI, 3-mers",
    ]
    (low,) = view.lists[2].rows
    assert (low.kmer, low.npmi, low.share) == ("TAG", "−0.250", 50.0)
    assert ngram_view(RunRecord("npmi", "runs/npmi", "unfinished", stage="npmi")) is None


def pretrain(metrics: list[dict[str, Any]], name: str = "gems") -> RunRecord:
    return RunRecord(name, f"runs/{name}", "unfinished", stage="pretrain", metrics=metrics)


def curriculum() -> list[dict[str, Any]]:
    masked = {
        "mask_rate": 0.15,
        "top_npmi_masked": 0.2,
        "masked_that_are_top": 0.1,
        "global_share": 0.0,
        "switched": 0.0,
    }
    figures = {"base_loss": 1.31, "base_accuracy": 0.4, "unigram_base_loss": 1.357, "unigram_base_accuracy": 0.31}
    return [
        {"kind": "train", "step": 10, "loss": 8.0, **masked},
        {"kind": "eval", "step": 10, "set": "test_contigs", **figures},
        {"kind": "eval", "step": 10, "set": "held_out_contigs", **figures},
        {"kind": "event", "step": 10, "switched": 1.0, "global_share": 1.0, "time": 5.0},
        {"kind": "train", "step": 20, "loss": 7.9, **masked, "global_share": 1.0, "switched": 1.0},
    ]


def test_masking_events_are_marks_and_no_curves() -> None:
    record = pretrain(curriculum())
    assert [frame.set for frame in run_frames(record)] == ["train", "held_out_contigs", "test_contigs"]
    assert [(m.run, m.step, m.word) for m in run_marks(record)] == [("gems", 10, "Global PMI")]
    other = pretrain([{"kind": "event", "step": 5, "difficulty": 2}, {"kind": "event", "step": 7, "global_share": 0.3}])
    assert [m.word for m in run_marks(other)] == ["switch", "30.0 % Global PMI"]
    assert run_frames(other) == []


def test_masking_has_a_panel_of_its_own() -> None:
    stage = stage_curves([pretrain(curriculum())])["pretrain"]
    groups = {group["title"]: [chart["key"] for chart in group["charts"]] for group in stage["groups"]}
    assert groups["Masking"] == ["mask_rate", "top_npmi_masked", "masked_that_are_top", "global_share"]
    assert groups["Learning"] == ["base_loss", "base_accuracy", "loss"]
    assert "Other metrics" not in groups
    loss = next(c for group in stage["groups"] for c in group["charts"] if c["key"] == "base_loss")
    assert [b["key"] for b in loss["baselines"]] == ["unigram_base_loss"]
    assert loss["reference"]["value"] == pytest.approx(1.3863, abs=1e-4)
    assert stage["marks"] == [{"run": "gems", "step": 10, "word": "Global PMI", "when": "from step"}]


def test_masking_base_loss_stands_beside_unigrams() -> None:
    record = pretrain(curriculum())
    held_out, test = final_tables([record])
    assert (held_out.title, test.title) == ("Held-out contigs", "Test contigs")
    group = held_out.groups[0]
    assert (group.metric.title, group.labels) == ("Base loss", ("model", "unigram frequencies"))
    cells = held_out.rows[0][2]
    assert [(c.text, c.verdict) for c in cells[:2]] == [("1.3100", "above"), ("1.3570", "baseline")]
    (tile,) = headline_tiles([record])
    assert (tile.title, tile.subtitle) == ("Base accuracy", "on held-out contigs")


def test_masking_trial_of_a_sweep_has_flat_figures() -> None:
    flat = {"held_out_contigs/base_loss": 1.31, "held_out_contigs/unigram_base_loss": 1.357}
    trial = RunRecord("t003", "runs/sweep/trials/t003", "finished", stage="trial", result={"final": flat})
    (table,) = final_tables([trial])
    assert [cell.text for cell in table.rows[0][2]] == ["1.3100", "1.3570"]
