"""The stream hands every rank exactly the rows of its steps, through a real Ray Data and streaming_split."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from epilm.corpus.manifest import read_manifest
from epilm.corpus.order import step_positions
from epilm.corpus.source import WindowSource
from epilm.corpus.stream import StreamPlan, iterate_steps, segment_dataset
from epilm.errors import CorpusError

pytestmark = pytest.mark.ray


def consume(source: WindowSource, plan: StreamPlan) -> list[list[pa.Table]]:
    """Tables of every rank, one a step; the ranks read side by side, as workers do."""
    tables: list[list[pa.Table]] = [[] for _ in range(plan.num_workers)]

    def read(rank, iterator, segment):
        tables[rank] += list(iterate_steps(iterator, segment))

    for segment in plan.segments():
        iterators = segment_dataset(source, segment).streaming_split(plan.num_workers, equal=True)
        with ThreadPoolExecutor(plan.num_workers) as pool:
            list(pool.map(read, range(plan.num_workers), iterators, [segment] * plan.num_workers))
    return tables


def test_two_consumers_get_every_row_of_their_steps(toy_corpus) -> None:
    source = WindowSource(toy_corpus.location, toy_corpus.manifest, "train", (0, 1, 2), seed=2)
    batch, start, end = 12, 3, 58
    # blocks of 4 steps, segments of 16 blocks: the first takes 32 steps, the second ends inside a block
    plan = StreamPlan(start, end, batch, 2, source.row_bytes, 4 * 6 * source.row_bytes, 16)
    assert [(s.num_steps, s.num_blocks) for s in plan.segments()] == [(32, 16), (23, 12)]
    tables = consume(source, plan)
    assert [len(own) for own in tables] == [end - start] * 2
    for rank, own in enumerate(tables):
        for step, table in enumerate(own, start):
            assert table.equals(source.read(step_positions(step, rank, batch, 2)))
    seen = np.concatenate([table.column("position").to_numpy() for own in tables for table in own])
    assert sorted(seen.tolist()) == list(range(start * batch, end * batch)), "no row dropped, none repeated"


def test_corrupted_shard_ends_every_consumer_with_its_name(corpus_copy) -> None:
    corpus = corpus_copy()
    manifest = read_manifest(corpus)
    file = manifest.select("windows", "train")[1]
    path = Path(corpus.path) / file.path
    data = path.read_bytes()
    path.write_bytes(data[:4] + bytes(len(data) // 2) + data[len(data) // 2 + 4 :])
    source = WindowSource(corpus, manifest, "train", (0,), seed=2)
    segment = StreamPlan(0, 20, 12, 2, source.row_bytes, 12 * source.row_bytes).segments()[0]
    iterators = segment_dataset(source, segment).streaming_split(2, equal=True)

    def fails(iterator):
        with pytest.raises(CorpusError, match=f"^corrupted shard .*{file.path}") as caught:
            list(iterate_steps(iterator, segment))
        return str(caught.value)

    with ThreadPoolExecutor(2) as pool:
        for message in pool.map(fails, iterators):
            assert "Traceback" not in message
            assert message.endswith("--resume).")
