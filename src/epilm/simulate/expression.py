"""Expression from the promoter's state and its bound motifs: the function that the regressors are to find."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from epilm.simulate.grammar import OPEN_STATES


def noiseless_expression(
    promoter_state: ArrayLike, carried: ArrayLike, state_effect: ArrayLike, motif_effect: ArrayLike
) -> NDArray[np.float64]:
    """Log expression without noise: the state's effect, and in open states the sum of the carried motifs' effects.

    A motif acts only where its promoter is open, so DNA alone cannot tell the expression in a given cell type.

    Args:
        promoter_state: [..., G] state at the TSS.
        carried: [G, T] whether a gene's promoter carries each factor's motif.
        state_effect: [S].
        motif_effect: [T].

    Returns:
        [..., G].
    """
    promoter_state = np.asarray(promoter_state)
    bound = np.asarray(carried, dtype=np.float64) @ np.asarray(motif_effect, dtype=np.float64)
    return np.asarray(state_effect, dtype=np.float64)[promoter_state] + np.isin(promoter_state, OPEN_STATES) * bound
