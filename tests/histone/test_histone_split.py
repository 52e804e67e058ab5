"""Genes split by place: contigs whole, or regions, with no window of one split reaching into another's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from epilm.config import parse_recipe
from epilm.errors import RecipeError
from epilm.histone.config import GeneSplit
from epilm.histone.split import split_genes


def genes_of(*places: tuple[str, int, str]) -> pd.DataFrame:
    return pd.DataFrame(places, columns=["chrom", "tss", "strand"])


def split_of(genes: pd.DataFrame, validation: str, test: str, window_bp: int = 20) -> list[str]:
    split = GeneSplit(validation_contigs=(validation,), test_contigs=(test,))
    return split_genes(genes, split, window_bp=window_bp, source="f").tolist()


def test_contigs_are_split_whole() -> None:
    genes = genes_of(("chr2", 50, "+"), ("chr1", 50, "+"), ("chr3", 50, "-"), ("chr1", 51, "-"), ("chrX", 50, "+"))
    assert split_of(genes, "chr1", "chrX") == ["train", "validation", "train", "validation", "test"]
    with pytest.raises(RecipeError, match=r"data.split.test_contigs: among the genes of f there is no contig 'X'"):
        split_of(genes, "chr1", "X")


def test_a_part_of_a_contig_and_its_neighbours() -> None:
    """Windows of 20 bp are [tss - 10, tss + 10) on +, [tss - 9, tss + 11) on -."""
    genes = genes_of(
        ("1", 79, "+"), ("1", 80, "-"), ("1", 80, "+"), ("1", 100, "+"), ("1", 199, "-"), ("1", 200, "+"), ("1", 300, "-"),
        ("1", 319, "-"), ("1", 320, "-"),
    )  # fmt: skip
    # 80 on - ends at 91, 100 on + begins at 90: they share a base; 80 on + ends at 90: it does not
    assert split_of(genes, "1:100-200", "1:300-301") == [
        "train", "", "train", "validation", "validation", "", "test", "", "train",
    ]  # fmt: skip
    assert split_of(genes, "1:200-301", "1:100-200")[5:] == ["", "validation", "", "train"]  # the test goes first


def test_no_window_of_one_split_shares_a_base_with_anothers() -> None:
    rng = np.random.default_rng(4)
    genes = genes_of(
        *((f"chr{rng.integers(2)}", int(rng.integers(50, 2500)), "+-"[rng.integers(2)]) for _ in range(300))
    )
    found = split_of(genes, "chr0:500-900", "chr0:1000-1500", window_bp=30)
    bases: dict[str, set[tuple[str, int]]] = {"train": set(), "validation": set(), "test": set(), "": set()}
    windows = []
    for (chrom, tss, strand), split in zip(genes.itertuples(index=False), found, strict=True):
        first = tss - 15 + (strand == "-")
        windows.append({(chrom, base) for base in range(first, first + 30)})
        bases[split] |= windows[-1]
    assert not bases["train"] & (bases["validation"] | bases["test"])
    assert not bases["validation"] & bases["test"]
    # none was left out that need not be
    for window, split, chrom, tss in zip(windows, found, genes["chrom"], genes["tss"], strict=True):
        held = chrom == "chr0" and (500 <= tss < 900)
        assert split or window & (bases["test"] if held else bases["test"] | bases["validation"] | bases[""])
    assert {name: found.count(name) > 2 for name in bases} == dict.fromkeys(bases, True)


@pytest.mark.parametrize(
    ("validation", "test", "message"),
    [
        ("1:0-60", "1:40-100", r"1 genes are for validation and for the test, the first at 1:50"),
        ("1:0-60", "1:80-100", r"test_contigs: no gene of f begins in 1:80-100; those of 1 begin at 50 to 50"),
        ("2:0-60", "1", r"validation_contigs: .*no contig '2'"),
    ],
)
def test_places_that_do_not_fit(validation: str, test: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        split_of(genes_of(("1", 50, "+")), validation, test)


def test_places_that_are_none() -> None:
    with pytest.raises(RecipeError, match="'1:60-0' is empty"):
        parse_recipe(GeneSplit, {"validation_contigs": ["1:60-0"], "test_contigs": ["2"]})
    read = parse_recipe(GeneSplit, {"validation_contigs": [2], "test_contigs": ["X", 10]})  # as YAML reads them
    assert (read.validation_contigs, read.test_contigs) == (("2",), ("X", "10"))
