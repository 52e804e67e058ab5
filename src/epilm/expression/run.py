"""``epilm expression``: from files to the table of models x inputs.

Words -> language models -> features and networks -> predictions -> one test. Every training and every arm that is done is
kept in the run folder (``models``, ``networks``, ``parts``), so that ``--resume`` goes on from there, and a training from
its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from epilm.expression.feature_jobs import FeatureMaker
from epilm.expression.languages import language_job, told, trained_language
from epilm.expression.occlude import FittedRow, Reader, importances
from epilm.expression.plan import ExpressionPlan, RowKey, check_expression
from epilm.expression.published import (
    PUBLISHED_ARMS,
    Published,
    published_keys,
    published_seeds,
    reported_rows,
)
from epilm.expression.recipe import (
    ContextualArm,
    DeepDiffArm,
    EndToEndArm,
    ExpressionRecipe,
    LevelsArm,
    StaticArm,
    TokensArm,
)
from epilm.expression.rows_on_features import FeatureRow, Fitting, boosted, classic
from epilm.expression.rows_trained import TrainedRow, train_rows, trained_row
from epilm.expression.scores import choose_best, margin, seed_scores, seed_summary
from epilm.expression.store import PREDICTIONS_FILE, Outcome, Store
from epilm.expression.table import format_expression
from epilm.histone.config import SPLITS
from epilm.runs import OnExisting, Run, open_run
from epilm.session import ray_session
from epilm.tasks.gene_table import GeneTable, write_gene_table
from epilm.train.many import TrainJob, train_all

STAGE = "expression"

Progress = Callable[[str], None]


def run_expression(
    recipe: ExpressionRecipe, *, on_existing: OnExisting = "refuse", progress: Progress = lambda message: None
) -> dict[str, Any]:
    """Run ``epilm expression``; return the content of ``result.json``.

    The run folder also gets ``predictions.parquet`` (by gene id), ``words.json`` and ``tokenizer.json``, the language models
    (``models/<name>/seed-<n>/model``, as transformers reads them) and the boosters.

    Raises:
        EpilmError: bad input, before anything starts; or a training failed: what is done is kept.
    """
    plan = check_expression(recipe)
    run = open_run(recipe, stage=STAGE, on_existing=on_existing, data={"genes": plan.data_fingerprint})
    if run.resumed and run.result.exists():
        progress(f"{run.folder} is finished")
        return run.result.read_json()
    progress(f"run folder {run.folder}" + (" (resumed)" if run.resumed else ""))
    for note in plan.notes:
        progress(note)
    study = Study(plan, run, progress)
    published = Published(plan, run) if recipe.published else None
    with ray_session(recipe.ray):
        study.train(published.trainings if published else ())
        study.fit_rows()
        result = study.result(published.fit(study.tell) if published else None)
        result["importance"] = study.importance(result["best"])
    table = format_expression(result)
    for line in table.splitlines():
        progress(line)
    return run.finish({**result, "table": table})


@dataclass
class Study:
    """A plan on its way through a run folder."""

    plan: ExpressionPlan
    run: Run
    progress: Progress
    table: GeneTable = field(init=False)
    store: Store = field(init=False)
    languages: dict[tuple[str, int], TrainJob] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        plan, folder = self.plan, self.run.folder
        self.table = write_gene_table(folder / "genes.parquet", plan.pairs, plan.lines)
        (folder / "tokenizer.json").write_text(plan.tokenizer.to_json())
        cuts = {"cells": plan.cuts.cells.tolist(), "difference": plan.cuts.difference.tolist()}
        (folder / "words.json").write_json({"marks": list(plan.pairs.marks), "cuts": cuts})
        self.store = Store(folder / "parts", self.table.genes)

    # -- trainings ----------------------------------------------------------------------------------------------------

    def train(self, more: Sequence[TrainJob] = ()) -> None:
        """All trainings that wait for no other one, so that they share workers: the language models that an arm reads, from
        every seed, networks that begin with random weights, and ``more``."""
        plan, recipe = self.plan, self.plan.recipe
        for name in plan.used_models:
            for seed in recipe.seeds:
                self.languages[name, seed] = language_job(
                    plan, name, recipe.models[name], plan.tokenizer, self.table, self.run.folder / "models", seed
                )
        networks = [
            self._trained_row(key, seed).job
            for name in recipe.arms
            if self._begins_alone(name)
            for key, seed in self._missing(name)
        ]
        jobs = [*self.languages.values(), *more, *networks]
        for number, (job, result) in enumerate(train_all(jobs, max_concurrent=recipe.max_concurrent), 1):
            self.tell(f"training {number} of {len(jobs)}: {told(job, result)}")

    def _begins_alone(self, name: str) -> bool:
        arm = self.plan.recipe.arms[name]
        return isinstance(arm, DeepDiffArm) or (isinstance(arm, EndToEndArm) and not arm.pretrained)

    def _missing(self, name: str) -> list[tuple[RowKey, int]]:
        """Rows of an arm that no attempt has predicted yet, with their seeds."""
        every = [(key, seed) for key in self.plan.keys if key.arm == name for seed in self.plan.seeds_of(name)]
        return [(key, seed) for key, seed in every if not self.store.has(key, seed)]

    # -- rows ---------------------------------------------------------------------------------------------------------

    def fit_rows(self) -> None:
        """Every row of the table from every seed; what an earlier attempt predicted is kept."""
        for name in self.plan.recipe.arms:
            missing = self._missing(name)
            if missing:
                self._keep(self._outcomes(name, missing))
        if not self.plan.recipe.keep_features:
            (self.run.folder / "features").delete()  # an attempt that was killed may have left some

    def _outcomes(self, name: str, missing: list[tuple[RowKey, int]]) -> Iterable[Outcome]:
        arm, recipe, folder = self.plan.recipe.arms[name], self.plan.recipe, self.run.folder
        if isinstance(arm, EndToEndArm | DeepDiffArm):
            rows = [self._trained_row(key, seed) for key, seed in missing]
            yield from train_rows(rows, self.table, max_concurrent=recipe.max_concurrent)
            return
        rows = [FeatureRow(key, seed, self._maker(key, seed), self._features_name(key, seed)) for key, seed in missing]
        if arm.regressor != "boost":
            config = recipe.svr if arm.regressor == "svr" else recipe.ridge
            yield from classic(rows, self.table, {name: config}, models=folder / "classic")
            return
        for inputs in arm.inputs:  # a kill costs the fits of one of them
            chosen = [row for row in rows if row.key.inputs == inputs]
            if chosen:
                places = {"features": folder / "features", "boosters": folder / "boosters"}
                yield from boosted(chosen, self.table, Fitting(recipe.boost), **places)
                if not recipe.keep_features:
                    (folder / "features").delete()

    def _keep(self, outcomes: Iterable[Outcome]) -> None:
        by_row: dict[RowKey, list[Outcome]] = {}
        for outcome in outcomes:
            self.store.put(outcome)
            by_row.setdefault(outcome.key, []).append(outcome)
        for key in by_row:
            found = self.validation(key)
            self.tell(f"{key.arm} {key.inputs}: validation r {_shown(found['mean'])}")

    def _maker(self, key: RowKey, seed: int) -> FeatureMaker:
        arm = self.plan.recipe.arms[key.arm]
        assert isinstance(arm, TokensArm | LevelsArm | StaticArm | ContextualArm)
        language = None
        if isinstance(arm, StaticArm | ContextualArm):
            language = trained_language(self.languages[arm.model, seed])
        return FeatureMaker(arm, self.plan.pairs.marks, language)

    def _features_name(self, key: RowKey, seed: int) -> str:
        arm = self.plan.recipe.arms[key.arm]
        own = isinstance(arm, StaticArm | ContextualArm)
        return f"{key.arm}-{key.inputs}" + (f"-seed-{seed}" if own else "")

    def _trained_row(self, key: RowKey, seed: int) -> TrainedRow:
        return trained_row(self.plan, key, seed, self.table, self.languages, self.run.folder / "networks")

    def tell(self, message: str) -> None:
        self.progress(f"[{(time.monotonic() - self.started) / 60:5.1f} min] {message}")

    # -- scores -------------------------------------------------------------------------------------------------------

    def validation(self, key: RowKey) -> dict[str, Any]:
        genes = self.table.genes
        predicted = self.store.matrix(key, self.plan.seeds_of(key.arm), "validation")
        return seed_summary(genes.target[genes.rows("validation")], predicted)

    def result(self, published: Store | None) -> dict[str, Any]:
        """The test, once, when all is chosen."""
        plan, recipe, genes = self.plan, self.plan.recipe, self.table.genes
        truth = genes.target[genes.rows("test")]
        options = {"num": recipe.num_bootstrap, "seed": recipe.seed, "level": recipe.confidence}
        rows = [self._row(key, self.store, plan.seeds_of(key.arm), truth, options) for key in plan.keys]
        self.store.write_predictions(
            self.run.folder / PREDICTIONS_FILE, [(key, plan.seeds_of(key.arm)) for key in plan.keys]
        )
        of_kind = {name: arm.kind for name, arm in recipe.arms.items()}
        best = choose_best([row for row in rows if of_kind[row["arm"]] != "deepdiff"] or rows)
        deepdiff = [row for row in rows if of_kind[row["arm"]] == "deepdiff"]
        ours = [row for row in rows if of_kind[row["arm"]] != "deepdiff"]
        top = [(best, choose_best(deepdiff))] if ours and deepdiff else []
        same = [(a, b) for a in ours for b in deepdiff if a["inputs"] == b["inputs"]]
        pairs = top + [pair for pair in same if pair not in top]
        lengths = plan.lines["first"].lengths
        shown = None
        if published is not None:
            shown = {
                "rows": [
                    self._row(key, published, published_seeds(recipe, key), truth, options) for key in published_keys()
                ],
                "paper": reported_rows(),
                "fit_on": list(recipe.published.fit_on) if recipe.published else [],
            }
            published.write_predictions(
                self.run.folder / "published" / PREDICTIONS_FILE,
                [(key, published_seeds(recipe, key)) for key in published_keys()],
            )
        return {
            "stage": STAGE,
            "name": recipe.name,
            "pair": list(recipe.pair),
            "marks": list(plan.pairs.marks),
            "num_bins": plan.pairs.num_bins,
            "bin_bp": plan.pairs.bin_bp,
            "oriented": plan.pairs.oriented,
            "num_genes": {split: len(genes.rows(split)) for split in SPLITS},
            "left_out": plan.pairs.left_out,
            "vocabulary": {
                "size": plan.tokenizer.vocab_size,
                "tokens_per_line": [int(lengths.min()), round(float(lengths.mean()), 2), int(lengths.max())],
            },
            "rows": rows,
            "best": {"arm": best["arm"], "inputs": best["inputs"]},
            "margins": [self._margin(a, b, truth, options) for a, b in pairs],
            "published": shown,
            "bootstrap": {"num": recipe.num_bootstrap, "level": recipe.confidence},
        }

    def _row(
        self, key: RowKey, store: Store, seeds: tuple[int, ...], truth: Any, options: dict[str, Any]
    ) -> dict[str, Any]:
        genes = self.table.genes
        arm = self.plan.recipe.arms[key.arm] if store is self.store else PUBLISHED_ARMS[key.arm]
        outcomes = [store.get(key, seed) for seed in seeds]
        validation: dict[str, Any] = {"mean": None, "sd": None, "values": []}
        if store is self.store:  # the published protocol fits on them
            validation = seed_summary(genes.target[genes.rows("validation")], store.matrix(key, seeds, "validation"))
        return {
            "arm": key.arm,
            "kind": arm.kind,
            "inputs": key.inputs,
            "regressor": getattr(arm, "regressor", None),
            "antisymmetric": arm.antisymmetric,
            "model": getattr(arm, "model", None),
            "num_features": outcomes[0].num_features,
            "seeds": list(seeds),
            "validation": validation,
            "test": seed_scores(truth, store.matrix(key, seeds, "test"), **options),
            "chosen": [outcome.chosen for outcome in outcomes],
        }

    def _margin(
        self, a: Mapping[str, Any], b: Mapping[str, Any], truth: Any, options: dict[str, Any]
    ) -> dict[str, Any]:
        def matrix(row: Mapping[str, Any]) -> Any:
            return self.store.matrix(RowKey(row["arm"], row["inputs"]), tuple(row["seeds"]), "test")

        return {
            "first": {"arm": a["arm"], "inputs": a["inputs"]},
            "second": {"arm": b["arm"], "inputs": b["inputs"]},
            "pearson": margin(truth, matrix(a), matrix(b), **options),
        }

    # -- what the models saw ------------------------------------------------------------------------------------------

    def importance(self, best: dict[str, Any]) -> list[dict[str, Any]]:
        """Of the rows that the recipe names, or of the best on validation."""
        recipe = self.plan.recipe
        asked = recipe.importance or {best["arm"]: best["inputs"]}
        self.tell("importances: " + ", ".join(f"{arm} {inputs}" for arm, inputs in asked.items()))
        reader = Reader(
            self.plan.cuts,
            self.plan.tokenizer.to_json(),
            {name: line.ids.shape[1] for name, line in self.plan.lines.items()},
        )
        rows = [self._fitted(RowKey(arm, inputs)) for arm, inputs in asked.items()]
        return importances(rows, self.table, reader, marks=self.plan.pairs.marks, segments=recipe.importance_segments)

    def _fitted(self, key: RowKey) -> FittedRow:
        arm, folder, seed = self.plan.recipe.arms[key.arm], self.run.folder, self.plan.seeds_of(key.arm)[0]
        if isinstance(arm, EndToEndArm | DeepDiffArm):
            row = self._trained_row(key, seed)
            return FittedRow(key, seed, model=row.model, trained=row.job.model)
        maker = self._maker(key, seed)
        if arm.regressor == "boost":
            return FittedRow(key, seed, maker, booster=folder / "boosters" / key.arm / key.inputs / f"seed-{seed}.json")
        return FittedRow(key, seed, maker, pickled=folder / "classic" / key.arm / key.inputs / f"seed-{seed}.pkl")


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
