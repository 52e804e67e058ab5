"""Differential expression on the page: literal results, literal words and places; whatever is damaged, the page is made."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_runs as runs
from report_chromium import Chromium, find_chromium

from epilm.expression.scores import margin, seed_scores, seed_summary
from epilm.expression.table import format_expression
from epilm.report import build_report
from epilm.report.collect import RunRecord
from epilm.report.expression import FIELD_WIDTH, INPUTS, ROW_HEIGHT, expression_view, heat_map
from epilm.storage import Location

MARKS = ["H3K4me1", "H3K4me3", "H3K9me3", "H3K27me3", "H3K36me3"]
ARMS: dict[str, tuple[str, str | None, str | None, dict[str, float]]] = {
    "raw_tokens": ("tokens", "boost", None, {"raw_d": 0.19, "raw_c": 0.40, "raw": 0.45}),
    "gpt2_static": ("static", "boost", "gpt2", {"raw_d": 0.50, "raw_c": 0.48, "raw": 0.52}),
    "gpt2_contextual": ("contextual", "boost", "gpt2", {"raw_d": 0.61, "raw_c": 0.60, "raw": 0.63}),
    "gpt2_end_to_end": ("end_to_end", None, "gpt2", {"raw_d": 0.58, "raw_c": 0.62, "raw": 0.60}),
    "roberta_static": ("static", "boost", "roberta", {"raw_d": 0.31, "raw_c": 0.38, "raw": 0.30}),
    "levels": ("levels", "boost", None, {"raw_d": 0.57, "raw_c": 0.62, "raw": 0.62}),
    "ridge": ("levels", "ridge", None, {"raw_d": 0.45, "raw_c": 0.47, "raw": 0.47}),
    "svr": ("levels", "svr", None, {"raw_d": 0.40, "raw_c": 0.42, "raw": 0.42}),
    "deepdiff": ("deepdiff", None, None, {"raw_d": 0.60, "raw_c": 0.64, "raw": 0.63}),
}
SEEDS = [0, 1, 2, 3, 4]
BOOTSTRAP = {"num": 60, "seed": 0, "level": 0.95}


def predictions(truth: np.ndarray, r: float, rng: np.random.Generator) -> np.ndarray:
    """[seeds, n] with about this correlation; what seeds share is larger than what tells them apart."""
    noise = rng.normal(size=len(truth)) + 0.3 * rng.normal(size=(len(SEEDS), len(truth)))
    return r * truth + np.sqrt(1 - r**2) / np.sqrt(1.09) * noise


def make_row(arm: str, inputs: str, truth: np.ndarray, rng: np.random.Generator) -> tuple[dict[str, Any], np.ndarray]:
    kind, regressor, model, levels = ARMS[arm]
    test = predictions(truth, levels[inputs], rng)
    row = {
        "arm": arm,
        "kind": kind,
        "inputs": inputs,
        "regressor": regressor,
        "model": model,
        "num_features": None if regressor is None else 1000 * (1 + list(INPUTS).index(inputs)),
        "seeds": SEEDS,
        "validation": seed_summary(truth, predictions(truth, levels[inputs] + 0.02, rng)),
        "test": seed_scores(truth, test, **BOOTSTRAP),
        "chosen": [{"depth": 4, "rounds": 30 + 5 * seed} for seed in SEEDS] if regressor else [{"step": 300}] * 5,
    }
    return row, test


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """A result as the stage writes it, scored by its own functions."""
    rng = np.random.default_rng(11)
    truth = rng.normal(size=400)
    made = {(arm, inputs): make_row(arm, inputs, truth, rng) for arm in ARMS for inputs in INPUTS}
    tests = {key: test for key, (_, test) in made.items()}
    rows = [row for row, _ in made.values()]
    best = ("gpt2_contextual", "raw")
    pairs = [(best, ("deepdiff", "raw_c"))]
    pairs += [((arm, inputs), ("deepdiff", inputs)) for arm, inputs in made if arm != "deepdiff"]
    segments, place = 20, np.abs(np.arange(20) - 9.5)
    heights = np.array([0.03, 0.12, 0.01, 0.05, 0.06])[:, None] * np.exp(-place / np.array([[4, 2, 8, 6, 12]]).T)
    return {
        "stage": "expression",
        "name": "blood",
        "pair": ["E116", "E123"],
        "marks": MARKS,
        "num_bins": 200,
        "bin_bp": 100,
        "num_genes": {"train": 10_000, "validation": 2360, "test": 6602},
        "left_out": {"no expression": 12},
        "vocabulary": {"size": 752, "tokens_per_line": [37, 131.4, 402]},
        "rows": rows,
        "best": {"arm": best[0], "inputs": best[1]},
        "margins": [
            {
                "first": {"arm": first[0], "inputs": first[1]},
                "second": {"arm": second[0], "inputs": second[1]},
                "pearson": margin(truth, tests[first], tests[second], **BOOTSTRAP),
            }
            for first, second in pairs
        ],
        "published": {
            "rows": [row for row in rows if row["arm"] in ("raw_tokens", "gpt2_static")],
            "fit_on": ["train", "validation"],
            "paper": [
                {"arm": arm, "inputs": inputs, "r": r}
                for arm, printed in (
                    ("raw_tokens", (0.190, 0.403, 0.479)),
                    ("gpt2_static", (0.566, 0.553, 0.528)),
                    ("DeepDiff", (0.65, 0.68, 0.67)),
                )
                for inputs, r in zip(INPUTS, printed, strict=True)
            ],
        },
        "importance": [
            {
                "arm": best[0],
                "inputs": best[1],
                "marks": MARKS,
                "edges": [10 * i for i in range(segments + 1)],
                "values": heights.tolist(),
            }
        ],
    }


def record(result: dict[str, Any]) -> RunRecord:
    return RunRecord("blood", "runs/blood", "finished", stage="expression", result=result)


def score(mean: float | None, low: float | None = None, high: float | None = None, **more: Any) -> dict[str, Any]:
    return {"mean": mean, "sd": None, "values": [mean], "low": low, "high": high, **more}


SMALL: dict[str, Any] = {
    "pair": ["A", "B"],
    "rows": [
        {"arm": "svr", "kind": "levels", "regressor": "svr", "inputs": "raw", "test": score(0.1, -0.1, 0.3)},
        {
            "arm": "gpt2",
            "kind": "static",
            "regressor": "boost",
            "model": "gpt2",
            "inputs": "raw_d",
            "seeds": [0, 1],
            "validation": {"mean": 0.61, "sd": 0.01, "values": [0.60, 0.62]},
            "test": {"mean": 0.5, "sd": 0.02, "values": [0.48, 0.52], "low": 0.4, "high": 0.6}
            | {"ensemble": {"value": 0.55, "low": 0.45, "high": 0.65}},
            "chosen": [{"depth": 4, "rounds": 30}, {"depth": 4, "rounds": 45}],
        },
        {"arm": "gpt2", "kind": "static", "inputs": "raw", "test": score(None)},
    ],
    "best": {"arm": "gpt2", "inputs": "raw_d"},
    "margins": [
        {
            "first": {"arm": "gpt2", "inputs": "raw_d"},
            "second": {"arm": "svr", "inputs": "raw"},
            "pearson": {"value": 0.4, "low": 0.2, "high": 0.6},
        }
    ],
}


def test_a_row_an_arm_and_a_column_an_input_in_the_papers_order() -> None:
    view = expression_view(record(SMALL))
    assert view is not None
    assert view.heads == ("Raw D", "Raw")
    svr, gpt2 = view.lines
    assert (svr.arm, svr.what, svr.baseline) == ("svr", "baseline: bins' values, SVR", True)
    assert (gpt2.what, gpt2.baseline) == ("input embedding of gpt2, xgboost-ray", False)
    assert [cell.text for cell in svr.cells] == ["", "0.100"]
    assert (svr.cells[1].interval, svr.cells[1].detail) == ("[−0.100, 0.300]", "")
    assert (gpt2.cells[0].text, gpt2.cells[0].interval, gpt2.cells[0].detail) == ("0.500", "[0.400, 0.600]", "sd 0.020")
    assert [cell.chosen for line in view.lines for cell in line.cells] == [False, False, True, False]
    assert gpt2.cells[1].text == "–", "undefined, and not 0"


def test_panels_share_an_axis_and_show_every_seed() -> None:
    view = expression_view(record(SMALL))
    assert view is not None
    difference, every = view.panels[:2]
    assert (difference.title, every.title) == ("Test r, Raw D", "Test r, Raw")
    assert difference.ticks == every.ticks
    (gpt2,) = difference.rows
    assert (gpt2.remark, gpt2.verdict) == ("best on validation", "best")
    # the axis: -0.1 .. 0.6 and 6 % of it on each side
    span = 0.7 * 1.12
    assert gpt2.at == pytest.approx(100 * (0.5 + 0.1 + 0.042) / span)
    assert gpt2.dots == pytest.approx([100 * (r + 0.1 + 0.042) / span for r in (0.48, 0.52)])
    assert every.zero == pytest.approx(100 * 0.142 / span)
    svr, undefined = every.rows
    assert svr.remark == "baseline"
    assert (undefined.text, undefined.at, undefined.dots) == ("–", None, ())


def test_margins_and_details() -> None:
    view = expression_view(record(SMALL))
    assert view is not None
    assert [panel.title for panel in view.panels] == ["Test r, Raw D", "Test r, Raw", "Margin to svr, Raw"]
    (row,) = view.panels[2].rows
    assert (row.label, row.text, row.detail) == ("gpt2, Raw D", "+0.400", "[+0.200, +0.600]")
    assert (row.remark, row.verdict) == ("better", "above")
    details = dict(zip(view.details[0], view.details[1][1], strict=True))
    assert details["Validation r"] == "0.610 ± 0.010"
    assert details["Test r"] == "0.500 ± 0.020 [0.400, 0.600]"
    assert details["Each seed"] == "0.480, 0.520"
    assert details["Mean prediction"] == "0.550 [0.450, 0.650]"
    assert details["Chosen"] == "depth 4, rounds 30 / 45"
    assert dict(view.facts)["Best on validation"] == "gpt2, Raw D: r 0.610 ± 0.010 there, 0.500 on the test genes"
    assert view.published is None
    assert view.heats == ()


def test_the_published_protocol_stands_beside_the_paper(whole: dict[str, Any]) -> None:
    view = expression_view(record(whole))
    assert view is not None
    assert view.published is not None
    lines = view.published.lines
    assert view.published.heads == ("Raw D", "Raw C", "Raw")
    assert view.published.remark.endswith("the fit is on train and validation genes.")
    assert [line.arm for line in lines] == ["raw_tokens", "gpt2_static", "DeepDiff"]
    assert [cell.text for cell in lines[0].cells[1::2]] == ["0.190", "0.403", "0.479"]
    assert [cell.text for cell in lines[2].cells] == ["", "0.650", "", "0.680", "", "0.670"]
    mean = next(row["test"]["mean"] for row in whole["rows"] if row["arm"] == "gpt2_static")
    assert lines[1].cells[0].text == f"{mean:.3f}"


def test_margins_stand_beside_the_panel_of_their_input(whole: dict[str, Any]) -> None:
    view = expression_view(record(whole))
    assert view is not None
    assert [panel.title for panel in view.panels] == [
        f"{kind}, {name}" for name in INPUTS.values() for kind in ("Test r", "Margin to deepdiff")
    ]
    margins = view.panels[3]
    assert [row.label for row in margins.rows] == ["gpt2_contextual, Raw", *(arm for arm in ARMS if arm != "deepdiff")]
    assert margins.ticks == view.panels[1].ticks
    assert {row.remark for row in margins.rows} >= {"worse", "not told apart"}


IMPORTANCE: dict[str, Any] = {
    "arm": "gpt2",
    "inputs": "raw",
    "marks": ["K4", "K27"],
    "edges": [0, 3, 10],
    "values": [[0.5, 2.0], [0.0, None]],
}


def test_a_heat_map_is_to_scale_around_the_tss() -> None:
    heat = heat_map(IMPORTANCE, {"num_bins": 10, "bin_bp": 200})
    assert heat is not None
    left = heat.cells[0][0]
    assert [cell[2] for cell in heat.cells] == pytest.approx([0.3 * FIELD_WIDTH, 0.7 * FIELD_WIDTH] * 2)
    assert heat.cells[2][1] - heat.cells[0][1] == ROW_HEIGHT
    assert [cell[4] for cell in heat.cells] == [25.0, 100.0, 0.0, 0.0]
    assert heat.cells[0][5] == "K4, −1 kb to −400 bp: 0.5000"
    assert heat.cells[3][5] == "K27, −400 bp to +1 kb: –"
    assert heat.tss == pytest.approx(left + FIELD_WIDTH / 2)
    assert {text: at for at, text in heat.ticks}["TSS"] == heat.tss
    assert heat.ticks[0][1] == "−1 kb"
    assert (heat.most, heat.title) == ("2.000", "gpt2, Raw")
    assert heat.summary == "Importance of 2 marks in 2 stretches; the highest is K4, −400 bp to +1 kb: 2.000."
    assert heat.table == (
        ("Place", "K4", "K27"),
        (("−1 kb to −400 bp", "0.5000", "0"), ("−400 bp to +1 kb", "2.000", "–")),
    )


def test_a_heat_map_without_the_bins_width_counts_bins() -> None:
    heat = heat_map(IMPORTANCE, {"num_bins": 10, "bin_bp": None})
    assert heat is not None
    assert heat.tss is None
    assert heat.cells[0][5] == "K4, bins 0 to 2: 0.5000"
    assert heat.axis.startswith("Bin of the gene's window as the files order the bins")


@pytest.mark.parametrize(
    "change",
    [
        {"edges": [0, 10]},
        {"edges": [0, 10, 3]},
        {"edges": [0, 3.5, 10]},
        {"edges": [0, 3, 10**400]},
        {"values": [[0.5, 2.0]]},
        {"values": [[0.5, 2.0], 7]},
        {"marks": []},
        {"arm": None, "inputs": None, "marks": "K4"},
    ],
    ids=str,
)
def test_a_heat_map_that_does_not_fit_together_is_left_out(change: dict[str, Any]) -> None:
    assert heat_map({**IMPORTANCE, **change}, {"num_bins": 10, "bin_bp": 200}) is None


@pytest.mark.parametrize(
    "result", [{}, {"rows": None}, {"rows": [1, "x", {}]}, {"rows": {"arm": "a", "inputs": "raw"}}]
)
def test_a_result_without_rows_has_no_view(result: dict[str, Any]) -> None:
    assert expression_view(record(result)) is None


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place inside a JSON value, the first two of a list."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def page_of(folder: Path, result: Any) -> str:
    runs.write_run(folder, "expression", {"name": "blood"}, result)
    return build_report([Location(str(folder))], Location(str(folder / "page.html")), title="Toy").read_text()


@pytest.mark.parametrize(
    "damage", [None, "text {odd}", -3, 1e308, float("nan"), [], [[]], {}, {"arm": [], "inputs": {}}], ids=repr
)
def test_the_page_is_made_whatever_stands_in_the_result(whole: dict[str, Any], tmp_path: Path, damage: Any) -> None:
    """One damaged place after the other gives a view; the page itself is made once, with many damaged at once."""
    small = {**whole, "rows": whole["rows"][:4]}
    small["published"] = {"rows": small["rows"][:1], "paper": whole["published"]["paper"][:1]}
    every = list(places(small))
    assert len(every) > 150
    for path in every:
        expression_view(record(_damaged(small, [path], damage)))
    deep = [path for path in every if len(path) > 2 and path[:1] != ("rows",)] + [
        ("rows", 1, "test"),
        ("rows", 0, "kind"),
    ]
    assert 'id="expression"' in page_of(tmp_path / "run", _damaged(small, deep, damage))


def _damaged(result: dict[str, Any], paths: list[tuple[Any, ...]], damage: Any) -> dict[str, Any]:
    changed = copy.deepcopy(result)
    for path in paths:
        inside: Any = changed
        try:
            for key in path[:-1]:
                inside = inside[key]
            inside[path[-1]] = copy.deepcopy(damage)
        except (TypeError, IndexError, KeyError):
            continue  # a place inside one that is damaged already
    return changed


def test_the_page_shows_it_and_escapes_names(whole: dict[str, Any], tmp_path: Path) -> None:
    result = copy.deepcopy(whole)
    result["marks"][0] = result["importance"][0]["marks"][0] = "<mark>"
    page = page_of(tmp_path / "run", result)
    section = page[page.index('<section id="expression">') :].split("</section>")[0]
    assert 'href="#expression"' in page
    assert "<mark>" not in section
    assert section.count("<rect ") == 100
    assert section.count("best on validation</b>") == 1
    assert "−10 kb</text>" in section
    rows = re.findall(r'<tr>\s*<th scope="row"( class="baseline")?>(\w+)', section)
    assert [name for _, name in rows[:9]] == list(ARMS)
    assert [name for muted, name in rows[:9] if muted] == ["raw_tokens", "levels", "ridge", "svr"]


def test_the_terminal_shows_the_same_figures(whole: dict[str, Any]) -> None:
    view, text = expression_view(record(whole)), format_expression(whole)
    assert view is not None
    for line in view.lines:
        (printed,) = (row for row in text.split("\n\n")[1].splitlines() if row.startswith(f"{line.arm} "))
        assert re.findall(r"  (\.\d{3})", printed) == [cell.text.removeprefix("0") for cell in line.cells]


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_browser_the_section_fits_and_colours_the_heat_map(whole: dict[str, Any], tmp_path: Path, width: int) -> None:
    binary = find_chromium()
    if binary is None:
        pytest.skip("no Chromium here; install it with: apt-get install chromium")
    folder = tmp_path / "run"
    page_of(folder, json.loads(json.dumps(whole)))
    with Chromium(binary, tmp_path / "profile") as browser:
        browser.view(width=width)
        browser.open((folder / "page.html").as_uri())
        fills = "[...document.querySelectorAll('.heat rect')].map((rect) => getComputedStyle(rect).fill)"
        light = browser.run(fills)
        assert len(set(light)) > 20
        browser.view(width=width, scheme="dark")
        assert browser.run(fills) != light
        assert browser.run("document.documentElement.scrollWidth") <= width
        overlaps = browser.run(
            "[...document.querySelectorAll('.arms .axis .track')].map((axis) => {"
            " const boxes = [...axis.querySelectorAll('b')].map((b) => b.getBoundingClientRect());"
            " return boxes.slice(1).filter((box, i) => box.left < boxes[i].right + 2).length; })"
        )
        assert overlaps == [0] * 6
        assert browser.faults == []
