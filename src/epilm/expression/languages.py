"""The language models of a study: one training a model and seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from epilm.errors import EpilmError
from epilm.expression.feature_jobs import TrainedLanguage
from epilm.expression.plan import ExpressionPlan
from epilm.expression.recipe import LanguageModel
from epilm.histone.bpe import WordTokenizer
from epilm.storage import Location
from epilm.tasks.gene_table import GeneTable
from epilm.tasks.histone_lm import HistoneLanguageTask
from epilm.train.many import TrainJob

_LINES_OF = {"cells": ("first", "second"), "difference": ("difference",)}


def language_job(
    plan: ExpressionPlan,
    name: str,
    model: LanguageModel,
    tokenizer: WordTokenizer,
    table: GeneTable,
    folder: Location,
    seed: int,
) -> TrainJob:
    """The training of one language model from one seed."""
    task = HistoneLanguageTask(
        table=table,
        spec=plan.spec(model, tokenizer),
        lines=tuple(line for text in model.texts for line in _LINES_OF[text]),
        splits=model.genes,
        mask_rate=model.mask_rate,
        seed=seed,
        tokenizer_json=tokenizer.to_json(),
    )
    identity = plan.identity(model, tokenizer.to_json(), seed)
    return TrainJob(f"{name}, seed {seed}", task, model.train, folder / name / f"seed-{seed}", identity)


def told(job: TrainJob, result: Mapping[str, Any]) -> str:
    """What a training reached on validation.

    Raises:
        EpilmError: a language model's loss is no number, and features from it would be none.
    """
    best = result["best"]
    if not isinstance(job.task, HistoneLanguageTask):
        r = best.get("pearson")
        return f"{job.name}, validation r {'undefined' if r is None else f'{r:.3f}'} at step {result['best_step']}"
    loss, right = best.get("token_loss"), best.get("token_accuracy")
    if loss is None or right is None:
        raise EpilmError(
            f"the language model {job.name} diverged: its loss on validation lines is no number. Lower its "
            f"train.optimizer.lr ({job.config.optimizer.lr:g}), and begin anew with --overwrite."
        )
    return f"{job.name}, validation loss {loss:.3f} nats a token, {right:.1%} right"


def trained_language(job: TrainJob) -> TrainedLanguage:
    """What a finished job left."""
    assert isinstance(job.task, HistoneLanguageTask)
    return TrainedLanguage(job.task.spec, job.model)
