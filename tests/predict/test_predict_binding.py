"""``epilm predict`` on Ray: every bin's number, tracks, submissions, resume, and what it says of itself."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pyBigWig
import pytest
from toy_signals import BIN_BP, SPANS, STEP_BP, TARGETS

from epilm.errors import CorpusError, RunExistsError, StorageError
from epilm.evaluate.predictions import predictions_schema, read_predictions
from epilm.predict.binding_scorer import BindingScorer
from epilm.predict.file_tasks import write_files
from epilm.predict.genome import run_predict
from epilm.predict.genome_files import ColumnFile, ColumnWriter
from epilm.predict.genome_parts import read_column
from epilm.predict.genome_plan import check_predict
from epilm.predict.genome_recipe import PredictRecipe
from epilm.predict.genome_worker import GenomeWriter
from epilm.storage import Location

CELLS = ("lung", "liver")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, signal_corpus, plus_folder):
    """``recipe(**changes)``: the held-out contigs in two cell types, in parts of 50 bins, with all outputs."""
    settings = {
        "name": "whole",
        "storage": str(tmp_path_factory.mktemp("genome")),
        "model": str(plus_folder),
        "corpus": str(signal_corpus.folder),
        "cell_types": CELLS,
        "step_bp": STEP_BP,
        "batch_size": 8,
        "rows_per_part": 50,
        "outputs": {"dream": True},
    }
    return lambda **changes: PredictRecipe.model_validate(settings | changes)


@pytest.fixture(scope="module")
def whole_run(ray_local, recipe) -> tuple[dict, Path]:
    lines: list[str] = []
    result = run_predict(recipe(), progress=lines.append)
    assert lines[0] == ("predict: 200 bins of chrP, chrN x 6 column(s) in 5 part(s); left out: 1 contigs_without_bins")
    assert any("15 bin(s) hold no known base" in line for line in lines)
    return result, Path(recipe().storage) / "whole"


def one_by_one(scorer: BindingScorer, chrom: str, starts: list[int], cell: int) -> np.ndarray:
    """float32 [n, targets]: every bin gathered and predicted alone."""
    name = np.array([chrom], object)
    rows = [scorer.probabilities(scorer.windows(name, np.array([at]), np.array([cell])))[0] for at in starts]
    return np.array(rows)


def starts_of(chrom: str) -> list[int]:
    begin, end = SPANS[chrom]
    return list(range(-(-begin // STEP_BP) * STEP_BP, end - BIN_BP + 1, STEP_BP))


def test_every_base_of_a_track_shows_the_prediction_of_its_bin_alone(whole_run, plus_folder, signal_corpus):
    scorer = BindingScorer(Location(str(plus_folder)), Location(str(signal_corpus.folder)), cell_types=CELLS)
    folder = whole_run[1] / "bigwig"
    assert len(list(folder.iterdir())) == len(CELLS) * len(TARGETS)
    for chrom in ("chrP", "chrN"):
        starts, dna = starts_of(chrom), signal_corpus.dna[chrom]
        known = [bool((dna[start : start + BIN_BP] < 4).any()) for start in starts]
        for cell, name in enumerate(CELLS):
            alone = one_by_one(scorer, chrom, starts, cell)
            for number, target in enumerate(("CTCF", "REST", "MAX_MYC")):
                expected = np.full(SPANS[chrom][1], np.nan, np.float32)
                for place, start in enumerate(starts):
                    low = start + 15 if place else SPANS[chrom][0]
                    high = start + 25 if place + 1 < len(starts) else SPANS[chrom][1]
                    if known[place]:
                        expected[low:high] = alone[place, number]
                with pyBigWig.open(str(folder / f"{target}.{name}.bw")) as track:
                    assert list(track.chroms().items()) == [(contig, end) for contig, (_, end) in SPANS.items()]
                    found = track.values(chrom, 0, SPANS[chrom][1], numpy=True)
                np.testing.assert_allclose(found, expected, atol=2e-6)
    assert sum(known) < len(known)


def test_the_manifest_and_the_parts_are_the_contract(whole_run, signal_corpus):
    result, folder = whole_run
    predictions = read_predictions(Location(str(folder)))
    assert [(part.chrom, part.first_start, part.rows) for part in predictions.parts] == [
        ("chrP", 1040, 50),
        ("chrP", 1540, 50),
        ("chrP", 2040, 13),
        ("chrN", 0, 50),
        ("chrN", 500, 37),
    ]
    for part in predictions.parts:
        table = pq.read_table(folder / part.path)
        assert table.schema.remove_metadata() == predictions_schema(6)
        assert table.column("start").to_pylist() == [part.first_start + STEP_BP * row for row in range(part.rows)]
        assert Location(str(folder / part.path)).sha256() == part.sha256
    assert [(column.cell_type, column.target) for column in predictions.columns] == [
        (cell, target) for cell in CELLS for target in TARGETS
    ]
    assert predictions.contig_lengths == {"chrP": 2203, "chrN": 900}
    assert predictions.corpus_fingerprint == signal_corpus.manifest.fingerprint()
    assert (predictions.bin_bp, predictions.step_bp, predictions.predictor) == (BIN_BP, STEP_BP, "model")
    assert predictions.provenance is not None
    assert predictions.provenance.trained_contigs == ("chrA",)
    assert json.loads((folder / "result.json").read_text()) == result
    said = ("num_bins", "bins_without_dna", "intervals_predicted", "parts_kept", "contigs", "both_strands")
    assert [result[key] for key in said] == [200, 15, 400, 0, ["chrP", "chrN"], False]
    assert result["leak"] == {
        "trained_contigs": ["chrA"],
        "bins_on_trained": 0,
        "trained_cell_types": ["liver"],
        "selected_on": [],
        "bins_on_selected": 0,
    }
    assert result["files"]["bigwig"][0] == "bigwig/CTCF.lung.bw"


def test_a_submission_has_every_bin_and_zero_where_there_is_none(whole_run, recipe):
    folder, plan = whole_run[1], check_predict(recipe())
    text = gzip.decompress((folder / "dream" / "F.REST.liver.tab.gz").read_bytes()).decode()
    rows = [line.split("\t") for line in text.splitlines()]
    places = [(chrom, start) for chrom in ("chrP", "chrN") for start in starts_of(chrom)]
    assert [(row[0], int(row[1]), int(row[2])) for row in rows] == [(c, s, s + BIN_BP) for c, s in places]
    values = np.concatenate([read_column(Location(str(folder)), part, 4) for part in plan.parts])
    assert np.isnan(values).sum() == 15
    np.testing.assert_array_equal(np.array([row[3] for row in rows], np.float32), np.nan_to_num(values))


def test_a_killed_run_keeps_its_parts_and_other_workers_write_the_same(whole_run, recipe):
    """The folder as a kill leaves it: no manifest, parts lacking and cut short, tracks lacking, halves of others."""
    whole, folder = whole_run[1], whole_run[1].with_name("killed")
    shutil.copytree(whole, folder)
    for name in (
        "result.json",
        "predictions.json",
        "part-00003.parquet",
        "bigwig/REST.lung.bw",
        "dream/F.REST.lung.tab.gz",
    ):
        (folder / name).unlink()
    cut = folder / "part-00001.parquet"
    cut.write_bytes(cut.read_bytes()[:-20])
    for name in ("part-00000.parquet.0123abcd.tmp", "bigwig/CTCF.lung.bw.0123abcd.tmp"):
        (folder / name).write_bytes(b"half")
    kept = [(folder / name).stat().st_ino for name in ("part-00002.parquet", "bigwig/CTCF.lung.bw")]
    with pytest.raises(RunExistsError, match="--resume"):
        run_predict(recipe(name="killed"))
    result = run_predict(recipe(name="killed", num_workers=2), on_existing="resume")
    assert (result["parts_kept"], result["intervals_predicted"]) == (3, 200)
    assert [(folder / name).stat().st_ino for name in ("part-00002.parquet", "bigwig/CTCF.lung.bw")] == kept
    files = sorted(str(path.relative_to(whole)) for path in whole.rglob("*") if path.is_file())
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == files
    for name in files:
        if not name.startswith(("result", "recipe")):
            assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.fixture
def write_here(tmp_path, signal_corpus, monkeypatch):
    """``write_here(recipe)``: what Ray starts, started here: the plan, and its folder with all parts and files."""

    def write(chosen: PredictRecipe) -> tuple:
        plan, folder = check_predict(chosen), Location(str(tmp_path / chosen.name)).mkdir()
        monkeypatch.chdir(tmp_path)  # an actor's own folder: relative paths of the recipe mean nothing there
        writer = GenomeWriter(
            recipe=chosen.model_copy(update={"model": "relative/model", "corpus": "relative/corpus"}),
            folder=folder,
            model=Location(chosen.model),
            corpus=Location(chosen.corpus),
            parts=plan.parts,
            asked=plan.asked,
            cells=plan.cells,
            targets=plan.targets,
            column_outputs=plan.column_outputs,
            device="cpu",
        )
        for part in plan.parts:
            row = writer({"part": np.array([part.index])})
            assert (row["part"].tolist(), row["error"].tolist()) == ([part.index], [""])
            assert row["sha256"].tolist() == [(folder / part.path).sha256()]
        files = [ColumnFile(kind, number, f"{number}.file") for kind in ("bigwig", "dream") for number in range(2)]
        for number in range(4):
            ColumnWriter(folder, plan.grid, plan.asked, SPANS, plan.parts, files)(number)
        return plan, folder

    return write


def test_a_model_of_dna_alone_predicts_the_same_in_every_cell_type_also_in_regions(
    write_here, recipe, dna_folder, signal_corpus, tmp_path
):
    (tmp_path / "some.bed").write_text("chrA\t0\t75\nchrA\t470\t560\nchrA\t1950\t1990\nchrN\t400\t460\n")
    chosen = recipe(
        model=str(dna_folder), cell_types=["K562", "skin"], targets=["REST"], regions=str(tmp_path / "some.bed")
    )
    plan, folder = write_here(chosen)
    scorer = BindingScorer(Location(str(dna_folder)), Location(str(signal_corpus.folder)))
    wanted = {"chrA": [0, 10, 20, 30, 470, 480, 490, 500, 510, 520, 1950], "chrN": [400, 410, 420]}
    alone = {chrom: one_by_one(scorer, chrom, starts, 0)[:, 1] for chrom, starts in wanted.items()}
    rows = [
        line.split("\t") for line in gzip.decompress((folder / "dream" / "1.file").read_bytes()).decode().splitlines()
    ]
    assert [(row[0], int(row[1])) for row in rows] == [(chrom, s) for chrom, starts in wanted.items() for s in starts]
    np.testing.assert_allclose([float(row[3]) for row in rows], np.concatenate(list(alone.values())), atol=2e-6)
    with pyBigWig.open(str(folder / "bigwig" / "0.file")) as track:
        for chrom, spans in {"chrA": [(0, 70), (470, 560), (1950, 1990)], "chrN": [(400, 460)]}.items():
            found = track.values(chrom, 0, SPANS[chrom][1], numpy=True)
            covered = np.zeros(len(found), bool)
            for low, high in spans:
                covered[low:high] = True
            np.testing.assert_array_equal(~np.isnan(found), covered)
        assert track.values("chrA", 25, 26)[0] == pytest.approx(alone["chrA"][1], abs=2e-6)
    for part in plan.parts:
        np.testing.assert_array_equal(read_column(folder, part, 0), read_column(folder, part, 1))


def test_parts_do_not_depend_on_how_much_is_gathered_at_once(write_here, recipe, monkeypatch):
    _, folder = write_here(recipe(name="one", contigs=["chrN"], rows_per_part=87, both_strands=True))
    monkeypatch.setattr("epilm.predict.genome_worker.STRETCH_BP", 13 * 50)
    plan, other = write_here(recipe(name="two", contigs=["chrN"], rows_per_part=87, both_strands=True))
    for column in range(6):
        ours, theirs = (read_column(place, plan.parts[0], column) for place in (folder, other))
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_a_part_that_was_damaged_later_is_named(write_here, recipe):
    plan, folder = write_here(recipe(contigs=["chrN"], targets=["CTCF"]))
    place = Path(folder.path) / plan.parts[1].path
    place.write_bytes(place.read_bytes()[:300])
    writer = ColumnWriter(folder, plan.grid, plan.asked, SPANS, plan.parts, [ColumnFile("bigwig", 0, "new.bw")])
    with pytest.raises(StorageError, match=r"part-00001\.parquet cannot be read: .*go on with --resume"):
        writer(0)
    assert not (Path(folder.path) / "bigwig" / "new.bw").exists()


def test_a_file_whose_process_dies_is_told_as_a_full_disk(ray_local):
    """libBigWig frees its buffers twice where a write fails, which ends the process."""

    def write(number: int) -> int:
        if number == 1:
            os.abort()
        return number

    assert write_files(write, ["a", "b"][:1], at_once=2, label="x", progress=lambda line: None) == [0]
    with pytest.raises(StorageError, match=r"the process that wrote b died .*Is the disk full"):
        write_files(write, ["a", "b"], at_once=2, label="x", progress=lambda line: None)

    def refuse(number: int) -> None:
        raise CorpusError(f"shard {number} is damaged")

    with pytest.raises(CorpusError, match=r"^shard 0 is damaged$"):
        write_files(refuse, ["a"], at_once=2, label="x", progress=lambda line: None)
