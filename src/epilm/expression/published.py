"""The paper's own protocol: token ids and static embeddings of a line's first 207 tokens, xgboost with its defaults.

The paper (GeneGPT-2, sections 5 and 6) trains the language model on the lines of 400 genes in both cell types
(train and validation), and reports the best of a sweep on the test genes; here nothing is chosen at all. On which genes
its regressor was fitted it does not say: ``published.fit_on`` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from epilm.expression.feature_jobs import FeatureMaker
from epilm.expression.languages import language_job, told, trained_language
from epilm.expression.plan import ExpressionPlan, RowKey
from epilm.expression.recipe import ALL_INPUTS, ExpressionRecipe, StaticArm, TokensArm
from epilm.expression.rows_on_features import FeatureRow, Fitting, boosted
from epilm.expression.store import Store
from epilm.histone.words import LINES
from epilm.regress.recipe import Boost
from epilm.runs import Run
from epilm.tasks.expression_recipe import Inputs
from epilm.tasks.gene_table import write_gene_table
from epilm.train.many import train_all

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


def run_published(plan: ExpressionPlan, run: Run, progress: Callable[[str], None]) -> Store:
    """Train, fit and predict under an open Ray session; return the predictions."""
    protocol = plan.recipe.published
    assert protocol is not None
    folder = run.folder / "published"
    tokenizer = plan.published_tokenizer
    spoken = {name: tokenizer.encode(plan.text[name], plan.pairs.num_bins) for name in LINES}
    language_table = write_gene_table((folder.mkdir()) / "language.parquet", plan.pairs, spoken)
    table = write_gene_table(folder / "genes.parquet", plan.pairs, plan.published_lines)
    (folder / "tokenizer.json").write_text(tokenizer.to_json())
    store = Store(folder / "parts", table.genes)
    missing = [
        (key, seed)
        for key in published_keys()
        for seed in published_seeds(plan.recipe, key)
        if not store.has(key, seed)
    ]
    if not missing:
        return store
    jobs = {
        seed: language_job(plan, "gpt2", protocol.model, tokenizer, language_table, folder / "models", seed)
        for seed in plan.recipe.seeds
    }
    for job, result in train_all(list(jobs.values()), max_concurrent=plan.recipe.max_concurrent):
        progress(f"published protocol: {told(job, result)}")
    for arm in PUBLISHED_ARMS:
        rows = []
        for key, seed in missing:
            if key.arm == arm:
                language = trained_language(jobs[seed]) if arm == "gpt2_static" else None
                maker = FeatureMaker(PUBLISHED_ARMS[arm], plan.pairs.marks, language)
                shared = f"{key.arm}-{key.inputs}" + (f"-{seed}" if language else "")
                rows.append(FeatureRow(key, seed, maker, shared))
        # trees stop on the rows that they grow on: never, before the last round
        fitting = Fitting(XGBOOST_DEFAULTS, fit_on=protocol.fit_on, stop_on=protocol.fit_on)
        for outcome in boosted(rows, table, fitting, features=folder / "features", boosters=folder / "boosters"):
            store.put(outcome)
        (folder / "features").delete()
    return store


def reported_rows() -> list[dict[str, Any]]:
    """The paper's figures, for the table."""
    return [{"arm": arm, "inputs": inputs, "r": r} for (arm, inputs), r in REPORTED.items()]
