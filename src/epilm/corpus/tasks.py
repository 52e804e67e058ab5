"""Numbered tasks on Ray Data: their records in order, their errors as if there were no Ray between."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import ray
import ray.data

from epilm import errors
from epilm.corpus.meter import Meter
from epilm.errors import EpilmError

MAX_BLOCKS = 1000
"""Tens of thousands of blocks in one dataset slow its scheduling; of more tasks, several share a block."""

Record = dict[str, Any]
"""What a task returns: JSON values."""


def run_tasks(
    task: Callable[[int], Record],
    sizes: Sequence[float] | np.ndarray,
    label: str,
    progress: Callable[[str], None],
    *,
    unit: str = "tasks",
) -> list[Record]:
    """Run ``task(0) ... task(len(sizes) - 1)`` as Ray Data tasks of one CPU each; return their records in that order.

    Args:
        sizes: how much each task does, in ``unit``: progress and its rate are told in it.

    Raises:
        EpilmError: the first error that a task met, as it would be without Ray.
    """
    num_tasks, meter = len(sizes), Meter(label, unit, float(np.sum(sizes)), progress)
    if not num_tasks:
        return []
    shared = ray.put(task)  # one copy a node of what may hold a genome's states; arrays are read in place
    records: dict[int, Record] = {}
    dataset = ray.data.range(num_tasks, override_num_blocks=min(num_tasks, MAX_BLOCKS)).map_batches(
        _Numbered(shared), batch_size=None, num_cpus=1
    )
    for row in dataset.iter_rows():
        if row["error"]:
            raise getattr(errors, row["error"])(row["text"])
        index = int(row["index"])
        records[index] = json.loads(row["text"])
        meter.add(float(sizes[index]))
    return [records[index] for index in range(num_tasks)]


@lru_cache(maxsize=1)
def _fetch(task: ray.ObjectRef) -> Callable[[int], Record]:
    """A worker unpacks a task once, not once a block: a manifest of 500 contigs takes 25 ms."""
    return ray.get(task)


@dataclass(frozen=True)
class _Numbered:
    """Runs a task for each number of a batch; errors travel as rows, so that the driver raises them as they were."""

    task: ray.ObjectRef

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        task = _fetch(self.task)
        columns: dict[str, list[Any]] = {"index": [], "error": [], "text": []}
        for index in batch["id"].tolist():
            error, text = "", ""
            try:
                text = json.dumps(task(index))
            except EpilmError as caught:
                error, text = type(caught).__name__, str(caught)
            except OSError as caught:
                error, text = "StorageError", f"a task of the corpus could not read or write a file: {caught}"
            columns["index"].append(index)
            columns["error"].append(error if hasattr(errors, error) or not error else "CorpusError")
            columns["text"].append(text)
            if error:
                break  # the tasks after it would meet the same full disk
        return columns
