"""``epilm gene-marks``: from bigWig files and genes to a folder of values, the same for any cut of the work."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
import pytest
from gene_mark_files import CELLS, KEPT, LENGTHS, MARKS, write_track

from epilm.config import parse_recipe
from epilm.errors import CheckpointError, CorpusError, GenomeError, RunExistsError
from epilm.histone.count import WritePart, run_gene_marks
from epilm.histone.count_plan import check_gene_marks
from epilm.histone.recipe import GeneMarksRecipe
from epilm.histone.saved import (
    GENE_MARKS_FILE,
    GeneMarksManifest,
    part_table,
    read_gene_marks,
    read_part,
    values_of,
    write_part,
)
from epilm.storage import Location


def slow_sums(tracks, cell, chrom, tss, strand, bin_bp=50, num_bins=8):
    """[bins, marks] sums of a gene, a base at a time."""
    step = 1 if strand == "+" else -1
    sums = np.zeros((num_bins, len(MARKS)))
    for j, mark in enumerate(MARKS):
        held = tracks[cell, mark][chrom]
        for offset in range(-num_bins // 2 * bin_bp, num_bins // 2 * bin_bp):
            place = tss + step * offset
            if 0 <= place < len(held) and not np.isnan(held[place]):
                sums[offset // bin_bp + num_bins // 2, j] += held[place]
    return sums


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith(("part", "gene"))}


@pytest.mark.ray
def test_the_stage(toy, recipe_of, ray_local, tmp_path):
    _, tracks = toy
    told: list[str] = []
    recipe = recipe_of()
    result = run_gene_marks(recipe, progress=told.append)
    folder = tmp_path / "runs" / "marks"
    saved = read_gene_marks(Location(str(folder)))
    assert saved.genes.to_dict("list") == {
        "gene_id": KEPT,
        "chrom": ["chr2", "chr1", "chr1", "chr1", "chr2", "chr1"],
        "tss": [899, 1000, 1089, 2500, 800, 1000],
        "strand": ["-", "+", "-", "+", "+", "-"],
    }
    assert (saved.cell_types, saved.marks, saved.bin_bp, saved.num_bins) == (CELLS, MARKS, 50, 8)
    for cell in CELLS:
        values = saved.values(cell)
        assert values.dtype == np.float32
        expected = [
            slow_sums(tracks, cell, chrom, tss, strand)
            for chrom, tss, strand in zip(saved.genes["chrom"], saved.genes["tss"], saved.genes["strand"], strict=True)
        ]
        assert np.array_equal(values, np.array(expected, np.float32))
        level = result["levels"][cell]["H3K36me3"]
        assert level["max"] == values[..., 1].max() > 0
        assert level["mean"] == pytest.approx(values[..., 1].mean(), rel=1e-5)
        assert level["zero_share"] == pytest.approx((values[..., 1] == 0).mean(), rel=1e-5)
    assert result["left_out"] == saved.manifest.left_out == {"contig_not_in_tracks": 2, "window_off_contig": 1}
    assert (result["num_genes"], result["parts"], result["parts_kept"]) == (6, 3, 0)
    assert any("chr1=1, chr2=2" in line for line in told)
    assert any("not in every track" in line and "chr9, chrM" in line for line in told)
    sources = {Path(source.path).name: source for source in saved.manifest.sources}
    assert set(sources) == {"genes.bed", *(f"{cell}.{mark}.bw" for cell in CELLS for mark in MARKS)}
    assert sources["liver.H3K4me3.bw"].contig_names == {"1": "chr1", "2": "chr2"}
    with pytest.raises(RunExistsError):
        run_gene_marks(recipe)

    # a kill in the middle: no manifest, a part missing, one damaged, half of a file
    whole = files_of(folder)
    assert len(whole) == 4
    for name in (GENE_MARKS_FILE, "part-00001.parquet"):
        (folder / name).unlink()
    (folder / "part-00002.parquet").write_bytes(whole["part-00002.parquet"][:-7])
    (folder / "part-00001.parquet.1a2b3c4d.tmp").write_bytes(b"half")
    with pytest.raises(CorpusError, match=r"unfinished\? go on with --resume"):
        read_gene_marks(Location(str(folder)))
    assert run_gene_marks(recipe, on_existing="resume")["parts_kept"] == 1
    assert files_of(folder) == whole
    assert run_gene_marks(recipe, on_existing="resume")["parts_kept"] == 3

    # another cut of the work gives other files, and the same values
    other = run_gene_marks(recipe_of(name="other", genes_per_task=100))
    assert other["parts"] == 1
    again = read_gene_marks(Location(str(tmp_path / "runs" / "other")))
    assert again.genes.equals(saved.genes)
    assert all(np.array_equal(again.values(cell), saved.values(cell)) for cell in CELLS)
    assert other["levels"] == result["levels"]


@pytest.mark.ray
def test_tracks_that_cannot_be_used(recipe_of, ray_local, tmp_path):
    zero = {contig: np.zeros(length, np.float32) for contig, length in LENGTHS.items()}
    zero["chr1"][3_900] = 4  # in no window
    write_track(tmp_path / "zero.bw", zero, {})
    tracks = recipe_of().tracks
    tracks["liver"] = {
        mark: str(tmp_path / "zero.bw") if mark == "H3K36me3" else path for mark, path in tracks["liver"].items()
    }
    with pytest.raises(
        GenomeError, match=r"^tracks\.liver\.H3K36me3 .*zero\.bw\) \(1 of 4 tracks\): 0 in all bins of all 6"
    ):
        run_gene_marks(recipe_of(tracks=tracks))
    zero["chr1"][3_901] = 4
    write_track(tmp_path / "zero.bw", zero, {})
    # what the run was begun with has changed
    with pytest.raises(CheckpointError, match="Its input has been rebuilt"):
        run_gene_marks(recipe_of(tracks=tracks), on_existing="resume")
    (tmp_path / "copy.bw").write_bytes(Path(tracks["blood"]["H3K4me3"]).read_bytes())
    tracks["liver"] |= {"H3K36me3": str(tmp_path / "copy.bw")}
    with pytest.raises(
        GenomeError, match=r"^tracks\.blood\.H3K4me3 .* and tracks\.liver\.H3K36me3 .*copy\.bw\) are copies"
    ):
        run_gene_marks(recipe_of(tracks=tracks), on_existing="overwrite")
    assert not (tmp_path / "runs" / "marks" / GENE_MARKS_FILE).exists()


def test_windows_off_the_contig_as_zero(toy, recipe_of, tmp_path):
    _, tracks = toy
    recipe = recipe_of(off_contig="zero", genes_per_task=100)
    plan = check_gene_marks(recipe)
    assert plan.left_out == {"contig_not_in_tracks": 2}
    assert len(plan.genes) == 7
    folder = Location(str(tmp_path))
    WritePart(plan, folder, keep=False)(0)
    kept = read_part(folder / "part-00000.parquet", plan.genes, plan.schema)
    assert kept is not None
    row = plan.genes["gene_id"].tolist().index("near the end")
    values = values_of(kept[1], "liver", len(MARKS))[row]
    assert np.array_equal(values, slow_sums(tracks, "liver", "chr1", 3989, "-"))
    assert not values[0].any()  # upstream of a gene on the minus strand is past the contig's end
    assert values[-1].any()


@pytest.fixture
def saved_folder(tmp_path):
    """Three genes in two parts, out of order, with values that say which they are: 100 x gene + 10 x bin + mark."""
    folder = Location(str(tmp_path / "saved")).mkdir()
    values = 100.0 * np.arange(3)[:, None, None] + 10 * np.arange(4)[:, None] + np.arange(2)
    genes = pd.DataFrame(
        {
            "number": [0, 1, 2],
            "gene_id": ["a", "b", "c"],
            "chrom": ["2", "1", "1"],
            "tss": [5, 6, 7],
            "strand": ["+", "-", "+"],
        }
    )
    parts = []
    for index, rows in enumerate([[2, 1], [0]]):
        table = part_table(
            genes.iloc[rows], {"x": values[rows].astype(np.float32), "y": -values[rows].astype(np.float32)}
        )
        parts.append(write_part(folder / f"part-{index}.parquet", table))
    manifest = GeneMarksManifest(
        cell_types=("x", "y"), marks=("m", "n"), bin_bp=100, num_bins=4, num_genes=3, statistic="sum", missing="zero",
        round=False, off_contig="leave_out", left_out={}, files=tuple(parts), sources=(),
    )  # fmt: skip
    (folder / GENE_MARKS_FILE).write_text(manifest.model_dump_json())
    return folder, genes, values


def test_a_folder_is_read_in_the_order_of_its_genes(saved_folder):
    folder, genes, values = saved_folder
    saved = read_gene_marks(folder)
    assert saved.genes.equals(genes.drop(columns="number"))
    assert np.array_equal(saved.values("x"), values)
    assert np.array_equal(saved.values("y"), -values)
    assert saved.values("y").flags.writeable
    with pytest.raises(CorpusError, match=r"has no cell type 'z'; it has x, y"):
        saved.values("z")


def test_folders_that_are_not_whole(saved_folder, tmp_path):
    folder, *_ = saved_folder
    with pytest.raises(CorpusError, match=r"no marks of genes at .*does not exist"):
        read_gene_marks(Location(str(tmp_path / "none")))
    part, manifest = folder / "part-0.parquet", folder / GENE_MARKS_FILE
    data, description = part.read_bytes(), manifest.read_json()
    part.write_bytes(data[:-1])
    with pytest.raises(CorpusError, match=r"part-0\.parquet is damaged: \d+ bytes.*--resume"):
        read_gene_marks(folder)
    at = len(data) // 3
    part.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
    with pytest.raises(CorpusError, match=r"part-0\.parquet is damaged"):
        _ = [read_gene_marks(folder).values(cell) for cell in ("x", "y")], read_gene_marks(folder).genes
    part.write_bytes(data[:-8] + b"\0" * 8)
    with pytest.raises(CorpusError, match=r"part-0\.parquet is damaged"):
        _ = read_gene_marks(folder).genes
    part.delete()
    with pytest.raises(CorpusError, match=r"part-0\.parquet is missing"):
        read_gene_marks(folder)
    part.write_bytes(data)
    twice = description | {"files": [description["files"][0]] * 2}
    manifest.write_json(twice)
    with pytest.raises(CorpusError, match="do not hold every gene once"):
        read_gene_marks(folder).values("x")
    manifest.write_text("{}")
    with pytest.raises(CorpusError, match="no description of marks of format 1"):
        read_gene_marks(folder)


def test_a_fingerprint_is_of_the_values(saved_folder):
    folder, *_ = saved_folder
    description = (folder / GENE_MARKS_FILE).read_json()
    first = read_gene_marks(folder).manifest
    moved = GeneMarksManifest.model_validate(description | {"sources": [{"path": "x", "bytes": 1, "sha256": "0"}]})
    other = json.loads(json.dumps(description))
    other["files"][0]["sha256"] = "1"
    assert first.fingerprint() == moved.fingerprint() != GeneMarksManifest.model_validate(other).fingerprint()


@pytest.mark.real_data
def test_yeast_tracks_are_what_pybigwig_reads(shared_data, tmp_path):
    tracks = {mark: str(shared_data / f"yeast/tracks/{mark}.bw") for mark in ("MNase", "PolII", "Scc1")}
    raw = {"name": "yeast", "genes": str(shared_data / "yeast/annotation/TSSs.bed"), "tracks": {"yeast": tracks}}
    recipe = parse_recipe(GeneMarksRecipe, raw | {"statistic": "mean", "num_bins": 20, "genes_per_task": 5_000})
    plan = check_gene_marks(recipe)
    # II, IV and XVI of the 17 have tracks
    assert plan.left_out["contig_not_in_tracks"] == 6534 - (447 + 837 + 506)
    assert len(plan.genes) + plan.left_out["window_off_contig"] == 447 + 837 + 506
    WritePart(plan, Location(str(tmp_path)), keep=False)(0)
    genes = plan.genes
    kept = read_part(Location(str(tmp_path)) / "part-00000.parquet", genes, plan.schema)
    assert kept is not None
    values = values_of(kept[1], "yeast", 3)
    assert values.shape == (len(genes), 20, 3)
    rows = [*genes.index[genes["strand"] == "+"][:4], *genes.index[genes["strand"] == "-"][:4]]
    for number, path in enumerate(tracks.values()):
        with pyBigWig.open(path) as track:
            for row in rows:
                gene = genes.loc[row]
                start = gene["tss"] - 1000 + (gene["strand"] == "-")
                bases = np.array(track.values(gene["chrom"], int(start), int(start) + 2000))
                expected = np.nan_to_num(bases).reshape(20, 100).mean(axis=1)
                expected = expected if gene["strand"] == "+" else expected[::-1]
                np.testing.assert_allclose(values[row, :, number], expected, rtol=1e-6)
    # on both strands no nucleosome just upstream of the TSS, the +1 nucleosome and Pol II just downstream
    for strand in "+-":
        profile = values[(genes["strand"] == strand).to_numpy()].mean(axis=0)
        assert profile[:, 0].argmin() == 8
        assert profile[:, 0].argmax() == 11
        assert profile[:, 1].argmax() in (10, 11)


@pytest.mark.real_data
def test_human_promoters_of_chr22_are_active_at_the_tss(shared_data, tmp_path):
    states = pd.read_csv(shared_data / "hg19/states_chr22/Adipose.bed.gz", sep="\t", header=None)
    active = states[states[3].str.contains("Active_TSS")].sort_values(1)
    with pyBigWig.open(str(tmp_path / "active.bw"), "w") as track:
        track.addHeader([("22", 51_304_566)])
        starts, ends = active[1].tolist(), active[2].tolist()
        track.addEntries(["22"] * len(active), starts, ends=ends, values=[1.0] * len(active))
    raw = {
        "name": "chr22",
        "genes": str(shared_data / "hg19/expression/gencode_10_genes.gtf.gz"),
        "id_version": "strip",
        "tracks": {"Adipose": {"active": str(tmp_path / "active.bw")}},
        "genes_per_task": 5_000,
    }
    plan = check_gene_marks(parse_recipe(GeneMarksRecipe, raw))
    with gzip.open(shared_data / "hg19/expression/gencode_10_genes.gtf.gz", "rt") as lines:
        rows = [line.split("\t") for line in lines if not line.startswith("#")]
    mine = [row for row in rows if row[0] == "chr22"]
    assert len(plan.genes) == len(mine)
    assert plan.left_out == {"contig_not_in_tracks": len(rows) - len(mine)}
    WritePart(plan, Location(str(tmp_path)), keep=False)(0)
    kept = read_part(Location(str(tmp_path)) / "part-00000.parquet", plan.genes, plan.schema)
    assert kept is not None
    values = values_of(kept[1], "Adipose", 1)[..., 0]
    by_id = dict(zip(plan.genes["gene_id"], values, strict=True))
    for row in mine[:3] + [r for r in mine if r[6] == "-"][:3]:
        tss = int(row[3]) - 1 if row[6] == "+" else int(row[4]) - 1
        places = tss + (1 if row[6] == "+" else -1) * np.arange(-10_000, 10_000)
        within = ((places[:, None] >= active[1].to_numpy()) & (places[:, None] < active[2].to_numpy())).any(axis=1)
        gene_id = row[8].split('gene_id "')[1].split(".")[0]
        assert by_id[gene_id].tolist() == within.reshape(200, 100).sum(axis=1).tolist()
    profile = values.mean(axis=0)
    assert profile[98:102].mean() > 5 * profile[[0, 1, 198, 199]].mean()
