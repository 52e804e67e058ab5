"""The order of samples: every (locus, cell type) once, the same for any number of workers, from the position alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epilm.corpus.order import BlockPlan, Order, Samples, check_batch, step_positions
from epilm.corpus.stream import StreamPlan
from epilm.errors import RecipeError
from epilm.hashing import hash_u64

FIELDS = ("position", "pass_index", "unit", "row", "locus", "cell")
orders = st.builds(
    Order,
    unit_rows=st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple),
    num_cells=st.integers(1, 7),
    seed=st.integers(0, 2**31 - 1),
)


def run_of(order: Order, *, passes: int) -> Samples:
    return order.locate(np.arange(passes * order.num_loci))


def located_slowly(order: Order, position: int) -> dict[str, int]:
    """One position, by writing the whole pass down: units in the order of their keys, rows of each in theirs."""
    number, index = divmod(position, order.num_loci)
    unit_keys = [int(hash_u64(order.seed, 1, number, u)) for u in range(len(order.unit_rows))]
    sequence = []
    for unit in sorted(range(len(order.unit_rows)), key=unit_keys.__getitem__):
        row_keys = [int(hash_u64(order.seed, 2, number, unit, row)) for row in range(order.unit_rows[unit])]
        sequence += [(unit, row) for row in sorted(range(len(row_keys)), key=row_keys.__getitem__)]
    unit, row = sequence[index]
    locus = sum(order.unit_rows[:unit]) + row
    return {"position": position, "pass_index": number, "unit": unit, "row": row, "locus": locus}


def test_literal_order_of_a_seed_never_changes() -> None:
    """A checkpoint stores the step alone: another order in a later version would repeat and lose samples silently."""
    found = Order(unit_rows=(3, 1, 2), num_cells=3, seed=11).locate(np.arange(18))
    assert found.locus.tolist() == [3, 2, 1, 0, 5, 4, 3, 2, 0, 1, 4, 5, 3, 0, 1, 2, 5, 4]
    assert found.cell.tolist() == [0, 2, 2, 1, 0, 0, 1, 1, 0, 0, 2, 2, 2, 2, 1, 0, 1, 1]


def test_rows_of_a_literal_pass_lie_in_their_row_groups() -> None:
    found = run_of(Order(unit_rows=(3, 1, 2), num_cells=1, seed=5), passes=1)
    assert sorted(zip(found.unit.tolist(), found.row.tolist(), found.locus.tolist(), strict=True)) == [
        (0, 0, 0),
        (0, 1, 1),
        (0, 2, 2),
        (1, 0, 3),
        (2, 0, 4),
        (2, 1, 5),
    ]
    assert found.cell.tolist() == [0] * 6
    changes = np.count_nonzero(np.diff(found.unit))
    assert changes == 2, "a row group is read in one stretch"


@settings(max_examples=40, deadline=None)
@given(order=orders)
def test_order_equals_the_slow_reference(order: Order) -> None:
    found = run_of(order, passes=3)
    for position in range(3 * order.num_loci):
        expected = located_slowly(order, position)
        assert {name: int(getattr(found, name)[position]) for name in expected} == expected


@settings(max_examples=60, deadline=None)
@given(order=orders, cycle=st.integers(0, 3))
def test_num_cells_passes_show_every_locus_in_every_cell_once(order: Order, cycle: int) -> None:
    size = order.num_loci * order.num_cells
    found = order.locate(np.arange(cycle * size, (cycle + 1) * size))
    seen = np.zeros((order.num_loci, order.num_cells), np.int64)
    np.add.at(seen, (found.locus, found.cell), 1)
    assert np.array_equal(seen, np.ones_like(seen))


@settings(max_examples=40, deadline=None)
@given(order=orders, first_pass=st.integers(0, 1000))
def test_each_pass_visits_every_locus_once(order: Order, first_pass: int) -> None:
    found = order.locate(np.arange(first_pass * order.num_loci, (first_pass + 1) * order.num_loci))
    assert sorted(found.locus.tolist()) == list(range(order.num_loci))
    assert set(found.pass_index.tolist()) == {first_pass}


@settings(max_examples=40, deadline=None)
@given(order=orders, data=st.data())
def test_a_sample_depends_on_its_position_alone(order: Order, data: st.DataObject) -> None:
    """Not on what else is asked for, in which order, how often, or before."""
    whole = run_of(order, passes=4)
    asked = np.array(data.draw(st.lists(st.integers(0, 4 * order.num_loci - 1), min_size=1, max_size=20)))
    again = Order(order.unit_rows, order.num_cells, order.seed).locate(asked)
    for name in FIELDS:
        assert np.array_equal(getattr(again, name), getattr(whole, name)[asked]), name


def test_passes_and_seeds_differ() -> None:
    order = Order(unit_rows=(40, 33, 27), num_cells=4, seed=1)
    first, second = run_of(order, passes=2).locus.reshape(2, -1)
    other = run_of(Order(order.unit_rows, 4, seed=2), passes=1).locus
    assert np.count_nonzero(first == second) < 20
    assert np.count_nonzero(first == other) < 20


def test_a_pass_shows_all_cells_and_neighbours_differ() -> None:
    """A pass in one cell type would be a batch in one cell type."""
    found = run_of(Order(unit_rows=(500, 400), num_cells=5, seed=3), passes=1)
    assert np.bincount(found.cell, minlength=5).min() > 130
    assert np.count_nonzero(np.diff(found.cell)) > 600


@settings(max_examples=60, deadline=None)
@given(
    start=st.integers(0, 50),
    num_steps=st.integers(1, 12),
    batch=st.integers(1, 4).map(lambda n: 6 * n),
    workers=st.sampled_from([1, 2, 3, 6]),
    per_block=st.integers(1, 5),
)
def test_ranks_partition_every_step(start: int, num_steps: int, batch: int, workers: int, per_block: int) -> None:
    plan = BlockPlan(start, num_steps, batch, workers, per_block)
    assert plan.num_blocks % workers == 0
    # Ray hands blocks round robin: rank r gets blocks r, r + W, ...
    of_rank = [
        np.concatenate([plan.positions(b) for b in range(rank, plan.num_blocks, workers)]) for rank in range(workers)
    ]
    rows = batch // workers
    for index in range(num_steps):
        parts = [own[index * rows : (index + 1) * rows] for own in of_rank]
        step = start + index
        assert np.concatenate(parts).tolist() == list(range(step * batch, (step + 1) * batch))
        assert all(np.array_equal(part, step_positions(step, rank, batch, workers)) for rank, part in enumerate(parts))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_literal_positions_of_a_step(workers: int) -> None:
    parts = [step_positions(2, rank, 6, workers).tolist() for rank in range(workers)]
    assert (
        parts
        == {
            1: [[12, 13, 14, 15, 16, 17]],
            2: [[12, 13, 14], [15, 16, 17]],
            3: [[12, 13], [14, 15], [16, 17]],
        }[workers]
    )


@settings(max_examples=60, deadline=None)
@given(
    start=st.integers(0, 20),
    num_steps=st.integers(0, 40),
    workers=st.sampled_from([1, 2, 3]),
    block_bytes=st.integers(1, 2000),
    blocks_per_segment=st.integers(1, 9),
)
def test_segments_cover_all_steps(start, num_steps, workers, block_bytes, blocks_per_segment) -> None:
    plan = StreamPlan(start, start + num_steps, 12, workers, 10, block_bytes, blocks_per_segment)
    segments = plan.segments()
    steps = [s for segment in segments for s in range(segment.start_step, segment.start_step + segment.num_steps)]
    assert steps == list(range(start, start + num_steps))
    assert all(segment.num_blocks <= max(blocks_per_segment, workers) for segment in segments)


def test_blocks_are_as_large_as_reads_want() -> None:
    """64 rows of 1300 bytes a step and worker: 8 MB take 100 steps, not one."""
    assert StreamPlan(0, 1000, 128, 2, 1300).steps_per_block == (8 << 20) // (64 * 1300)
    assert StreamPlan(0, 10, 128, 2, 1300).steps_per_block == 10
    assert StreamPlan(0, 1000, 128 * 10_000, 2, 1300).steps_per_block == 1


def test_batch_that_some_allowed_number_of_workers_does_not_divide() -> None:
    check_batch(24, range(1, 5))
    with pytest.raises(RecipeError, match=r"global_batch=250 .*num_workers=4\. Try 248 or 252"):
        check_batch(250, [4])
    with pytest.raises(RecipeError, match=r"num_workers=3\. Try 12 or 24"):
        check_batch(20, range(2, 5))
    with pytest.raises(RecipeError, match=r"Try 3, or"):
        check_batch(2, [3])
