"""The counting spread over a Ray cluster: a task a stretch of about ``chunk_bp``, counts summed as they come.

Counts are whole numbers, so their sum is the same for any number of workers, any chunks and any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import ray
from ray.exceptions import RayError

from epilm.corpus.meter import Meter
from epilm.errors import StorageError, user_error
from epilm.ngrams.counts import Counts, add_counts, count_ngrams, no_counts
from epilm.ngrams.sources import Chunk, DnaReader
from epilm.tokens.vocab import BASE_N

MAX_IN_FLIGHT = 256
"""Tasks handed to Ray at a time where the recipe sets no number: enough for its scheduler, and for an autoscaler to see."""
_GAP = np.array([BASE_N], np.uint8)


def count_on_ray(
    reader: DnaReader,
    tasks: Sequence[Sequence[Chunk]],
    *,
    max_n: int,
    num_workers: int | None,
    progress: Callable[[str], None],
) -> Counts:
    """Count the chunks of every task, one CPU each, inside an open Ray session.

    Args:
        num_workers: most tasks at a time; None = as many as the cluster has CPUs for.

    Raises:
        EpilmError: the first error that a task met, as it would be without Ray.
    """
    meter = Meter("n-grams", "Mb", sum(map(_size_bp, tasks)) / 1e6, progress)
    shared = [ray.put(reader)]  # in a list, so that Ray hands on the reference and a worker unpacks the reader once
    waiting, running = list(reversed(tasks)), {}
    total = no_counts(max_n)
    while waiting or running:
        while waiting and len(running) < (num_workers or MAX_IN_FLIGHT):
            task = waiting.pop()
            running[_count_remotely.remote(shared, task, max_n)] = task
        done, _ = ray.wait(list(running))
        try:
            for reference in done:
                total = add_counts(total, ray.get(reference))
                meter.add(_size_bp(running.pop(reference)) / 1e6)
        except RayError as error:
            for reference in running:
                ray.cancel(reference)
            raise user_error(error) or error from None
    return total


def count_chunks(reader: DnaReader, chunks: Sequence[Chunk], max_n: int) -> Counts:
    """Counts of the n-grams that start in the chunks."""
    total, whole = no_counts(max_n), []
    for chunk in chunks:
        reach_bp = min(chunk.end_bp + max_n - 1, chunk.region_end_bp)
        codes = reader.fetch(chunk.contig, chunk.start_bp, reach_bp)
        if chunk.end_bp == chunk.region_end_bp:
            whole += [codes, _GAP]
        else:
            total = add_counts(total, count_ngrams(codes, max_n, num_starts=chunk.end_bp - chunk.start_bp))
    if whole:  # a thousand scaffolds in one go, an N between two of them
        total = add_counts(total, count_ngrams(np.concatenate(whole), max_n))
    return total


@ray.remote(num_cpus=1)
def _count_remotely(shared: list[ray.ObjectRef], chunks: Sequence[Chunk], max_n: int) -> Counts:
    try:
        return count_chunks(_unpack(shared[0]), chunks, max_n)
    except OSError as error:
        raise StorageError(
            f"a worker could not read the sequence: {error}. Every node of the cluster must see the file at that path."
        ) from error


@lru_cache(maxsize=1)
def _unpack(reader: ray.ObjectRef) -> DnaReader:
    return ray.get(reader)


def _size_bp(chunks: Sequence[Chunk]) -> int:
    return sum(chunk.end_bp - chunk.start_bp for chunk in chunks)
