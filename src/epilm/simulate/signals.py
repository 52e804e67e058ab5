"""Tracks as a sequencer would show them: levels by state, noise, and steps without data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from epilm.simulate.grammar import Grammar
from epilm.simulate.layout import NO_STATE
from epilm.simulate.recipe import SimulateRecipe


def make_track(
    states: NDArray[np.uint8], mark: int, recipe: SimulateRecipe, grammar: Grammar, rng: np.random.Generator
) -> NDArray[np.float32]:
    """[B * steps a bin] signal of one mark in one cell type; NaN in the gap and in a share of the steps.

    Log-normal round the state's level; half the variance is shared by a bin's steps, so that binning does not average
    all of the noise away.

    Args:
        states: [B] states of the cell type, 255 = no data.
    """
    steps = recipe.bin_bp // recipe.track_step_bp
    has_state = states != NO_STATE
    level = np.log(grammar.track_level[mark])[np.where(has_state, states, 0)].astype(np.float32)
    sd = np.float32(grammar.track_sd / np.sqrt(2))
    level += sd * rng.standard_normal(len(states), dtype=np.float32)
    signal = np.exp(level[:, None] + sd * rng.standard_normal((len(states), steps), dtype=np.float32))
    missing = rng.random(signal.shape, dtype=np.float32) < recipe.track_gap_share
    signal[missing | ~has_state[:, None]] = np.nan
    return signal.reshape(-1)
