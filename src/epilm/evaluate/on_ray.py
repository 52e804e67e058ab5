"""Ray tasks of an evaluation, a bounded number of them under way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError

from epilm.errors import user_error
from epilm.evaluate.counting import CountedNegatives, FoundScores, Stretch, count_stretch, find_positives
from epilm.evaluate.predictions import Predictions
from epilm.evaluate.submission_files import rewrite_submission
from epilm.evaluate.submissions import ScoreColumn
from epilm.labels.grid import BinGrid
from epilm.labels.label_set import Pair
from epilm.labels.runs import Runs
from epilm.storage import Location

MAX_IN_FLIGHT = 64


def gather(calls: Iterator[tuple[Any, ray.ObjectRef]]) -> Iterator[tuple[Any, Any]]:
    """Results of the tasks that ``calls`` starts, (key, result) as they come.

    Raises:
        EpilmError: the first error that a task met; the others are cancelled.
    """
    running: dict[ray.ObjectRef, Any] = {}
    more = True
    while more or running:
        while more and len(running) < MAX_IN_FLIGHT:
            call = next(calls, None)
            more = call is not None
            if call is not None:
                running[call[1]] = call[0]
        if not running:
            return
        done, _ = ray.wait(list(running))
        try:
            results = [(running.pop(reference), ray.get(reference)) for reference in done]
        except RayError as error:
            for reference in running:
                ray.cancel(reference)
            raise user_error(error) or error from None
        yield from results


@ray.remote(num_cpus=1)
def rewrite_remotely(
    path: str, folder: Location, pair: Pair, assembly: str, grid: BinGrid, contigs: tuple[str, ...]
) -> Predictions:
    cell_type, target = pair
    return rewrite_submission(
        path, folder, cell_type=cell_type, target=target, assembly=assembly, grid=grid, contigs=contigs
    )


@ray.remote(num_cpus=1)
def find_remotely(column: ScoreColumn, bound: Runs, stretch: Stretch) -> FoundScores:
    return find_positives(column, bound, stretch)


@ray.remote(num_cpus=1)
def count_remotely(
    column: ScoreColumn,
    unbound: Runs,
    stretch: Stretch,
    thresholds: NDArray[np.float32],
    edges: NDArray[np.float32],
    fold_seed: int | None,
) -> CountedNegatives:
    return count_stretch(column, unbound, stretch, thresholds=thresholds, edges=edges, fold_seed=fold_seed)
