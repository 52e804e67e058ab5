"""What training is shown and what validation looks at: one draw, that a fine-tuning and its baselines share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from epilm.errors import RecipeError
from epilm.labels.codes import BOUND
from epilm.labels.label_set import LabelSet
from epilm.labels.runs import Runs
from epilm.storage import Location
from epilm.tasks.binding_names import check_accessible
from epilm.tasks.binding_recipe import BindingEvalConfig, SamplingConfig
from epilm.tasks.binding_rows import BindingEvalSet, BindingRows, BindingSource, draw_members
from epilm.tasks.binding_sampling import BindingSampler, CellBins
from epilm.tasks.binding_split import BindingSplit
from epilm.tasks.binding_strata import negative_strata


@dataclass(frozen=True)
class BindingDraw:
    """The samples of a split: a pure function of its settings and the seed."""

    corpus: Location
    """Of the split's manifest."""
    split: BindingSplit
    sampling: SamplingConfig
    evaluation: BindingEvalConfig
    seed: int

    def check(self, *, validated: bool = True) -> None:
        """Each factor has a positive to learn from and one to be judged by; there are negatives, of every kind asked.

        Args:
            validated: whether anything is chosen on the validation contigs.

        Raises:
            RecipeError
        """
        split, setting = self.split, self.split.beside("sampling.accessible")
        check_accessible(self.sampling.accessible, split.train_cell_types, split.manifest, setting=setting)
        split.check_bound("training")
        self._check_drawn(*self.sampler.positives.at(np.arange(self.sampler.positives.size)), "sampling.max_positives")
        if validated:
            split.check_bound("validation")
            positives, limit = self._validation_bins[0], self.evaluation.max_positives
            drawn = draw_members(positives, min(limit, positives.size), self.evaluation.seed, kind=0)
            self._check_drawn(*positives.at(drawn), "evaluation.max_positives")

    def _check_drawn(self, bins: np.ndarray, cells: np.ndarray, setting: str) -> None:
        """A draw of positives of any factor has one of each."""
        labels = self.split.labels
        codes = labels.codes(bins, np.asarray(self.split.train_cells, np.int64)[cells])
        missing = [
            target for target, found in zip(labels.targets, (codes == BOUND).any(axis=0), strict=True) if not found
        ]
        if missing:
            raise RecipeError(
                f"among the {len(bins):,} positives that {self.split.beside(setting)} leaves is none of {', '.join(missing)}. "
                f"Give a larger number, or leave the factor out ({self.split.beside('targets')})."
            )

    @cached_property
    def sampler(self) -> BindingSampler:
        """Of training; its cell types number ``split.train_cells``.

        Raises:
            RecipeError: nothing is unbound, or see :func:`~epilm.tasks.binding_strata.negative_strata`.
        """
        split, sampling = self.split, self.sampling
        positives, negatives, _ = split_bins(split.labels, split.train_cells, split.train_bins)
        if not negatives.size:
            raise RecipeError(
                "not a single bin of the training contigs is unbound: the labels leave nothing to tell apart."
            )
        positives = replace(positives, limit=sampling.max_positives, subset_seed=sampling.subset_seed)
        strata = negative_strata(self.corpus, split, negatives, positives.size, sampling)
        return BindingSampler(positives, strata, self.seed)

    def source(self, rows: BindingRows) -> BindingSource:
        """The training stream."""
        return BindingSource(rows, self.sampler, self.split.train_cells)

    def validation(self, rows: BindingRows) -> BindingEvalSet:
        """Bins of the validation contigs: all, or a draw that is weighted up to all."""
        limits, (positives, others) = self.evaluation, self._validation_bins
        return BindingEvalSet(
            rows, positives, others, self.split.train_cells, limits.max_positives, limits.max_negatives, limits.seed
        )

    @cached_property
    def _validation_bins(self) -> tuple[CellBins, CellBins]:
        positives, _, others = split_bins(self.split.labels, self.split.train_cells, self.split.validation_bins)
        return positives, others


def split_bins(labels: LabelSet, cells: tuple[int, ...], within: Runs) -> tuple[CellBins, CellBins, CellBins]:
    """(positives, negatives, others) of cell types among some bins: bound by any factor; bound by none and ambiguous for none;
    and all that are not positives. Excluded bins are in none, nor are cell types without a measured factor."""
    positives, negatives, others = [], [], []
    for cell in cells:
        name = labels.cell_types[cell]
        pairs = [(name, target) for target in labels.targets if labels.measured(name, target)]
        none = Runs.empty()
        bound = none.union(*(labels.bound[pair] for pair in pairs)).intersect(within)
        ambiguous = none.union(*(labels.ambiguous[pair] for pair in pairs))
        rest = none.union(*(labels.labelled(*pair) for pair in pairs)).intersect(within).subtract(bound)
        positives.append(bound)
        others.append(rest)
        negatives.append(rest.subtract(ambiguous))
    return CellBins(tuple(positives)), CellBins(tuple(negatives)), CellBins(tuple(others))
