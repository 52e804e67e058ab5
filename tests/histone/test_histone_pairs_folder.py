"""Pairs from a folder of `epilm gene-marks`, genes split by contigs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epilm.errors import CorpusError, RecipeError
from epilm.histone.config import CountFiles, GeneMarksFolder, GeneSplit
from epilm.histone.load import load_pairs
from epilm.histone.saved import GENE_MARKS_FILE, GeneMarksManifest, part_table, write_part
from epilm.storage import Location

SPLIT = GeneSplit(validation_contigs=("chr2",), test_contigs=("chr3",))
GENES = ["G5", "G4", "G3", "G2", "G1"]
CHROM = ["chr3", "chr1", "chr2", "chrX", "chr1"]
CELLS = ("a", "b", "c")


def save(
    folder: Path,
    genes: list[str] = GENES,
    values: dict[str, np.ndarray] | None = None,
    place: dict | None = None,
    left_out: dict[str, int] | None = None,
) -> dict[str, np.ndarray]:
    """A folder of two parts; returns the values, float32 [5, 4, 2]."""
    generator = np.random.default_rng(3)
    values = values or {cell: generator.normal(size=(5, 4, 2)).astype(np.float32) for cell in CELLS}
    where = {"chrom": CHROM, "tss": 5000, **(place or {})}
    frame = pd.DataFrame({"number": range(5), "gene_id": genes, **where, "strand": "+"})
    saved = Location(str(folder)).mkdir()
    files = [
        write_part(
            saved / f"part-{part}.parquet", part_table(frame.iloc[rows], {c: v[rows] for c, v in values.items()})
        )
        for part, rows in enumerate((slice(0, 3), slice(3, 5)))
    ]
    manifest = GeneMarksManifest(
        cell_types=CELLS, marks=("K4", "K27"), bin_bp=100, num_bins=4, num_genes=5, statistic="mean", missing="zero",
        round=False, off_contig="leave_out", left_out=left_out or {}, files=tuple(files), sources=(),
    )  # fmt: skip
    (saved / GENE_MARKS_FILE).write_text(manifest.model_dump_json())
    return values


@pytest.fixture
def counts(tmp_path: Path) -> CountFiles:
    files = {cell: str(tmp_path / f"{cell}.csv") for cell in CELLS}
    for number, path in enumerate(files.values()):
        Path(path).write_text("".join(f"G{gene},{gene * number}\n" for gene in range(1, 9)))
    return CountFiles(kind="counts", files=files)


def config(folder: Path, split: GeneSplit = SPLIT) -> GeneMarksFolder:
    return GeneMarksFolder(kind="gene-marks", path=str(folder), split=split)


def test_splits_come_in_order_with_their_values(tmp_path: Path, counts: CountFiles) -> None:
    values = save(tmp_path / "marks")
    pairs = load_pairs(config(tmp_path / "marks"), counts, ("c", "b"))
    assert pairs.genes.tolist() == ["G4", "G2", "G1", "G3", "G5"]
    assert pairs.split.tolist() == ["train", "train", "train", "validation", "test"]
    order = [GENES.index(gene) for gene in pairs.genes]
    np.testing.assert_array_equal(pairs.first, values["c"][order])
    np.testing.assert_array_equal(pairs.second, values["b"][order])
    assert pairs.expression.tolist() == [[8, 4], [4, 2], [2, 1], [6, 3], [10, 5]]
    assert pairs.bin_bp == 100
    assert pairs.left_out == {}
    turned = load_pairs(config(tmp_path / "marks"), counts, ("c", "b"), ["K27", "K4"])
    np.testing.assert_array_equal(turned.first, pairs.first[:, :, ::-1])


def test_parts_of_a_contig_as_splits_and_what_they_leave_out(tmp_path: Path, counts: CountFiles) -> None:
    """Windows of 400 bp: G2's reaches into that of G1."""
    tss = {"G5": 1_000, "G4": 3_000, "G3": 5_000, "G2": 7_000, "G1": 7_399}
    save(tmp_path / "marks", place={"chrom": "chr1", "tss": list(tss.values())}, left_out={"window_off_contig": 2})
    split = GeneSplit(validation_contigs=("chr1:4,000-6,000",), test_contigs=("chr1:7,300-8,000",))
    pairs = load_pairs(config(tmp_path / "marks", split), counts, ("b", "c"))
    assert dict(zip(pairs.genes.tolist(), pairs.split.tolist(), strict=True)) == {
        "G5": "train", "G4": "train", "G3": "validation", "G1": "test"
    }  # fmt: skip
    assert pairs.left_out == {
        "window off contig (of epilm gene-marks)": 2,
        "window overlaps that of another split's gene": 1,
    }
    assert pairs.oriented


def test_what_a_folder_lacks_is_said(tmp_path: Path, counts: CountFiles) -> None:
    values = save(tmp_path / "marks")
    folder = config(tmp_path / "marks")
    with pytest.raises(RecipeError, match=r"pair: in .*marks there is no cell type 'd'. There are: a, b, c"):
        load_pairs(folder, CountFiles(kind="counts", files={**counts.files, "d": counts.files["a"]}), ("a", "d"))
    other = GeneSplit(validation_contigs=("chr22",), test_contigs=("chr3",))
    with pytest.raises(RecipeError, match=r"data.split.validation_contigs: .*no contig 'chr22'. Did you mean 'chr2'"):
        load_pairs(config(tmp_path / "marks", other), counts, ("a", "b"))
    all_named = GeneSplit(validation_contigs=("chr2", "chr1"), test_contigs=("chr3", "chrX"))
    with pytest.raises(RecipeError, match="the marks have no gene for train"):
        load_pairs(config(tmp_path / "marks", all_named), counts, ("a", "b"))
    with pytest.raises(CorpusError, match="no marks of genes"):
        load_pairs(config(tmp_path / "absent"), counts, ("a", "b"))
    silent = {**values, "b": values["b"] * np.array([1, 0], np.float32)}
    save(tmp_path / "silent", values=silent)
    with pytest.raises(RecipeError, match="K27 in cell type b: 0 in every bin"):
        load_pairs(config(tmp_path / "silent"), counts, ("a", "b"))
    save(tmp_path / "twice", genes=["G5", "G4", "G3", "G4", "G1"])
    with pytest.raises(RecipeError, match=r"1 genes are there twice, e.g. G4"):
        load_pairs(config(tmp_path / "twice"), counts, ("a", "b"))
    values["a"][2, 1, 1] = np.nan
    save(tmp_path / "nan", values=values)
    with pytest.raises(RecipeError, match="the marks of a have values that are not finite"):
        load_pairs(config(tmp_path / "nan"), counts, ("a", "b"))
