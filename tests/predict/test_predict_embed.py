"""``epilm embed`` on Ray: numbers, order, parts, resume, and what it says of itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from slow_reference import reference

from epilm.errors import CorpusError, RecipeError, RunExistsError
from epilm.predict.embed import run_embed
from epilm.predict.load import load_model
from epilm.predict.parts import write_intervals
from epilm.predict.plan import check_embed
from epilm.predict.recipe import EmbedRecipe
from epilm.predict.worker import PartWriter
from epilm.storage import Location

pytestmark = pytest.mark.ray

# longer than the window of 90 bp, both strands, none, off the end of a contig, in an N gap (500-610)
BED = [
    ("chr2", 1100, 1300, "far", "-"),
    ("chr1", 100, 190, "one", "+"),
    ("chr1", 100, 190, "turned", "-"),
    ("chr1", 395, 800, "long", "+"),
    ("chr2", 33, 80, "short", "."),
    ("chr1", 505, 600, "unknown", "+"),
]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, toy_corpus, ebert_folder):
    """``recipe(**changes)``: mean embeddings of ``BED`` in two cell types, in three parts of one worker."""
    folder = tmp_path_factory.mktemp("embed")
    lines = ["\t".join(map(str, (*row[:4], 0, row[4]))) for row in [*BED, ("chr9", 0, 90, "elsewhere", "+")]]
    (folder / "toy.bed").write_text("\n".join(lines) + "\n")
    settings = {
        "name": "mean",
        "storage": str(folder),
        "model": str(ebert_folder),
        "corpus": str(toy_corpus.folder),
        "intervals": {"kind": "bed", "path": str(folder / "toy.bed")},
        "cell_types": ["brain", "liver"],
        "batch_size": 4,
        "sequences_per_part": 12,
    }
    return lambda **changes: EmbedRecipe.model_validate(settings | changes)


@pytest.fixture(scope="module")
def mean_run(ray_local, recipe) -> tuple[dict, Path]:
    lines: list[str] = []
    result = run_embed(recipe(), progress=lines.append)
    assert any("left out: 1 unknown_contig" in line for line in lines)
    assert any("1 interval(s) hold no known k-mer" in line for line in lines)
    return result, Path(recipe().storage) / "mean"


def read_parts(folder: Path) -> pa.Table:
    files = [file["path"] for file in json.loads((folder / "embeddings.json").read_text())["files"]]
    assert files == sorted(path.name for path in folder.glob("part-*"))
    return pa.concat_tables([pq.read_table(folder / name) for name in files])


def test_rows_are_those_of_the_reference_in_the_order_of_interval_and_cell(mean_run, toy_corpus, ebert_folder):
    loaded, table = load_model(Location(str(ebert_folder))), read_parts(mean_run[1])
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 16)
    rows = table.to_pylist()
    expected = [(row, cell) for row in BED for cell in ("brain", "liver")]
    assert len(rows) == len(expected)
    for row, ((chrom, start, end, name, strand), cell) in zip(rows, expected, strict=True):
        assert [row[key] for key in ("id", "chrom", "start", "end", "strand")] == [name, chrom, start, end, strand]
        assert row["cell_type"] == cell
        number = toy_corpus.manifest.cell_types.index(cell)
        hidden, _, known = reference(loaded, toy_corpus, (chrom, start, end, strand), number)
        want = hidden[known].mean(0) if known.any() else np.full(16, np.nan)
        np.testing.assert_allclose(row["embedding"], want, atol=2e-5)


def test_what_the_run_says_of_itself(mean_run, toy_corpus, ebert_folder):
    result, folder = mean_run
    described = json.loads((folder / "embeddings.json").read_text())
    assert json.loads((folder / "result.json").read_text()) == result
    both = {key: described[key] for key in described.keys() & result.keys()}
    assert both == {
        "pooling": "mean",
        "dim": 16,
        "num_intervals": 6,
        "num_rows": 12,
        "cell_types": ["brain", "liver"],
        "intervals_left_out": {"unknown_contig": 1},
        "intervals_without_dna": 1,
        "leak": {"trained_contigs": ["chr1"], "intervals_on_trained": 4, "trained_cell_types": ["liver"]},
    }
    assert result["windows_embedded"] == 2 * (3 + 1 + 1 + 5 + 1 + 2)
    assert described["model_path"] == str(ebert_folder)
    assert described["model_sha256"] == (Location(str(ebert_folder)) / "model.safetensors").sha256()
    assert described["model"]["assembly"] == "toy1"
    assert described["corpus_fingerprint"] == toy_corpus.manifest.fingerprint()
    assert len(described["files"]) > 2
    for file in described["files"]:
        place = Location(str(folder)) / file["path"]
        assert (file["sha256"], file["rows"]) == (place.sha256(), pq.read_metadata(place.path).num_rows)


def test_a_killed_run_keeps_its_parts_and_other_workers_write_the_same(mean_run, recipe):
    """The folder as a kill leaves it: no result, a part lacking, one cut short, half of another under its first name."""
    whole, folder = mean_run[1], mean_run[1].with_name("killed")
    shutil.copytree(whole, folder)
    for name in ("result.json", "embeddings.json", "part-00000.parquet"):
        (folder / name).unlink()
    cut = folder / "part-00002.parquet"
    cut.write_bytes(cut.read_bytes()[:-20])
    (folder / "part-00000.parquet.0123abcd.tmp").write_bytes(b"half")
    kept = (folder / "part-00001.parquet").stat()  # its inode: a rewritten file is a new one
    with pytest.raises(RunExistsError, match="--resume"):
        run_embed(recipe(name="killed", num_workers=2))
    result = run_embed(recipe(name="killed", num_workers=2), on_existing="resume")
    assert result["parts_kept"] == len(list(whole.glob("part-*"))) - 2
    assert 0 < result["windows_embedded"] < mean_run[0]["windows_embedded"]
    assert (folder / "part-00001.parquet").stat().st_ino == kept.st_ino
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in whole.iterdir())
    for path in whole.glob("part-*"):
        assert (folder / path.name).read_bytes() == path.read_bytes(), path.name
    again = run_embed(recipe(name="killed"), on_existing="resume")
    assert (again["windows_embedded"], again["windows_per_s"]) == (0, None)


def test_tokens_of_windows_by_a_model_of_dna_alone(ray_local, recipe, toy_corpus, dbert_folder):
    changes = {"intervals": {"kind": "windows"}, "cell_types": None, "model": f"file://{dbert_folder}"}
    result = run_embed(recipe(name="tokens", pooling="tokens", **changes))
    assert (result["num_rows"], result["cell_types"], result["leak"]["intervals_on_trained"]) == (7, [], 0)
    table = read_parts(Path(recipe().storage) / "tokens")
    assert table.column("start").to_pylist() == list(range(0, 1170, 180))
    assert set(table.column("cell_type").to_pylist()) == {""}
    loaded = load_model(Location(str(dbert_folder)))
    for row in table.to_pylist():
        hidden, _, _ = reference(loaded, toy_corpus, (row["chrom"], row["start"], row["end"], "."), 0)
        assert hidden.shape == (30, 16)
        np.testing.assert_allclose(np.array(row["embedding"]), hidden, atol=2e-5)


def test_cls_by_the_actor_alone(recipe, toy_corpus, ebert_folder, tmp_path, monkeypatch):
    """What Ray starts, started here: an actor takes seconds."""
    (tmp_path / "short.bed").write_text("chr2\t300\t390\tx\t0\t-\nchr1\t7\t60\ty\t0\t+\n")
    chosen = recipe(pooling="cls", intervals={"kind": "bed", "path": str(tmp_path / "short.bed")})
    plan, folder = check_embed(chosen), Location(str(tmp_path))
    write_intervals(folder, plan.intervals)
    monkeypatch.chdir(tmp_path)  # an actor's own folder: relative paths of the recipe mean nothing there
    writer = PartWriter(
        recipe=chosen.model_copy(update={"model": "relative/model", "corpus": "relative/corpus"}),
        folder=folder,
        model=Location(chosen.model),
        corpus=Location(chosen.corpus),
        parts=plan.parts,
        cells=plan.cells,
        names=plan.names,
        device="cpu",
    )
    row = writer({"part": np.array([0])})
    assert (row["part"].tolist(), row["error"].tolist()) == ([0], [""])
    assert row["sha256"].tolist() == [(folder / "part-00000.parquet").sha256()]
    loaded, rows = load_model(Location(str(ebert_folder))), pq.read_table(tmp_path / "part-00000.parquet").to_pylist()
    assert [row["id"] for row in rows] == ["x", "x", "y", "y"]
    for row, cell in zip(rows, [2, 0, 2, 0], strict=True):
        place = (row["chrom"], row["start"], row["end"], row["strand"])
        np.testing.assert_allclose(row["embedding"], reference(loaded, toy_corpus, place, cell)[1], atol=2e-5)


def test_a_corrupt_shard_is_named_and_finished_parts_stay(ray_local, recipe, toy_corpus, tmp_path):
    corpus = tmp_path / "corpus"
    shutil.copytree(toy_corpus.folder, corpus)
    shard = corpus / "contigs" / "chr1" / "part-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(CorpusError, match=r"corrupted shard .*contigs/chr1/part-00000\.parquet"):
        run_embed(recipe(name="corrupt", corpus=str(corpus)))
    assert not (Path(recipe().storage) / "corrupt" / "result.json").exists()


def test_workers_that_never_fit_are_refused(ray_local, recipe):
    with pytest.raises(RecipeError, match=r"num_workers=50 x cpus_per_worker=1 needs 50 CPUs, this Ray has 6"):
        run_embed(recipe(name="many", num_workers=50))
    with pytest.raises(RecipeError, match="needs 9 GPUs"):
        run_embed(recipe(name="many", gpus_per_worker=9))
    assert not (Path(recipe().storage) / "many").exists()
