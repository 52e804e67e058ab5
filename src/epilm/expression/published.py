"""The paper's own protocol: token ids and static embeddings of a line's first 207 tokens, xgboost with its defaults.

The paper (GeneGPT-2, sections 5 and 6) trains the language model on the lines of 400 genes in both cell types
(train and validation), and reports the best of a sweep on the test genes; here nothing is chosen at all. On which genes
its regressor was fitted it does not say: ``published.fit_on`` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from epilm.expression.feature_jobs import FeatureMaker
from epilm.expression.languages import language_job, trained_language
from epilm.expression.plan import ExpressionPlan, RowKey
from epilm.expression.recipe import ALL_INPUTS, ExpressionRecipe, StaticArm, TokensArm
from epilm.expression.rows_on_features import FeatureRow, Fitting, boosted
from epilm.expression.store import Store
from epilm.histone.words import LINES
from epilm.regress.recipe import Boost
from epilm.runs import Run
from epilm.tasks.expression_recipe import Inputs
from epilm.tasks.gene_table import write_gene_table
from epilm.train.many import TrainJob

XGBOOST_DEFAULTS = Boost(
    max_rounds=100,
    early_stopping_rounds=100,
    learning_rate=0.3,
    max_depth=6,
    min_child_weight=1,
    subsample=1,
    colsample_bytree=1,
    max_bin=256,
)
"""Those of ``xgboost.XGBRegressor``."""

REPORTED: dict[tuple[str, Inputs], float] = {
    ("raw_tokens", "raw_c"): 0.403,
    ("raw_tokens", "raw_d"): 0.190,
    ("raw_tokens", "raw"): 0.479,
    ("gpt2_static", "raw_c"): 0.415,
    ("gpt2_static", "raw_d"): 0.382,
    ("gpt2_static", "raw"): 0.528,
    ("gpt2_best_of_sweep", "raw_c"): 0.553,
    ("gpt2_best_of_sweep", "raw_d"): 0.566,
    ("gpt2_best_of_sweep", "raw"): 0.528,
    ("roberta_best_of_sweep", "raw_c"): 0.38,
    ("roberta_best_of_sweep", "raw_d"): 0.31,
    ("roberta_best_of_sweep", "raw"): 0.30,
    ("deepdiff_10000_genes", "raw_c"): 0.68,
    ("deepdiff_10000_genes", "raw_d"): 0.65,
    ("deepdiff_10000_genes", "raw"): 0.67,
}
"""Pearson r of the paper's tables (sections 6.1 and 6.5)."""

PUBLISHED_ARMS = {"raw_tokens": TokensArm(kind="tokens"), "gpt2_static": StaticArm(kind="static")}


def published_keys() -> list[RowKey]:
    """Rows of the second table."""
    return [RowKey(arm, inputs) for arm in PUBLISHED_ARMS for inputs in ALL_INPUTS]


def published_seeds(recipe: ExpressionRecipe, key: RowKey) -> tuple[int, ...]:
    """Seeds of a row: one where nothing is random, as in xgboost with its defaults on token ids."""
    return recipe.seeds[:1] if key.arm == "raw_tokens" else recipe.seeds


class Published:
    """The second table on its way through the run folder."""

    def __init__(self, plan: ExpressionPlan, run: Run) -> None:
        assert plan.recipe.published is not None
        self._plan, self._protocol, self._folder = plan, plan.recipe.published, (run.folder / "published").mkdir()
        tokenizer, folder = plan.published_tokenizer, self._folder
        (folder / "tokenizer.json").write_text(tokenizer.to_json())
        self._table = write_gene_table(folder / "genes.parquet", plan.pairs, plan.published_lines)
        self.store = Store(folder / "parts", self._table.genes)
        spoken = {name: tokenizer.encode(plan.text[name], plan.pairs.num_bins) for name in LINES}
        whole_lines = write_gene_table(folder / "language.parquet", plan.pairs, spoken)
        self._languages: dict[int, TrainJob] = {}
        for seed in plan.recipe.seeds:
            job = language_job(plan, "gpt2", self._protocol.model, tokenizer, whole_lines, folder / "models", seed)
            self._languages[seed] = replace(job, name=f"published protocol's {job.name}")

    @property
    def _missing(self) -> list[tuple[RowKey, int]]:
        recipe = self._plan.recipe
        every = [(key, seed) for key in published_keys() for seed in published_seeds(recipe, key)]
        return [(key, seed) for key, seed in every if not self.store.has(key, seed)]

    @property
    def trainings(self) -> list[TrainJob]:
        """Language models that have to be trained before :meth:`fit`."""
        return list(self._languages.values()) if self._missing else []

    def fit(self, progress: Callable[[str], None]) -> Store:
        """Fit and predict under an open Ray session; return the predictions."""
        folder, fit_on = self._folder, self._protocol.fit_on
        # trees stop on the rows that they grow on: never, before the last round
        fitting = Fitting(XGBOOST_DEFAULTS, fit_on=fit_on, stop_on=fit_on)
        for arm in PUBLISHED_ARMS:
            rows = [self._row(key, seed) for key, seed in self._missing if key.arm == arm]
            if rows:
                places = {"features": folder / "features", "boosters": folder / "boosters"}
                for outcome in boosted(rows, self._table, fitting, **places):
                    self.store.put(outcome)
                progress(f"published protocol: {arm} fitted")
            (folder / "features").delete()
        return self.store

    def _row(self, key: RowKey, seed: int) -> FeatureRow:
        language = trained_language(self._languages[seed]) if key.arm == "gpt2_static" else None
        maker = FeatureMaker(PUBLISHED_ARMS[key.arm], self._plan.pairs.marks, language)
        shared = f"{key.arm}-{key.inputs}" + (f"-{seed}" if language else "")
        return FeatureRow(key, seed, maker, shared)


def reported_rows() -> list[dict[str, Any]]:
    """The paper's figures, for the table."""
    return [{"arm": arm, "inputs": inputs, "r": r} for (arm, inputs), r in REPORTED.items()]
