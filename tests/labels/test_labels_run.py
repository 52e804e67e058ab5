"""``epilm labels``: written once, read again by other corpora of the assembly, whole after a kill."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from epilm.config import parse_recipe
from epilm.corpus.manifest import write_manifest
from epilm.errors import CheckpointError, CorpusError, GenomeError, RunExistsError, StorageError
from epilm.labels import run as labels_run
from epilm.labels.codes import BOUND, EXCLUDED
from epilm.labels.load import load_labels
from epilm.labels.recipe import DreamLabels, LabelsRecipe, SavedLabels
from epilm.labels.run import check_labels, run_labels
from epilm.storage import Location

SPANS = {"chrI": (0, 3000), "tiny": (0, 90), "chrII": (130, 2000)}


@pytest.fixture
def recipe_of(tmp_path, make_manifest):
    """Recipes on a corpus of two cell types; its manifest is all that labels read of it."""
    (tmp_path / "corpus").mkdir()
    write_manifest(Location(str(tmp_path / "corpus")), make_manifest(SPANS, ["a", "b"]))
    (tmp_path / "a.bed").write_text("chr1\t400\t700\nchr2\t600\t900\n")
    (tmp_path / "b.bed").write_text("chr1\t2000\t2210\nchr2\t100\t800\n")
    (tmp_path / "black.bed").write_text("chr1\t600\t650\n")

    def make(**changes):
        a, b = str(tmp_path / "a.bed"), str(tmp_path / "b.bed")
        files = {"TF": {"a": {"conservative": a, "relaxed": b}, "b": b}, "X/Y": {"b": b}}
        raw = {
            "name": "labels",
            "storage": str(tmp_path / "runs"),
            "corpus": str(tmp_path / "corpus"),
            "labels": {"kind": "peaks", "files": files, "blacklist": str(tmp_path / "black.bed")},
        }
        return parse_recipe(LabelsRecipe, raw | changes)

    return make


def test_written_labels_are_the_labels(recipe_of, tmp_path, make_manifest):
    recipe = recipe_of(write_tsv=True)
    manifest = make_manifest(SPANS, ["a", "b"])
    told: list[str] = []
    result = run_labels(recipe, progress=told.append)
    folder = tmp_path / "runs" / "labels"
    labels = load_labels(recipe.labels, manifest)
    saved = load_labels(SavedLabels(path=str(folder)), manifest)
    assert saved.fingerprint() == labels.fingerprint() == result["labels_fingerprint"]
    description = json.loads((folder / "labels.json").read_text())
    assert description["assembly"] == "toy1"
    assert [row["bound"] for row in description["counts"]] == [
        labels.bound[row["cell_type"], row["target"]].size for row in description["counts"]
    ]
    sources = {source["path"]: source for source in description["sources"]}
    assert set(sources) == {str(tmp_path / name) for name in ("a.bed", "b.bed", "black.bed")}
    a_bed = sources[str(tmp_path / "a.bed")]
    assert a_bed["sha256"] == Location(str(tmp_path / "a.bed")).sha256()
    assert a_bed["contig_names"] == {"chr1": "chrI", "chr2": "chrII"}
    table = pq.read_table(folder / "labels.parquet").to_pandas()
    bound = table[(table["cell_type"] == "a") & (table["target"] == "TF") & (table["code"] == BOUND)]
    # the blacklisted base 600-650 takes the bins 450 to 600 away from those at 350 to 550 of 400-700
    assert bound[["chrom", "start", "num_bins"]].to_numpy().tolist() == [["chrI", 350, 2], ["chrII", 550, 5]]
    assert table[table["code"] == EXCLUDED]["start"].tolist() == [450]
    assert sorted(p.name for p in (folder / "tsv").iterdir()) == ["TF.tsv.gz", "X_Y.tsv.gz"]
    dream = DreamLabels(files={"TF": str(folder / "tsv/TF.tsv.gz"), "X/Y": str(folder / "tsv/X_Y.tsv.gz")})
    assert load_labels(dream, manifest).fingerprint() == labels.fingerprint()
    assert any("3 pairs of 2 factor(s) and 2 cell type(s)" in line for line in told)


def test_saved_labels_on_other_contigs(recipe_of, tmp_path, make_manifest):
    run_labels(recipe_of())
    config = SavedLabels(path=str(tmp_path / "runs/labels"), targets=("TF",), cell_types={"a": None, "b": "B"})
    # other names, another piece, and a contig that the labels lack
    manifest = make_manifest({"II": (1000, 2100), "III": (0, 400), "I": (1900, 3000)})
    told: list[str] = []
    labels = load_labels(config, manifest, progress=told.append)
    assert (labels.cell_types, labels.targets) == (("B",), ("TF",))
    whole = load_labels(SavedLabels(path=config.path), make_manifest(SPANS, ["a", "b"]))
    assert labels.dense("I", "B", "TF").tolist() == whole.dense("chrI", "b", "TF")[1900 // 50 :].tolist()
    two = labels.dense("II", "B", "TF")  # 1000 to 1900; the labels' own piece ends at 2000
    first = int(whole.grid.index("chrII", np.array([1000]))[0]) - whole.grid.range_of("chrII")[0]
    assert two[:17].tolist() == whole.dense("chrII", "b", "TF")[first:].tolist()
    assert two[17:].tolist() == [EXCLUDED] * 2
    assert (labels.dense("III", "B", "TF") == EXCLUDED).all()
    assert any("no labels of 7 of" in line for line in told)
    with pytest.raises(CorpusError, match="labels toy1, but the corpus toy is hg19"):
        load_labels(config, make_manifest(SPANS, assembly="hg19"))
    with pytest.raises(CorpusError, match="labels no bin of what the corpus toy holds"):
        load_labels(config, make_manifest({"chrII": (2000, 3000)}))


def test_unfinished_and_damaged_folders(recipe_of, tmp_path, make_manifest):
    manifest = make_manifest(SPANS, ["a", "b"])
    folder = tmp_path / "runs/labels"
    config = SavedLabels(path=str(folder))
    with pytest.raises(CorpusError, match=r"no labels at .* does not exist"):
        load_labels(config, manifest)
    run_labels(recipe_of())
    (folder / "labels.parquet").write_bytes((folder / "labels.parquet").read_bytes()[:-5])
    with pytest.raises(CorpusError, match="missing or damaged"):
        load_labels(config, manifest)
    (folder / "labels.json").write_text("{}")
    with pytest.raises(CorpusError, match="no description of labels of format 1"):
        load_labels(config, manifest)
    (folder / "labels.json").unlink()
    with pytest.raises(CorpusError, match="unfinished"):
        load_labels(config, manifest)


def test_bad_input_writes_nothing(recipe_of, tmp_path):
    (tmp_path / "a.bed").write_text("chr1\t400\t700\nchr2\t600\t900\nchr1\t5000\t5200\n")
    recipe = recipe_of()
    check_labels(recipe)  # only reading the peaks shows it
    with pytest.raises(GenomeError, match="lies past the end"):
        run_labels(recipe)
    assert not (tmp_path / "runs").exists()
    (tmp_path / "a.bed").unlink()
    with pytest.raises(GenomeError, match="does not exist"):
        check_labels(recipe)
    with pytest.raises(CorpusError, match="no corpus at"):
        check_labels(recipe_of(corpus=str(tmp_path / "nowhere")))


def test_a_killed_run_goes_on(recipe_of, tmp_path, monkeypatch):
    recipe = recipe_of(write_tsv=True)
    folder = tmp_path / "runs/labels"
    write = labels_run.write_dream

    def killed(location, labels, target):
        if target == "X/Y":
            (folder / "tsv" / "X_Y.tsv.gz.1234.tmp").write_bytes(b"half")
            raise KeyboardInterrupt
        return write(location, labels, target)

    monkeypatch.setattr(labels_run, "write_dream", killed)
    with pytest.raises(KeyboardInterrupt):
        run_labels(recipe)
    monkeypatch.setattr(labels_run, "write_dream", write)
    with pytest.raises(RunExistsError):
        run_labels(recipe)
    stamp = (folder / "tsv/TF.tsv.gz").stat().st_mtime_ns
    result = run_labels(recipe, on_existing="resume")
    assert (folder / "tsv/TF.tsv.gz").stat().st_mtime_ns == stamp
    assert sorted(p.name for p in (folder / "tsv").iterdir()) == ["TF.tsv.gz", "X_Y.tsv.gz"]
    told: list[str] = []
    assert run_labels(recipe, on_existing="resume", progress=told.append) == result
    assert told == [f"{folder} is finished"]
    (tmp_path / "a.bed").write_text("chr1\t400\t800\nchr2\t600\t900\n")
    with pytest.raises(CheckpointError, match="data fingerprints"):
        run_labels(recipe, on_existing="resume")
    assert run_labels(recipe, on_existing="overwrite")["labels_fingerprint"] != result["labels_fingerprint"]


def test_a_storage_that_cannot_be_written(recipe_of, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        run_labels(recipe_of(storage=str(tmp_path / "file")))
