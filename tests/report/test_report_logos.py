"""Logos: where letters stand, how tall they are, and what odd results do to them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from epilm.report import build_report
from epilm.report.collect import RunRecord
from epilm.report.logos import (
    HEIGHT,
    LEFT,
    LETTER_WIDTH,
    MAX_BASES,
    MAX_LOGOS,
    TOP,
    glyph_path,
    logo_group,
    logo_view,
    most_important,
)
from epilm.storage import Location


def entry(sequence: str, importance: list[Any], **more: Any) -> dict[str, Any]:
    return {"chrom": "chr1", "start": 100, "sequence": sequence, "importance": importance, **more}


def extent(path: str) -> tuple[float, float, float, float]:
    """(left, right, top, bottom) of a path's points; the curves' control points do not leave the letters' boxes."""
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", path)]
    x, y = numbers[::2], numbers[1::2]
    return min(x), max(x), min(y), max(y)


@pytest.mark.parametrize("base", "ACGT")
@pytest.mark.parametrize("height", [30.0, -12.0])
def test_a_letter_fills_its_box(base, height):
    left, right, top, bottom = extent(glyph_path(base, 50.0, 80.0, 9.0, height))
    assert left == pytest.approx(50)
    assert right == pytest.approx(59, abs=0.3)
    assert (top, bottom) == pytest.approx((min(80.0, 80.0 - height), max(80.0, 80.0 - height)))


def test_letters_are_as_tall_as_their_bases_matter():
    view = logo_view(
        entry("ACNT", [2.0, -1.0, 5.0, 0.0], target="CTCF", cell_type="liver", probability=0.5, id="peak1")
    )
    assert view is not None
    drawn = {(base, below): extent(path) for base, below, path in view.letters}
    assert set(drawn) == {("A", False), ("C", True)}, "N and letters of no height are not drawn"
    unit = HEIGHT / (5 + 1)
    zero = TOP + 5 * unit
    assert view.zero == pytest.approx(zero)
    assert drawn["A", False][2:] == pytest.approx((zero - 2 * unit, zero), abs=0.02)
    assert drawn["C", True][2:] == pytest.approx((zero, zero + unit), abs=0.02)
    assert LEFT + LETTER_WIDTH <= drawn["C", True][0] < drawn["C", True][1] <= LEFT + 2 * LETTER_WIDTH
    assert (view.title, view.remark) == ("CTCF in liver", "chr1:101–104 · peak1 · predicted 50.0 %")
    assert [tick.text for tick in view.values] == ["0", "2", "4"]


def test_all_letters_of_a_base_are_one_path():
    view = logo_view(entry("ACGT" * 30, [0.1] * 120))
    assert view is not None
    assert [base for base, _, _ in view.letters] == list("ACGT")
    assert view.letters[0][2].count("M") == 60, "an A has an outline and a hole"
    places = {tick.text: tick.at for tick in view.places}
    assert places["200"] == pytest.approx(LEFT + 99.5 * LETTER_WIDTH)


def test_a_long_stretch_is_cut_to_where_it_matters():
    heights = [0.0] * 1000
    heights[600], heights[610] = -3.0, 2.0
    first, last = most_important(heights, 50)
    assert last - first == 50
    assert first <= 600 < 610 < last
    assert most_important([1.0, 2.0], 50) == (0, 2)
    view = logo_view(entry("A" * 1000, heights))
    assert view is not None
    assert view.width == pytest.approx(LEFT + 6 + MAX_BASES * LETTER_WIDTH)
    assert "chr1:" in view.remark


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "text",
        entry("", []),
        entry("ACG", [1.0]),
        {"sequence": "ACG"},
        {"sequence": 5, "importance": [1.0]},
    ],
)
def test_an_entry_that_is_no_logo_gives_none(bad):
    assert logo_view(bad) is None


def test_values_that_are_no_numbers_count_as_nothing():
    view = logo_view({"sequence": "AC", "importance": [None, float("nan")], "start": None})
    assert view is not None
    assert view.letters == ()
    assert [tick.text for tick in view.values] == ["0"]


def test_the_logos_of_a_run():
    def record(result: dict[str, Any]) -> RunRecord:
        return RunRecord("ism", "runs/ism", "finished", stage="mutagenesis", result=result)

    assert logo_group(record({})) is None
    assert logo_group(record({"logos": "none"})) is None
    result = {
        "num_intervals": 12,
        "num_substitutions": 7200,
        "targets": ["CTCF", "REST"],
        "logos": [entry("ACGT", [1.0, 2.0, 3.0, 4.0])] * (MAX_LOGOS + 2),
    }
    group = logo_group(record(result))
    assert group is not None
    assert len(group.logos) == MAX_LOGOS
    assert group.left_out == 2
    assert group.facts == (("Intervals", "12"), ("Substitutions", "7,200"), ("Factors", "CTCF, REST"))


def test_the_page_shows_them_and_says_what_they_show(tmp_path):
    folder = tmp_path / "ism"
    folder.mkdir()
    (folder / "recipe.resolved.yaml").write_text("run:\n  stage: mutagenesis\nname: ism\n")
    logo = entry("ACGT", [1.0, 2.0, 3.0, -4.0], target="<CTCF>", cell_type="liver")
    (folder / "result.json").write_text(json.dumps({"stage": "mutagenesis", "num_intervals": 1, "logos": [logo]}))
    page = build_report([Location(str(folder))], Location(str(tmp_path / "page.html")), title="Toy").read_text()
    assert 'href="#logos"' in page
    assert page.count('<path class="base-') == 4
    assert '<path class="base-T below"' in page
    assert "&lt;CTCF&gt; in liver" in page
    assert 'aria-label="Importance of 4 bases; the strongest is T at base 4 with −4.000."' in page
