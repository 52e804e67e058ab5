"""Every way in which a corpus can be wrong is found, and named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epilm.corpus.shards import write_parquet
from epilm.corpus.source import as_fixed_bytes, fixed_bytes
from epilm.corpus.validate import CorpusFaultsError, validate_corpus
from epilm.errors import CorpusError
from epilm.storage import Location

pytestmark = pytest.mark.ray

TRAIN = "windows/train/part-00000.parquet"
CHUNKS = "contigs/chr1/part-00000.parquet"


def faults(corpus: Location) -> str:
    with pytest.raises(CorpusFaultsError) as caught:
        validate_corpus(corpus)
    assert all(fault in str(caught.value) for fault in caught.value.faults)
    return "\n".join(caught.value.faults)


def change_manifest(corpus: Location, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = (corpus / "manifest.json").read_json()
    change(manifest)
    (corpus / "manifest.json").write_text(json.dumps(manifest))


def rewrite(corpus: Location, path: str, change: Callable[[pa.Table], pa.Table], *, rows: int | None = None) -> None:
    """Change a file's table and make the manifest agree with its new checksum, so that only what it holds is wrong."""
    file = Path((corpus / path).path)
    manifest = (corpus / "manifest.json").read_json()
    entry = next(entry for entry in manifest["files"] if entry["path"] == path)
    record = write_parquet(corpus, path, change(pq.read_table(file)), rows_per_group=entry["row_group_rows"][0])
    if rows is not None:
        record |= {"rows": rows}
    entry.update(record)
    (corpus / "manifest.json").write_text(json.dumps(manifest))


def replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    index = table.column_names.index(name)
    return table.set_column(index, table.schema.field(name), values).cast(table.schema)


def with_byte(table: pa.Table, name: str, value: int) -> pa.Table:
    values = fixed_bytes(table.column(name)).copy()
    values[3, 5] = value
    return replaced(table, name, as_fixed_bytes(values))


def test_a_sound_corpus_has_no_fault(toy_corpus) -> None:
    lines: list[str] = []
    report = validate_corpus(toy_corpus.location, progress=lines.append)
    assert report.num_windows == {split: toy_corpus.manifest.num_windows(split) for split in ("train", "held_out")}
    assert report.num_files == len(toy_corpus.manifest.files)
    assert report.num_compared >= 64
    assert report.fingerprint == toy_corpus.manifest.fingerprint()
    assert "MB/s" in lines[-1]


def test_a_flipped_bit_is_found_in_every_file(toy_corpus, corpus_copy) -> None:
    copy = corpus_copy()
    for file in toy_corpus.manifest.files:
        path = Path((copy / file.path).path)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    found = faults(copy)
    for file in toy_corpus.manifest.files:
        expected = hashlib.sha256((copy / file.path).read_bytes()).hexdigest()[:12]
        assert f"{file.path}: its checksum is {expected}..., the manifest says {file.sha256[:12]}..." in found


def test_truncated_missing_and_foreign_files_are_named(toy_corpus, corpus_copy) -> None:
    copy = corpus_copy()
    path = Path((copy / TRAIN).path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-10])
    Path((copy / CHUNKS).path).unlink()
    (copy / "windows/train/part-99999.parquet").write_bytes(b"")
    found = faults(copy)
    assert f"{TRAIN}: has {size - 10} bytes, the manifest says {size}" in found
    assert f"{CHUNKS}: is missing" in found
    assert "windows/train/part-99999.parquet: is not in the manifest" in found
    assert len(found.splitlines()) >= 3


def test_a_file_that_is_no_parquet(corpus_copy) -> None:
    copy = corpus_copy()
    data = b"PAR1 but nothing else"
    (copy / TRAIN).write_bytes(data)

    def reseal(manifest: dict[str, Any]) -> None:
        entry = next(entry for entry in manifest["files"] if entry["path"] == TRAIN)
        entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    change_manifest(copy, reseal)
    assert f"{TRAIN}: cannot be read as parquet" in faults(copy)


def shift_starts(table: pa.Table) -> pa.Table:
    return replaced(table, "start", pa.array(table.column("start").to_numpy() + 1))


def other_share(table: pa.Table) -> pa.Table:
    return replaced(table, "n_fraction", pa.array(np.full(len(table), 0.15, np.float32)))


def other_contig(table: pa.Table) -> pa.Table:
    return replaced(table, "chrom", pa.array(["chrX", *table.column("chrom").to_pylist()[1:]]))


def twice(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(1, 1), table.slice(1)])


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        (TRAIN, lambda t: with_byte(t, "states", 3), "row group 0: states holds 3, allowed are 0 to 2 and 255"),
        (TRAIN, lambda t: with_byte(t, "states", 254), "states holds 254"),
        (TRAIN, lambda t: with_byte(t, "dna", 5), "row group 0: dna holds 5, allowed are 0 to 4"),
        (TRAIN, lambda t: t.append_column("extra", pa.array(range(len(t)))), "its columns are (chrom: string"),
        (TRAIN, lambda t: t.drop_columns(["signals"]), "its columns are"),
        (TRAIN, lambda t: t.select([*t.column_names[:3], "states", "dna", "signals"]), "its columns are"),
        (TRAIN, shift_starts, "do not start at multiples of 100"),
        (TRAIN, other_share, "n_fraction is not the share of N in dna"),
        (TRAIN, other_contig, "windows of a contig that the manifest lacks"),
        (TRAIN, twice, "1 windows are there twice"),
        (TRAIN, lambda t: t.slice(1), "are kept and"),
        (TRAIN, lambda t: replaced(t, "chrom", pa.array(["chr3"] * len(t))), "are not of the split train"),
        (TRAIN, lambda t: replaced(t, "chrom", pa.array(["tiny"] * len(t))), "windows of tiny lie outside of it"),
        (
            TRAIN,
            lambda t: replaced(t, "dna", as_fixed_bytes(fixed_bytes(t.column("dna"))[::-1] % 4)),
            "row 0: dna is not what the contigs view has at its place",
        ),
        (CHUNKS, lambda t: t.slice(1), "contigs: the chunks of chr1 do not cover it in order"),
        (CHUNKS, lambda t: t.append_column("extra", pa.array(range(len(t)))), "its columns are"),
        (CHUNKS, lambda t: replaced(t, "states", t.column("dna")), "states does not hold 20 bins"),
        (
            CHUNKS,
            lambda t: replaced(t, "dna", pa.array([b"\x07" * 1000] * len(t), pa.binary())),
            "chunk chr1:0: dna holds 7",
        ),
        (CHUNKS, lambda t: replaced(t, "dna", pa.array([b"\0" * 999] * len(t))), "999 bases are not what the contig has"),
    ],
)  # fmt: skip
def test_what_a_file_holds_is_checked(corpus_copy, path, change, message) -> None:
    copy = corpus_copy()
    rewrite(copy, path, change)
    found = faults(copy)
    assert message in found


def test_row_counts_are_those_of_the_manifest(corpus_copy) -> None:
    copy = corpus_copy()
    rewrite(copy, TRAIN, lambda table: table, rows=63)
    assert f"{TRAIN}: has 64 rows, the manifest says 63" in faults(copy)

    def regroup(manifest: dict[str, Any]) -> None:
        entry = next(entry for entry in manifest["files"] if entry["path"] == TRAIN)
        entry.update(rows=64, row_group_rows=[32, 32])

    change_manifest(copy, regroup)
    assert "its row groups are not those of the manifest" in faults(copy)


def test_the_limit_of_n_holds_for_what_is_stored(corpus_copy) -> None:
    copy = corpus_copy()

    def many_n(table: pa.Table) -> pa.Table:
        dna = fixed_bytes(table.column("dna")).copy()
        dna[:, :30] = 4
        share = pa.array((dna == 4).mean(axis=1).astype(np.float32))
        return replaced(replaced(table, "dna", as_fixed_bytes(dna)), "n_fraction", share)

    rewrite(copy, TRAIN, many_n)
    assert "n_fraction 0.300 is above the limit 0.2" in faults(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(held_out_cell_types=["zebra"]), "held-out cell types ['zebra'] are not among"),
        (lambda m: m.update(files=m["files"] + m["files"][:1]), "manifest: lists a file twice"),
        (lambda m: m["windows_dropped"].update(n_fraction=0), "but the contigs are cut into"),
        (lambda m: m.update(state_names=m["state_names"][:1]), "states holds"),
    ],
)
def test_the_manifest_is_checked(corpus_copy, change, message) -> None:
    copy = corpus_copy()
    change_manifest(copy, change)
    assert message in faults(copy)


def test_what_is_no_corpus(tmp_path: Path, corpus_copy) -> None:
    with pytest.raises(CorpusError, match="does not exist"):
        validate_corpus(str(tmp_path / "none"))
    (tmp_path / "recipe.resolved.yaml").write_text("run:\n  stage: simulate\n")
    for path in (tmp_path, tmp_path / "recipe.resolved.yaml"):
        with pytest.raises(CorpusError, match="it is no corpus; a corpus is a folder"):
            validate_corpus(str(path))
    copy = corpus_copy()
    (copy / "manifest.json").write_text("{")
    with pytest.raises(CorpusError, match=r"manifest\.json is not a corpus manifest"):
        validate_corpus(copy)
