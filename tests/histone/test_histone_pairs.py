"""Genes of two cell types: joined by id, checked, and counted where they are left out."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from epilm.errors import RecipeError
from epilm.histone.config import (
    ROADMAP_MARKS,
    SPLITS,
    CountFiles,
    DeepDiffFiles,
    ExpressionTable,
    SplitFiles,
)
from epilm.histone.load import load_pairs
from epilm.histone.pairs import PairedGenes, fingerprint_of, log_fold_change

MARKS = ("K4", "K27")
A = {"train": {"G1": "1,0 2,7", "G2": "0,3 4,0"}, "validation": {"G3": "5,5 1,0"}, "test": {"G4": "0,1 0,0"}}
B = {"train": {"G2": "9,9 9,9", "G1": "0,0 1,1"}, "validation": {"G3": "2,2 2,2"}, "test": {"G4": "3,0 0,8"}}
EXPRESSION = {"a": {"G1": 3, "G2": 0, "G3": 10, "G4": 7}, "b": {"G4": 0, "G3": 10, "G2": 1, "G1": 0}}


def changed(genes: dict, split: str, **changes: str | None) -> dict:
    """The cell type with genes of a split set, or left out where None."""
    own = {gene: bins for gene, bins in {**genes[split], **changes}.items() if bins is not None}
    return {**genes, split: own}


class Study:
    """Writes toy files and loads the pair."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def data(self, **cells: dict) -> DeepDiffFiles:
        files = {}
        for cell, genes in cells.items():
            paths = {split: str(self.folder / f"{cell}.{split}.csv") for split in SPLITS}
            for split, path in paths.items():
                lines = [
                    f"{gene}_X_{number},{counts}\n"
                    for gene, bins in genes[split].items()
                    for number, counts in enumerate(bins.split(), start=1)
                ]
                Path(path).write_text("".join(lines))
            files[cell] = SplitFiles(**paths)
        return DeepDiffFiles(kind="deepdiff", cells=files, columns=MARKS, num_bins=2)

    def counts(self, levels: dict[str, dict[str, int]]) -> CountFiles:
        files = {cell: str(self.folder / f"{cell}.expr.csv") for cell in levels}
        for cell, path in files.items():
            Path(path).write_text("".join(f"{gene},{count}\n" for gene, count in levels[cell].items()))
        return CountFiles(kind="counts", files=files)

    def load(
        self, a: dict = A, b: dict = B, expression: dict | None = None, marks=None, pair=("a", "b")
    ) -> PairedGenes:
        return load_pairs(self.data(a=a, b=b), self.counts(expression or EXPRESSION), pair, marks)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def without(gene: str, *cells: str) -> dict:
    return {
        cell: {name: count for name, count in counts.items() if name != gene or cell not in cells}
        for cell, counts in EXPRESSION.items()
    }


def versioned(genes: dict, version: int) -> dict:
    return {split: {f"{gene}.{version}": bins for gene, bins in own.items()} for split, own in genes.items()}


def test_toy_pair_literally(study: Study) -> None:
    pairs = study.load()
    assert pairs.genes.tolist() == ["G1", "G2", "G3", "G4"]
    assert pairs.split.tolist() == ["train", "train", "validation", "test"]
    assert pairs.marks == MARKS
    assert pairs.cells == ("a", "b")
    assert pairs.first.tolist() == [[[1, 0], [2, 7]], [[0, 3], [4, 0]], [[5, 5], [1, 0]], [[0, 1], [0, 0]]]
    assert pairs.second.tolist() == [[[0, 0], [1, 1]], [[9, 9], [9, 9]], [[2, 2], [2, 2]], [[3, 0], [0, 8]]]
    assert pairs.expression.tolist() == [[3, 0], [0, 1], [10, 10], [7, 0]]
    np.testing.assert_allclose(pairs.target, [math.log(4), -math.log(2), 0, math.log(8)], rtol=1e-15)
    assert pairs.left_out == {}
    assert pairs.num_bins == 2
    assert pairs.bin_bp == 100
    assert pairs.num_genes == {"train": 2, "validation": 1, "test": 1}
    assert pairs.rows("train").tolist() == [0, 1]
    assert pairs.rows("test").tolist() == [3]


def test_the_pair_turned_round(study: Study) -> None:
    ahead, back = study.load(), study.load(pair=("b", "a"))
    assert back.genes.tolist() == ["G2", "G1", "G3", "G4"]
    order = [1, 0, 2, 3]
    np.testing.assert_array_equal(back.first, ahead.second[order])
    np.testing.assert_array_equal(back.second, ahead.first[order])
    np.testing.assert_allclose(back.target, -ahead.target[order], atol=1e-15)


def turned_file(path: str, header: str) -> None:
    """The toy file with its marks in the other order, an extra mark behind them, and a header."""
    lines = [line.split(",") for line in Path(path).read_text().split()]
    Path(path).write_text(header + "".join(f"{name},{k27},{k4},1\n" for name, k4, k27 in lines))


def test_files_may_order_their_marks_in_any_way(study: Study) -> None:
    plain, counts = study.load(), study.counts(EXPRESSION)
    data = study.data(a=A, b=B)
    for cell, split in (("a", "test"), ("b", "train")):
        turned_file(getattr(data.cells[cell], split), "gene,K27,K4,K9\n")
    with pytest.raises(
        RecipeError, match=r"a.test.csv has the marks K27, K4, K9; the first file has K4, K27. Name those"
    ):
        load_pairs(data, counts, ("a", "b"))
    for marks in (["K4", "K27"], ["K27", "K4"]):
        by_name = load_pairs(data, counts, ("a", "b"), marks)
        assert fingerprint_of(by_name) == fingerprint_of(study.load(marks=marks))
        data = study.data(a=A, b=B)
        for cell, split in (("a", "train"), ("b", "test")):
            turned_file(getattr(data.cells[cell], split), '"","K27","K4","K9"\n')
    data = study.data(a=A, b=B)
    files = data.cells["b"].model_copy(update={"columns": ("K27", "K4", "K9")})
    for split in SPLITS:
        turned_file(getattr(files, split), "")
    data = data.model_copy(update={"cells": {"a": data.cells["a"], "b": files}})
    assert fingerprint_of(load_pairs(data, counts, ("a", "b"), ["K4", "K27"])) == fingerprint_of(plain)
    with pytest.raises(RecipeError, match=r"marks: there is no mark 'K9'. There are: K4, K27"):
        load_pairs(data, counts, ("a", "b"), ["K4", "K9"])


def test_one_column_under_two_names_is_told(study: Study) -> None:
    twice = {
        split: {gene: " ".join(",".join([b.split(",")[0]] * 2) for b in bins.split()) for gene, bins in genes.items()}
        for split, genes in A.items()
    }
    many = {"train": {f"H{n}": f"{n},{n} 1,1" for n in range(5)}}
    same = {split: {**genes, **many.get(split, {})} for split, genes in twice.items()}
    with pytest.raises(RecipeError, match=r"K4 and K27 of cell type a are the same in every bin of every gene"):
        study.load(a=same)


def test_versions_of_ids_beside_counts(study: Study) -> None:
    data = study.data(a=versioned(A, 1), b=versioned(B, 2))
    counts = study.counts(EXPRESSION)
    with pytest.raises(RecipeError, match=r"no genes are left.*expression.id_version=strip drops them"):
        load_pairs(data, counts, ("a", "b"))
    pairs = load_pairs(data, counts.model_copy(update={"id_version": "strip"}), ("a", "b"))
    assert pairs.genes.tolist() == study.load().genes.tolist()
    assert not pairs.oriented


def test_marks_by_name_permute_the_last_axis(study: Study) -> None:
    pairs, turned = study.load(), study.load(marks=["K27", "K4"])
    assert turned.marks == ("K27", "K4")
    np.testing.assert_array_equal(turned.first, pairs.first[:, :, ::-1])
    np.testing.assert_array_equal(turned.second, pairs.second[:, :, ::-1])
    assert study.load(marks=["K27"]).first.shape == (4, 2, 1)
    with pytest.raises(RecipeError, match=r"no mark 'K9'.*There are: K4, K27"):
        study.load(marks=["K9"])


@pytest.mark.parametrize(
    ("a", "b", "expression", "genes", "left_out"),
    [
        (A, changed(B, "train", G1=None), EXPRESSION, "G2 G3 G4", {"no marks in b": 1}),
        (changed(A, "train", G2=None), B, EXPRESSION, "G1 G3 G4", {"no marks in a": 1}),
        (A, B, without("G1", "a"), "G2 G3 G4", {"no expression in a": 1}),
        (A, B, without("G1", "b"), "G2 G3 G4", {"no expression in b": 1}),
        (A, B, without("G1", "a", "b"), "G2 G3 G4", {"no expression in a and b": 1}),
        (A, changed(B, "train", G1=None), without("G1", "a"), "G2 G3 G4", {"no marks in b": 1}),
        (
            changed(A, "train", G1="0,0 0,0"),
            changed(B, "train", G1="0,0 0,0"),
            EXPRESSION,
            "G2 G3 G4",
            {"no reads in either cell type": 1},
        ),
        (changed(A, "train", G1="0,0 0,0"), B, EXPRESSION, "G1 G2 G3 G4", {}),
        (
            changed(changed(A, "train", G5="1,1 1,1"), "test", G6="1,1 1,1"),
            B,
            without("G2", "b"),
            "G1 G3 G4",
            {"no marks in b": 2, "no expression in b": 1},
        ),
    ],
)
def test_what_lacks_something_is_left_out_and_counted(study: Study, a, b, expression, genes: str, left_out) -> None:
    pairs = study.load(a, b, expression)
    assert pairs.genes.tolist() == genes.split()
    assert pairs.left_out == left_out
    whole = study.load()
    rows = [whole.genes.tolist().index(gene) for gene in pairs.genes]
    np.testing.assert_array_equal(pairs.second, whole.second[rows])
    np.testing.assert_array_equal(pairs.target, whole.target[rows])
    np.testing.assert_array_equal(pairs.split, whole.split[rows])


def test_reads_count_in_the_marks_that_are_used(study: Study) -> None:
    a, b = changed(A, "train", G1="1,0 0,0"), changed(B, "train", G1="0,0 2,0")
    assert study.load(a, b).left_out == {}
    assert study.load(a, b, marks=["K27"]).left_out == {"no reads in either cell type": 1}


def many_genes(seed: int) -> dict[str, dict[str, str]]:
    """Forty genes a split, each with reads of both marks."""
    rng = np.random.default_rng(seed)
    return {
        split: {f"{split}{n}": " ".join(f"{x + 1},{y + 1}" for x, y in rng.integers(0, 9, (2, 2))) for n in range(40)}
        for split in SPLITS
    }


def levels_of(genes: dict[str, dict[str, str]]) -> dict[str, dict[str, int]]:
    names = [gene for split in genes.values() for gene in split]
    return {cell: {gene: number * step for number, gene in enumerate(names)} for cell, step in (("a", 1), ("b", 2))}


def test_one_split_of_the_same_file_is_refused(study: Study) -> None:
    a, b = many_genes(0), many_genes(1)
    assert study.load(a, b, levels_of(a)).num_genes == dict.fromkeys(SPLITS, 40)
    with pytest.raises(RecipeError, match="K4, K27 of the 40 train genes: the same in every bin in a and b"):
        study.load({**a, "train": b["train"]}, b, levels_of(a))
    one_mark = {
        gene: " ".join(
            f"{x.split(',')[0]},{y.split(',')[1]}" for x, y in zip(bins.split(), b["test"][gene].split(), strict=True)
        )
        for gene, bins in a["test"].items()
    }
    with pytest.raises(RecipeError, match=r"^K27 of the 40 test genes: the same"):
        study.load({**a, "test": one_mark}, b, levels_of(a))


def test_a_mark_without_reads_in_one_split_is_refused(study: Study) -> None:
    a, b = many_genes(0), many_genes(1)
    dead = {gene: " ".join(f"{x.split(',')[0]},0" for x in bins.split()) for gene, bins in a["validation"].items()}
    with pytest.raises(RecipeError, match="K27 in cell type a: 0 in every bin of all 40 validation genes, while 99%"):
        study.load({**a, "validation": dead}, b, levels_of(a))
    rare = {
        split: {
            gene: " ".join(f"{x.split(',')[0]},{int(gene == 'test3')}" for x in bins.split())
            for gene, bins in of.items()
        }
        for split, of in a.items()
    }
    assert study.load(rare, b, levels_of(a)).num_genes["validation"] == 40, "a rare mark may be absent by chance"


SILENT = {split: dict.fromkeys(genes, "0,3 0,1") for split, genes in B.items()}


@pytest.mark.parametrize(
    ("a", "b", "expression", "said"),
    [
        (A, changed(B, "validation", G3=None, G4="1,1 1,1"), EXPRESSION,
         "1 genes are in two splits, e.g. G4 in validation and test"),
        (A, changed(changed(B, "validation", G1="1,1 1,1"), "train", G1=None), EXPRESSION,
         "1 genes are in different splits.* e.g. G1: train in a, validation in b"),
        (A, SILENT, EXPRESSION, "K4 in cell type b: 0 in every bin of every gene"),
        (A, B, without("G4", "a"), "no genes are left for test. Left out: no expression in a: 1"),
        (A, B, {"a": {"X.1": 2}, "b": {"Y.1": 3}}, "no genes are left for train, validation, test.*G1, G2, X.1, Y.1"),
        (A, A, EXPRESSION, "both have the same marks in every bin"),
        (A, B, {"a": EXPRESSION["a"], "b": EXPRESSION["a"]}, "both have the same expression"),
        (A, B, {"a": dict.fromkeys(EXPRESSION["a"], 0), "b": EXPRESSION["b"]},
         "expression in cell type a is 0 for all 4 genes"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(study: Study, a, b, expression, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        study.load(a, b, expression)


def test_a_silent_mark_that_is_not_used_is_no_matter(study: Study) -> None:
    assert study.load(b=SILENT, marks=["K27"]).num_genes == {"train": 2, "validation": 1, "test": 1}


def test_unknown_cell_types(study: Study) -> None:
    data, counts = study.data(Kay=A, b=B), study.counts({**EXPRESSION, "Kai": EXPRESSION["a"]})
    for pair, said in (
        (("Kai", "b"), "data.cells: there is no cell type 'Kai'. Did you mean 'Kay'"),
        (("Kay", "b"), "expression.files: there is no cell type 'Kay'. Did you mean 'Kai'"),
        (("b", "b"), "two different cell types"),
    ):
        with pytest.raises(RecipeError, match=said):
            load_pairs(data, counts, pair)


def test_an_expression_table_and_versions_on_both_sides(study: Study) -> None:
    data = study.data(a=versioned(A, 1), b=versioned(B, 2))
    path = study.folder / "rpkm.tsv"
    path.write_text("gene_id\tE1\tE2\nG4.7\t0.5\t0\nG3.7\t1\t2\nG2.7\tNA\t3\nG1.7\t4\t0\n")
    table = ExpressionTable(kind="table", path=str(path), columns={"a": "E1", "b": "E2"}, id_version="strip")
    pairs = load_pairs(data, table, ("a", "b"))
    assert pairs.genes.tolist() == ["G1", "G3", "G4"]
    assert pairs.left_out == {"no expression in a": 1}
    np.testing.assert_allclose(pairs.target, [math.log(5), math.log(2 / 3), math.log(1.5)])
    with pytest.raises(RecipeError, match=r"no genes are left.*no marks in b: 4.*id_version=strip"):
        load_pairs(data, table.model_copy(update={"id_version": "keep"}), ("a", "b"))
    both = changed(versioned(A, 1), "train", **{"G1.3": "1,1 1,1"})
    with pytest.raises(RecipeError, match=r"cell type a: 1 genes are the same without their version, e.g. G1"):
        load_pairs(study.data(a=both, b=versioned(B, 2)), table, ("a", "b"))
    with pytest.raises(RecipeError, match=r"expression.columns: there is no cell type 'b'"):
        load_pairs(data, table.model_copy(update={"columns": {"a": "E1", "c": "E2"}}), ("a", "b"))


def test_fingerprint_sees_every_value(study: Study) -> None:
    pairs = study.load()
    again = study.load()
    assert fingerprint_of(pairs) == fingerprint_of(again)
    assert len(fingerprint_of(pairs)) == 16
    turned = np.array([1, 0, 2, 3])
    first, second, expression = pairs.first.copy(), pairs.second.copy(), pairs.expression.copy()
    first[3, 1, 1] = 1
    second[0, 0, 0] = 1
    expression[2, 0] += 1
    others = [
        dataclasses.replace(pairs, first=first),
        dataclasses.replace(pairs, second=second),
        dataclasses.replace(pairs, first=pairs.second, second=pairs.first),
        dataclasses.replace(pairs, expression=expression),
        dataclasses.replace(pairs, genes=pairs.genes[turned]),
        dataclasses.replace(pairs, split=np.array(["train", "validation", "validation", "test"])),
        dataclasses.replace(pairs, marks=MARKS[::-1]),
        dataclasses.replace(pairs, cells=("b", "a")),
        dataclasses.replace(pairs, first=pairs.first.reshape(4, 1, 4)[:, :, :2], second=pairs.second[:, :1]),
    ]
    prints = {fingerprint_of(other) for other in others}
    assert len(prints) == len(others)
    assert fingerprint_of(pairs) not in prints
    assert fingerprint_of(dataclasses.replace(pairs, left_out={"why": 3})) == fingerprint_of(pairs)


def test_log_fold_change() -> None:
    levels = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2254685.0]])
    expected = [math.log(a + 1) - math.log(b + 1) for a, b in levels]
    np.testing.assert_allclose(log_fold_change(levels), expected, atol=1e-12)


def sample(shared_data: Path) -> tuple[DeepDiffFiles, CountFiles]:
    folder = shared_data / "deepdiff"
    names = {"K562": "Cell1", "H1": "Cell2"}
    endings = {"train": "train", "validation": "valid", "test": "test"}
    cells = {
        cell: SplitFiles(**{split: str(folder / f"{name}.{ending}.csv.gz") for split, ending in endings.items()})
        for cell, name in names.items()
    }
    counts = {cell: str(folder / f"{name}.expr.csv.gz") for cell, name in names.items()}
    return DeepDiffFiles(kind="deepdiff", cells=cells), CountFiles(kind="counts", files=counts)


@pytest.mark.real_data
def test_published_targets(shared_data: Path) -> None:
    """Those of GeneGPT-2, in the order of its files."""
    pairs = load_pairs(*sample(shared_data), ("K562", "H1"))
    assert pairs.num_genes == {"train": 200, "validation": 200, "test": 200}
    assert pairs.first.shape == pairs.second.shape == (600, 200, 5)
    assert pairs.left_out == {}
    for split, name in (("train", "Train"), ("validation", "Valid"), ("test", "Test")):
        published = np.loadtxt(shared_data / "genegpt2_words" / f"C12{name}Diff.tsv")
        np.testing.assert_allclose(pairs.target[pairs.rows(split)], published, rtol=0, atol=1e-12)


@pytest.mark.real_data
def test_published_marks_by_name(shared_data: Path) -> None:
    data, counts = sample(shared_data)
    order = [4, 2, 0, 3, 1]
    pairs = load_pairs(data, counts, ("H1", "K562"))
    turned = load_pairs(data, counts, ("H1", "K562"), [ROADMAP_MARKS[place] for place in order])
    np.testing.assert_array_equal(turned.first, pairs.first[:, :, order])
    np.testing.assert_array_equal(turned.second, pairs.second[:, :, order])
    assert fingerprint_of(turned) != fingerprint_of(pairs)


@pytest.mark.real_data
def test_roadmap_rpkm_joins_with_the_sample(shared_data: Path) -> None:
    """E123 is K562 and E003 is H1: RPKM and counts of the two cell types tell of the same changes."""
    data, counts = sample(shared_data)
    path = shared_data / "hg19" / "expression" / "57epigenomes.RPKM.pc.gz"
    table = ExpressionTable(kind="table", path=str(path), columns={"K562": "E123", "H1": "E003"})
    pairs, of_counts = load_pairs(data, table, ("K562", "H1")), load_pairs(data, counts, ("K562", "H1"))
    assert pairs.genes.tolist() == of_counts.genes.tolist()
    assert np.corrcoef(pairs.target, of_counts.target)[0, 1] > 0.7
