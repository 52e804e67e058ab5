import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from epilm.regress.columns import ROW, TARGET
from epilm.regress.write import PART_BYTES, feature_table, plan_parts


@pytest.mark.parametrize("num_actors", [1, 3])
@pytest.mark.parametrize(("columns", "rows_per_part"), [(5, 100), (4096, 100_000)])
def test_parts_cover_every_row_once(num_actors, columns, rows_per_part):
    num_rows = {"train": 9001, "validation": 7, "test": 100}
    parts = plan_parts(num_rows, {"x": columns, "y": 1}, rows_per_part=rows_per_part, num_actors=num_actors)
    for label, width in {"x": columns, "y": 1}.items():
        for split, count in num_rows.items():
            mine = [part for part in parts if part.label == label and part.split == split]
            assert [part.index for part in mine] == list(range(len(mine)))
            edges = [mine[0].first, *[part.last for part in mine]]
            assert edges[0] == 0
            assert edges[-1] == count
            assert all(before.last == after.first for before, after in itertools.pairwise(mine))
            assert all(0 < part.last - part.first <= rows_per_part for part in mine)
            assert all((part.last - part.first) * width * 4 <= PART_BYTES for part in mine)
            assert len(mine) >= (1 if split == "test" else num_actors)


@dataclass(frozen=True)
class Squares:
    columns = ("[a]", "b<c")

    def read(self, rows):
        return np.stack([rows["row"], rows["row"] ** 2], axis=1)


def test_feature_table():
    rows = pd.DataFrame({"row": [4, 7], "target": [0.5, -1.0]})
    table = feature_table(rows, Squares())
    assert table.column_names == [ROW, TARGET, "(a)", "blt c"]  # names that xgboost takes
    assert table.to_pydict() == {ROW: [4, 7], TARGET: [0.5, -1.0], "(a)": [4, 7], "blt c": [16, 49]}
