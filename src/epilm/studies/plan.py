"""What a comparison runs: the recipe of every fit, prediction, rival and of the evaluation, and where each lies. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from epilm.baselines.recipe import BaselineRecipe
from epilm.evaluate.recipe import EvaluateRecipe
from epilm.labels.places import Place
from epilm.predict.genome_recipe import PredictRecipe
from epilm.storage import Location
from epilm.studies.recipe import EvalBindingRecipe, run_name
from epilm.train.pretrain import MODEL_FOLDER
from epilm.train.recipe import FinetuneRecipe

RUNS, PREDICTIONS, RIVALS, EVALUATION = "runs", "predictions", "rivals", "evaluation"
"""Folders of a comparison."""
REGIONS_FILE = "test.bed"


@dataclass(frozen=True)
class Fit:
    """One fine-tuning: an arm from a seed."""

    arm: str
    seed: int
    recipe: FinetuneRecipe

    @property
    def name(self) -> str:
        return run_name(self.arm, self.seed)


@dataclass(frozen=True)
class TestSet:
    """What arms are tested on.

    Args:
        places: contigs and parts of contigs.
        cell_types: of those that arms are trained on.
        held_out_cell_types: those that no arm has seen.
        positives: bound bins of the places for every (cell type, factor) that has any.
    """

    __test__ = False  # not a test, whatever its name begins with

    places: tuple[Place, ...]
    cell_types: tuple[str, ...]
    held_out_cell_types: tuple[str, ...]
    step_bp: int
    positives: dict[tuple[str, str], int]

    @property
    def targets(self) -> tuple[str, ...]:
        """Factors that are bound somewhere in the test."""
        return tuple(dict.fromkeys(target for _, target in self.positives))

    @property
    def all_cell_types(self) -> tuple[str, ...]:
        return (*self.cell_types, *self.held_out_cell_types)

    @property
    def contigs(self) -> tuple[str, ...] | None:
        """None where parts of contigs are tested."""
        whole = all(start is None for _, start, _ in self.places)
        return tuple(name for name, _, _ in self.places) if whole else None

    def spans(self, ends: dict[str, int]) -> list[tuple[str, int, int]]:
        """The places with the whole contigs' ends (0-based half-open)."""
        return [(name, start or 0, ends[name] if end is None else end) for name, start, end in self.places]


@dataclass(frozen=True)
class BindingPlan:
    """A checked comparison.

    Args:
        ends: last base of every contig of the corpus.
        data: arm -> fingerprint of its corpus, labels and pre-trained weights, compared when a run resumes.
    """

    recipe: EvalBindingRecipe
    test: TestSet
    ends: dict[str, int]
    data: dict[str, str]

    @property
    def folder(self) -> Location:
        return Location(self.recipe.storage) / self.recipe.name

    @property
    def fits(self) -> list[Fit]:
        return make_fits(self.recipe)

    def prediction(self, fit: Fit) -> PredictRecipe:
        """The test's bins in all its cell types, by the model of a fit; its folder is the submission's."""
        return PredictRecipe.model_validate(
            {
                **self._placed(PREDICTIONS, fit.name, fit.seed),
                **self.recipe.predict.model_dump(),
                "model": str(self.folder / RUNS / fit.name / MODEL_FOLDER),
                "corpus": self.recipe.base.task.corpus,
                "cell_types": self.test.all_cell_types,
                "step_bp": self.test.step_bp,
                "outputs": {"bigwig": False},
                **self._where(),
            }
        )

    def rival(self, name: str) -> BaselineRecipe:
        """A simple predictor on the base's own split."""
        settings, task = self.recipe.rivals[name], self.recipe.base.task
        return BaselineRecipe.model_validate(
            {
                **self._placed(RIVALS, name, self.recipe.seeds[0]),
                **settings.model_dump(),
                "corpus": task.corpus,
                "labels": task.labels.model_dump(),
                "targets": task.targets,
                "split": task.split.model_dump(),
                "sampling": task.sampling.model_dump(),
                "evaluation": task.evaluation.model_dump(),
                "cell_types": self.test.all_cell_types,
            }
        )

    def evaluation(self) -> EvaluateRecipe:
        """One evaluation of all: every run of an arm is a submission, so that all are resampled by the same draws."""
        task, recipe = self.recipe.base.task, self.recipe
        runs = {fit.name: str(self.folder / PREDICTIONS / fit.name) for fit in self.fits}
        where: dict[str, Any] = {"contigs": self.test.contigs}
        if self.test.contigs is None:
            where = {"regions": [f"{name}:{start}-{end}" for name, start, end in self.test.spans(self.ends)]}
        return EvaluateRecipe.model_validate(
            {
                **self._placed("", EVALUATION, recipe.seed),
                "corpus": task.corpus,
                "labels": task.labels.model_dump(),
                "submissions": runs | {name: str(self.folder / RIVALS / name) for name in recipe.rivals},
                "cell_types": self.test.all_cell_types,
                "targets": self.test.targets,
                "held_out_cell_types": self.test.held_out_cell_types,
                "allow_overlap": recipe.allow_overlap.model_dump(),
                "bootstrap": recipe.bootstrap.model_dump(),
                **where,
            }
        )

    def bed(self) -> str | None:
        """The parts of contigs that are tested, as the predictions' BED; None where whole contigs are."""
        if self.test.contigs is not None:
            return None
        return "".join(f"{name}\t{start}\t{end}\n" for name, start, end in self.test.spans(self.ends))

    def _where(self) -> dict[str, Any]:
        if self.test.contigs is not None:
            return {"contigs": self.test.contigs}
        return {"regions": str(self.folder / REGIONS_FILE), "region_bins": "inside"}

    def _placed(self, folder: str, name: str, seed: int) -> dict[str, Any]:
        storage = self.folder / folder if folder else self.folder
        return {"name": name, "storage": str(storage), "seed": seed, "ray": self.recipe.ray.model_dump()}


def make_fits(recipe: EvalBindingRecipe) -> list[Fit]:
    """Seed by seed, so that an interrupted comparison has whole pairs."""
    storage = str(Location(recipe.storage) / recipe.name / RUNS)
    fits = []
    for seed in recipe.seeds:
        for arm in recipe.arms:
            own = {"name": run_name(arm, seed), "storage": storage, "seed": seed, "ray": recipe.ray.model_dump()}
            fits.append(Fit(arm, seed, recipe.arm(arm, own)))
    return fits


def means_over(test: TestSet) -> dict[str, list[tuple[str, str]]]:
    """Name of a mean -> the (cell type, factor) pairs that it is taken over: those that have positives."""
    groups = {"test_contigs": test.cell_types, "held_out_cell_types": test.held_out_cell_types}
    found = {
        name: [(cell, target) for cell in cells for target in test.targets if test.positives.get((cell, target))]
        for name, cells in groups.items()
    }
    return {name: pairs for name, pairs in found.items() if pairs}
