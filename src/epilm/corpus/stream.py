"""The exact stream: Ray Data tasks read blocks of positions, ``streaming_split`` hands each rank its own.

Rank r gets exactly the positions of its steps, in order, because every block has the same number of rows, their number is
a multiple of the workers, and the order is preserved. (``read_parquet(...).streaming_split(equal=True)`` drops 0-7 % of the
rows of a pass.) A dataset holds at most a few thousand blocks, so long runs chain segments.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data

from epilm.corpus.order import BlockPlan
from epilm.corpus.source import SampleSource
from epilm.errors import user_error

BLOCK_BYTES = 8 << 20
"""Read tasks of 2 MB halve the throughput (47k against 118k rows/s)."""
BLOCKS_PER_SEGMENT = 2048
"""20k blocks in one dataset take 26 s to the first batch."""


@dataclass(frozen=True)
class StreamPlan:
    """Segments of a run from ``start_step`` to ``end_step``."""

    start_step: int
    end_step: int
    global_batch: int
    num_workers: int
    row_bytes: int
    block_bytes: int = BLOCK_BYTES
    blocks_per_segment: int = BLOCKS_PER_SEGMENT

    @property
    def steps_per_block(self) -> int:
        rows_per_step = self.global_batch // self.num_workers
        wanted = max(1, self.block_bytes // (rows_per_step * self.row_bytes))
        return min(wanted, max(1, self.end_step - self.start_step))

    def segments(self) -> list[BlockPlan]:
        """Consecutive plans that cover all steps, each of at most ``blocks_per_segment`` blocks."""
        per_block = self.steps_per_block
        per_segment = max(1, self.blocks_per_segment // self.num_workers) * per_block
        return [
            BlockPlan(s, min(per_segment, self.end_step - s), self.global_batch, self.num_workers, per_block)
            for s in range(self.start_step, self.end_step, per_segment)
        ]


def segment_dataset(source: SampleSource, plan: BlockPlan) -> ray.data.Dataset:
    """The blocks of a segment as a dataset whose order is preserved."""
    reader = _BlockReader(source, plan)
    dataset = ray.data.range(plan.num_blocks, override_num_blocks=plan.num_blocks).map_batches(
        reader, batch_size=None, batch_format="numpy", zero_copy_batch=True
    )
    options = copy.deepcopy(dataset.context.execution_options)
    options.preserve_order = True
    options.verbose_progress = False
    dataset.context.execution_options = options
    return dataset


@dataclass(frozen=True)
class _BlockReader:
    source: SampleSource
    plan: BlockPlan

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        return pa.concat_tables([self.source.read(self.plan.positions(int(block))) for block in batch["id"]])


def iterate_steps(iterator: ray.data.DataIterator, plan: BlockPlan, *, prefetch: int = 2) -> Iterator[pa.Table]:
    """One table a step for the rank that owns ``iterator``; its rows are those of the step, asserted.

    Raises:
        CorpusError: a shard turned out to be corrupt; names it.
    """
    rows = plan.global_batch // plan.num_workers
    batches: Any = iterator.iter_batches(
        batch_size=rows, batch_format="pyarrow", prefetch_batches=prefetch, drop_last=False
    )
    step = plan.start_step
    try:
        for table in batches:
            position = table.column("position").to_numpy()
            first = step * plan.global_batch
            assert len(position) == rows, f"step {step}: {len(position)} rows, expected {rows}"
            assert first <= position[0] < first + plan.global_batch, f"step {step} got position {position[0]}"
            assert position[-1] - position[0] == rows - 1, f"step {step}: positions are not consecutive"
            yield table
            step += 1
            if step == plan.start_step + plan.num_steps:
                return
    except Exception as error:
        mistake = user_error(error)
        if mistake is None:
            raise
        raise mistake from error
    assert step == plan.start_step + plan.num_steps, f"the stream ended before step {step}"
