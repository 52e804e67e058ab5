"""Regressors on features that learn from genes in both orders of the cell types, against the same written out by hand."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from epilm.expression.both_orders import combine, orders_of
from epilm.expression.feature_jobs import FeatureMaker
from epilm.expression.occlude import FittedRow
from epilm.expression.plan import RowKey
from epilm.expression.recipe import LevelsArm, TokensArm
from epilm.expression.rows_on_features import FeatureRow, _fit_classic, _write
from epilm.regress.classic import RidgeConfig
from epilm.regress.matrix import read_matrix
from epilm.storage import Location
from toy_genes import BINS, MARKS, toy_table

NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return toy_table(Location(str(tmp_path_factory.mktemp("genes"))))[0]


def by_hand(genes, inputs) -> np.ndarray:
    first, second = (values.reshape(len(values), BINS * MARKS) for values in (genes.first, genes.second))
    return {
        "raw_c": np.hstack([first, second]),
        "raw_d": first - second,
        "raw": np.hstack([first, second, first - second]),
    }[inputs]


def test_half_a_difference():
    given, exchanged = np.array([3.0, -1.0, np.nan]), np.array([1.0, 1.0, np.nan])
    np.testing.assert_array_equal(combine([given, exchanged]), [1.0, -1.0, np.nan])
    assert combine([given]) is given


def test_one_order_is_the_genes_themselves(table):
    assert orders_of(table.genes, antisymmetric=False) == (table.genes,)
    assert len(orders_of(table.genes, antisymmetric=True)) == 2


@pytest.mark.parametrize("inputs", ["raw_d", "raw_c", "raw"])
@pytest.mark.parametrize("antisymmetric", [False, True])
def test_written_rows_are_those_of_each_order(table, inputs, antisymmetric, tmp_path):
    genes = table.genes
    maker = FeatureMaker(LevelsArm(kind="levels", antisymmetric=antisymmetric), NAMES)
    written = _write(maker, RowKey("levels", inputs), table, Location(str(tmp_path)), 2)
    expected = [(genes.first, genes.second, 1), (genes.second, genes.first, -1)][: 1 + antisymmetric]
    for split, files in written.files.items():
        matrix, rows = read_matrix(files), genes.rows(split)
        assert len(matrix.values) == len(expected) * len(rows)
        for number, (first, second, sign) in enumerate(expected):
            part = slice(number * len(rows), (number + 1) * len(rows))
            flat = [values[rows].reshape(len(rows), -1) for values in (first, second)]
            both = {"raw_c": flat, "raw_d": [flat[0] - flat[1]], "raw": [*flat, flat[0] - flat[1]]}[inputs]
            np.testing.assert_array_equal(matrix.values[part], np.hstack(both))
            np.testing.assert_allclose(matrix.target[part], sign * genes.target[rows], rtol=1e-6)
            np.testing.assert_array_equal(matrix.row[part], rows + number * len(genes.genes))
            np.testing.assert_array_equal(matrix.genes[part], genes.genes[rows])


def test_token_ids_have_the_same_columns_in_both_orders(table, tmp_path):
    maker = FeatureMaker(TokensArm(kind="tokens", antisymmetric=True), NAMES)
    written = _write(maker, RowKey("tokens", "raw"), table, Location(str(tmp_path)), 1)
    values = read_matrix(written.files["train"]).values
    ids = [table.genes.lines[name].ids[0] for name in ("second", "first", "reversed")]
    lengths = [table.genes.lines[name].lengths[0] for name in ("second", "first", "reversed")]
    expected = np.concatenate(
        [np.where(np.arange(len(i)) < length, i, -1) for i, length in zip(ids, lengths, strict=True)]
    )
    np.testing.assert_array_equal(values[10], expected)  # the first of ten training genes, in the second order


@pytest.mark.parametrize("inputs", ["raw_d", "raw_c", "raw"])
def test_an_antisymmetric_ridge_is_scikit_learns_on_twice_the_rows(table, inputs, tmp_path):
    genes, folder = table.genes, Location(str(tmp_path))
    maker, key = (
        FeatureMaker(LevelsArm(kind="levels", regressor="ridge", antisymmetric=True), NAMES),
        RowKey("ridge", inputs),
    )
    outcome = _fit_classic(FeatureRow(key, 0, maker, "x"), table, RidgeConfig(alpha=(3.0,)), folder)
    orders = [by_hand(genes, inputs), by_hand(genes.exchanged(), inputs)]
    train, asked = genes.rows("train"), np.flatnonzero(genes.split != "train")
    scaler = StandardScaler().fit(np.vstack([order[train] for order in orders]))
    target = np.concatenate([genes.target[train], -genes.target[train]])
    ridge = Ridge(alpha=3.0).fit(scaler.transform(np.vstack([order[train] for order in orders])), target)
    given, exchanged = (ridge.predict(scaler.transform(order)) for order in orders)
    np.testing.assert_allclose(outcome.prediction[asked], ((given - exchanged) / 2)[asked], atol=1e-4)
    assert np.isnan(outcome.prediction[train]).all()
    again = FittedRow(key, 0, maker, pickled=folder / "ridge" / inputs / "seed-0.pkl").predict(genes)
    np.testing.assert_allclose(again[asked], outcome.prediction[asked], atol=1e-6)
    other = FittedRow(key, 0, maker, pickled=folder / "ridge" / inputs / "seed-0.pkl").predict(genes.exchanged())
    np.testing.assert_allclose(other, -again, atol=1e-6)
