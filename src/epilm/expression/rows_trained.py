"""Rows of the table that the training loop makes: a head on a language model, and DeepDiff."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import ray
from ray.exceptions import RayError

from epilm.errors import user_error
from epilm.expression.plan import ExpressionPlan, RowKey
from epilm.expression.recipe import DeepDiffArm, EndToEndArm
from epilm.expression.store import Outcome
from epilm.storage import Location
from epilm.tasks.expression_model import DeepDiffModel, EndToEndModel, ExpressionModel
from epilm.tasks.expression_regression import ExpressionTask, predict_genes
from epilm.tasks.gene_table import GeneTable
from epilm.train.many import TrainJob, train_all


@dataclass(frozen=True)
class TrainedRow:
    """A row from one seed, and its training."""

    key: RowKey
    seed: int
    job: TrainJob

    @property
    def model(self) -> ExpressionModel:
        assert isinstance(self.job.task, ExpressionTask)
        return self.job.task.model


def trained_row(
    plan: ExpressionPlan,
    key: RowKey,
    seed: int,
    table: GeneTable,
    languages: Mapping[tuple[str, int], TrainJob],
    folder: Location,
) -> TrainedRow:
    """The training of an arm's row from one seed.

    Args:
        languages: (model, seed) -> its finished training.
    """
    arm = plan.recipe.arms[key.arm]
    model: ExpressionModel
    if isinstance(arm, DeepDiffArm):
        model = DeepDiffModel(arm.shape, key.inputs, len(plan.pairs.marks), arm.antisymmetric)
        begins = ""
    else:
        assert isinstance(arm, EndToEndArm)
        language = languages[arm.model, seed] if arm.pretrained else None
        model = EndToEndModel(
            spec=plan.spec(plan.recipe.models[arm.model], plan.tokenizer),
            head=arm.head,
            inputs=key.inputs,
            num_bins=plan.pairs.num_bins,
            pretrained=language.model if language else None,
            antisymmetric=arm.antisymmetric,
        )
        begins = f"{model.spec}{plan.tokenizer.to_json()}{language.identity if language else ''}"
    task = ExpressionTask(table, model, seed, arm.patience)
    identity = plan.identity(arm, key.inputs, seed, begins)
    name = f"{key.arm} {key.inputs}, seed {seed}"
    return TrainedRow(
        key, seed, TrainJob(name, task, arm.train, folder / key.arm / key.inputs / f"seed-{seed}", identity)
    )


def train_rows(rows: Sequence[TrainedRow], table: GeneTable, *, max_concurrent: int) -> Iterator[Outcome]:
    """Train the rows, side by side as far as asked, and predict all genes with each; needs a connected Ray.

    Raises:
        EpilmError: as :func:`epilm.train.many.train_all`.
    """
    of_job = {row.job.name: row for row in rows}
    predict = ray.remote(_predict).options(num_cpus=0)  # all CPUs may be with trainings, which wait for nothing
    for job, result in train_all([row.job for row in rows], max_concurrent=max_concurrent):
        row = of_job[job.name]
        try:
            values = ray.get(predict.remote(row.model, job.model, table))
        except RayError as error:
            raise user_error(error) or error from error
        chosen = {"step": result["best_step"], "last_step": result["last_step"], "seconds": result["seconds"]}
        yield Outcome(row.key, row.seed, values, chosen, None)


def _predict(model: ExpressionModel, folder: Location, table: GeneTable) -> np.ndarray:
    return predict_genes(model, folder, table.genes)
