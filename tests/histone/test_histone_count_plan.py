"""What `epilm gene-marks` will do, and what it refuses before any worker starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gene_mark_files import CELLS, GENES, KEPT, LENGTHS, MARKS, write_track

from epilm.errors import GenomeError, RecipeError
from epilm.histone.count_plan import check_gene_marks


def test_neighbours_share_a_part(recipe_of):
    plan = check_gene_marks(recipe_of())
    assert plan.genes[["gene_id", "number", "start"]].to_numpy().tolist() == [
        ["D", 4, 600],
        ["E.3", 0, 700],
        ["A", 1, 800],
        ["E", 5, 801],
        ["B", 2, 890],
        ["C", 3, 2300],
    ]
    assert [plan.part(index)["gene_id"].tolist() for index in range(plan.num_parts)] == [
        ["D", "E.3"],
        ["A", "E"],
        ["B", "C"],
    ]


def test_genes_are_chosen_by_id(recipe_of, tmp_path):
    (tmp_path / "list.txt").write_text("# expressed\nC\tsymbol\nE.3 9\n\nnowhere\n")
    plan = check_gene_marks(recipe_of(gene_list=str(tmp_path / "list.txt")))
    assert sorted(plan.genes["gene_id"]) == ["C", "E.3"]
    assert plan.left_out == {"not_in_genes": 1}
    plan = check_gene_marks(recipe_of(gene_list=["A"]))
    assert (plan.genes["gene_id"].tolist(), plan.left_out) == (["A"], {})


def test_versions_of_ids_are_stripped_on_both_sides(recipe_of, tmp_path):
    rows = ["chr1\t1000\t1500\tENSG01.9\t0\t+", "chr1\t2000\t2100\tENSG02.11_PAR_Y\t0\t-"]
    (tmp_path / "genes.bed").write_text("\n".join(rows) + "\n")
    genes = str(tmp_path / "genes.bed")
    plan = check_gene_marks(recipe_of(genes=genes, id_version="strip", gene_list=["ENSG01.3", "ENSG02_PAR_Y"]))
    assert plan.genes["gene_id"].tolist() == ["ENSG01", "ENSG02_PAR_Y"]
    (tmp_path / "genes.bed").write_text("\n".join([*rows, "chr1\t3000\t3100\tENSG01.2\t0\t-"]) + "\n")
    assert len(check_gene_marks(recipe_of(genes=genes)).genes) == 3
    with pytest.raises(GenomeError, match=r"without versions 1 genes are there twice, the first is 'ENSG01'"):
        check_gene_marks(recipe_of(genes=genes, id_version="strip"))


def test_bad_input(recipe_of, toy, tmp_path):
    folder, _ = toy
    genes = tmp_path / "genes.bed"

    def with_genes(text, **changes):
        genes.write_text(text)
        return check_gene_marks(recipe_of(genes=str(genes), **changes))

    with pytest.raises(GenomeError, match=r"1 genes are there twice, the first is 'A'"):
        with_genes(GENES + "chr2\t5\t9\tA\t0\t+\n")
    with pytest.raises(GenomeError, match=r"1 genes start past the end.*'G' at chr2:1,601, which has 1,500 bp"):
        with_genes(GENES + "chr2\t1600\t1700\tG\t0\t+\n")
    with pytest.raises(RecipeError, match=r"no gene is left \(1 window_off_contig\)"):
        with_genes("chr1\t50\t60\tA\t0\t+\n")
    with pytest.raises(GenomeError, match=r"tracks\.blood\.H3K4me3 .*none of its contigs"):
        with_genes("chr9\t50\t60\tA\t0\t+\n")
    write_track(tmp_path / "one.bw", {"chr1": np.ones(4_000, np.float32)}, {})
    write_track(tmp_path / "mito.bw", {"chrM": np.ones(600, np.float32)}, {})
    apart = {"blood": {"x": str(tmp_path / "mito.bw")}, "liver": {"x": str(tmp_path / "one.bw")}}
    with pytest.raises(GenomeError, match=r"no contig of the genes in common: tracks\.blood\.x .* has chrM, "):
        with_genes("chrM\t50\t60\tA\t0\t+\nchr1\t50\t60\tB\t0\t+\n", tracks=apart)
    with pytest.raises(RecipeError, match=r"none of its 2 ids \(X, Y, \.\.\.\) is in .*Set id_version: strip"):
        check_gene_marks(recipe_of(gene_list=["X", "Y"]))
    with pytest.raises(RecipeError, match=r"gene_list names 'A' twice"):
        check_gene_marks(recipe_of(gene_list=["A", "B", "A"]))
    for mark in MARKS:
        write_track(tmp_path / f"{mark}.bw", {"chr1": np.ones(4_001, np.float32)}, {})
    tracks = recipe_of().tracks | {"heart": {mark: str(tmp_path / f"{mark}.bw") for mark in MARKS}}
    with pytest.raises(GenomeError, match=r"tracks\.heart\.H3K4me3 .*chr1 has 4,001 bp, but 4,000 bp in tracks\.blood"):
        check_gene_marks(recipe_of(tracks=tracks))
    (tmp_path / "cut.bw").write_bytes((folder / "blood.H3K4me3.bw").read_bytes()[:-500])
    with pytest.raises(GenomeError, match="truncated"):
        check_gene_marks(recipe_of(tracks={"blood": {"H3K4me3": str(tmp_path / "cut.bw")}}))


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({}, "it holds no value"),
        ({2_000: 0.0}, "all its values are 0"),
        ({2_000: 0.0, 2_510: -0.5}, "chr1:2,511 has the value -0.5"),
        ({2_000: 0.25, 2_301: np.inf}, "chr1:2,302 has the value inf"),
    ],
)
def test_tracks_that_hold_nothing_of_use_are_told_before_any_worker(recipe_of, tmp_path, held, message):
    values = {contig: np.full(length, np.nan, np.float32) for contig, length in LENGTHS.items()}
    values["chr1"][list(held)] = list(held.values())
    write_track(tmp_path / "x.bw", values, {})
    tracks = recipe_of().tracks
    tracks["liver"] |= {"H3K36me3": str(tmp_path / "x.bw")}
    with pytest.raises(GenomeError, match=rf"tracks\.liver\.H3K36me3 .*{message}"):
        check_gene_marks(recipe_of(tracks=tracks))


@pytest.mark.parametrize("held", [{3_950: -1.0, 2_000: 1.0}, {2_000: 0.25}])
def test_tracks_of_small_values_or_negative_ones_elsewhere_are_taken(recipe_of, tmp_path, held):
    values = {contig: np.full(length, np.nan, np.float32) for contig, length in LENGTHS.items()}
    values["chr1"][list(held)] = list(held.values())  # 3,950 is in no window
    write_track(tmp_path / "x.bw", values, {})
    tracks = recipe_of().tracks
    tracks["liver"] |= {"H3K36me3": str(tmp_path / "x.bw")}
    assert len(check_gene_marks(recipe_of(tracks=tracks)).genes) == len(KEPT)


def windows_bed(path: Path, half_bp: int, more_bp: int) -> str:
    """Rows [tss - half, tss + half + more) of genes that begin at 1000, 1100, ..., strands in turn."""
    rows = [
        f"chr1\t{tss - half_bp}\t{tss + half_bp + more_bp}\tG{tss}\t0\t{'+-'[tss // 100 % 2]}"
        for tss in range(1000, 2500, 100)
    ]
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def test_windows_around_tss_are_not_taken_for_genes(recipe_of, tmp_path):
    genes = windows_bed(tmp_path / "g.bed", 250, 1)
    with pytest.raises(
        RecipeError, match=r"100% of its 15 rows are 501 bp long, as windows .* anchor: centre, or anchor: start"
    ):
        check_gene_marks(recipe_of(genes=genes))
    plan = check_gene_marks(recipe_of(genes=genes, anchor="centre"))
    assert sorted(plan.genes["tss"]) == list(range(1000, 2500, 100))
    ends = check_gene_marks(recipe_of(genes=genes, anchor="start")).genes
    assert set(ends["tss"] - ends["gene_id"].str[1:].astype(int)) == {-250, 250}
    # an even window has its TSS behind the middle on the plus strand, before it on the minus strand
    even = check_gene_marks(recipe_of(genes=windows_bed(tmp_path / "g.bed", 250, 0), anchor="centre")).genes
    found = (even["tss"] - even["gene_id"].str[1:].astype(int)).groupby(even["strand"]).unique()
    assert {strand: shift.tolist() for strand, shift in found.items()} == {"+": [0], "-": [-1]}
    points = check_gene_marks(recipe_of(genes=windows_bed(tmp_path / "g.bed", 0, 1))).genes
    assert sorted(points["tss"]) == list(range(1000, 2500, 100))


def test_genes_by_name(recipe_of, tmp_path):
    named = {"G1": "ONE", "G2": "TWO", "G3": "", "G4": "TWO"}
    rows = [
        f'chr1\tx\tgene\t{1000 + 100 * number}\t3000\t.\t+\t.\tgene_id "{gene}"; gene_name "{name}";'
        for number, (gene, name) in enumerate(named.items())
    ]
    (tmp_path / "g.gtf").write_text("\n".join(rows) + "\n")
    plan = check_gene_marks(recipe_of(genes=str(tmp_path / "g.gtf"), id="gene_name"))
    assert plan.genes[["gene_id", "tss"]].to_numpy().tolist() == [["ONE", 999]]
    assert plan.left_out == {"without_gene_name": 1, "gene_name_not_unique": 2}
    with pytest.raises(RecipeError, match=r"has no names of genes\. Use id: gene_id"):
        check_gene_marks(recipe_of(id="gene_name"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tracks": {"a": {"x": "1.bw"}, "b": {"x": "1.bw"}}}, r"a\.x and b\.x are one file, 1\.bw"),
        ({"tracks": {"a": {"x": "1.bw", "y": "2.bw"}, "b": {"x": "3.bw"}}}, r"b lacks y, which a has.*a has x, y\."),
        ({"tracks": {"a": {"x": "1.bw"}, "b": {"x": "3.bw", "z": "4.bw"}}}, r"b has z, which a lacks"),
        ({"tracks": {"a": {}}}, r"a has no mark"),
        ({"tracks": {}}, r"tracks"),
        ({"genes_per_task": 0}, r"genes_per_task"),
        ({"bins": 3}, r"bins: unknown setting"),
    ],
)
def test_recipes_that_cannot_be(recipe_of, changes, message):
    with pytest.raises(RecipeError, match=message):
        recipe_of(**changes)


def test_marks_are_taken_by_name(recipe_of):
    tracks = recipe_of().tracks
    tracks["liver"] = dict(reversed(tracks["liver"].items()))
    plan = check_gene_marks(recipe_of(tracks=tracks))
    assert [Path(track.path).name for track in plan.tracks] == [f"{cell}.{mark}.bw" for cell in CELLS for mark in MARKS]
