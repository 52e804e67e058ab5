"""What is refused before the first model is trained: every arm, the test, and what pre-training has seen of it."""

from __future__ import annotations

from collections.abc import Sequence

from epilm.baselines.plan import check_baseline
from epilm.config import fingerprint
from epilm.errors import EpilmError, LeakError, RecipeError
from epilm.evaluate.check import check_blocks
from epilm.labels.places import bins_within
from epilm.studies.plan import BindingPlan, TestSet, make_fits
from epilm.studies.recipe import EvalBindingRecipe
from epilm.tasks.binding_names import check_known, check_signals
from epilm.tasks.tf_binding import TfBindingTask
from epilm.train.finetune import check_finetune


def check_eval_binding(recipe: EvalBindingRecipe) -> BindingPlan:
    """Refuse bad input before anything starts; return the plan.

    Raises:
        EpilmError: an arm that could not be fine-tuned, a test without positives, pre-trained weights that have seen it, a
            rival that could not be fitted, or a machine that cannot do it.
    """
    first, data = None, {}
    for fit in make_fits(recipe)[: len(recipe.arms)]:
        try:
            task = check_finetune(fit.recipe)
            _check_seen(task, recipe)
        except EpilmError as error:
            raise type(error)(f"arms.{fit.arm}: {error}") from error
        first = first or task
        data[fit.arm] = task.data_fingerprint()
    assert first is not None
    ends = {contig.name: contig.end_bp for contig in first.manifest.contigs}
    test = _test_set(recipe, first)
    for fit in make_fits(recipe)[: len(recipe.arms)]:
        _check_predictable(TfBindingTask(fit.recipe.task, 0), test.all_cell_types, fit.arm)
    plan = BindingPlan(recipe, test, ends, data)
    for name in recipe.rivals:
        try:
            data[f"rivals.{name}"] = fingerprint(check_baseline(plan.rival(name)).fingerprints)
        except EpilmError as error:
            raise type(error)(f"rivals.{name}: {error}") from error
    return plan


def _check_predictable(task: TfBindingTask, cell_types: Sequence[str], arm: str) -> None:
    """The arm can be predicted in every cell type of the test, held-out ones too.

    Raises:
        RecipeError
    """
    if task.uses_states:
        for name in cell_types:
            check_known(name, task.manifest.cell_types, f"arms.{arm}: the test's cell type", "cell type with states")
    check_signals(task.config.tracks, cell_types, task.manifest, setting=f"arms.{arm}: task.tracks")


def _check_seen(task: TfBindingTask, recipe: EvalBindingRecipe) -> None:
    """The evaluation would refuse it, after hours of training."""
    allowed = {*recipe.allow_overlap.contigs, *recipe.allow_overlap.cell_types}
    validation = {
        name for name, _, _ in task.split.places(recipe.base.task.split.validation_contigs, "validation_contigs")
    }
    tested = {name for name, _, _ in task.split.places(recipe.base.task.split.test_contigs, "test_contigs")}
    seen = [name for name in task.held_out_but_seen() if name not in allowed and name not in validation - tested]
    if seen:
        raise LeakError(
            f"the pre-trained weights have seen {', '.join(seen)}, which the test uses. Test on other contigs or cell types "
            "(base.task.split), or name these in allow_overlap.contigs or allow_overlap.cell_types; the result then says so."
        )


def _test_set(recipe: EvalBindingRecipe, task: TfBindingTask) -> TestSet:
    """The base's test contigs in the cell types asked for.

    Raises:
        RecipeError: a cell type without labels, or not one bound bin.
    """
    split, labels = recipe.base.task.split, task.labels
    held_out = split.held_out_cell_types
    known = (*task.split.train_cell_types, *held_out)
    unknown = [name for name in recipe.cell_types or () if name not in known]
    if unknown:
        raise RecipeError(
            f"cell_types: {unknown[0]!r} is neither trained on nor held out with labels. There are: {', '.join(known)}."
        )
    places = task.split.places(split.test_contigs, "test_contigs")
    within = bins_within(labels.grid, places)
    check_blocks(recipe.bootstrap, within, labels.grid)
    counts = labels.counts(within)
    bound = {(row.cell_type, row.target): int(row.bound) for row in counts.itertuples() if row.bound}
    tested = {cell for cell, _ in bound}
    wanted = recipe.cell_types or tuple(name for name in known if name in tested)
    bare = [name for name in wanted if name not in tested] if wanted else list(known)
    if bare:
        raise RecipeError(
            f"not one bin of the test contigs ({', '.join(split.test_contigs)}) is bound in {bare[0]}: nothing could be told "
            "apart. Choose other test contigs (base.task.split), or name other cell_types."
        )
    allow, contigs = recipe.allow_overlap, [name for name, _, _ in places]
    idle = [name for name in allow.contigs if name not in contigs]
    idle += [name for name in allow.cell_types if name not in held_out or name not in wanted]
    if idle:
        raise RecipeError(
            f"allow_overlap names {idle[0]!r}, which the test does not use, so that it allows nothing. Remove it."
        )
    return TestSet(
        places=tuple(places),
        cell_types=tuple(name for name in wanted if name not in held_out),
        held_out_cell_types=tuple(name for name in wanted if name in held_out),
        step_bp=labels.grid.step_bp,
        positives={pair: num for pair, num in bound.items() if pair[0] in wanted},
    )
