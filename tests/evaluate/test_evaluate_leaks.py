"""The leak guard: what is refused, what is let through, and what is said of it."""

from __future__ import annotations

from typing import Any

import evaluation_scenes as scenes
import pytest

from epilm.errors import LeakError
from epilm.evaluate.leaks import check_leaks, seen_by
from epilm.evaluate.predictions import PredictedColumn, Predictions
from epilm.evaluate.recipe import AllowOverlap

SPANS = (("chr2", 0, 90_000), ("chr3", 0, 47_000))
CELLS = ("HepG2", "K562")
CONTIGS = ("chr1", "chr2", "chr3")


def predictions(selected_on: tuple[str, ...] = (), **changes: Any) -> Predictions:
    return Predictions(
        assembly="toy1",
        bin_bp=200,
        step_bp=50,
        columns=(PredictedColumn(cell_type="K562", target="CTCF"),),
        parts=(),
        contig_lengths={},
        predictor="model",
        provenance=scenes.provenance(**changes),
        selected_on=selected_on,
    )


def test_other_contigs_and_a_cell_type_within_are_no_leak() -> None:
    seen = seen_by(predictions(), SPANS, CELLS, contigs=CONTIGS, assembly="toy1")
    assert (seen.contigs, seen.trained_cell_types) == ((), ("K562",))
    summary = check_leaks({"mine": seen}, (), AllowOverlap())
    assert summary["mine"]["trained_cell_types"] == ["K562"]


@pytest.mark.parametrize("name", ["chr2", "2", "II", "chrII"])
def test_a_trained_contig_is_refused_by_any_of_its_names(name: str) -> None:
    seen = seen_by(predictions(trained_contigs=(name, "9")), SPANS, CELLS, contigs=CONTIGS, assembly="toy1")
    assert seen.trained_contigs == ("chr2",)
    with pytest.raises(LeakError, match=r"'mine' was trained on chr2\. .*allow_overlap.contigs"):
        check_leaks({"mine": seen}, (), AllowOverlap(contigs=("chr3",)))
    allowed = check_leaks({"mine": seen}, (), AllowOverlap(contigs=("chr2",)))
    assert allowed["mine"]["allowed_contigs"] == ["chr2"]


def test_a_model_of_everything_has_seen_every_contig() -> None:
    seen = seen_by(predictions(trained_contigs=("*",)), SPANS, CELLS, contigs=CONTIGS, assembly="toy1")
    assert seen.trained_contigs == ("chr2", "chr3")


@pytest.mark.parametrize(
    ("region", "expected"), [(("chr2", 0, 10_000), ()), (("chr2", 0, 50_001), ("chr2",)), (("chr3", 0, 9), ("chr3",))]
)
def test_parts_of_a_contig_count_by_their_bases(region: tuple[str, int, int], expected: tuple[str, ...]) -> None:
    """The half of chr2 that is evaluated begins at 50,000."""
    spans = (("chr2", 50_000, 90_000), ("chr3", 0, 47_000))
    model = predictions(trained_contigs=(region[0],), trained_regions=(region,))
    assert seen_by(model, spans, CELLS, contigs=CONTIGS, assembly="toy1").trained_contigs == expected


def test_regions_of_another_assembly_stand_for_their_contigs() -> None:
    model = predictions(assembly="toy0", trained_contigs=("chr2",), trained_regions=(("chr2", 0, 10),))
    assert seen_by(model, (("chr2", 50_000, 90_000),), CELLS, contigs=CONTIGS, assembly="toy1").trained_contigs == (
        "chr2",
    )


@pytest.mark.parametrize(
    ("region", "expected"), [("2:0-50000", ()), ("2:0-50001", ("chr2",)), ("chr3:46999-90000", ("chr3",))]
)
def test_regions_that_training_was_stopped_on_count_by_their_bases(region: str, expected: tuple[str, ...]) -> None:
    """The half of chr2 that is evaluated begins at 50,000; names of regions are matched as those of contigs."""
    spans = (("chr2", 50_000, 90_000), ("chr3", 0, 47_000))
    seen = seen_by(predictions(selected_on=(region,)), spans, CELLS, contigs=CONTIGS, assembly="toy1")
    assert seen.selected_contigs == expected


def test_a_lone_roman_numeral_is_known_by_its_neighbours() -> None:
    contigs = ("II", "X", "XVI")
    model = predictions(trained_contigs=("chr10", "chr2"))
    seen = seen_by(model, (("X", 0, 100),), CELLS, contigs=contigs, assembly="toy1")
    assert seen.trained_contigs == ("X",)


def test_contigs_that_training_was_stopped_on_are_refused() -> None:
    seen = seen_by(predictions(selected_on=("3",)), SPANS, CELLS, contigs=CONTIGS, assembly="toy1")
    assert (seen.trained_contigs, seen.selected_contigs) == ((), ("chr3",))
    with pytest.raises(LeakError, match="was chosen on chr3"):
        check_leaks({"mine": seen}, (), AllowOverlap())


def test_a_held_out_cell_type_is_refused_where_it_was_seen() -> None:
    seen = seen_by(predictions(), SPANS, CELLS, contigs=CONTIGS, assembly="toy1")
    with pytest.raises(LeakError, match="'mine' has seen the held-out cell types K562"):
        check_leaks({"mine": seen}, ("K562",), AllowOverlap())
    assert check_leaks({"mine": seen}, ("HepG2",), AllowOverlap())["mine"]["allowed_cell_types"] == []
    allowed = check_leaks({"mine": seen}, ("K562",), AllowOverlap(cell_types=("K562",)))
    assert allowed["mine"]["allowed_cell_types"] == ["K562"]


def test_all_faults_are_told_at_once() -> None:
    seen = {
        "a": seen_by(predictions(trained_contigs=("chr2",)), SPANS, CELLS, contigs=CONTIGS, assembly="toy1"),
        "b": seen_by(predictions(selected_on=("chr3",)), SPANS, CELLS, contigs=CONTIGS, assembly="toy1"),
    }
    with pytest.raises(LeakError, match=r"'a' was trained on chr2 and has seen .* K562; 'b' was chosen on chr3 and"):
        check_leaks(seen, ("K562",), AllowOverlap())


def test_files_of_unknown_origin_are_said_to_be_so() -> None:
    assert (
        check_leaks({"file": seen_by(None, SPANS, CELLS, contigs=CONTIGS, assembly="toy1")}, CELLS, AllowOverlap())[
            "file"
        ]["known"]
        is False
    )


def test_what_was_trained_on_nothing_has_seen_nothing() -> None:
    matrix = predictions().model_copy(update={"provenance": None, "predictor": "pwm"})
    seen = seen_by(matrix, SPANS, CELLS, contigs=CONTIGS, assembly="toy1")
    assert (seen.known, seen.contigs, seen.trained_cell_types) == (True, (), ())
