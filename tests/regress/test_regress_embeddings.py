import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from regress_toy import write_embeddings

from epilm.corpus.intervals import INTERVAL_SCHEMA
from epilm.errors import LeakError, RecipeError
from epilm.regress.embeddings import EmbeddingMaker, find_leak, locate, read_index, read_info, refuse_leaks
from epilm.storage import Location


def make_intervals(num, chrom="chr3"):
    start = np.arange(num) * 1000
    columns = [[f"g{i}" for i in range(num)], [chrom] * num, start, start + 600, ["+", "-"] * (num // 2)]
    return pa.table(columns, schema=INTERVAL_SCHEMA)


@pytest.fixture
def folder(tmp_path):
    """10 intervals x 2 cells x 3 values: 100 * interval + 10 * cell + dimension."""
    values = 100 * np.arange(10)[:, None, None] + 10 * np.arange(2)[:, None] + np.arange(3)
    return write_embeddings(tmp_path / "e", make_intervals(10), values, cell_types=("a", "b"), num_parts=3)


def rows_of(ids, cells, intervals=None):
    table = (intervals or make_intervals(10)).to_pandas().set_index("id").loc[list(ids)].reset_index()
    return table.assign(cell_type=list(cells), row=np.arange(len(table)))


def test_vectors_of_rows_in_any_order(folder):
    rng = np.random.default_rng(0)
    which = rng.integers(0, 10, 40)
    cells = rng.integers(0, 2, 40)
    rows = rows_of([f"g{i}" for i in which], np.array(["a", "b"])[cells])
    info = read_info(Location(str(folder)))
    maker = EmbeddingMaker(info, *locate(rows, read_index(info), source="e"))
    assert maker.columns == ["e0", "e1", "e2"]
    some = rows.sample(17, random_state=1)
    expected = (100 * which[:, None] + 10 * cells[:, None] + np.arange(3))[some["row"]]
    np.testing.assert_array_equal(maker.read(some), expected)


def test_embeddings_of_dna_serve_every_cell_type(tmp_path):
    write_embeddings(tmp_path, make_intervals(10), np.arange(10.0)[:, None, None])
    info = read_info(Location(str(tmp_path)))
    rows = rows_of(["g7", "g7", "g2"], ["a", "b", "a"])
    maker = EmbeddingMaker(info, *locate(rows, read_index(info), source="e"))
    assert maker.read(rows).ravel().tolist() == [7, 7, 2]


def test_rows_without_an_embedding_are_marked(folder):
    rows = rows_of(["g1", "g2"], ["a", "kidney"])
    file, place = locate(rows, read_index(read_info(Location(str(folder)))), source="e")
    assert file.tolist()[1] == place.tolist()[1] == -1
    assert file[0] >= 0


def test_embeddings_that_do_not_fit_the_rows(folder):
    index = read_index(read_info(Location(str(folder))))
    with pytest.raises(RecipeError, match=r"no row has an embedding in e\. Rows \(id, cell type\): g1, kidney"):
        locate(rows_of(["g1"], ["kidney"]), index, source="e")
    moved = rows_of(["g1", "g2"], ["a", "a"])
    moved["start"] += 100
    with pytest.raises(
        RecipeError, match=r"2 ids lie elsewhere there, e\.g\. 'g1' is chr3:1100-1600\(-\) here and chr3:1000"
    ):
        locate(moved, index, source="e")


def test_folders_that_hold_no_usable_embeddings(folder, tmp_path):
    with pytest.raises(RecipeError, match=r"no embeddings at .*nothing"):
        read_info(Location(str(tmp_path / "nothing")))
    values = np.zeros((2, 1, 3))
    tokens = write_embeddings(tmp_path / "t", make_intervals(2), values, num_parts=1, pooling="tokens")
    with pytest.raises(RecipeError, match="one vector a token"):
        read_info(Location(str(tokens)))
    info = read_info(Location(str(folder)))
    (folder / info.files[1]).write_bytes(b"PAR1")
    with pytest.raises(RecipeError, match=rf"{info.files[1]} cannot be read"):
        read_index(info)
    (folder / info.files[1]).write_bytes((folder / info.files[0]).read_bytes())
    with pytest.raises(RecipeError, match="occur twice"):
        read_index(info)
    (folder / "embeddings.json").write_text(json.dumps({"pooling": "mean"}))
    with pytest.raises(RecipeError, match="is not what `epilm embed` writes"):
        read_info(Location(str(folder)))


def leak_of(tmp_path, test_rows, **model):
    folder = write_embeddings(
        tmp_path / str(len(list(tmp_path.iterdir()))), make_intervals(2), np.zeros((2, 1, 1)), **model
    )
    return find_leak(read_info(Location(str(folder))), test_rows, contigs=["chr1", "chr2", "chr3"], assembly="toy1")


def test_leaks_are_told_by_contig_region_and_assembly(tmp_path):
    test = pd.DataFrame({"chrom": ["chr3", "chr3"], "start": [0, 5000], "end": [600, 5600]})
    assert leak_of(tmp_path, test) is None
    assert leak_of(tmp_path, test, trained_contigs=["Mito"]) is None
    assert "2 of the 2 test rows" in leak_of(tmp_path, test, trained_contigs=["chr1", "chr3"])
    assert "2 of the 2 test rows" in leak_of(tmp_path, test, trained_contigs=["3"])  # another naming
    assert "the whole of toy1, on which 2 of the 2" in leak_of(tmp_path, test, trained_contigs=["*"])
    regions = [["chr1", 0, 9000], ["chr3", 5599, 9000]]
    trained = {"trained_contigs": ["chr1", "chr3"], "trained_regions": regions}
    assert "1 of the 2 test rows" in leak_of(tmp_path, test, **trained)
    regions[1][1] = 5600  # half-open: the row ends where training begins
    assert leak_of(tmp_path, test, **trained) is None
    # coordinates of another assembly mean nothing here, but its contigs hold the same genes
    assert "2 of the 2 test rows" in leak_of(tmp_path, test, **trained, assembly="toy2")


def test_leaks_are_refused_unless_allowed():
    with pytest.raises(LeakError, match=r"would not be held out: one; two\..*allow_overlap=true"):
        refuse_leaks(["one", "two"], allow_overlap=False)
    refuse_leaks(["one"], allow_overlap=True)
    refuse_leaks([], allow_overlap=False)
