"""A source reads exactly the rows that the order names, and names the file that it cannot read."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.corpus.source import WindowSource, as_fixed_bytes, check_shards, fixed_bytes
from epilm.errors import CorpusError
from epilm.storage import Location

pytestmark = pytest.mark.ray


def whole_split(corpus: Location, manifest: CorpusManifest, split: str) -> pa.Table:
    """All windows of a split, by plain pyarrow, in the manifest's order: row i is locus i."""
    return pa.concat_tables(pq.read_table(f"{corpus.path}/{f.path}") for f in manifest.select("windows", split))


def test_rows_are_those_of_the_files(toy_corpus) -> None:
    corpus, manifest = toy_corpus.location, toy_corpus.manifest
    cells = (0, 2)
    source = WindowSource(corpus, manifest, "train", cells, seed=9)
    plain = whole_split(corpus, manifest, "train").to_pydict()
    assert source.samples_per_pass == len(plain["start"]) > 100
    positions = np.random.default_rng(0).permutation(2 * source.samples_per_pass)
    found = source.read(positions)
    assert found.column("position").to_pylist() == positions.tolist()
    located = source.order.locate(positions)
    for i, row in enumerate(found.to_pylist()):
        locus = located.locus[i]
        states = np.frombuffer(plain["states"][locus], np.uint8).reshape(3, manifest.bins_per_window)
        assert row["locus"] == locus
        assert row["cell"] == cells[located.cell[i]]
        assert row["dna"] == plain["dna"][locus]
        assert row["states"] == states[row["cell"]].tobytes()
        assert row["phase"] == plain["start"][locus] % manifest.bin_bp
    pairs = set(zip(found.column("locus").to_pylist(), found.column("cell").to_pylist(), strict=True))
    assert len(pairs) == 2 * source.samples_per_pass


def test_source_of_dna_alone_reads_no_states(toy_corpus) -> None:
    source = WindowSource(toy_corpus.location, toy_corpus.manifest, "held_out", (), seed=1)
    found = source.read(np.arange(source.samples_per_pass))
    assert found.column_names == ["position", "locus", "cell", "phase", "dna"]
    plain = whole_split(toy_corpus.location, toy_corpus.manifest, "held_out").column("dna").to_pylist()
    assert found.column("dna").to_pylist() == [plain[i] for i in found.column("locus").to_pylist()]
    assert set(found.column("cell").to_pylist()) == {-1}


def test_row_bytes_are_those_of_the_rows(toy_corpus) -> None:
    """They decide how many rows a read task takes."""
    for cells in [(), (0, 1)]:
        source = WindowSource(toy_corpus.location, toy_corpus.manifest, "train", cells, seed=1)
        assert source.read(np.arange(50)).nbytes / 50 == source.row_bytes


def test_a_used_source_travels(toy_corpus) -> None:
    source = WindowSource(toy_corpus.location, toy_corpus.manifest, "train", (1,), seed=4)
    before = source.read(np.arange(7))
    assert pickle.loads(pickle.dumps(source)).read(np.arange(7)).equals(before)


def damage_page(path: Path, column: str) -> None:
    """Flip a bit in the middle of the first row group's page of a column: size and footer stay whole."""
    metadata = pq.ParquetFile(path).metadata.row_group(0)
    chunk = next(c for i in range(metadata.num_columns) if (c := metadata.column(i)).path_in_schema == column)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size * 3 // 4] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("damage", ["dna", "states", "start", "truncated", "missing"])
def test_damaged_shard_is_named(toy_corpus, corpus_copy, damage: str) -> None:
    corpus = corpus_copy()
    manifest = read_manifest(corpus)
    file = manifest.select("windows", "train")[1]
    path = Path(corpus.path) / file.path
    intact = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(intact[: len(intact) // 2])
    elif damage == "missing":
        path.unlink()
    else:
        damage_page(path, damage)
    source = WindowSource(corpus, manifest, "train", (0,), seed=9)
    with pytest.raises(CorpusError, match=f"corrupted shard .*{file.path}.*epilm validate"):
        source.read(np.arange(source.samples_per_pass))
    if damage in ("truncated", "missing"):
        with pytest.raises(CorpusError, match=f"{file.path} (is missing|has .* bytes, the manifest says)"):
            check_shards(corpus, manifest)
    else:
        check_shards(corpus, manifest)  # sees sizes alone
    path.write_bytes(intact)
    assert source.read(np.arange(source.samples_per_pass)).num_rows == source.samples_per_pass, (
        "goes on once the shard is mended"
    )


def test_shard_with_other_rows_than_the_manifest_says(corpus_copy) -> None:
    corpus = corpus_copy()
    manifest = read_manifest(corpus)
    path = Path(corpus.path) / manifest.select("windows", "train")[0].path
    pq.write_table(pq.read_table(path).slice(1), path, row_group_size=16, write_page_checksum=True)
    source = WindowSource(corpus, manifest, "train", (0,), seed=9)
    with pytest.raises(CorpusError, match=r"row group \d has 15 rows, the manifest says 16"):
        source.read(np.arange(source.samples_per_pass))


def test_fixed_bytes_of_slices_chunks_and_back() -> None:
    values = np.arange(60, dtype=np.uint8).reshape(12, 5)
    array = as_fixed_bytes(values)
    assert array.to_pylist() == [row.tobytes() for row in values]
    assert np.array_equal(fixed_bytes(array.slice(3, 4)), values[3:7])
    assert np.array_equal(
        fixed_bytes(pa.chunked_array([array.slice(2, 3), array.slice(9)])), values[[2, 3, 4, 9, 10, 11]]
    )
    assert fixed_bytes(array.slice(0, 0)).shape == (0, 5)
