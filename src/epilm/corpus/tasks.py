"""Numbered tasks on Ray Data: their records in order, their errors as if there were no Ray between."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import ray.data

from epilm import errors
from epilm.errors import EpilmError

TASKS_PER_DATASET = 1000
"""Tens of thousands of blocks in one dataset slow its scheduling; longer lists run in turns."""

Record = dict[str, Any]
"""What a task returns: JSON values."""


def run_tasks(
    task: Callable[[int], Record], num_tasks: int, label: str, progress: Callable[[str], None]
) -> list[Record]:
    """Run ``task(0) ... task(num_tasks - 1)`` as Ray Data tasks of one CPU each; return their records in that order.

    Raises:
        EpilmError: the first error that a task met, as it would be without Ray.
    """
    shared = ray.put(task)  # one copy a node of what may hold a genome's states; arrays are read in place
    records: dict[int, Record] = {}
    for first in range(0, num_tasks, TASKS_PER_DATASET):
        count = min(TASKS_PER_DATASET, num_tasks - first)
        dataset = ray.data.range(count, override_num_blocks=count).map_batches(
            _Numbered(shared, first), batch_size=None, num_cpus=1
        )
        for row in dataset.iter_rows():
            if row["error"]:
                raise getattr(errors, row["error"])(row["text"])
            records[int(row["index"])] = json.loads(row["text"])
            progress(f"{label}: {len(records)}/{num_tasks}")
    return [records[index] for index in range(num_tasks)]


@dataclass(frozen=True)
class _Numbered:
    """Runs a task for each number of a batch; errors travel as rows, so that the driver raises them as they were."""

    task: ray.ObjectRef
    first: int

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        task = ray.get(self.task)
        columns: dict[str, list[Any]] = {"index": [], "error": [], "text": []}
        for number in batch["id"]:
            index = self.first + int(number)
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
        return columns
