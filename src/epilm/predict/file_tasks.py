"""Files written by Ray tasks, a few at a time. Imports little: a task's process starts with what this file and its work need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, WorkerCrashedError

from epilm.errors import EpilmError, StorageError, user_error


def write_files(
    write: Callable[[int], Any], names: Sequence[str], *, at_once: int, label: str, progress: Callable[[str], None]
) -> list[Any]:
    """Run ``write(0) ... write(len(names) - 1)`` as Ray tasks of one CPU, at most ``at_once`` of them; their results in order.

    Args:
        names: of the files, for progress and messages.

    Raises:
        EpilmError: the first that a task met. A task whose process dies is not tried again: a full disk kills it as well
            the next time (libBigWig frees its buffers twice where a write fails).
    """
    shared = ray.put(write)
    task = ray.remote(num_cpus=1, max_retries=0)(_write_one)
    results: dict[int, Any] = {}
    running: dict[ray.ObjectRef, int] = {}
    waiting = list(range(len(names)))[::-1]
    while waiting or running:
        while waiting and len(running) < at_once:
            number = waiting.pop()
            running[task.remote(shared, number)] = number
        (ready,), _ = ray.wait(list(running))
        number = running.pop(ready)
        try:
            results[number] = ray.get(ready)
        except (WorkerCrashedError, OutOfMemoryError, EpilmError) as error:
            for reference in running:
                ray.cancel(reference)
            found = user_error(error)
            if found is not None:
                raise found from None
            raise StorageError(
                f"the process that wrote {names[number]} died ({error}). Is the disk full, or the memory? What was "
                "finished is kept; go on with --resume."
            ) from error
        progress(f"{label}: {len(results)} of {len(names)} files")
    return [results[number] for number in range(len(names))]


def _write_one(write: Callable[[int], Any], number: int) -> Any:
    return write(number)
