"""The error of the published GeneMask, Global-PMI and CM programs, for the reproduction of their runs alone.

They look a rank up by ``tokenizer.decode`` of the k-mer's *position number* instead of the k-mer there. So the rank of
position i is that of whatever k-mer has the token id i, and the masks do not depend on the sequence. Position 0 is CLS;
the vocabulary counts its k-mers in the order A, T, C, G. What has no rank, such as the special token whose id is a
position below 5, comes first in GeneMask (a dictionary's default of 0) and last in the curriculum's programs.
"""

from __future__ import annotations

import numpy as np

from epilm.tokens.orders import inverse, published_rows
from epilm.tokens.vocab import NUM_SPECIAL


def rank_of_position(rank: np.ndarray, k: int, *, special: int) -> np.ndarray:
    """The rank that the published programs take for the k-mer in each column (column 0 is position 1, behind CLS).

    Args:
        rank: int32 ``[4**k]`` by k-mer code (A, C, G, T order).
        special: the rank of special tokens.

    Returns:
        int32 ``[4**k + NUM_SPECIAL - 1]``.
    """
    of_id = np.concatenate(
        [np.full(NUM_SPECIAL, special, np.int32), rank[inverse(published_rows(k))[NUM_SPECIAL:] - NUM_SPECIAL]]
    )
    return of_id[1:]
