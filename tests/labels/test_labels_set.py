"""Labels of several cell types and factors: codes, counts, and which code wins."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from epilm.errors import CorpusError
from epilm.labels.codes import AMBIGUOUS, BOUND, EXCLUDED, UNBOUND, UNMEASURED
from epilm.labels.grid import BinGrid
from epilm.labels.label_set import LabelSet
from epilm.labels.runs import Runs

U, A, B, N, X = UNBOUND, AMBIGUOUS, BOUND, UNMEASURED, EXCLUDED


def runs(*bins: int) -> Runs:
    return Runs.of(np.array(bins), np.array(bins) + 1)


@pytest.fixture
def labels() -> LabelSet:
    grid = BinGrid.of_spans([("a", 0, 300), ("b", 0, 350)], 200, 50)  # 3 and 4 bins
    return LabelSet.build(
        grid,
        ["k562", "hepg2"],
        ["CTCF", "MYC"],
        bound={("k562", "CTCF"): runs(1, 2, 6), ("k562", "MYC"): runs(0), ("hepg2", "CTCF"): runs(3, 4)},
        ambiguous={("k562", "CTCF"): runs(0, 1, 2, 3), ("hepg2", "CTCF"): runs(5)},
        excluded=runs(2, 5),
        unlabelled={("hepg2", "CTCF"): runs(4, 5, 6), ("hepg2", "MYC"): runs(0)},
    )


def test_codes_of_every_bin(labels):
    assert labels.codes(np.arange(7), np.zeros(7, np.int64)).T.tolist() == [
        [A, B, X, A, U, X, B],
        [B, U, X, U, U, X, U],
    ]
    assert labels.codes(np.arange(7), np.ones(7, np.int64)).T.tolist() == [
        [U, U, X, B, N, X, N],
        [N, N, X, N, N, X, N],
    ]
    mixed = labels.codes(np.array([6, 3, 0, 3]), np.array([0, 1, 0, 0]))
    assert mixed.dtype == np.uint8
    assert mixed.tolist() == [[B, U], [B, N], [A, B], [A, U]]


def test_dense_is_the_same_by_contig(labels):
    for cell, name in enumerate(labels.cell_types):
        for column, target in enumerate(labels.targets):
            dense = np.concatenate([labels.dense(contig, name, target) for contig in ("a", "b")])
            assert dense.tolist() == labels.codes(np.arange(7), np.full(7, cell))[:, column].tolist()


def test_runs_are_disjoint_and_counted(labels):
    table = labels.counts().set_index(["cell_type", "target"])
    assert table.index.tolist() == [("k562", "CTCF"), ("k562", "MYC"), ("hepg2", "CTCF")]
    assert table.loc[("k562", "CTCF")].to_dict() == {
        "bound": 2, "ambiguous": 2, "unbound": 1, "unlabelled": 0, "excluded": 2,
    }  # fmt: skip
    assert table.loc[("hepg2", "CTCF")].tolist() == [1, 0, 2, 2, 2]
    assert labels.counts(labels.grid.select(["b"]))["bound"].tolist() == [1, 0, 1]
    assert labels.unbound("k562", "CTCF").indices().tolist() == [4]
    assert labels.unbound("hepg2", "CTCF").indices().tolist() == [0, 1]
    assert labels.labelled("hepg2", "CTCF").indices().tolist() == [0, 1, 3]
    assert labels.labelled("hepg2", "MYC").size == 0
    assert not labels.measured("hepg2", "MYC")


def test_some_of_the_labels(labels):
    part = labels.restrict(targets=["MYC", "CTCF"], cell_types=["hepg2"])
    assert (part.cell_types, part.targets) == (("hepg2",), ("MYC", "CTCF"))
    assert part.codes(np.arange(7), np.zeros(7, np.int64)).T.tolist() == [[N, N, X, N, N, X, N], [U, U, X, B, N, X, N]]
    assert labels.restrict().fingerprint() == labels.fingerprint()
    for cells, targets, message in [(["e003"], None, "cell type 'e003'.*k562, hepg2"), (None, ["MAX"], "target 'MAX'")]:
        with pytest.raises(CorpusError, match=message):
            labels.restrict(cells, targets)


def test_the_fingerprint_sees_every_part(labels):
    prints = {labels.fingerprint(), labels.restrict(targets=["CTCF"]).fingerprint()}
    for name in ("bound", "ambiguous", "unlabelled"):
        changed = pickle.loads(pickle.dumps(labels))
        getattr(changed, name)[("hepg2", "CTCF")] = runs(0)
        prints.add(changed.fingerprint())
    assert len(prints) == 5
    assert pickle.loads(pickle.dumps(labels)).fingerprint() == labels.fingerprint()
