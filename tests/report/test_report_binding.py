"""TF binding on the page: literal results, literal words and places."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
import report_binding as binding

from epilm.report import build_report
from epilm.report.binding import evaluation_view, evaluation_views
from epilm.report.binding_curves import chart_data
from epilm.report.binding_study import pair_table, study_view
from epilm.report.catalog import baseline_of, metric
from epilm.report.collect import RunRecord, collect_run
from epilm.report.curves import best_step, run_marks, stage_curves
from epilm.report.learning import final_tables, headline_tiles
from epilm.storage import Location


def record(result: dict[str, Any], stage: str) -> RunRecord:
    return RunRecord("run", f"runs/{stage}", "finished", stage=stage, result=result)


@pytest.fixture
def finetuned(tmp_path: Path) -> RunRecord:
    return collect_run(Location(str(binding.finetune_run(tmp_path / "ebert"))))


def test_finetune_shows_the_step_that_is_kept(finetuned: RunRecord, tmp_path: Path) -> None:
    (table,) = final_tables([finetuned])
    assert table.title == "Validation"
    first = table.groups[0]
    assert (first.metric.title, first.labels) == ("AUPRC", ("model", "share of bound bins"))
    name, remark, cells = table.rows[0]
    assert (name, remark) == ("ebert", "best, at step 70")
    assert (cells[0].text, cells[0].verdict, cells[1].text) == ("0.4000", "above", "0.0200")
    (mark,) = run_marks(finetuned)
    assert (mark.step, mark.word, mark.when) == (70, "best AUPRC", "at step")
    unfinished = collect_run(Location(str(binding.finetune_run(tmp_path / "killed", finished=False))))
    assert best_step(unfinished) == 70


def test_finetune_curves_have_the_base_rate_beside_them(finetuned: RunRecord) -> None:
    stage = stage_curves([finetuned])["finetune"]
    charts = {chart["key"]: chart for group in stage["groups"] for chart in group["charts"]}
    assert charts["auprc"]["baselines"] == [{"key": "base_rate_auprc", "name": "base_rate"}]
    assert charts["auprc.TF1"]["title"] == "AUPRC, TF1"
    assert "base_rate_auprc" not in charts
    assert stage["marks"] == [{"run": "ebert", "step": 70, "word": "best AUPRC", "when": "at step"}]
    (tile,) = headline_tiles([finetuned])
    assert (tile.title, tile.subtitle) == ("AUPRC", "on validation")
    assert [(bar.label, bar.text) for bar in tile.bars] == [("ebert", "0.4000"), ("share of bound bins", "0.0200")]


def test_baselines_of_two_words() -> None:
    keys = ["auprc", "base_rate_auprc", "base_loss", "loss", "copy_state_accuracy", "state_accuracy"]
    found = {key: baseline_of(key, keys) for key in keys}
    assert found["base_rate_auprc"] == ("base_rate", "auprc")
    assert found["base_loss"] is None
    assert found["copy_state_accuracy"] == ("copy", "state_accuracy")
    assert metric("auprc.CTCF").style == metric("auprc").style


def test_evaluation_panels_with_intervals_and_differences() -> None:
    view = evaluation_view(record(binding.evaluate_result([("lung", "TF1")]), "evaluate"))
    assert view is not None
    (one,) = view.data_sets
    assert (one.title, one.remark, one.curves) == ("TF1 in lung", "1,234 bound bins, 56,789 unbound", 0)
    rows = one.level.rows
    assert [(r.label, r.text, r.detail, r.remark, r.verdict) for r in rows] == [
        ("ebert", "0.4500", "[0.4000, 0.5000]", "", "best"),
        ("dbert", "0.3000", "[0.2500, 0.3500]", "baseline", ""),
        ("constant score", "0.0200", "[−0.0300, 0.0700]", "", ""),
    ]
    ebert, dbert = rows[0], rows[1]
    assert None not in (ebert.low, ebert.at, ebert.high, dbert.at)
    assert ebert.at - ebert.low == pytest.approx(ebert.high - ebert.at)
    assert (ebert.at - dbert.at) / (ebert.high - ebert.low) == pytest.approx(0.15 / 0.10)
    assert one.difference is not None
    assert [(r.label, r.text, r.detail, r.remark) for r in one.difference.rows] == [
        ("ebert", "+0.1500", "[+0.1300, +0.1700]", "better"),
        ("constant score", "−0.2800", "[−0.3000, −0.2600]", "worse"),
    ]
    assert one.difference.zero is not None
    assert one.difference.rows[0].low > one.difference.zero > one.difference.rows[1].high


def test_evaluation_tables() -> None:
    view = evaluation_view(record(binding.evaluate_result([("lung", "TF1")]), "evaluate"))
    assert view is not None
    first = view.data_sets[0].rows[0]
    assert [(cell.text, cell.note) for cell in first.cells[:2]] == [
        ("0.4500", "[0.4000, 0.5000]"),
        ("0.9000", "[0.8500, 0.9500]"),
    ]
    assert (first.difference.text, first.difference.note, first.difference.verdict) == (
        "+0.1500",
        "[+0.1300, +0.1700]",
        "above",
    )
    assert (view.data_sets[0].rows[1].difference.text, view.data_sets[0].rows[1].difference.note) == ("", "baseline")
    assert first.ranks == ("1", "1")
    assert view.data_sets[0].published == (
        ("EBERT+", "other contigs or another assembly: not comparable", ("0.7314", "0.9900", "–", "0.7000", "0.8900")),
    )
    rows = {row[0]: row for row in view.overall[1]}
    assert rows["ebert"][1:6] == ("1", "0.3333 [0.3000, 0.3500]", "1", "1.000", "1")
    assert rows["constant score"][1:5] == ("–", "–", "–", "–")
    assert rows["EBERT+ (published)"][6] == "0.7314"
    seen = {row[0]: row[1:] for row in view.seen[1]}
    assert seen["dbert"] == ("model", "chr1, chr2", "blood", "blood", "none")
    assert seen["ebert"][3:] == ("chr7", "chr7")
    assert seen["team"][1:4] == ("not known", "not known", "not known")
    assert ("Left out: TF9:lung", "0 bound and 9 unbound bins: nothing to rank") in view.facts


def test_evaluation_without_intervals_or_baseline() -> None:
    result = binding.evaluate_result([("lung", "TF1")]) | {"baseline": None, "bootstrap": {"num": 0}}
    for entry in result["data_sets"][0]["submissions"].values():
        entry |= {"intervals": {}, "differences": {}}
    view = evaluation_view(record(result, "evaluate"))
    assert view is not None
    assert view.data_sets[0].difference is None
    assert {(row.low, row.detail) for row in view.data_sets[0].level.rows} == {(None, "")}
    assert view.reading == "No intervals were asked for."


@pytest.mark.parametrize("broken", [{}, {"data_sets": []}, {"data_sets": [{"submissions": {}}]}, {"data_sets": "x"}])
def test_evaluation_without_figures_is_none(broken: dict[str, Any]) -> None:
    assert evaluation_view(record(broken, "evaluate")) is None
    assert chart_data([record(broken, "evaluate")]) == []


def test_curves_are_numbered_through_the_page_and_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    results = [binding.evaluate_result([("lung", "TF1"), ("blood", "TF1")]), binding.evaluate_result([("lung", "TF2")])]
    results[0]["data_sets"][0]["submissions"] = {"x": {"metrics": {"auprc": 0.1}, "curve": {}}}
    records = [RunRecord(f"r{i}", f"runs/r{i}", "finished", stage="evaluate", result=r) for i, r in enumerate(results)]
    views = evaluation_views(records)
    assert [[one.curves for one in view.data_sets] for view in views.values()] == [[-1, 0], [1]]
    assert [one["title"] for one in chart_data(records)] == ["TF1 in blood", "TF2 in lung"]
    rate = chart_data(records)[0]["curves"][2]
    assert rate == {"name": "base_rate", "plain": True, "auprc": 0.02, "recall": [0.0, 1.0], "precision": [0.02, 0.02]}
    recall = [i / 1000 for i in range(1000)]
    results[1]["data_sets"][0]["submissions"]["ebert"]["curve"] = {"recall": recall, "precision": recall}
    monkeypatch.setattr("epilm.report.binding_curves.MAX_VALUES", 600)
    thinned = chart_data(records)[1]["curves"][1]["recall"]
    assert (thinned[0], thinned[-1]) == (0.0, 0.999)
    assert 40 <= len(thinned) <= 51


def test_study_has_seeds_intervals_and_rivals() -> None:
    view = study_view(record(binding.study_result(), "eval-binding"))
    assert view is not None
    assert [panel.title for panel in view.levels] == [
        "AUPRC on test contigs",
        "AUPRC on held-out cell types",
        "AUPRC on TF1 in lung",
    ]
    assert view.seeds == "2 seeds an arm (0, 1)."
    level = view.levels[0]
    assert level.remark == "higher is better; share of bound bins: 0.0200"
    assert [(row.label, row.text, row.detail, len(row.dots), row.remark) for row in level.rows] == [
        ("ebert-plus", "0.5200", "± 0.0100", 2, ""),
        ("ebert", "0.5100", "± 0.0100", 2, ""),
        ("dbert", "0.2100", "± 0.0100", 2, "baseline"),
        ("kmers", "0.1000", "", 1, ""),
    ]
    best = level.rows[0]  # the whisker is the interval, .03 below and .04 above, not one deviation
    assert None not in (best.low, best.at, best.high)
    assert (best.high - best.at) / (best.at - best.low) == pytest.approx(4 / 3)
    margins = view.margins[0]
    assert margins is not None
    assert [(row.label, row.remark) for row in margins.rows] == [
        ("ebert-plus", "better"),
        ("ebert", "better"),
        ("kmers", "worse"),
    ]
    assert view.table.heads[:2] == ("AUPRC on test contigs", "AUROC on test contigs")
    assert view.table.rows[0][3][0][0] == "0.5200 ± 0.0100 [0.4900, 0.5600]"
    assert ("Bound training bins", "900") in view.facts
    assert "200 resamples of 16 stretches" in view.reading


def test_study_pairs_are_those_of_auprc() -> None:
    _, rows = pair_table(record(binding.study_result(), "eval-binding"))
    assert rows == (
        ("ebert-plus", "ebert", "test contigs", "+0.0100 [−0.0100, +0.0300]", "not told apart"),
        ("kmers", "ebert", "test contigs", "−0.4100 [−0.4300, −0.3900]", "second is better"),
    )


def test_few_labels_are_told_by_arm() -> None:
    result = binding.study_result()
    result["arms"][1]["positives"] = 64
    view = study_view(record(result, "eval-binding"))
    assert view is not None
    assert ("Bound training bins", "dbert 900, ebert 64, ebert-plus 900") in view.facts


def test_page_of_binding(tmp_path: Path) -> None:
    folders = [
        binding.finetune_run(tmp_path / "ebert-plus"),
        binding.evaluate_run(tmp_path / "scores", num_sets=8),
        binding.study_run(tmp_path / "study"),
    ]
    out = Location(str(tmp_path / "report.html"))
    build_report([Location(str(folder)) for folder in folders], out, title="TF binding")
    source = out.read_text()
    text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", source.split("<script", 1)[0])))
    for words in (
        "ebert-plus : best AUPRC at step 70",
        "Over the data sets",
        "What the models have seen",
        "TF1 in cell5: leaderboard by AUPRC",
        "Every other pair",
        "AUPRC: difference to dbert",
        "What each arm changes",
    ):
        assert words in text
    assert source.count('<details class="data-set" open>') == 1
    assert source.count('<details class="data-set">') == 7
    data = json.loads(source.split('id="data">', 1)[1].split("</script>", 1)[0])
    assert len(data["binding"]) == source.count("data-curves=") == 8
    assert "Results of other stages" not in text
