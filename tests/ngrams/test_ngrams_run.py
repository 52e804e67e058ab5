"""``epilm npmi`` from end to end: genome, corpus and table; chunkings, resume, errors out of workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slow_ngrams import slow_counts

from epilm.config import parse_recipe
from epilm.corpus.build import build_corpus
from epilm.corpus.recipe import CorpusRecipe
from epilm.errors import CorpusError, RunExistsError, StorageError
from epilm.ngrams.recipe import NpmiRecipe
from epilm.ngrams.run import check_npmi, run_npmi
from epilm.ngrams.table import NGRAMS_FILE, read_scores, read_table
from epilm.storage import Location

LENGTHS = {"chr1": 6_500, "chr2": 3_000, "chr3": 4_000, "scaffold": 7}
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    generator = np.random.default_rng(4)
    return {
        name: "".join(generator.choice(list("ACGTN"), length, p=[0.35, 0.2, 0.1, 0.33, 0.02]))
        for name, length in LENGTHS.items()
    }


@pytest.fixture(scope="module")
def fasta(texts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("genome") / "toy.fa"
    lines = [f">{name}\n" + "\n".join(t[i : i + 70] for i in range(0, len(t), 70)) for name, t in texts.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def recipe(storage: Path, source: dict[str, Any], **changes: Any) -> NpmiRecipe:
    return parse_recipe(NpmiRecipe, {"name": "toy", "storage": str(storage), "source": source} | changes)


def counts_in(folder: Path) -> list[list[int]]:
    return [scores.count.tolist() for scores in read_table(Location(str(folder)))[0].values()]


def test_two_chunkings_of_a_genome_are_the_same_table(tmp_path: Path, fasta: Path, texts: dict[str, str]) -> None:
    source = {"kind": "genome", "path": str(fasta), "exclude_contigs": ["3"], "max_n": 5}
    told: list[str] = []
    result = run_npmi(recipe(tmp_path / "one", source), progress=told.append)
    assert told[0].startswith("counting 0.009507 Mb of 3 contigs: chr1, chr2, scaffold; left out: chr3")
    kept = [texts[name] for name in ("chr1", "chr2", "scaffold")]
    assert counts_in(tmp_path / "one" / "toy") == slow_counts(kept, 5)
    num_bases = sum(len(text) - text.count("N") for text in kept)
    assert result["contigs_counted"] == ["chr1", "chr2", "scaffold"]
    assert result["contigs_left_out"] == ["chr3"]
    assert (result["stage"], result["num_tasks"], result["num_bases"], result["total"]) == (
        "npmi",
        1,
        num_bases,
        num_bases,
    )
    assert result["num_bases"] + result["num_unknown_bases"] == sum(map(len, kept))
    assert read_scores(Location(str(tmp_path / "one" / "toy")), 3).contigs == ("chr1", "chr2", "scaffold")

    spread = run_npmi(recipe(tmp_path / "two", source | {"chunk_bp": 1_000, "num_workers": 2}))
    assert spread["num_tasks"] == 11
    one, two = ((tmp_path / name / "toy" / NGRAMS_FILE).read_bytes() for name in ("one", "two"))
    assert one == two
    measured = {"seconds", "mbases_per_s", "num_tasks", "finished"}
    assert {k: v for k, v in spread.items() if k not in measured} == {
        k: v for k, v in result.items() if k not in measured
    }


def test_both_strands_and_twice_the_bases(tmp_path: Path, fasta: Path, texts: dict[str, str]) -> None:
    source = {"kind": "genome", "path": str(fasta), "max_n": 3, "strand_symmetric": True, "total": "twice_bases"}
    result = run_npmi(recipe(tmp_path, source | {"min_count": 50}, listed=3))
    turned = [t[::-1].translate(str.maketrans("ACGT", "TGCA")) for t in texts.values()]
    assert counts_in(tmp_path / "toy") == slow_counts([*texts.values(), *turned], 3)
    assert result["strands"] == 2
    assert result["total"] == 4 * result["num_bases"]
    assert [entry["rank"] for entry in result["top_3mers"]] == [1, 2, 3]
    assert result["bottom_3mers"][0]["rank"] == result["ngrams"]["3"]["scored"]
    assert result["top_3mers"][0]["npmi"] == result["ngrams"]["3"]["highest_npmi"]


def test_a_corpus_is_counted_without_what_it_holds_out(tmp_path: Path, fasta: Path, texts: dict[str, str]) -> None:
    raw = {
        "name": "corpus",
        "storage": str(tmp_path),
        "assembly": "toy",
        "genome": {"path": str(fasta), "contigs": ["chr1", "chr2", "chr3"]},
        "held_out_contigs": ["chr3"],
        "held_out_regions": ["chr1:2000-3000"],
        "window_bp": 100,
        "bin_bp": 50,
        "chunk_bp": 1_000,
        "max_n_fraction": 0.5,
    }
    build_corpus(parse_recipe(CorpusRecipe, raw))
    source = {"kind": "corpus", "path": str(tmp_path / "corpus"), "max_n": 4, "chunk_bp": 1_700}
    result = run_npmi(recipe(tmp_path, source))
    assert (result["contigs_counted"], result["contigs_left_out"]) == (["chr1", "chr2"], ["chr3"])
    kept = [texts["chr1"][:2000], texts["chr1"][3000:], texts["chr2"]]  # no word reaches into the held-out stretch
    assert counts_in(tmp_path / "toy") == slow_counts(kept, 4)

    run_npmi(recipe(tmp_path, source | {"held_out": "count"}, name="all"))
    assert counts_in(tmp_path / "all") == slow_counts([texts[name] for name in ("chr1", "chr2", "chr3")], 4)


def test_a_table_is_imported(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("word,count,npmi\nACGT,500,0.5\nTTTT,900,0.9\nACG,700,0.7\nAAAA,5,\n")
    source = {"kind": "table", "path": str(tmp_path / "scores.csv"), "columns": {"kmer": "word"}}
    result = run_npmi(recipe(tmp_path, source, listed_n=[3, 4]))
    assert result["top_4mers"][0] == {"kmer": "TTTT", "count": 900, "npmi": 0.9, "rank": 1}
    assert result["top_3mers"] == result["bottom_3mers"] == [{"kmer": "ACG", "count": 700, "npmi": 0.7, "rank": 1}]
    scores = read_scores(Location(str(tmp_path / "toy")), 4)
    assert sorted(scores.rank)[:3] == [1, 2, 3]
    assert np.count_nonzero(scores.rank == 3) == 254
    with pytest.raises(ValueError, match=r"listed_n=6: .*scores\.csv has the NPMI of k = 3, 4 alone"):
        check_npmi(recipe(tmp_path, source, listed_n=[6]))
    (tmp_path / "bare.csv").write_text("word,count,npmi\nACGT,500,\n")
    with pytest.raises(CorpusError, match="holds no NPMI"):
        check_npmi(recipe(tmp_path, source | {"path": str(tmp_path / "bare.csv")}))


def test_a_finished_run_is_refused_kept_or_replaced(tmp_path: Path, fasta: Path) -> None:
    mine = recipe(tmp_path, {"kind": "genome", "path": str(fasta), "max_n": 3})
    first = run_npmi(mine)
    with pytest.raises(RunExistsError):
        run_npmi(mine)
    assert run_npmi(mine, on_existing="resume") == first
    table = tmp_path / "toy" / NGRAMS_FILE
    content = table.read_bytes()
    (tmp_path / "toy" / "result.json").unlink()  # cut off before its end
    table.unlink()
    assert run_npmi(mine, on_existing="resume")["ngrams"] == first["ngrams"]
    assert table.read_bytes() == content
    other = recipe(tmp_path, {"kind": "genome", "path": str(fasta), "max_n": 4})
    assert "4" in run_npmi(other, on_existing="overwrite")["ngrams"]


def test_nothing_common_enough_is_said(tmp_path: Path, fasta: Path) -> None:
    source = {"kind": "genome", "path": str(fasta), "contigs": ["scaffold"], "max_n": 3}
    with pytest.raises(CorpusError, match=r"no word of 3 bases or more occurs 101 times in . bases"):
        run_npmi(recipe(tmp_path, source))


def test_an_error_in_a_worker_is_the_users(tmp_path: Path, fasta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "gone.fa"
    copy.write_bytes(fasta.read_bytes())
    mine = recipe(tmp_path, {"kind": "genome", "path": str(copy), "max_n": 3, "chunk_bp": 1_000})
    plan = check_npmi(mine)
    copy.unlink()
    monkeypatch.setattr("epilm.ngrams.run.check_npmi", lambda recipe: plan)
    monkeypatch.setattr("epilm.ngrams.sources.CountPlan.fingerprints", lambda plan: {})
    with pytest.raises(StorageError, match=r"a worker could not read the sequence: .*gone.fa") as caught:
        run_npmi(mine)
    assert type(caught.value) is StorageError
