"""Tables of scores: what is written is read, other people's tables, and what is wrong with a table."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from slow_ngrams import words

from epilm.errors import CorpusError
from epilm.ngrams.counts import count_ngrams
from epilm.ngrams.pmi import score_ngrams
from epilm.ngrams.table import (
    NGRAMS_FILE,
    SCHEMA,
    TableColumns,
    ngram_words,
    read_scores,
    read_table,
    write_table,
)
from epilm.storage import Location

HEADER = "kmer,count,naive_pmi,dp_true_pmi,npmi,rank"
ROWS = ["CAC,500,1.5,1.0,0.9,1", "AAA,300,1.2,0.8,0.5,2", "TTT,300,0.2,0.1,-0.5,3", "GGG,7,0.1,0.1,,"]


def write(tmp_path: Path, text: str | bytes, name: str = "table.csv") -> Location:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return Location(str(tmp_path / name))


def csv(*rows: str, header: str = HEADER) -> str:
    return "\n".join([header, *rows]) + "\n"


def counted_table(tmp_path: Path) -> tuple[Location, tuple]:
    codes = np.random.default_rng(0).choice(4, 30_000, p=[0.4, 0.2, 0.1, 0.3]).astype(np.uint8)
    counts = count_ngrams(codes, 4)
    scores = score_ngrams(counts, total=len(codes))
    write_table(Location(str(tmp_path)) / NGRAMS_FILE, scores, contigs=["chr1", "chr2"])
    return Location(str(tmp_path)), scores


@pytest.mark.parametrize("n", [1, 3, 6])
def test_words_are_in_the_order_of_their_codes(n: int) -> None:
    assert ngram_words(n) == words(n)


def test_a_run_folder_gives_back_what_was_written(tmp_path: Path) -> None:
    folder, written = counted_table(tmp_path)
    scores, contigs = read_table(folder)
    assert contigs == ("chr1", "chr2")
    assert list(scores) == [1, 2, 3, 4]
    for mine, theirs in zip(scores.values(), written, strict=True):
        for name in ("count", "naive_pmi", "dp_pmi", "npmi", "rank"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
    table = pq.read_table((folder / NGRAMS_FILE).path)
    assert table.schema.equals(SCHEMA)
    assert table.num_rows == 4 + 16 + 64 + 256
    num_without = sum(int((~of_n.scored).sum()) for of_n in written)
    assert table.column("rank").null_count == table.column("npmi").null_count == num_without > 20


def test_kmer_scores_share_the_last_rank_where_there_is_none(tmp_path: Path) -> None:
    folder, written = counted_table(tmp_path)
    scores = read_scores(folder, 4)
    num_scored = int(written[3].scored.sum())
    assert 0 < num_scored < 256
    assert (scores.k, scores.contigs) == (4, ("chr1", "chr2"))
    assert (scores.rank[~written[3].scored] == num_scored + 1).all()
    assert np.isnan(scores.npmi[scores.rank == num_scored + 1]).all()
    assert np.array_equal(np.sort(scores.rank[written[3].scored]), np.arange(1, num_scored + 1))
    assert (scores.count.dtype, scores.npmi.dtype, scores.rank.dtype) == (np.int64, np.float64, np.int32)


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    here = read_scores(write(tmp_path, csv(*ROWS)), 3).fingerprint
    assert read_scores(write(tmp_path, csv(*reversed(ROWS)), "turned.csv"), 3).fingerprint == here
    other = read_scores(write(tmp_path, csv(*ROWS[:2]), "shorter.csv"), 3).fingerprint
    assert other != here


def test_a_published_csv(tmp_path: Path) -> None:
    scores = read_scores(write(tmp_path, csv(*ROWS)), 3)
    code = {word: i for i, word in enumerate(words(3))}
    assert [int(scores.rank[code[w]]) for w in ("CAC", "AAA", "TTT", "GGG", "ACG")] == [1, 2, 3, 4, 4]
    assert scores.count[code["GGG"]] == 7
    assert np.isnan(scores.npmi[code["GGG"]])
    assert scores.contigs is None
    assert read_table(write(tmp_path, csv(*ROWS), "again.csv"))[0][3].dp_pmi[code["AAA"]] == 0.8


@pytest.mark.parametrize("kind", ["tsv", "csv.gz", "parquet", "crlf", "lower case"])
def test_forms_of_a_table(tmp_path: Path, kind: str) -> None:
    expected = read_scores(write(tmp_path, csv(*ROWS)), 3)
    text = csv(*ROWS)
    if kind == "tsv":
        path = write(tmp_path, text.replace(",", "\t"), "t.tsv")
    elif kind == "csv.gz":
        path = write(tmp_path, gzip.compress(text.encode()), "t.csv.gz")
    elif kind == "crlf":
        path = write(tmp_path, text.replace("\n", "\r\n"), "crlf.csv")
    elif kind == "lower case":
        path = write(tmp_path, csv(*(row.lower() for row in ROWS)), "lower.csv")
    else:
        columns = {"kmer": ["CAC", "AAA", "TTT", "GGG"], "count": [500, 300, 300, 7], "npmi": [0.9, 0.5, -0.5, None]}
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
        path = Location(str(tmp_path / "t.parquet"))
    scores = read_scores(path, 3)
    assert scores.fingerprint == expected.fingerprint
    assert np.array_equal(scores.rank, expected.rank)


def test_ranks_are_computed_where_the_table_has_none(tmp_path: Path) -> None:
    rows = ["CAC,500,0.5", "AAA,300,0.5", "TTT,300,0.9", "GGG,7,"]
    scores = read_scores(write(tmp_path, csv(*rows, header="kmer,count,npmi")), 3)
    code = {word: i for i, word in enumerate(words(3))}
    assert [int(scores.rank[code[w]]) for w in ("TTT", "AAA", "CAC", "GGG")] == [1, 2, 3, 4]


def test_columns_by_other_names(tmp_path: Path) -> None:
    path = write(tmp_path, csv("CAC,500,0.5", header="word,f,score"))
    with pytest.raises(CorpusError, match=r"no column 'kmer' \(kmer\); it has word, f, score.*columns"):
        read_scores(path, 3)
    scores = read_scores(path, 3, columns=TableColumns(kmer="word", count="f", npmi="score"))
    assert scores.npmi[words(3).index("CAC")] == 0.5


def test_another_k_says_which_are_there(tmp_path: Path) -> None:
    folder, _ = counted_table(tmp_path)
    with pytest.raises(CorpusError, match="no NPMI of 6-mers; it has those of k = 3, 4"):
        read_scores(folder, 6)
    with pytest.raises(CorpusError, match="no NPMI of 2-mers"):
        read_scores(folder, 2)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["CAC,500,1,1,0.9,1", "AAA,3,1,1,,", "cac,9,1,1,,"], "'CAC' is in rows 1 and 3"),
        (["CAC,500,1,1,0.9,1", "CNC,3,1,1,,"], "row 2 is 'CNC'"),
        (["CAC,500,1,1,0.9,1", "CÄC,3,1,1,,"], "row 2 is 'CÄC'"),
        (["ACGTACGTA,500,1,1,0.9,1"], "holds 'ACGTACGTA'; a table of scores has k-mers of 1 to 8"),
        (["CAC,many,1,1,0.9,1"], "column 'count' holds string instead of numbers"),
        (["CAC,,1,1,0.9,1"], "whole numbers from 0 up"),
        (["CAC,-5,1,1,0.9,1"], "whole numbers from 0 up"),
        (["CAC,1.5,1,1,0.9,1"], "whole numbers from 0 up"),
        (["AAA,5,1,1,,", "CAC,inf,1,1,0.9,1"], "whole numbers from 0 up to .* row 2 has inf"),
        (["CAC,1e300,1,1,0.9,1"], "row 1 has 1.*e\\+300"),
        (["CAC,9007199254740992,1,1,0.9,1"], "row 1 has 9007199254740992"),
        (["CAC,500,1,1,inf,1"], "infinite"),
        (["CAC,500,1,1,0.9,2", "AAA,400,1,1,0.5,3"], r"not 1, 2, ... 2 from the highest NPMI down"),
        (["CAC,500,1,1,0.9,2", "AAA,400,1,1,0.5,1"], r"not 1, 2, ... 2 from the highest NPMI down"),
        (["CAC,500,1,1,0.9,1", "AAA,400,1,1,0.5,"], r"not 1, 2, ... 2 from the highest NPMI down"),
        ([], "no rows"),
        (["CAC,500"], "cannot be read as a table"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, rows: list[str], said: str) -> None:
    with pytest.raises(CorpusError, match=said):
        read_scores(write(tmp_path, csv(*rows)), 3)


@pytest.mark.parametrize("name", ["kmer", "count", "npmi", "rank"])
def test_a_column_that_stands_twice_is_refused(tmp_path: Path, name: str) -> None:
    table = csv(*(f"{row},1" for row in ROWS[:3]), header=f"{HEADER},{name}")
    with pytest.raises(CorpusError, match=rf"has 2 columns '{name}' \({name}\)"):
        read_scores(write(tmp_path, table), 3)


def test_a_column_that_is_not_read_may_stand_twice(tmp_path: Path) -> None:
    table = csv(*(f"{row},1,2" for row in ROWS[:3]), header=f"{HEADER},note,note")
    assert read_scores(write(tmp_path, table), 3).count.max() == 500


@pytest.mark.parametrize("metadata", ["[chr1", '"chr1"', "[1]", "{}"])
def test_contigs_that_are_no_list_of_names(tmp_path: Path, metadata: str) -> None:
    table = pa.table({"kmer": ["CAC"], "count": [500], "npmi": [0.9]}).replace_schema_metadata({"contigs": metadata})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(CorpusError, match="instead of a JSON list of names"):
        read_scores(Location(str(tmp_path / "t.parquet")), 3)


def test_a_damaged_file_or_none(tmp_path: Path) -> None:
    folder, _ = counted_table(tmp_path)
    data = bytearray((tmp_path / NGRAMS_FILE).read_bytes())
    with pytest.raises(CorpusError, match="cannot be read as a table"):
        read_scores(write(tmp_path, bytes(data[:-100]), "cut.parquet"), 4)
    data[200] ^= 0xFF
    with pytest.raises(CorpusError, match="cannot be read as a table, it is damaged"):
        read_scores(write(tmp_path, bytes(data), "flipped.parquet"), 4)
    with pytest.raises(CorpusError, match="cannot be read as a table"):
        read_scores(write(tmp_path, b"", "empty.csv"), 4)
    with pytest.raises(CorpusError, match="no table of k-mer scores at"):
        read_scores(folder / "absent", 4)


def test_a_folder_without_scores(tmp_path: Path) -> None:
    (tmp_path / "recipe.resolved.yaml").write_text("run:\n  stage: corpus\n")
    with pytest.raises(CorpusError, match="holds no scores"):
        read_scores(Location(str(tmp_path)), 6)
    (tmp_path / "recipe.resolved.yaml").write_text("run:\n  stage: npmi\n")
    with pytest.raises(CorpusError, match="is an unfinished `epilm npmi` run"):
        read_scores(Location(str(tmp_path)), 6)


@pytest.mark.real_data
def test_the_published_table_is_read_whole(shared_data: Path) -> None:
    scores = read_scores(Location(str(shared_data / "genemask" / "npmi_6mer.csv")), 6)
    best = int(np.argmin(scores.rank))
    assert (ngram_words(6)[best], int(scores.count[best])) == ("CCTCCC", 446_610)
    assert scores.npmi[best] == pytest.approx(2.1030761926846298, rel=1e-14)
    assert np.array_equal(np.sort(scores.rank), np.arange(1, 4097))
