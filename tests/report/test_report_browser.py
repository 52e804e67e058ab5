"""The page in headless Chromium: charts are drawn, hovering reads them, nothing is fetched and nothing goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import report_binding as binding
import report_masking as masking
import report_runs as runs
from report_chromium import Chromium, find_chromium

from epilm.report import build_report
from epilm.storage import Location

pytestmark = pytest.mark.browser

PIXELS = """((canvas) => {
  const copy = Object.assign(document.createElement('canvas'), { width: canvas.width, height: canvas.height });
  const context = copy.getContext('2d', { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  return context.getImageData(0, 0, copy.width, copy.height).data;
})"""
"""RGBA bytes of a canvas, through a copy: reading the page's own twice draws a warning."""
PAINTED = f"""[...document.querySelectorAll('.chart canvas')].map((canvas) => {{
  const pixels = {PIXELS}(canvas), colours = new Set();
  let painted = 0;
  for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3] > 200) {{
    painted++;
    colours.add((pixels[i] >> 4) << 8 | (pixels[i + 1] >> 4) << 4 | pixels[i + 2] >> 4);
  }}
  return [painted, colours.size];
}})"""
"""[opaque pixels, colours among them] of every canvas."""
COLOURED = f"""(metric) => {{
  const pixels = {PIXELS}(document.querySelector(`[data-metric="${{metric}}"] canvas`));
  let count = 0;
  for (let i = 0; i < pixels.length; i += 4) {{
    const rgb = [pixels[i], pixels[i + 1], pixels[i + 2]];
    if (pixels[i + 3] > 200 && Math.max(...rgb) - Math.min(...rgb) > 60) count++;
  }}
  return count;
}}"""
"""Saturated pixels of a chart: those of its curves."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("project")
    out = root / "report.html"
    build_report(runs.all_runs(root, num_steps=240), Location(str(out)), title="Toy epigenome")
    return out.as_uri()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    binary = find_chromium()
    if binary is None:
        pytest.skip("no Chromium here; install it with: apt-get install chromium")
    with Chromium(binary, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(chromium: Chromium, report: str) -> Iterator[Chromium]:
    """The report, freshly loaded; whatever a test did, no fault and no fetch may have come of it."""
    chromium.faults.clear()
    chromium.requests.clear()
    chromium.view()
    chromium.open(report)
    yield chromium
    assert chromium.faults == []
    assert set(chromium.requests) == {report}


@pytest.fixture(scope="module")
def masking_report(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("masking")
    out = root / "report.html"
    build_report(masking.masking_runs(root, num_steps=240), Location(str(out)), title="Toy masking")
    return out.as_uri()


@pytest.fixture
def masking_page(chromium: Chromium, masking_report: str) -> Iterator[Chromium]:
    chromium.faults.clear()
    chromium.requests.clear()
    chromium.view()
    chromium.open(masking_report)
    yield chromium
    assert chromium.faults == []
    assert set(chromium.requests) == {masking_report}


def chart_place(page: Chromium, metric: str) -> dict[str, float]:
    """Scroll a chart into view and return the rectangle of its plotting area."""
    over = f"document.querySelector('[data-metric=\"{metric}\"] .u-over')"
    page.run(f"{over}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    page.settle()
    return page.run(
        f"(({{left, top, width, height}}) => ({{left, top, width, height}}))({over}.getBoundingClientRect())"
    )


def hover(page: Chromium, metric: str, share: float) -> str:
    """The tip's text with the mouse at this share of a chart's width."""
    place = chart_place(page, metric)
    page.move(place["left"] + share * place["width"], place["top"] + place["height"] / 2)
    return page.run("document.getElementById('tip').hidden ? '' : document.getElementById('tip').innerText")


def test_browser_draws_every_chart(page: Chromium) -> None:
    charts = page.run("document.querySelectorAll('.chart').length")
    assert charts == page.run("Number(document.documentElement.dataset.charts)")
    assert charts >= 12
    drawn: list[Any] = page.run(PAINTED)
    assert len(drawn) == charts
    assert all(pixels > 500 and colours >= 3 for pixels, colours in drawn), drawn
    assert page.run(f"({COLOURED})('state_accuracy')") > 300


def test_browser_hover_reads_the_values(page: Chromium) -> None:
    early, late = hover(page, "state_accuracy", 0.25), hover(page, "state_accuracy", 0.9)
    for text in (early, late):
        assert text.startswith("Step ")
        assert "ebert, held-out contigs" in text
        assert "copy nearest visible state" in text
        assert " %" in text
    assert early.split("\n")[0] != late.split("\n")[0]
    page.move(5, 5)
    assert page.run("document.getElementById('tip').hidden")


def test_browser_keyboard_reads_the_values(page: Chromium) -> None:
    page.run("document.querySelector('[data-metric=\"loss\"] .plot').focus()")
    for _ in range(2):
        page.send("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", code="ArrowRight")
        page.send("Input.dispatchKeyEvent", type="keyUp", key="ArrowRight", code="ArrowRight")
    page.settle()
    assert page.run("document.getElementById('tip').innerText").startswith("Step 2")


def test_browser_legend_hides_a_curve(page: Chromium) -> None:
    before = page.run(f"({COLOURED})('dna_loss')")
    legend = "[data-metric=dna_loss] .legend button"
    buttons = page.run(f"document.querySelectorAll('{legend}').length")
    for i in range(buttons - 1):
        page.click(f"{legend}:nth-child({i + 1})")
    after = page.run(f"({COLOURED})('dna_loss')")
    assert 0 < after < 0.7 * before


def test_browser_dark_follows_the_system_and_the_button(page: Chromium) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.run(background)
    page.view(scheme="dark")
    dark = page.run(background)
    assert dark != light
    assert page.run(f"({COLOURED})('state_accuracy')") > 300
    assert hover(page, "state_accuracy", 0.5).startswith("Step ")
    page.view(scheme="light")
    page.click("#theme")  # auto -> light
    page.click("#theme")  # light -> dark
    assert page.run(background) == dark
    page.click("#theme")
    assert page.run(background) == light


@pytest.mark.parametrize("width", [390, 820])
def test_browser_narrow_fits_the_width(page: Chromium, width: int) -> None:
    page.view(width=width, height=800)
    assert page.run("document.documentElement.scrollWidth") <= width
    right = page.run(
        "Math.max(...[...document.querySelectorAll('.chart, .card')].map((x) => x.getBoundingClientRect().right))"
    )
    assert right <= width
    assert all(pixels > 300 for pixels, _ in page.run(PAINTED))
    assert hover(page, "state_accuracy", 0.5).startswith("Step ")
    tip = page.run("(({left, right}) => [left, right])(document.getElementById('tip').getBoundingClientRect())")
    assert 0 <= tip[0] < tip[1] <= width


def test_browser_regression_axis_labels_do_not_collide(page: Chromium) -> None:
    for width in (390, 820, 1280):
        page.view(width=width, height=800)
        overlaps = page.run(
            "[...document.querySelectorAll('.panel .axis .track')].map((axis) => {"
            " const boxes = [...axis.querySelectorAll('b')].map((b) => b.getBoundingClientRect());"
            " return boxes.slice(1).filter((box, i) => box.left < boxes[i].right + 2).length; })"
        )
        assert overlaps == [0, 0, 0]


LENGTHS = """[...document.querySelectorAll('.sweep')].map((sweep) =>
  [...sweep.querySelectorAll('.parallel .trial, .trial-curves .trial')].map((group) =>
    [...group.querySelectorAll('path:not(.bridge)')].reduce((sum, path) => sum + path.getTotalLength(), 0)))"""
"""Pixels of line of every trial, first in the parallel coordinates, then in the curves."""


def test_browser_sweep_is_drawn(masking_page: Chromium) -> None:
    first, second = masking_page.run(LENGTHS)
    assert (len(first), len(second)) == (48, 18)
    assert all(length > 100 for length in first[:24])
    assert sum(length > 100 for length in first[24:]) >= 15, "stopped at the first evaluation is a dot alone"
    ends = masking_page.run(
        "['stopped', 'finished'].map((status) =>"
        " [...document.querySelectorAll(`[data-sweep='0'] .trial-curves .trial.${status} circle`)]"
        "  .map((dot) => Number(dot.getAttribute('cx'))))"
    )
    assert (len(ends[0]), len(ends[1])) == (20, 2)
    assert max(ends[0]) < min(ends[1])


def test_browser_sweep_gap_and_order(masking_page: Chromium) -> None:
    drawn = masking_page.run(
        "Object.fromEntries([...document.querySelector('.parallel').querySelectorAll('.trial')].map((g) => [g.dataset.trial,"
        " [g.querySelectorAll('circle').length,"
        "  (g.querySelector('path:not(.bridge)').getAttribute('d').match(/M/g) || []).length]]))"
    )
    assert list(drawn)[-1] == "t011", "the best lies above the others"
    assert drawn["t011"] == [7, 2], "two settings, a gap where another policy has one, and the rest"
    assert drawn["t018"] == [6, 1]
    assert drawn["t000"] == [5, 1]
    assert drawn["t003"] == [4, 1], "failed before it had a metric"


def test_browser_sweep_hover_names_the_trial(masking_page: Chromium) -> None:
    best = "document.querySelector('.parallel .trial.best circle:last-of-type')"
    masking_page.run(f"{best}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    masking_page.settle()
    x, y = masking_page.run(f"(({{x, y}}) => [x + 2, y + 2])({best}.getBoundingClientRect())")
    masking_page.move(x, y)
    text = masking_page.run("document.getElementById('tip').hidden ? '' : document.getElementById('tip').innerText")
    assert text.startswith("Trial t011, finished, the best")
    assert "policy\tcm-gems" in text
    assert "Base loss on held-out contigs\t1.3053" in text
    lit = masking_page.run("[...document.querySelectorAll('.hot')].map((node) => node.dataset.trial)")
    assert lit == ["t011"] * 3, "the line, the curve and the row"
    masking_page.move(5, 5)
    assert masking_page.run("document.querySelectorAll('.hot').length") == 0
    assert masking_page.run("document.getElementById('tip').hidden")


def test_browser_sweep_table_sorts(masking_page: Chromium) -> None:
    rate = "[...document.querySelectorAll('table.trials tbody')[0].rows].map((row) => row.cells[3].textContent)"
    button = "table.trials th:nth-child(4) button"
    masking_page.click(button)
    up = [float(text) for text in masking_page.run(rate)]
    assert up == sorted(up)
    masking_page.click(button)
    assert [float(text) for text in masking_page.run(rate)] == up[::-1]
    masking_page.click("table.trials th:nth-child(6) button")
    threshold = masking_page.run(rate.replace("cells[3]", "cells[5]"))
    drawn = [float(text) for text in threshold if text != "–"]
    assert drawn == sorted(drawn)
    assert set(threshold[len(drawn) :]) == {"–"}, "what was not drawn is last"


def test_browser_sweep_colours_follow_the_scheme(masking_page: Chromium) -> None:
    stroke = "getComputedStyle(document.querySelector('.parallel .trial.best path:not(.bridge)')).stroke"
    light = masking_page.run(stroke)
    masking_page.view(scheme="dark")
    assert masking_page.run(stroke) != light


TALLEST = f"""((canvas) => {{
  const pixels = {PIXELS}(canvas), counts = new Array(canvas.width).fill(0);
  for (let i = 0; i < pixels.length; i += 4) {{
    const rgb = [pixels[i], pixels[i + 1], pixels[i + 2]];
    if (pixels[i + 3] > 200 && Math.max(...rgb) - Math.min(...rgb) > 60) counts[(i / 4) % canvas.width]++;
  }}
  const most = Math.max(...counts);
  return [most / canvas.height, counts.indexOf(most) / canvas.width];
}})(document.querySelector('[data-metric=base_accuracy] canvas'))"""
"""[its share of the height, its place] of the column of a chart with the most saturated pixels."""


def test_browser_switch_is_marked(masking_page: Chromium) -> None:
    height, place = masking_page.run(TALLEST)
    assert height > 0.35, "a dashed line from top to bottom"
    assert 0.45 < place < 0.65, "at step 120 of 240"
    masking_page.run("document.querySelectorAll('.stage-curves .chip')[1].click()")  # the run with the curriculum
    masking_page.settle()
    assert masking_page.run(TALLEST)[0] < 0.25
    label = masking_page.run("document.querySelector('[data-metric=base_loss] .plot').getAttribute('aria-label')")
    assert "gems: Global PMI from step 120." in label


@pytest.mark.parametrize("width", [390, 820, 1280])
def test_browser_masking_fits_the_width(masking_page: Chromium, width: int) -> None:
    masking_page.view(width=width, height=800)
    assert masking_page.run("document.documentElement.scrollWidth") <= width
    overlaps = masking_page.run(
        "[...document.querySelectorAll('.arms .axis .track')].map((axis) => {"
        " const boxes = [...axis.querySelectorAll('b')].map((b) => b.getBoundingClientRect());"
        " return boxes.slice(1).filter((box, i) => box.left < boxes[i].right + 2).length; })"
    )
    assert len(overlaps) == 16
    assert set(overlaps) == {0}
    heads = masking_page.run(
        "[...document.querySelectorAll('.parallel svg')].map((svg) => {"
        " const boxes = [...svg.querySelectorAll('text.head')].map((t) => t.getBoundingClientRect());"
        " return boxes.filter((a, i) => boxes.some((b, j) => j > i && a.left < b.right && b.left < a.right"
        "   && a.top < b.bottom && b.top < a.bottom)).length; })"
    )
    assert heads == [0, 0]


@pytest.fixture
def binding_page(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    root = tmp_path_factory.mktemp("binding")
    out = root / "report.html"
    folders = [
        binding.finetune_run(root / "ebert"),
        binding.evaluate_run(root / "scores", num_sets=8),
        binding.study_run(root / "study"),
    ]
    build_report([Location(str(folder)) for folder in folders], Location(str(out)), title="Toy binding")
    chromium.faults.clear()
    chromium.requests.clear()
    chromium.view()
    chromium.open(out.as_uri())
    yield chromium
    assert chromium.faults == []
    assert set(chromium.requests) == {out.as_uri()}


def test_browser_precision_over_recall(binding_page: Chromium) -> None:
    page, first = binding_page, "document.querySelector('[data-curves=\"0\"]')"
    legend = f"{first}.nextElementSibling.innerText"
    assert page.run(legend).split("\n")[::2] == ["dbert", "ebert", "constant score"]
    assert page.run(legend).split("\n")[1::2] == ["0.3000", "0.4500", "0.0200"]
    page.run(f"{first}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    page.settle()
    box = f"{first}.querySelector('.u-over').getBoundingClientRect()"
    place = page.run(f"(({{left, top, width, height}}) => ({{left, top, width, height}}))({box})")
    page.move(place["left"] + 0.45 * place["width"], place["top"] + place["height"] / 2)
    assert page.run(legend).split("\n")[1::2] == ["30.0 %", "45.0 %", "2.00 %"]  # the points at a recall of .5
    colours = page.run(f"new Set({PIXELS}({first}.querySelector('canvas'))).size")
    assert colours > 20
    # a data set that is folded has its chart when it is opened, as wide as its card
    page.run("document.querySelectorAll('details.data-set')[5].open = true")
    page.settle()
    assert page.run("document.querySelector('[data-curves=\"5\"] canvas').clientWidth") > 300
    page.run(f"{first}.nextElementSibling.querySelector('button').click()")
    assert page.run(f"{first}.nextElementSibling.querySelector('button').getAttribute('aria-pressed')") == "false"
