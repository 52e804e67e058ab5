"""A digest of the samples of a step: proof in every metrics record that nothing was lost, repeated or mixed up.

The digest is a sum of hashes, so it does not depend on how the samples were spread over workers; a test computes the
expected one from the order alone.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from epilm.hashing import hash_u64

_LEDGER = 21


def samples_digest(table: pa.Table) -> int:
    """Sum (modulo 2^64, as int64) over rows of the hash of all int64 columns by name order (position, locus, cell)."""
    names = sorted(f.name for f in table.schema if f.type == pa.int64())
    return digest_of(*(table.column(name).to_numpy() for name in names))


def digest_of(*columns: np.ndarray) -> int:
    """Digest of identity columns given in the order of their names."""
    with np.errstate(over="ignore"):
        return int(hash_u64(_LEDGER, *columns).sum(dtype=np.uint64).view(np.int64))
