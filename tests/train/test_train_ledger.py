"""The digest of a step's samples: the same for any spread over workers, another for any change."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from epilm.train.ledger import digest_of, samples_digest

rows = st.lists(st.tuples(*[st.integers(-1, 2**40)] * 3), min_size=2, max_size=30, unique=True)


def table_of(samples: list[tuple[int, int, int]]) -> pa.Table:
    position, locus, cell = (np.array(column, dtype=np.int64) for column in zip(*samples, strict=True))
    return pa.table({"position": position, "locus": locus, "cell": cell, "dna": pa.array([b"ACGT"] * len(position))})


def total(*digests: int) -> int:
    """As the workers' all-reduce adds them: int64 that wraps."""
    return (sum(digests) + 2**63) % 2**64 - 2**63


@settings(max_examples=60, deadline=None)
@given(samples=rows, data=st.data())
def test_digest_is_the_sum_over_any_spread(samples, data) -> None:
    cut = data.draw(st.integers(1, len(samples) - 1))
    shuffled = data.draw(st.permutations(samples))
    whole = samples_digest(table_of(samples))
    assert -(2**63) <= whole < 2**63
    assert total(samples_digest(table_of(shuffled[:cut])), samples_digest(table_of(shuffled[cut:]))) == whole


@settings(max_examples=60, deadline=None)
@given(samples=rows, data=st.data())
def test_any_change_changes_the_digest(samples, data) -> None:
    whole = samples_digest(table_of(samples))
    row, column = data.draw(st.integers(0, len(samples) - 1)), data.draw(st.integers(0, 2))
    other = list(samples[row])
    other[column] += data.draw(st.integers(1, 5))
    changed = [*samples[:row], tuple(other), *samples[row + 1 :]]
    assert samples_digest(table_of(changed)) != whole
    assert samples_digest(table_of(samples[:-1])) != whole, "a sample lost"
    assert samples_digest(table_of([*samples, samples[0]])) != whole, "a sample repeated"


def test_swapped_cells_are_seen() -> None:
    """The columns belong together: the same loci and the same cells in other pairs are other samples."""
    assert samples_digest(table_of([(0, 7, 1), (1, 8, 2)])) != samples_digest(table_of([(0, 7, 2), (1, 8, 1)]))


def test_literal_digest() -> None:
    """Metrics of different versions can be compared. Columns go by name: cell, locus, position."""
    table = table_of([(0, 7, 1), (1, 8, 2)])
    assert (
        samples_digest(table) == digest_of(np.array([1, 2]), np.array([7, 8]), np.array([0, 1])) == 6929141363751356881
    )
