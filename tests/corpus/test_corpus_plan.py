"""How a genome is cut into parts, chunks and windows, and where every window goes: arithmetic, exactly."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epilm.corpus import plan as planning
from epilm.corpus.manifest import CorpusContig
from epilm.corpus.plan import ShufflePlan, chunk_edges, layout_parts, window_starts


def contig(start: int, end: int, split: str = "train") -> CorpusContig:
    return CorpusContig.model_validate({"name": "c", "start_bp": start, "end_bp": end, "split": split})


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 500),
    st.integers(1, 900),
    st.integers(1, 9),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 200),
)
def test_parts_and_chunks_cover_a_contig_and_every_window_begins_in_one(start, length, bin_bp, bins, chunks, step):
    chunk_bp, window_bp, piece = bin_bp * bins, 7, contig(start, start + length)
    parts = layout_parts([piece], chunk_bp=chunk_bp, bin_bp=bin_bp, num_chunks=chunks)
    edges = [edge for part in parts for edge in chunk_edges(part.start_bp, part.end_bp, chunk_bp)]
    assert edges[0][0] == start // bin_bp * bin_bp
    assert edges[-1][1] == piece.end_bp
    assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
    assert all(e // chunk_bp > s // chunk_bp or e == piece.end_bp for s, e in edges)
    assert all(0 < e - s <= chunk_bp for s, e in edges)
    found = [window_starts(s, e, piece, window_bp=window_bp, step_bp=step) for s, e in edges]
    expected = [s for s in range(0, piece.end_bp, step) if s >= start and s + window_bp <= piece.end_bp]
    assert np.concatenate(found).tolist() == expected


def test_fraction_within_is_the_mean():
    flags = np.array([1, 0, 0, 3, 1])
    assert planning.fraction_within(flags, np.array([0, 2]), np.array([2, 5])).tolist() == pytest.approx([0.5, 4 / 3])


def test_windows_across_the_edge_of_a_held_out_region_belong_to_no_split():
    regions = {"c": (np.array([20, 60]), np.array([40, 61]))}
    starts = np.arange(0, 70, 5)
    split = planning.assign_split(starts, 10, contig(0, 100), regions)
    wanted = []
    for start in starts.tolist():
        covered = sum(20 <= base < 40 or base == 60 for base in range(start, start + 10))
        wanted.append({0: planning.TRAIN, 10: planning.HELD_OUT}.get(covered, -1))
    assert split.tolist() == wanted
    assert set(wanted) == {-1, planning.TRAIN, planning.HELD_OUT}
    assert (planning.assign_split(starts, 10, contig(0, 100, "held_out"), regions) == planning.HELD_OUT).all()


def test_the_first_reason_that_applies_counts():
    yes, no = np.array([True]), np.array([False])
    assert planning.drop_reason(no, no, no, no).tolist() == [planning.KEPT]
    assert planning.drop_reason(no, yes, yes, no).tolist() == [1 + planning.DROP_REASONS.index("n_fraction")]
    assert planning.drop_reason(no, no, no, yes).tolist() == [1 + planning.DROP_REASONS.index("no_state")]


KEPT = np.array([[5, 2], [0, 0], [9, 0], [3, 6]])


def placed(plan: ShufflePlan) -> list[tuple[int, int, int, int]]:
    """(file, row, part, window) of every window."""
    rng, places = np.random.default_rng(1), []
    for part, (train, held_out) in enumerate(plan.kept.tolist()):
        splits = rng.permutation(np.repeat(np.array([0, 1], np.int8), [train, held_out]))
        file, row = plan.destinations(part, splits)
        assert all(plan.files[f][0] == s for f, s in zip(file, splits, strict=True))
        places += [(int(f), int(r), part, w) for w, (f, r) in enumerate(zip(file, row, strict=True))]
    return sorted(places)


def test_every_window_has_one_place_in_one_file():
    plan = ShufflePlan(seed=5, rows_per_file=4, kept=KEPT)
    assert [(s, n, r) for s, n, r in plan.files] == [
        *[(0, n, r) for n, r in enumerate([4, 4, 4, 4, 1])],
        *[(1, n, r) for n, r in enumerate([4, 4])],
    ]
    expected = [(file, row) for file, (_, _, rows) in enumerate(plan.files) for row in range(rows)]
    assert [place[:2] for place in placed(plan)] == expected


def test_offsets_of_the_scattered_rows_agree_with_their_destinations():
    plan = ShufflePlan(seed=5, rows_per_file=4, kept=KEPT)
    counted = np.zeros((len(KEPT), len(plan.files)), np.int64)
    for file, _, part, _ in placed(plan):
        counted[part, file] += 1
    assert np.array_equal(np.diff(plan.bucket_offsets(), axis=1), counted)
    assert not plan.bucket_offsets()[:, 0].any()


def test_the_order_is_that_of_the_seed_and_far_from_the_genomes():
    kept = np.array([[400, 0], [600, 0]])
    plans = [ShufflePlan(seed=seed, rows_per_file=100, kept=kept) for seed in (0, 0, 1)]
    first, again, other = ([place[2:] for place in placed(plan)] for plan in plans)
    assert first == again
    assert first != other
    position = plans[0].permutation(0)
    assert abs(np.corrcoef(position, np.arange(1000))[0, 1]) < 0.1
    assert np.array_equal(np.sort(position), np.arange(1000))


def test_a_part_fits_in_memory_whatever_the_step():
    sizes = {"chunk_bp": 100_000, "window_bp": 1000, "row_bytes": 1800, "chunk_bytes": 163_500}
    few, many = (planning.chunks_per_part(step_bp=step, **sizes) for step in (1, 1000))
    assert few == 1
    assert 100 < many <= planning.MAX_CHUNKS_PER_PART
    assert many * (163_500 + 100 * 1800) <= planning.PART_BYTES
