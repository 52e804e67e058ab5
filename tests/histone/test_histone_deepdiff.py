"""DeepDiff's csv files: what they hold, and what is said where one is malformed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epilm.errors import EpilmError, RecipeError
from epilm.histone.config import ROADMAP_MARKS
from epilm.histone.deepdiff_csv import read_deepdiff
from epilm.histone.gene_marks import GeneMarks

TOY = "ENSG2_ABC_1,1,0\nENSG2_ABC_2,2,7\nENSG1_D_1,0,3\nENSG1_D_2,4,0\n"
MARKS = ("K4", "K27")


def read_toy(path: Path, text: str | bytes, *, columns: tuple[str, ...] = MARKS, num_bins: int = 2) -> GeneMarks:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_deepdiff(path, columns=columns, num_bins=num_bins)


def slow_reader(text: str, num_bins: int) -> dict[str, list[list[float]]]:
    """Gene -> its bins in order, a line at a time."""
    found: dict[str, dict[int, list[float]]] = {}
    for line in text.split("\n"):
        if line:
            name, *counts = line.split(",")
            parts = name.split("_")
            found.setdefault(parts[0], {})[int(parts[-1])] = [float(count) for count in counts]
    return {gene: [bins[number] for number in range(1, num_bins + 1)] for gene, bins in found.items()}


def test_toy_file_literally(tmp_path: Path) -> None:
    read = read_toy(tmp_path / "a.csv", TOY)
    assert read.genes.tolist() == ["ENSG2", "ENSG1"]
    assert read.marks == MARKS
    assert read.num_bins == 2
    assert read.values.dtype == np.float32
    assert read.values.tolist() == [[[1, 0], [2, 7]], [[0, 3], [4, 0]]]


@pytest.mark.parametrize("header", ["gene,K27,K9", '"", "K27", "K9"', "#gene_bin,K27 ,K9", "gene_symbol_bin,K27,K9"])
def test_a_header_names_the_marks(tmp_path: Path, header: str) -> None:
    read = read_toy(tmp_path / "a.csv", f"{header}\n{TOY}")
    assert read.marks == ("K27", "K9")
    assert read.genes.tolist() == ["ENSG2", "ENSG1"]
    assert read.values.tolist() == [[[1, 0], [2, 7]], [[0, 3], [4, 0]]]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.txt"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_compression_is_seen_by_content(tmp_path: Path, name: str, compress) -> None:
    read = read_toy(tmp_path / name, compress(TOY.encode()))
    assert read.values.tolist() == [[[1, 0], [2, 7]], [[0, 3], [4, 0]]]


@pytest.mark.parametrize(
    "text",
    [
        TOY.replace("\n", "\r\n"),
        TOY.replace("\n", "\r"),
        TOY.rstrip("\n"),
        "\n\n" + TOY.replace("\n", "\n\n"),
        "\ufeff" + TOY,
        re.sub(r"^([^,]+)", r'"\1"', TOY, flags=re.MULTILINE),
        TOY.replace(",7", ",7.0").replace(",3", ", 3"),
        "\n".join(reversed(TOY.strip().split("\n")[:2])) + "\n" + TOY.split("\n", 2)[2],
        "ENSG2_ABC_1,1,0\nENSG1_D_2,4,0\nENSG2_ABC_2,2,7\nENSG1_D_1,0,3\n",
    ],
    ids=[
        "crlf",
        "cr",
        "no-last-end",
        "blank-lines",
        "bom",
        "quoted",
        "whole-floats",
        "bins-reversed",
        "genes-interleaved",
    ],
)
def test_other_spellings_of_the_toy_read_the_same(tmp_path: Path, text: str) -> None:
    read = read_toy(tmp_path / "a.csv", text)
    assert read.genes.tolist() == ["ENSG2", "ENSG1"]
    assert read.values.tolist() == [[[1, 0], [2, 7]], [[0, 3], [4, 0]]]


@pytest.mark.parametrize(
    ("name", "gene"),
    [
        ("ENSG1", "ENSG1"),
        ("ENSG1_Y_RNA", "ENSG1"),
        ("ENSG1_HLA-A.1", "ENSG1"),
        ("ENSG1_", "ENSG1"),
        ("ENSG1.9_7SK_3", "ENSG1.9"),
    ],
)
def test_gene_ends_at_the_first_underscore(tmp_path: Path, name: str, gene: str) -> None:
    read = read_toy(tmp_path / "a.csv", f"{name}_1,1,0\n{name}_2,0,5\n")
    assert read.genes.tolist() == [gene]
    assert read.values.tolist() == [[[1, 0], [0, 5]]]


@given(
    genes=st.lists(st.sampled_from([f"ENSG{i}" for i in range(9)]), min_size=1, max_size=5, unique=True),
    num_bins=st.integers(1, 6),
    num_marks=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_equals_the_slow_reader(tmp_path_factory, genes, num_bins: int, num_marks: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    lines = [
        f"{gene}_S_{gene[-1]}_{number + 1}," + ",".join(map(str, generator.integers(0, 2000, num_marks)))
        for gene in genes
        for number in range(num_bins)
    ]
    generator.shuffle(lines)
    text = "\n".join(lines) + "\n"
    marks = tuple(f"m{i}" for i in range(num_marks))
    read = read_toy(tmp_path_factory.mktemp("csv") / "a.csv", text, columns=marks, num_bins=num_bins)
    expected = slow_reader(text, num_bins)
    assert read.genes.tolist() == list(expected)
    np.testing.assert_array_equal(read.values, np.array(list(expected.values())))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("gene,K4,K27\n", "holds a header and no genes"),
        ("gene,K4,K4\n" + TOY, "the header of .*: 'K4' is named twice"),
        ("gene,K4,\n" + TOY, "the header of .*: a column has no name"),
        ("gene,K4\n" + TOY, "has 3 fields separated by commas, not 2: a name and 1 marks, which are the header of .* .K4."),
        (TOY.replace("4,0", "4"), "ENSG1_D_2,4' has 2 fields separated by commas, not 3.*data.columns .K4, K27"),
        (TOY.replace("4,0", "4,0,0"), "ENSG1_D_2,4,0,0' has 4 fields"),
        (TOY.replace(",", "\t"), "has 1 fields separated by commas, not 3"),
        (TOY.replace("2,7", "2,-7"), "count '-7' of K27 in ENSG2_ABC_2 is negative"),
        (TOY.replace("2,7", "-2.0,7"), "count '-2.0' of K4 in ENSG2_ABC_2 is negative"),
        (TOY.replace("2,7", "2,7.5"), "count '7.5' of K27 in ENSG2_ABC_2 is a fraction"),
        (TOY.replace("2,7", "2,0x7"), "count '0x7' of K27 in ENSG2_ABC_2 is missing or not a number"),
        (TOY.replace("2,7", "2,16777217"), "count '16777217' of K27 in ENSG2_ABC_2 is larger than 16,777,216"),
        (TOY.replace("2,7", "2,1e300"), "count '1e300' of K27 in ENSG2_ABC_2 is larger than 16,777,216"),
        (TOY.replace("2,7", "2,x"), "count 'x' of K27 in ENSG2_ABC_2 is missing or not a number"),
        (TOY.replace("2,7", "2,"), "count '' of K27 in ENSG2_ABC_2 is missing or not a number"),
        (TOY.replace("2,7", "NA,nan"), "count 'NA' of K4 in ENSG2_ABC_2 is missing"),
        (TOY.replace("1,1,0", "1,NA,NA"), "count 'NA' of K4 in ENSG2_ABC_1 is missing"),
        (TOY.replace("2,7", "2,inf"), "count 'inf' of K27 in ENSG2_ABC_2 is missing or not a number"),
        (TOY.replace("ENSG1_D_2", "ENSG1"), "'ENSG1', which names no gene and bin"),
        (TOY.replace("ENSG1_D_2", "ENSG1_D_-2"), "'ENSG1_D_-2', which names no gene and bin"),
        (TOY.replace("ENSG1_D", "_D"), "'_D' begins with an underscore"),
        (TOY.replace("ENSG1_D_2,4,0\n", ""), "gene ENSG1_D has 1 lines, not data.num_bins=2; lacks bin 2.*set data.num_bins"),
        (TOY + "ENSG1_D_3,0,0\n", "gene ENSG1_D has 3 lines, not data.num_bins=2; has bin 3, outside 1 to 2"),
        (TOY.replace("D_2", "D_1"), "gene ENSG1_D lacks bin 2; has bin 1 more than once"),
        (TOY.replace("_2,", "_0,"), r"gene ENSG2_ABC lacks bin 2; has bin 0, outside 1 to 2 \(1 more genes are wrong\)"),
        (TOY + "ENSG1_D_1,0,3\nENSG1_D_2,4,0\n", "gene ENSG1_D is in the file twice"),
        (TOY + "ENSG1_E_1,0,3\nENSG1_E_2,4,0\n", r"gene ENSG1 is there under 2 names \(ENSG1_D, ENSG1_E\)"),
        (TOY.replace("ENSG", "NM_"), r"gene NM is there under 2 names .*use ids without underscores"),
        ("ENSG1_D_1,0,3\n\xff".encode("latin1"), "is not UTF-8"),
        (TOY.encode("utf-16"), "is not a text file"),
        (gzip.compress(TOY.encode() * 50)[:-9], "is truncated or damaged.*Get it again"),
        (bz2.compress(TOY.encode())[:-9], "is truncated or damaged"),
        (lzma.compress(TOY.encode())[:-9], "is truncated or damaged"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_file(tmp_path: Path, text: str | bytes, said: str) -> None:
    path = tmp_path / "Cell1.train.csv"
    with pytest.raises(RecipeError, match=said) as caught:
        read_toy(path, text)
    assert str(path) in str(caught.value)


def test_bins_of_all_genes_are_proposed(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"all genes have 2 lines: data.num_bins=2\?"):
        read_toy(tmp_path / "a.csv", TOY, num_bins=200)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "absent.csv", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(EpilmError, match=said):
            read_deepdiff(path, columns=MARKS, num_bins=2)


def test_columns_are_named_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'K4' is named twice"):
        read_toy(tmp_path / "a.csv", TOY, columns=("K4", "K4"))


def test_marks_by_name(tmp_path: Path) -> None:
    read = read_toy(tmp_path / "a.csv", TOY)
    assert read.with_marks(None) is read
    turned = read.with_marks(["K27", "K4"])
    assert turned.marks == ("K27", "K4")
    assert turned.values.tolist() == [[[0, 1], [7, 2]], [[3, 0], [0, 4]]]
    one = read.with_marks(["K27"])
    assert one.values.tolist() == [[[0], [7]], [[3], [0]]]
    assert one.genes is read.genes
    for names, said in (
        (["K72"], "no mark 'K72'. Did you mean 'K27'. There are: K4, K27."),
        (["K4", "K4"], "K4 is named twice"),
        ([], "name one at least of K4, K27"),
    ):
        with pytest.raises(RecipeError, match=said):
            read.with_marks(names)


def test_a_whole_file_takes_seconds(tmp_path: Path) -> None:
    """A tenth of DeepDiff's 10,000 training genes."""
    counts = np.random.default_rng(0).poisson(1.0, (1000, 200, 5))
    lines = (
        f"ENSG{gene:011d}_S_{place + 1},{','.join(map(str, row))}"
        for gene, bins in enumerate(counts.tolist())
        for place, row in enumerate(bins)
    )
    path = tmp_path / "big.csv"
    path.write_text("\n".join(lines))
    began = time.process_time()
    read = read_deepdiff(path, columns=ROADMAP_MARKS, num_bins=200)
    assert time.process_time() - began < 10
    np.testing.assert_array_equal(read.values, counts)


@pytest.mark.real_data
@pytest.mark.parametrize("cell", ["Cell1", "Cell2"])
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_published_sample(shared_data: Path, cell: str, split: str) -> None:
    path = shared_data / "deepdiff" / f"{cell}.{split}.csv.gz"
    read = read_deepdiff(path, columns=ROADMAP_MARKS, num_bins=200)
    expected = slow_reader(gzip.decompress(path.read_bytes()).decode(), 200)
    assert read.values.shape == (200, 200, 5)
    assert read.genes.tolist() == list(expected)
    np.testing.assert_array_equal(read.values, np.array(list(expected.values())))
    order = [3, 0, 4, 1, 2]
    turned = read.with_marks([ROADMAP_MARKS[place] for place in order])
    np.testing.assert_array_equal(turned.values, read.values[:, :, order])
