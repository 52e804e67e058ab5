import gzip
import lzma

import numpy as np
import pandas as pd
import pyBigWig
import pytest

from epilm.config import parse_recipe
from epilm.errors import EpilmError, RecipeError
from epilm.regress.prepare import strand_warning
from epilm.regress.recipe import TableTarget, TracksTarget
from epilm.regress.target import join_id, levels_of, read_target, strand_check

LONG = pd.DataFrame(
    {
        "gene_id": ["7157", "7157", "1017", "1017"],
        "cell": ["003", "117", "003", "117"],
        "expression": [1.0, 2.0, np.nan, 4.0],
    }
)
EXPECTED = {("7157", "003"): 1.0, ("7157", "117"): 2.0, ("1017", "117"): 4.0}


def read(path, **settings):
    return read_target(parse_recipe(TableTarget, {"kind": "table", "path": str(path), **settings}))


def as_dict(table):
    return {(row.id, row.cell_type): row.value for row in table.itertuples()}


@pytest.mark.parametrize("statistic", ["mean", "max", "min"])
def test_levels_equal_a_slow_reference(statistic):
    rng = np.random.default_rng(0)
    values = rng.normal(size=300)
    values[rng.random(300) < 0.3] = np.nan
    values[100:120] = np.nan
    start = np.concatenate([rng.integers(0, 299, 200), [0, 299, 100, 0]])
    end = np.concatenate([start[:200] + 1 + rng.integers(0, 300 - start[:200]), [300, 300, 120, 1]])
    got = levels_of(values, start, end, statistic=statistic)
    slow = {"mean": np.mean, "max": np.max, "min": np.min}[statistic]
    for first, last, level in zip(start, end, got, strict=True):
        held = values[first:last][~np.isnan(values[first:last])]
        expected = slow(held) if len(held) else np.nan
        np.testing.assert_allclose(level, expected, atol=1e-12)
    assert np.isnan(got[-2])  # 100:120 holds nothing


@pytest.mark.parametrize("name", ["t.tsv", "t.csv", "t.tsv.gz", "t.csv.xz", "t.parquet", "t.txt"])
def test_long_tables_of_every_kind(tmp_path, name):
    path = tmp_path / name
    if name.endswith(".parquet"):
        LONG.to_parquet(path)
    else:
        text = LONG.to_csv(sep="," if ".csv" in name else "\t", index=False).encode()
        pack = {"gz": gzip.compress, "xz": lzma.compress}.get(name.rsplit(".", 1)[-1], bytes)
        path.write_bytes(pack(text))
    table, seen = read(path, cell_type="cell")
    assert as_dict(table) == EXPECTED  # ids and cells keep their zeros
    assert seen["target_values_missing"] == 1


def test_wide_table(tmp_path):
    wide = LONG.pivot(index="gene_id", columns="cell", values="expression").reset_index()
    wide.to_csv(tmp_path / "wide.tsv", sep="\t", index=False)
    table, _ = read(tmp_path / "wide.tsv", value={"003": "003", "117": "117"})
    assert as_dict(table) == EXPECTED


def test_table_without_cell_types(tmp_path):
    (tmp_path / "t.tsv").write_text("orf\tlevel\nYAL001C\t3\nYAL002W\tNA\n")
    table, _ = read(tmp_path / "t.tsv", id="orf", value="level")
    assert as_dict(table) == {("YAL001C", ""): 3.0}


def test_version_of_ensembl_ids_is_dropped_only_where_asked():
    ids = pd.Series(["ENSG00000000003.9", "ENSG00000182378.10_PAR_Y", "YAL001C", "a.b"])
    assert list(join_id(ids, "strip")) == ["ENSG00000000003", "ENSG00000182378_PAR_Y", "YAL001C", "a.b"]
    assert list(join_id(ids, "keep")) == list(ids)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"transform": "none"}, 7.0),
        ({"transform": "log1p"}, np.log(8)),
        ({"transform": "log2p1"}, 3.0),
        ({"transform": "log10", "pseudocount": 0.5}, np.log10(7.5)),
    ],
)
def test_transforms(tmp_path, settings, expected):
    (tmp_path / "t.tsv").write_text("gene_id\texpression\ng\t7\n")
    table, _ = read(tmp_path / "t.tsv", **settings)
    assert table["value"].iloc[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("gene_id\trpkm\ng\t1\n", {}, r"no column 'expression'; it has 'gene_id', 'rpkm'"),
        ("gene_id\texpression\ng\t1\ng\t2\n", {}, r"1 ids have a second value, e\.g\. 'g'"),
        ("gene_id\texpression\ng.1\t1\ng.2\t2\n", {"id_version": "strip"}, r"second value"),
        ("gene_id\texpression\nh\t1\ng\thigh\n", {}, r"not numbers, e\.g\. 'high' of 'g'"),
        ("gene_id\texpression\nh\t1\ng\t-3\n", {"transform": "log1p"}, r"the first is -3\.0 of 'g'"),
        ("gene_id\texpression\ng\tinf\n", {}, r"cannot be used"),
    ],
)
def test_wrong_tables_are_named(tmp_path, content, settings, message):
    (tmp_path / "t.tsv").write_text(content)
    with pytest.raises(RecipeError, match=message):
        read(tmp_path / "t.tsv", **settings)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.parquet", b"gene_id"),
        ("t.tsv.gz", gzip.compress(b"gene_id\texpression\n" * 99)[:-9]),
        ("t.tsv", b"\xff\xfe"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match="cannot be read as a table"):
        read(tmp_path / name)


def test_absent_table(tmp_path):
    with pytest.raises(RecipeError, match=r"nothing\.tsv does not exist"):
        read(tmp_path / "nothing.tsv")


def test_transform_settings_fit_each_other():
    with pytest.raises(RecipeError, match="log10 needs a pseudocount"):
        parse_recipe(TableTarget, {"path": "t", "transform": "log10"})
    with pytest.raises(RecipeError, match="cell_type must be absent"):
        parse_recipe(TableTarget, {"path": "t", "value": {"a": "b"}, "cell_type": "cell"})


@pytest.fixture
def tracks(tmp_path):
    """Genes at 100-200 (+) and 150-300 (-) of chrI; the tracks call it I, and have no chrII."""
    for name, levels in {"fwd": [(100, 200, 8.0)], "rev": [(150, 250, 2.0)]}.items():
        with pyBigWig.open(str(tmp_path / f"{name}.bw"), "w") as handle:
            handle.addHeader([("I", 400)])
            for start, end, level in levels:
                handle.addEntries(["I"], [start], ends=[end], values=[level])
    (tmp_path / "genes.bed").write_text("chrI\t100\t200\tg\t0\t+\nchrI\t150\t300\th\t0\t-\nchrII\t5\t9\ti\t0\t+\n")
    return {
        "kind": "tracks",
        "forward": str(tmp_path / "fwd.bw"),
        "reverse": str(tmp_path / "rev.bw"),
        "genes": str(tmp_path / "genes.bed"),
    }


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"g": 8.0, "h": 2.0}),
        ({"nan_policy": "zero"}, {"g": 8.0, "h": 2.0 * 100 / 150, "i": None}),
        ({"plus_genes": "reverse"}, {"g": 2.0, "h": 8.0}),
        ({"transform": "log2p1"}, {"g": np.log2(9), "h": np.log2(3)}),
    ],
)
def test_levels_of_strand_specific_tracks(tracks, settings, expected):
    table, _ = read_target(parse_recipe(TracksTarget, {**tracks, **settings}))
    got = {row.id: row.value for row in table.itertuples()}
    assert got == pytest.approx({name: value for name, value in expected.items() if value is not None})


def test_strand_check():
    sense, antisense = np.array([9.0, 5, 1, 0, np.nan]), np.array([1.0, 0, 2, 0, 4])
    check = strand_check(sense, antisense)
    assert check == {
        "genes": 3,
        "sense_above_antisense": pytest.approx(2 / 3),
        "median_sense": 5.0,
        "median_antisense": 1.0,
    }
    assert "swapped" not in str(strand_warning(check))
    assert "looks swapped" in str(strand_warning(strand_check(antisense, sense)))
    assert strand_warning(strand_check(np.zeros(3), np.full(3, np.nan))) is None


def test_tracks_without_the_genes_contigs_are_refused(tracks, tmp_path):
    (tmp_path / "other.bed").write_text("chrX\t100\t200\tg\t0\t+\n")
    with pytest.raises(EpilmError, match="the genes"):
        read_target(parse_recipe(TracksTarget, {**tracks, "genes": str(tmp_path / "other.bed")}))
