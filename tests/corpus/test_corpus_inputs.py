"""What is wrong with a recipe or its files is said before anything is started or written."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyBigWig
import pytest

from epilm.corpus.check import check_corpus, checked_layout
from epilm.errors import CorpusError, EpilmError, GenomeError, RecipeError

CELLS = ("a", "b", "c")
LENGTHS = {"chr1": 23_456, "chr2": 11_000, "chr3": 9_999, "tiny": 40}
"""Of the toy genome."""


def refuses(toy, tmp_path: Path, kind: type[EpilmError], message: str, **changes: Any) -> None:
    with pytest.raises(kind, match=message):
        check_corpus(toy.recipe(storage=str(tmp_path / "runs"), **changes))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"held_out_contigs": ["chr9"]}, r"held_out_contigs: contig 'chr9' is not in the genome.* Allowed: chr1, chr2"),
        ({"held_out_contigs": ["chrI", "1"]}, "two of chrI, 1 mean one contig"),
        ({"held_out_contigs": list(LENGTHS)}, "held_out_contigs takes every contig of the corpus"),
        ({"held_out_contigs": ["tiny"]}, "no held-out window is left after the filters"),
        ({"genome": {"path": "toy.fa", "contigs": ["chr1", "chr7"]}}, "genome.contigs: contig 'chr7' is not in"),
        ({"genome": {"path": "toy.fa", "contigs": ["chr1", "chr2"]}}, "held_out_contigs: contig 'chr3'"),
        ({"held_out_regions": ["chr9:0-10"]}, "held_out_regions: contig 'chr9'"),
        ({"held_out_regions": ["chr3:0-500"]}, "which held_out_contigs holds out whole"),
        ({"held_out_regions": ["chr1:23456-30000"]}, "lies outside chr1, of which the genome holds 0-23,456"),
        ({"held_out_contigs": [], "held_out_regions": ["chr1:0-1500"]}, r"no held-out window .*16 by n_fraction"),
        ({"held_out_cell_types": ["d"]}, "held_out_cell_types: 'd' is not a cell type.*Allowed: a, b, c"),
        ({"held_out_cell_types": ["a", "b", "c"]}, "takes every cell type; none is left to train on"),
        ({"window_bp": 30_000}, r"no training contig holds a window of window_bp=30000: the longest has 23,456 bp"),
        (
            {"max_no_state_fraction": 0, "states": {"kind": "segments", "files": {"a": "sparse.bed"}}, "signals": {}},
            r"no training window is left after the filters \(.* by no_state\)",
        ),
    ],
)
def test_a_corpus_that_cannot_be(toy, tmp_path: Path, monkeypatch, changes, message) -> None:
    (tmp_path / "sparse.bed").write_text("chr1\t0\t50\tE1\nchr3\t0\t9999\tE1\n")
    (tmp_path / "toy.fa").symlink_to(toy.folder / "toy.fa")
    monkeypatch.chdir(tmp_path)
    refuses(toy, tmp_path, CorpusError, message, **changes)


def test_no_window_survives_the_blacklist(toy, tmp_path: Path) -> None:
    (tmp_path / "black.bed").write_text("".join(f"{name}\t0\t{length}\n" for name, length in LENGTHS.items()))
    black = str(tmp_path / "black.bed")
    refuses(toy, tmp_path, CorpusError, r"no training window .*328 by blacklist.*check the blacklist", blacklist=black)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk_bp": 1010}, r"chunk_bp=1010 is not a multiple of bin_bp=50.* Try 1000"),
        ({"held_out_regions": ["chr1-5"]}, "held_out_regions: .* is not a region. Write chrom:start-end"),
        ({"held_out_regions": ["chr1:9-9"]}, "is empty"),
        ({"held_out_contigs": ["chr1", "chr1"]}, "names one twice"),
        ({"states": None, "held_out_cell_types": ["a"]}, "needs states"),
        ({"max_n_fraction": 1.5}, "max_n_fraction"),
    ],
)
def test_a_recipe_that_contradicts_itself(toy, changes, message) -> None:
    with pytest.raises(RecipeError, match=message):
        toy.recipe(**changes)


def write_track(path: Path, lengths: dict[str, int]) -> str:
    with pyBigWig.open(str(path), "w") as handle:
        handle.addHeader(list(lengths.items()))
        for name in lengths:
            handle.addEntries([name], [0], ends=[100], values=[1.0])
    return str(path)


def test_a_contig_of_another_length_is_of_another_assembly(toy, tmp_path: Path) -> None:
    track = write_track(tmp_path / "other.bw", LENGTHS | {"chr2": 11_500})
    message = r"other\.bw.*contig chr2 has 11,500 bp, but chr2 of the sequence has 11,000 bp"
    refuses(toy, tmp_path, GenomeError, message, signals={"t": {"path": track}})
    levels = {"kind": "levels", "tracks": {"cell": {"t": track}}}
    refuses(toy, tmp_path, GenomeError, message, states=levels, signals={})
    sizes = tmp_path / "toy.sizes"
    sizes.write_text("".join(f"{name}\t{length + (name == 'chr2')}\n" for name, length in LENGTHS.items()))
    genome = {"path": str(toy.folder / "toy.fa"), "sizes": str(sizes)}
    refuses(toy, tmp_path, GenomeError, "chr2 has 11,001 bp, but chr2 of the sequence has 11,000", genome=genome)


def test_a_track_without_the_contigs(toy, tmp_path: Path) -> None:
    track = write_track(tmp_path / "part.bw", {"chr1": LENGTHS["chr1"], "chr2": LENGTHS["chr2"]})
    refuses(toy, tmp_path, GenomeError, r"part\.bw.*no contig for chr3, tiny", signals={"t": {"path": track}})
    elsewhere = write_track(tmp_path / "else.bw", {"chr9": 5000})
    lenient = {"path": elsewhere, "missing_contigs": "no_data"}
    refuses(toy, tmp_path, GenomeError, r"none of its contigs \(chr9\) is in the sequence", signals={"t": lenient})
    levels = {"kind": "levels", "tracks": {"cell": {"t": track}}}
    refuses(
        toy, tmp_path, CorpusError, r"no state file covers chr3, tiny \(2 of 4 contigs\)", states=levels, signals={}
    )


def test_states_that_are_wrong(toy, tmp_path: Path) -> None:
    def states(text: str, **more: Any) -> dict[str, Any]:
        (tmp_path / "x.bed").write_text(text)
        files = {cell: str(toy.folder / f"{cell}.bed") for cell in CELLS} | {"a": str(tmp_path / "x.bed")}
        return {"kind": "segments", "files": files} | more

    overlapping = states("chr1\t0\t100\t1_Open\nchr1\t50\t200\t2_Weak\n")
    refuses(toy, tmp_path, GenomeError, r"x\.bed: 1 segments overlap the next", states=overlapping)
    unknown = states("chr1\t0\t100\t7_New\n", state_names=["1_Open", "2_Weak", "18_Closed"])
    refuses(toy, tmp_path, GenomeError, r"x\.bed: unknown state '7_New'.*Allowed by state_names", states=unknown)
    beyond = states("chr1\t0\t99999\t1_Open\n")
    refuses(toy, tmp_path, GenomeError, r"a segment reaches chr1:99,999, but the contig has 23,456", states=beyond)


def test_files_that_are_not_what_they_say(toy, tmp_path: Path) -> None:
    whole = gzip.compress((toy.folder / "toy.fa").read_bytes())
    (tmp_path / "cut.fa.gz").write_bytes(whole[: len(whole) // 2])
    refuses(toy, tmp_path, GenomeError, r"cut\.fa\.gz", genome={"path": str(tmp_path / "cut.fa.gz")})
    (tmp_path / "cut.bed.gz").write_bytes(gzip.compress((toy.folder / "a.bed").read_bytes())[:-20])
    cut = {"kind": "segments", "files": {"a": str(tmp_path / "cut.bed.gz")}}
    refuses(toy, tmp_path, GenomeError, r"cut\.bed\.gz", states=cut, signals={})
    text = {"t": {"path": str(toy.folder / "a.bed")}}
    refuses(toy, tmp_path, GenomeError, r"a\.bed", signals=text)
    refuses(toy, tmp_path, GenomeError, "none.fa", genome={"path": str(tmp_path / "none.fa")})
    refuses(toy, tmp_path, GenomeError, "none.bed", blacklist=str(tmp_path / "none.bed"))


def test_a_check_is_not_made_twice_but_never_out_of_date(toy, tmp_path: Path, monkeypatch) -> None:
    recipe = toy.recipe(storage=str(tmp_path))
    check_corpus(recipe)
    monkeypatch.setattr("epilm.corpus.check.open_inputs", lambda recipe: pytest.fail("read again"))
    assert checked_layout(recipe).recipe == recipe
    with pytest.raises(pytest.fail.Exception):
        checked_layout(recipe)


def test_files_of_other_names_are_matched_and_told_once(toy, tmp_path: Path) -> None:
    for cell in CELLS:
        (tmp_path / f"{cell}.bed").write_text((toy.folder / f"{cell}.bed").read_text().replace("chr", ""))
    states = {"kind": "segments", "files": {cell: str(tmp_path / f"{cell}.bed") for cell in CELLS}}
    notes = checked_layout(toy.recipe(storage=str(tmp_path), states=states, held_out_contigs=["3"])).inputs.notes
    assert any(note.endswith("a.bed and 2 more files: chr1=1, chr2=2, chr3=3, tiny=tiny") for note in notes)
