"""What a build writes: the windows that the files and filters say, byte for byte, however it was run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epilm.config import parse_recipe
from epilm.corpus import parts, tasks
from epilm.corpus.build import build_corpus
from epilm.corpus.gather import ContigReader
from epilm.corpus.manifest import CorpusManifest
from epilm.corpus.recipe import CorpusRecipe
from epilm.corpus.source import fixed_bytes
from epilm.corpus.validate import validate_corpus
from epilm.errors import CheckpointError, RunExistsError
from epilm.storage import Location

pytestmark = pytest.mark.ray

BIN = 50


def read_windows(folder: Path, manifest: CorpusManifest, split: str) -> pa.Table:
    return pa.concat_tables([pq.read_table(folder / file.path) for file in manifest.select("windows", split)])


def places(table: pa.Table) -> list[tuple[str, int]]:
    return list(zip(table.column("chrom").to_pylist(), table.column("start").to_pylist(), strict=True))


ODD = {
    "window_bp": 130,
    "step_bp": 70,
    "chunk_bp": 350,
    "rows_per_group": 7,
    "groups_per_file": 3,
    "max_n_fraction": 0.1,
    "max_no_state_fraction": 0.3,
    "held_out_contigs": ["chr3"],
    "held_out_regions": ["chr2:1000-3333"],
}


def judge(dna: np.ndarray, states: np.ndarray, start: int, chrom: str, blacklist: list[tuple[str, int, int]]) -> str:
    """Where a window of the odd corpus belongs, one base and bin at a time."""
    bases = range(start, start + 130)
    held_out = [chrom == "chr3" or (chrom == "chr2" and 1000 <= base < 3333) for base in bases]
    if any(held_out) and not all(held_out):
        return "straddles_split"
    if sum(dna[base] == 4 for base in bases) > 13:
        return "n_fraction"
    if any(name == chrom and first < start + 130 and last > start for name, first, last in blacklist):
        return "blacklist"
    bins = range(start // BIN, (start + 129) // BIN + 1)
    missing = sum(states[cell, b] == 255 for cell in range(3) for b in bins)
    if missing > 0.3 * 3 * len(bins):
        return "no_state"
    return "held_out" if all(held_out) else "train"


@pytest.fixture(scope="module")
def odd(toy, ray_local, tmp_path_factory) -> tuple[Path, CorpusManifest, list[str]]:
    """Windows that fit neither bins nor chunks, with every reason to leave one out."""
    folder = tmp_path_factory.mktemp("odd")
    (folder / "black.bed").write_text("1\t4000\t4001\n2\t10900\t11000\n")
    states = {"kind": "segments", "files": dict(toy.raw()["states"]["files"])}
    sparse = "\n".join(line for line in Path(states["files"]["a"]).read_text().splitlines() if "chr1\t60" not in line)
    (folder / "a.bed").write_text(sparse + "\n")
    states["files"]["a"] = str(folder / "a.bed")
    lines: list[str] = []
    recipe = toy.recipe(storage=str(folder), states=states, blacklist=str(folder / "black.bed"), **ODD)
    return folder / "toy", build_corpus(recipe, progress=lines.append), lines


def test_windows_are_those_that_the_filters_keep(odd, toy) -> None:
    folder, manifest, _ = odd
    states = {chrom: values.copy() for chrom, values in toy.states.items()}
    states["chr1"][0, [b for b in range(470) if str(b * BIN).startswith("60")]] = 255  # as in the sparse file
    blacklist = [("chr1", 4000, 4001), ("chr2", 10900, 11000)]
    expected: dict[str, list[tuple[str, int]]] = {}
    for chrom, dna in toy.dna.items():
        for start in range(0, len(dna) - 129, 70):
            expected.setdefault(judge(toy.dna[chrom], states[chrom], start, chrom, blacklist), []).append(
                (chrom, start)
            )
    for split in ("train", "held_out"):
        assert sorted(places(read_windows(folder, manifest, split))) == sorted(expected[split])
    assert manifest.windows_dropped == {
        reason: len(expected[reason]) for reason in ("straddles_split", "n_fraction", "blacklist", "no_state")
    }
    assert min(manifest.windows_dropped.values()) > 0
    assert validate_corpus(str(folder)).num_compared > 0


def test_windows_hold_what_the_files_have_there(odd, toy) -> None:
    folder, manifest, _ = odd
    for split in ("train", "held_out"):
        table = read_windows(folder, manifest, split)
        dna, num_bins = fixed_bytes(table.column("dna")), manifest.bins_per_window
        states = fixed_bytes(table.column("states")).reshape(len(dna), 3, num_bins)
        signals = fixed_bytes(table.column("signals")).view("<f4").reshape(len(dna), 1, num_bins)
        share = table.column("n_fraction").to_numpy()
        for row, (chrom, start) in enumerate(places(table)):
            expected = toy.dna[chrom][start : start + 130]
            assert np.array_equal(dna[row], expected)
            assert share[row] == pytest.approx((expected == 4).mean())
            first = start // BIN
            inside = min(num_bins, toy.states[chrom].shape[1] - first)
            assert np.array_equal(states[row, 1:, :inside], toy.states[chrom][1:, first : first + inside])
            assert (states[row, :, inside:] == 255).all()
            wanted = toy.track[chrom][first : first + inside]
            assert np.allclose(signals[row, 0, :inside], wanted, equal_nan=True)


def test_the_result_holds_the_share_of_each_state(odd, toy) -> None:
    folder, manifest, _ = odd
    composition = json.loads((folder / "result.json").read_text())["state_composition"]
    assert list(composition) == list(manifest.cell_types)
    bins = np.concatenate([values[1] for values in toy.states.values()])  # cell 0 was thinned out
    known = bins[bins != 255]
    expected = [float((known == state).mean()) for state in range(len(manifest.state_names))]
    shares = composition[manifest.cell_types[1]]
    assert list(shares) == list(manifest.state_names)
    assert list(shares.values()) == pytest.approx(expected, abs=1e-6)


def test_windows_are_byte_for_byte_the_contigs_view(odd) -> None:
    folder, manifest, _ = odd
    reader = ContigReader(str(folder))
    for split in ("train", "held_out"):
        table = read_windows(folder, manifest, split)
        found = reader.gather(table.column("chrom").to_pylist(), table.column("start").to_numpy(), 130)
        for name in ("dna", "states", "signals"):
            stored = np.ascontiguousarray(getattr(found, name)).view(np.uint8).reshape(len(table), -1)
            assert np.array_equal(stored, fixed_bytes(table.column(name)))


def test_the_shuffle_is_of_the_whole_split(odd) -> None:
    folder, manifest, _ = odd
    found = [place for place in places(read_windows(folder, manifest, "train")) if place[0] == "chr1"]
    starts = np.array([start for _, start in found])
    assert len(np.unique(starts)) == len(starts)
    assert abs(np.corrcoef(starts, np.arange(len(starts)))[0, 1]) < 0.2
    for file in manifest.select("windows"):
        assert file.rows == sum(file.row_group_rows)
        assert all(rows == 7 for rows in file.row_group_rows[:-1])


def test_the_log_tells_names_and_rates(odd) -> None:
    lines = odd[2]
    assert any("contigs of" in line and "chr1=1, chr2=2" in line for line in lines)
    assert any("windows, shuffled: " in line and "windows/s" in line for line in lines)


def test_a_corpus_of_dna_alone_at_a_uri(toy, ray_local, tmp_path: Path) -> None:
    recipe = toy.recipe(storage=f"file://{tmp_path}", states=None, signals={}, max_n_fraction=1)
    manifest = build_corpus(recipe)
    table = read_windows(tmp_path / "toy", manifest, "train")
    assert table.column_names == ["chrom", "start", "n_fraction", "dna"]
    assert manifest.num_windows("train") == 23_456 // 100 + 11_000 // 100
    assert validate_corpus(f"file://{tmp_path}/toy").num_windows == {"train": 344, "held_out": 99}
    assert ContigReader(f"file://{tmp_path}/toy").gather(["tiny"], np.array([-5]), 50).states is None


def test_bytes_do_not_depend_on_how_the_work_is_cut(
    toy, toy_corpus, ray_local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "MAX_BLOCKS", 2)
    manifest = build_corpus(toy.recipe(storage=str(tmp_path)))
    assert manifest == toy_corpus.manifest
    for file in manifest.files:
        assert (tmp_path / "toy" / file.path).read_bytes() == (toy_corpus.location / file.path).read_bytes()
    assert not (tmp_path / "toy" / ".build").exists()


def test_long_windows_make_smaller_files(toy, toy_corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    from epilm.corpus.check import checked_layout

    layout = checked_layout(toy.recipe(name="unbuilt"))
    assert layout.rows_per_file == 64
    monkeypatch.setattr(parts, "FILE_BYTES", 40 * layout.row_dtype.itemsize)
    assert layout.rows_per_file == 32
    monkeypatch.setattr(parts, "FILE_BYTES", 1)
    assert layout.rows_per_file == 16


def test_a_finished_corpus_is_refused_kept_or_replaced(toy, toy_corpus, corpus_copy, ray_local) -> None:
    copy = corpus_copy()
    changes: dict[str, Any] = {"storage": str(Path(copy.path).parent), "name": "copy"}
    before = {file.path: (copy / file.path).read_bytes() for file in toy_corpus.manifest.files}
    with pytest.raises(RunExistsError, match="--resume"):
        build_corpus(toy.recipe(**changes))
    with pytest.raises(CheckpointError, match="recipe fingerprint"):
        build_corpus(toy.recipe(**changes, max_n_fraction=0.3), on_existing="resume")
    lines: list[str] = []
    build_corpus(toy.recipe(**changes), on_existing="resume", progress=lines.append)
    assert lines[-1].endswith("is complete already")
    assert {path: (copy / path).read_bytes() for path in before} == before


def test_resuming_mends_a_damaged_corpus(toy, toy_corpus, corpus_copy, ray_local) -> None:
    copy = corpus_copy()
    damaged, missing = (Path(copy.path) / toy_corpus.manifest.files[i].path for i in (0, -1))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    missing.unlink()
    lines: list[str] = []
    recipe = toy.recipe(storage=str(Path(copy.path).parent), name="copy")
    manifest = build_corpus(recipe, on_existing="resume", progress=lines.append)
    assert any("(2 files) damaged or missing" in line for line in lines)
    assert manifest.files == toy_corpus.manifest.files
    validate_corpus(copy)


def test_many_contigs_with_odd_names(ray_local, tmp_path: Path) -> None:
    from scaffolds import write_scaffolds

    raw = write_scaffolds(tmp_path, 150) | {"groups_per_file": 500}
    manifest = build_corpus(parse_recipe(CorpusRecipe, raw | {"storage": str(tmp_path)}))
    assert len(manifest.contigs) == 150
    assert manifest.held_out_contigs == ("scaffold_0003|v1", "scaffold_0005|v1")
    report = validate_corpus(Location(str(tmp_path)) / "scaffolds")
    assert sum(report.num_windows.values()) == sum(max(0, (c.end_bp - 50) // 10 + 1) for c in manifest.contigs)
