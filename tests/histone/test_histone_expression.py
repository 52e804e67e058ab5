"""Expression: read counts of one cell type, and tables of many."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from epilm.errors import RecipeError
from epilm.histone.config import ExpressionTable
from epilm.histone.expression_tables import join_ids, read_counts, read_table

COUNTS = "G2,10\nG1,0\nG3,2254685\n"
TABLE = "gene_id\tE1\tE2\tE3\nG2\t0.5\t1\t9\nG1\t0\t2e1\t9\n"


def counts_of(path: Path, text: str) -> pd.Series:
    path.write_text(text)
    return read_counts(path)


def table_of(path: Path, text: str | bytes, **settings) -> pd.DataFrame:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    columns = settings.pop("columns", {"b": "E2", "a": "E1"})
    return read_table(ExpressionTable(kind="table", path=str(path), columns=columns, **settings))


@pytest.mark.parametrize(
    "text",
    [
        COUNTS,
        COUNTS.replace("\n", "\r\n"),
        COUNTS.replace("10", "10.0"),
        "gene_id,count\n" + COUNTS,
        "Gene,K562\n" + COUNTS,
        '"","x"\n' + COUNTS,
        "target_id\tcounts\n" + COUNTS.replace(",", "\t"),
        COUNTS.replace(",", " \t") + "__no_feature\t7\n__ambiguous\t1\n",
    ],
)
def test_counts_literally(tmp_path: Path, text: str) -> None:
    read = counts_of(tmp_path / "c.csv", text)
    assert read.to_dict() == {"G2": 10.0, "G1": 0.0, "G3": 2254685.0}
    assert list(read.index) == ["G2", "G1", "G3"]
    assert read.dtype == np.float64


def test_versions_of_ids_are_stripped(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text("G2.11,10\nG1.2_PAR_Y,4\n")
    assert read_counts(path, id_version="strip").to_dict() == {"G2": 10.0, "G1_PAR_Y": 4.0}
    path.write_text("G2.11,10\nG2.12,4\n")
    with pytest.raises(RecipeError, match=r"second row, e.g. G2\..*id_version=strip made one id of several versions"):
        read_counts(path, id_version="strip")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("gene,count\n", "holds a header and no genes"),
        ("ENSG5,many\n" + COUNTS, "first line is 'ENSG5,many', and 'many' is no count.*delete the line.*mend"),
        (COUNTS.replace("G1,0", "G1,-1"), "count '-1' of gene G1 is negative"),
        (COUNTS.replace("G1,0", "G1,0.5"), "count '0.5' of gene G1 is a fraction.*kind: table"),
        (COUNTS.replace("G1,0", "G1,x"), "count 'x' of gene G1 is not a number"),
        (COUNTS.replace("G1,0", "G1,inf"), "count 'inf' of gene G1 is infinite"),
        (COUNTS.replace("G1,0", "G1,"), "count '' of gene G1 is missing"),
        (COUNTS.replace("G2,10", "G2,NA"), "count 'NA' of gene G2 is missing"),
        (COUNTS.replace("G1,0", ",0"), "1 rows have no gene"),
        (COUNTS + "G2,10\n", "1 genes have a second row, e.g. G2"),
        (COUNTS.replace("G1,0", "G1,0,0"), "'G1,0,0' has 3 fields separated by commas, not 2"),
        (COUNTS.replace(",", "\t7\t"), "has 3 fields separated by tabs, not 2: .*kind: table"),
        (COUNTS.replace(",", ";"), "has 1 fields separated by commas, not 2"),
    ],
)
def test_wrong_counts_are_said(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "K562.expr.csv"
    with pytest.raises(RecipeError, match=said) as caught:
        counts_of(path, text)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        TABLE,
        gzip.compress(TABLE.encode()),
        TABLE.replace("\n", "\r"),
        TABLE.replace("9\n", "9\t\n"),
        TABLE.replace("\n", "\t\n"),
        'gene_id\t"E1"\tE2\tE3\n"G2"\t0.5\t1\t9\nG1\t0\t20\t9\n',
    ],
    ids=["plain", "gzip", "cr", "rows-end-in-a-tab", "all-end-in-a-tab", "quoted"],
)
def test_table_literally(tmp_path: Path, text: str | bytes) -> None:
    read = table_of(tmp_path / "t.tsv", text)
    assert list(read.columns) == ["b", "a"]
    assert list(read.index) == ["G2", "G1"]
    assert read.to_numpy().tolist() == [[1.0, 0.5], [20.0, 0.0]]


@pytest.mark.parametrize("name", ["t.csv", "t.CSV.gz"])
def test_csv_has_commas(tmp_path: Path, name: str) -> None:
    read = table_of(tmp_path / name, TABLE.replace("\t", ","))
    assert read.to_numpy().tolist() == [[1.0, 0.5], [20.0, 0.0]]


def test_a_column_may_serve_two_cell_types_and_others_are_not_read(tmp_path: Path) -> None:
    text = TABLE.replace("\t9\n", "\tword\n")
    read = table_of(tmp_path / "t.tsv", text, columns={"a": "E1", "b": "E1"})
    assert read.to_numpy().tolist() == [[0.5, 0.5], [0.0, 0.0]]
    config = ExpressionTable(kind="table", path=str(tmp_path / "t.tsv"), columns={"a": "E1", "c": "E3"})
    assert list(read_table(config, cells=["a"]).columns) == ["a"]
    with pytest.raises(RecipeError, match="E3 'word' of gene G2 is not a number"):
        read_table(config)


def test_a_lone_quote_in_a_description_swallows_no_line(tmp_path: Path) -> None:
    quoted = TABLE.replace("G2", '"G2"').replace("9\n", '"9, or so"\n')
    lone = TABLE.replace("\t9\n", '\t"prime\n')
    for text in (quoted, lone):
        assert table_of(tmp_path / "t.tsv", text).to_dict() == {"b": {"G2": 1, "G1": 20}, "a": {"G2": 0.5, "G1": 0}}


@pytest.mark.parametrize("missing", ["", "NA", "nan", " na ", "."])
def test_missing_values_of_a_table_are_nan(tmp_path: Path, missing: str) -> None:
    read = table_of(tmp_path / "t.tsv", TABLE.replace("0.5", missing))
    assert np.isnan(read.loc["G2", "a"])
    assert read["a"].isna().sum() == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (TABLE.split("\n", 1)[0], "holds a header and no genes"),
        (TABLE.replace("gene_id", "id"), "expression.id: in .* no column 'gene_id'. There are: id, E1, E2, E3."),
        (TABLE.replace("E1", "E4"), "expression.columns.a: in .* no column 'E1'. There are: gene_id, E4"),
        (TABLE.replace("E3", "E1"), "has 2 columns 'E1'"),
        (TABLE.replace("\t", ","), "is one column. Files named .csv are separated by commas, all others by tabs"),
        (TABLE.replace("0.5", "-0.5"), "E1 '-0.5' of gene G2 is negative; give expression itself"),
        (TABLE.replace("0.5", "high"), "E1 'high' of gene G2 is not a number"),
        (TABLE.replace("0.5", "inf"), "E1 'inf' of gene G2 is infinite"),
        (TABLE.replace("G1", "G2"), "1 genes have a second row, e.g. G2"),
        (TABLE.replace("G1", ""), "1 rows have no gene"),
        (TABLE + "G3\t1\t2\n", "'G3.t1.t2' has 3 fields separated by tabs, not 4"),
        (TABLE.replace("G1\t0\t2e1\t9", "G1\t0\t2e1\t9\t"), "has 5 fields separated by tabs, not 4"),
        (TABLE.replace("9\n", "9\t7\n"), "rows have more fields than the header's 4 .value '7'"),
    ],
)
def test_wrong_tables_are_said(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "rpkm.tsv"
    with pytest.raises(RecipeError, match=said) as caught:
        table_of(path, text)
    assert str(path) in str(caught.value)


def test_versions_of_ids(tmp_path: Path) -> None:
    text = TABLE.replace("G2", "ENSG2.9").replace("G1", "ENSG1.10_PAR_Y")
    assert list(table_of(tmp_path / "t.tsv", text).index) == ["ENSG2.9", "ENSG1.10_PAR_Y"]
    assert list(table_of(tmp_path / "t.tsv", text, id_version="strip").index) == ["ENSG2", "ENSG1_PAR_Y"]
    with pytest.raises(RecipeError, match=r"second row, e.g. ENSG2.*id_version"):
        table_of(tmp_path / "t.tsv", TABLE.replace("G2", "ENSG2.9").replace("G1", "ENSG2.8"), id_version="strip")
    assert join_ids(["A.1", "B.12_x", "C.x", "D"], "strip").tolist() == ["A", "B_x", "C.x", "D"]
    assert join_ids(["A.1"], "keep").tolist() == ["A.1"]


@pytest.mark.real_data
def test_roadmap_table_as_it_is(shared_data: Path) -> None:
    """Its rows end in a tab, its header does not: a column must not slip."""
    path = shared_data / "hg19" / "expression" / "57epigenomes.RPKM.pc.gz"
    columns = {"universal": "E000", "H1": "E003", "K562": "E123", "last": "E128"}
    read = read_table(ExpressionTable(kind="table", path=str(path), columns=columns))
    lines = gzip.decompress(path.read_bytes()).decode().strip("\n").split("\n")
    header, rows = lines[0].split("\t"), [line.split("\t") for line in lines[1:]]
    assert read.shape == (19795, 4)
    for cell, column in columns.items():
        place = header.index(column)
        assert dict(read[cell]) == {row[0]: float(row[place]) for row in rows}


@pytest.mark.real_data
def test_published_counts(shared_data: Path) -> None:
    path = shared_data / "deepdiff" / "Cell1.expr.csv.gz"
    lines = gzip.decompress(path.read_bytes()).decode().split()
    assert read_counts(path).to_dict() == {gene: float(count) for gene, count in (line.split(",") for line in lines)}
