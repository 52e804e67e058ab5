"""All (data set, submission) of an evaluation scored: two passes of Ray tasks, summed as they come.

The first fetches the positives' scores, the second counts the negatives above and at each. Memory is bounded by the
positives, not by the bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import ray
from numpy.typing import NDArray

from epilm.corpus.meter import Meter
from epilm.evaluate.blocks import draw_weights, score_edges
from epilm.evaluate.check import EvaluatePlan
from epilm.evaluate.counting import Stretch
from epilm.evaluate.on_ray import count_remotely, find_remotely, gather
from epilm.evaluate.outcome import Outcome, Tally, constant_outcome
from epilm.evaluate.ranking import positive_thresholds
from epilm.evaluate.recipe import BASE_RATE, EvaluateRecipe
from epilm.evaluate.submissions import ScoreColumn
from epilm.genome.intervals import covered_bp
from epilm.labels.label_set import Pair
from epilm.labels.runs import Runs

Key = tuple[Pair, str]
"""(data set, submission)."""


class Scoring:
    """One evaluation under way, inside an open Ray session."""

    def __init__(
        self,
        recipe: EvaluateRecipe,
        plan: EvaluatePlan,
        columns: Mapping[str, Mapping[Pair, ScoreColumn]],
        progress: Callable[[str], None],
    ) -> None:
        """``columns``: submission -> its scores by data set, those of submission files among them."""
        self.recipe, self.plan, self.columns, self.progress = recipe, plan, columns, progress
        self.keys = [(pair, name) for pair in plan.pairs for name in recipe.submissions if pair in columns[name]]
        self.bound = {pair: plan.labels.bound[pair].intersect(plan.bins) for pair in plan.pairs}
        blocks = plan.blocks
        self.stretches = [
            Stretch(first, last, blocks.start[first:last], blocks.end[first:last])
            for first, last in blocks.groups(recipe.bins_per_task)
        ]
        self.weights = draw_weights(len(blocks), num=recipe.bootstrap.num, seed=recipe.seed)
        self.positives: dict[Key, tuple[NDArray[np.float32], int]] = {}
        self.tallies: dict[Key, Tally] = {}

    def outcomes(self) -> dict[Pair, dict[str, Outcome]]:
        """Figures of every (data set, submission) in the recipe's order, and of the base rate behind them."""
        self.positives = self._positive_scores()
        left = dict.fromkeys(self.keys, len(self.stretches))
        settled: dict[Key, Outcome] = {}
        meter = Meter("evaluate", "million bins", len(self.keys) * self.plan.bins.size / 1e6, self.progress)
        for (key, number), counted in gather(self._count_calls()):
            self.tallies[key].add(self.stretches[number], counted)
            meter.add(self.stretches[number].num_bins / 1e6)
            left[key] -= 1
            if not left[key]:
                settled[key] = self._settle(key)
        result: dict[Pair, dict[str, Outcome]] = {pair: {} for pair in self.plan.pairs}
        for pair, name in self.keys:
            result[pair][name] = settled[pair, name]
        for pair, of in result.items():
            of[BASE_RATE] = self._constant(pair)
        return result

    def _positive_scores(self) -> dict[Key, tuple[NDArray[np.float32], int]]:
        """Scores of the positives in genome order, and how many had none."""
        some = {
            pair: np.flatnonzero([bool(runs.intersect(_bins_of(s))) for s in self.stretches]).tolist()
            for pair, runs in self.bound.items()
        }

        def calls() -> Iterator[tuple[tuple[Key, int], ray.ObjectRef]]:
            shared = {pair: ray.put(runs) for pair, runs in self.bound.items()}
            for pair, name in self.keys:
                for number in some[pair]:
                    task = find_remotely.remote(self.columns[name][pair], shared[pair], self.stretches[number])
                    yield ((pair, name), number), task

        found = dict(gather(calls()))
        result = {}
        for key in self.keys:
            parts = [found[key, number] for number in some[key[0]]]
            result[key] = np.concatenate([part.scores for part in parts]), sum(part.missing for part in parts)
        return result

    def _count_calls(self) -> Iterator[tuple[tuple[Key, int], ray.ObjectRef]]:
        for pair in self.plan.pairs:
            unbound = ray.put(self._unbound(pair))
            for key in (key for key in self.keys if key[0] == pair):
                tally = self.tallies[key] = self._tally(key)
                thresholds, edges = ray.put(tally.thresholds), ray.put(tally.edges)
                column = self.columns[key[1]][pair]
                for number, stretch in enumerate(self.stretches):
                    yield (
                        (key, number),
                        count_remotely.remote(column, unbound, stretch, thresholds, edges, tally.fold_seed),
                    )

    def _unbound(self, pair: Pair) -> Runs:
        return self.plan.labels.unbound(*pair).intersect(self.plan.bins)

    def _tally(self, key: Key) -> Tally:
        scores, missing = self.positives.pop(key)
        resample = self.recipe.bootstrap.num > 0
        return Tally(
            scores=scores,
            blocks=self.plan.blocks.of(self.bound[key[0]].indices()),
            thresholds=positive_thresholds([scores]).astype(np.float32),
            edges=score_edges(scores).astype(np.float32) if resample else np.empty(0, np.float32),
            num_blocks=len(self.plan.blocks),
            fold_seed=self.recipe.seed if self.recipe.dream_rank else None,
            missing=missing,
        )

    def _settle(self, key: Key) -> Outcome:
        (cell_type, target), name = key
        outcome = self.tallies.pop(key).outcome(self.weights)
        gaps = f", {outcome.missing_bins:,} bins without a prediction" if outcome.missing_bins else ""
        auprc, auroc = outcome.metrics["auprc"], outcome.metrics["auroc"]
        self.progress(f"evaluate: {target}:{cell_type} {name}: AUPRC {auprc:.4f}, AUROC {auroc:.4f}{gaps}")
        return outcome

    def _constant(self, pair: Pair) -> Outcome:
        blocks = self.plan.blocks
        positives, negatives = (
            covered_bp(blocks.start, blocks.end, runs.start, runs.end).astype(np.float64)
            for runs in (self.bound[pair], self._unbound(pair))
        )
        return constant_outcome(positives, negatives, self.weights)


def _bins_of(stretch: Stretch) -> Runs:
    return Runs.of(stretch.start, stretch.end)
