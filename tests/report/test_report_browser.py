"""The page in headless Chromium: charts are drawn, hovering reads them, nothing is fetched and nothing goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
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
