import numpy as np
import pyarrow.parquet as pq
import pytest

from epilm.errors import RecipeError
from epilm.regress.columns import GENE, ROW, TARGET
from epilm.regress.matrix import feature_names, read_features, read_matrix, write_matrix
from epilm.storage import Location

ROWS = {
    "values": np.array([[1, 2], [3, np.nan], [5, 6], [7, 8], [9, 10]], np.float32),
    "names": ["b[1]", "a"],
    "genes": np.array(["g3", "1", "g2", "g0", "g4"]),
    "row": np.array([3, 1, 2, 2**40, 0]),
    "target": np.array([0.5, -1, 2, 3, 4]),
}


@pytest.fixture
def folder(tmp_path):
    return Location(str(tmp_path / "x" / "train"))


@pytest.mark.parametrize("num_files", [1, 2, 5])
def test_what_is_written_is_read(folder, num_files):
    files = write_matrix(folder, **ROWS, num_files=num_files)
    assert [file.name for file in files] == folder.children() == [f"part-{i:05d}.parquet" for i in range(num_files)]
    sizes = [pq.read_metadata(file.path).num_rows for file in files]
    assert sum(sizes) == 5
    assert max(sizes) - min(sizes) <= 1
    matrix = read_matrix(files)
    assert matrix.names == ("b(1)", "a")
    for name in ("values", "genes", "row", "target"):
        np.testing.assert_array_equal(getattr(matrix, name), ROWS[name])
    assert matrix.values.dtype == np.float32
    backwards = read_matrix(files[::-1])
    assert sorted(backwards.genes) == sorted(ROWS["genes"])
    of_gene = dict(zip(ROWS["genes"], ROWS["row"], strict=True))
    assert backwards.row.tolist() == [of_gene[gene] for gene in backwards.genes]


def test_a_file_by_hand(folder):
    (file,) = write_matrix(folder, **ROWS, num_files=1)
    table = pq.read_table(file.path)
    assert table.column_names == [ROW, GENE, TARGET, "b(1)", "a"]
    assert [str(kind) for kind in table.schema.types] == ["int64", "string", "float", "float", "float"]
    assert table.column(GENE).to_pylist() == ["g3", "1", "g2", "g0", "g4"]
    assert table.column("b(1)").to_pylist() == [1, 3, 5, 7, 9]
    assert feature_names(file) == ("b(1)", "a")
    np.testing.assert_array_equal(read_features(file, ["a"]).ravel(), [2, np.nan, 6, 8, 10])


@pytest.mark.parametrize("num_files", [0, 6])
def test_files_without_rows_are_refused(folder, num_files):
    with pytest.raises(RecipeError, match=rf"5 rows cannot fill {num_files} file.*boost\.num_actors between 1 and 5"):
        write_matrix(folder, **ROWS, num_files=num_files)
    assert not folder.exists()


def test_writing_again_replaces_the_files(folder):
    write_matrix(folder, **ROWS, num_files=2)
    files = write_matrix(folder, **{**ROWS, "target": ROWS["target"] + 1}, num_files=2)
    np.testing.assert_array_equal(read_matrix(files).target, ROWS["target"] + 1)
    assert len(folder.children()) == 2
