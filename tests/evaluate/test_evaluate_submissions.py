"""Scores placed on the labels' grid, from folders of predictions and from ENCODE-DREAM files."""

from __future__ import annotations

import gzip
from pathlib import Path

import evaluation_scenes as scenes
import numpy as np
import pytest

from epilm.corpus.manifest import CorpusContig
from epilm.errors import CorpusError, GenomeError
from epilm.evaluate.predictions import read_predictions
from epilm.evaluate.submission_files import check_submission_file, read_submission, rewrite_submission
from epilm.evaluate.submissions import ScoreColumn, place_columns
from epilm.labels.grid import BinGrid
from epilm.storage import Location

PAIR = ("K562", "CTCF")


@pytest.fixture
def manifest(tmp_path: Path):
    return scenes.write_corpus(tmp_path / "corpus")


@pytest.fixture
def grid(manifest) -> BinGrid:
    return BinGrid.of(manifest)


@pytest.fixture
def scores(grid: BinGrid) -> np.ndarray:
    return np.random.default_rng(0).random(grid.num_bins, dtype=np.float32)


def placed(place: str, grid: BinGrid, manifest) -> ScoreColumn:
    return place_columns(Location(place), read_predictions(Location(place)), grid, manifest)[PAIR]


def test_any_range_is_read_across_parts_and_contigs(
    tmp_path: Path, manifest, grid: BinGrid, scores: np.ndarray
) -> None:
    column = placed(scenes.write_scores(tmp_path / "p", grid, {PAIR: scores}, rows_per_part=333), grid, manifest)
    first = grid.contig("chr2").offset
    expected = scores.copy()
    expected[:first] = np.nan  # chr1 was not predicted
    for low, high in [(0, grid.num_bins), (first - 3, first + 400), (first + 333, first + 334), (5, 9)]:
        np.testing.assert_array_equal(column.read(low, high), expected[low:high])
        assert column.covered(low, high) == int((~np.isnan(expected[low:high])).sum())


def test_contigs_of_other_names_and_pieces_are_placed(
    tmp_path: Path, manifest, grid: BinGrid, scores: np.ndarray
) -> None:
    """The corpus holds 10,025 to 50,000 of contig "2"; the predictions were made of all of chr2."""
    place = scenes.write_scores(tmp_path / "p", grid, {PAIR: scores}, contigs=("chr2",), rows_per_part=150)
    piece = manifest.model_copy(
        update={"contigs": (CorpusContig(name="2", start_bp=10_025, end_bp=50_000, split="held_out"),)}
    )
    small = BinGrid.of(piece)
    whole = grid.contig("chr2")
    low = whole.offset + 10_050 // 50
    np.testing.assert_array_equal(
        placed(place, small, piece).read(0, small.num_bins), scores[low : low + small.num_bins]
    )


def test_predictions_that_do_not_fit_are_refused(tmp_path: Path, manifest, grid: BinGrid, scores: np.ndarray) -> None:
    place = scenes.write_scores(tmp_path / "p", grid, {PAIR: scores})
    other = manifest.model_copy(update={"assembly": "toy2"})
    with pytest.raises(CorpusError, match="assembly 'toy1', the labels' corpus of 'toy2'"):
        placed(place, grid, other)
    with pytest.raises(CorpusError, match="bins of 200 bp every 50, the labels of 200 bp every 100"):
        placed(place, BinGrid.of(manifest, step_bp=100), manifest)
    apart = manifest.model_copy(update={"contigs": (CorpusContig(name="scaffold7", end_bp=9000, split="train"),)})
    with pytest.raises(CorpusError, match="none of its contigs"):
        placed(place, BinGrid.of(apart), apart)
    shifted = scenes.write_scores(tmp_path / "s", grid, {PAIR: scores}, contigs=("chr3",), rows_per_part=5000)
    text = (tmp_path / "s" / "predictions.json").read_text()
    (tmp_path / "s" / "predictions.json").write_text(
        text.replace('"first_start":0', '"first_start":25').replace('"first_start": 0', '"first_start": 25')
    )
    with pytest.raises(CorpusError, match=r"begins at chr3:25, where no bin of 200 bp every 50 does"):
        placed(shifted, grid, manifest)


def test_negative_scores_are_refused_since_gaps_score_zero(
    tmp_path: Path, manifest, grid: BinGrid, scores: np.ndarray
) -> None:
    column = placed(scenes.write_scores(tmp_path / "p", grid, {PAIR: scores - 0.5}), grid, manifest)
    with pytest.raises(CorpusError, match="scores below 0"):
        column.read(0, grid.num_bins)


@pytest.mark.parametrize("suffix", ["tab", "tab.gz"])
@pytest.mark.parametrize("header", ["", "chr\tstart\tstop\tprobability\n"])
def test_a_submission_file_gives_back_its_scores(
    tmp_path: Path, manifest, grid: BinGrid, scores: np.ndarray, suffix: str, header: str
) -> None:
    scores[::13] = np.nan
    path = Path(scenes.write_submission(tmp_path / f"L.CTCF.K562.{suffix}", grid, scores, ("chr3", "chr1")))
    if header:
        text = header.encode() + (gzip.decompress(path.read_bytes()) if suffix == "tab.gz" else path.read_bytes())
        path.write_bytes(gzip.compress(text) if suffix == "tab.gz" else text)
    assert check_submission_file(str(path), grid) == bool(header)
    found = read_submission(str(path), grid, ("chr3",))
    first, last = grid.range_of("chr3")
    np.testing.assert_array_equal(found["chr3"], scores[first:last])
    folder = Location(str(tmp_path / "rewritten"))
    written = rewrite_submission(
        str(path), folder, cell_type="K562", target="CTCF", assembly="toy1", grid=grid, contigs=("chr1", "chr3")
    )
    assert read_predictions(folder) == written
    column = place_columns(folder, written, grid, manifest)[PAIR]
    expected = scores.copy()
    expected[slice(*grid.range_of("chr2"))] = np.nan
    np.testing.assert_array_equal(column.read(0, grid.num_bins), expected)


def test_other_names_of_contigs_and_other_contigs_do_not_matter(tmp_path: Path, grid: BinGrid) -> None:
    path = tmp_path / "s.tab"
    path.write_text("chrUn\t0\t200\t0.1\n3\t0\t200\t0.25\n3\t50\t250\t1e-3\n1\t0\t200\t1\n")
    found = read_submission(str(path), grid, ("chr3",))["chr3"]
    assert found[:2].tolist() == pytest.approx([0.25, 0.001])
    assert np.isnan(found[2:]).all()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("chr3\t25\t225\t0.5", r"row 2 .*is not a bin of 200 bp every 50 bp"),
        ("chr3\t50\t300\t0.5", r"row 2 .*is not a bin"),
        ("chr3\t47000\t47200\t0.5", r"row 2 .*within its contig"),
        ("chr3\t50\t250\t1.5", r"row 2 .*probability of 0 to 1"),
        ("chr3\t50\t250\tnan", r"row 2 .*probability of 0 to 1"),
        ("chr3\t0\t200\t0.5", r"lists 1 bins twice"),
        ("chr3\t50\t250\thigh", r"malformed row"),
        ("chr3\t50\t250", r"malformed row"),
    ],
)
def test_bad_rows_are_told_with_their_number(tmp_path: Path, grid: BinGrid, row: str, message: str) -> None:
    path = tmp_path / "s.tab"
    path.write_text(f"chr3\t0\t200\t0.5\n{row}\n")
    with pytest.raises(CorpusError, match=message):
        read_submission(str(path), grid, ("chr3",))


def test_files_that_are_no_submissions_are_refused_at_the_first_row(tmp_path: Path, grid: BinGrid) -> None:
    path = tmp_path / "labels.tsv"
    path.write_text("chr\tstart\tstop\tK562\tHepG2\nchr3\t0\t200\tU\tB\n")
    with pytest.raises(CorpusError, match="not a submission of ENCODE-DREAM"):
        check_submission_file(str(path), grid)
    path.write_text("chr3\t0\t100\t0.5\n")
    with pytest.raises(CorpusError, match="not of the labels' 200 bp"):
        check_submission_file(str(path), grid)
    with pytest.raises(GenomeError, match="does not exist"):
        check_submission_file(str(tmp_path / "absent.gz"), grid)
    path.write_text("chr9\t0\t200\t0.5\n")
    with pytest.raises(CorpusError, match="no row on chr3"):
        read_submission(str(path), grid, ("chr3",))


def test_a_cut_off_file_is_told_to_be_so(tmp_path: Path, grid: BinGrid, scores: np.ndarray) -> None:
    path = Path(scenes.write_submission(tmp_path / "s.tab.gz", grid, scores))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(GenomeError, match="truncated or damaged"):
        read_submission(str(path), grid, ("chr3",))
