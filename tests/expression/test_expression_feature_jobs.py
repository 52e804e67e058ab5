"""What a row's features are made from, and how much room they take."""

from __future__ import annotations

import pytest

from epilm.expression import rows_on_features
from epilm.expression.feature_jobs import FeatureMaker, TrainedLanguage
from epilm.expression.plan import RowKey
from epilm.expression.recipe import ALL_INPUTS, ContextualArm, LevelsArm, StaticArm, TokensArm
from epilm.expression.rows_on_features import FeatureRow, tables_at_once
from epilm.models.histone_lm import LanguageModelSpec, build_language_model
from epilm.storage import Location
from toy_genes import toy_table

NAMES = ("a", "b", "c")
ARMS = [
    LevelsArm(kind="levels"),
    LevelsArm(kind="levels", segments=5),
    TokensArm(kind="tokens"),
    StaticArm(kind="static"),
    StaticArm(kind="static", segments=4),
    ContextualArm(kind="contextual"),
    ContextualArm(kind="contextual", segments=3),
    ContextualArm(kind="contextual", pooling="mean"),
    ContextualArm(kind="contextual", pooling="last"),
]


@pytest.fixture(scope="module")
def table_and_language(tmp_path_factory):
    folder = Location(str(tmp_path_factory.mktemp("genes")))
    table, tokenizer = toy_table(folder)
    spec = LanguageModelSpec(
        "gpt2", tokenizer.vocab_size, tokenizer.pad_id, 0, 0, hidden=8, layers=1, heads=2, context=16, dropout=0.0
    )
    return table, TrainedLanguage(spec, folder)


@pytest.mark.parametrize("inputs", ALL_INPUTS)
@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: f"{arm.kind}-{arm.segments}")
def test_the_width_is_known_before_they_are_made(table_and_language, arm, inputs, monkeypatch):
    table, language = table_and_language
    monkeypatch.setattr(TrainedLanguage, "load", lambda self: build_language_model(self.spec).eval())
    maker = FeatureMaker(arm, NAMES, language)
    assert maker.width(table.genes, inputs) == maker.make(table.genes, inputs).values.shape[1]


@pytest.mark.parametrize(("tables_in_memory", "expected"), [(0.5, 1), (4.1, 1), (8.1, 2), (15.9, 3), (100, 4)])
def test_as_many_tables_at_once_as_memory_holds(table_and_language, tables_in_memory, expected, monkeypatch):
    table, _ = table_and_language
    rows = [
        FeatureRow(RowKey("levels", "raw"), 0, FeatureMaker(LevelsArm(kind="levels", antisymmetric=both), NAMES), "x")
        for both in (False, True)
    ]
    largest = 4 * 2 * len(table.genes.genes) * 3 * table.genes.num_bins * len(NAMES)
    monkeypatch.setattr(rows_on_features.ray, "cluster_resources", lambda: {"memory": tables_in_memory * largest})
    assert tables_at_once(rows, table) == expected
