"""What EBERT+ reads beside the states: summits of DNase where factors sit, and where reads can be placed at all.

Everything here draws from seeds of its own, so that a genome with these tracks is the genome without them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from epilm.simulate.dna import Sites, bound_sites
from epilm.simulate.grammar import OPEN_STATES
from epilm.simulate.layout import Layout
from epilm.simulate.recipe import SimulateRecipe

_SUMMITS, _REPEATS = 3, 4
"""Spawn keys beside those of the grammar (0), the contigs (1) and the tracks (2)."""

_REPEAT_BP = 600
"""Mean length of a stretch to which reads cannot be placed: between a short and a long interspersed repeat."""


def make_dnase(
    track: NDArray[np.float32],
    layout: Layout,
    sites: Sites,
    cell: int,
    recipe: SimulateRecipe,
    number: int,
) -> NDArray[np.float32]:
    """[steps] a track of the states' levels (:func:`~epilm.simulate.signals.make_track`) with its summits, and without
    reads where none can be placed.

    A summit multiplies the level of a step by ``1 + (height - 1) exp(-d^2 / 2 s^2)``, d from the site's centre to the
    step's middle and s a third of ``dnase.reach_bp``, beyond which it ends; where two overlap, the higher one counts.
    Decoys are drawn as bound sites are, so that a summit alone does not tell a site.
    """
    dnase, step_bp = recipe.dnase, recipe.track_step_bp
    rng = _generator(recipe, _SUMMITS, number, cell)
    bound = bound_sites(layout, sites, recipe.bin_bp)[cell]
    centres = sites.start[bound] + recipe.motif_bp / 2
    open_bins = np.flatnonzero(np.isin(layout.states[cell], OPEN_STATES))
    decoy = open_bins[rng.random(len(open_bins)) < dnase.decoys_per_open_bin]
    centres = np.concatenate([centres, (decoy + rng.random(len(decoy))) * recipe.bin_bp])
    heights = 1 + (dnase.summit - 1) * np.exp(0.25 * rng.standard_normal(len(centres)))

    most = -(-dnase.reach_bp // step_bp)
    steps = (centres // step_bp).astype(np.int64)[:, None] + np.arange(-most, most + 1)
    distance = (steps + 0.5) * step_bp - centres[:, None]
    fold = 1 + (heights[:, None] - 1) * np.exp(-0.5 * (3 * distance / dnase.reach_bp) ** 2)
    used = (np.abs(distance) <= dnase.reach_bp) & (steps >= 0) & (steps < len(track))
    profile = np.ones(len(track))
    np.maximum.at(profile, steps[used], fold[used])
    result = (track * profile).astype(np.float32)
    if recipe.mappability:
        result[(make_mappability(layout, recipe, number) == 0) & np.isfinite(result)] = 0
    return result


def make_mappability(layout: Layout, recipe: SimulateRecipe, number: int) -> NDArray[np.float32]:
    """[steps] 1 where a read can be placed, 0 in ``repeat_share`` of the steps, NaN in the gap; one for all cell types."""
    rng = _generator(recipe, _REPEATS, number)
    step_bp = recipe.track_step_bp
    num_steps = layout.num_bins * (recipe.bin_bp // step_bp)
    # stretches may overlap: n of them leave (1 - length / total)^n of the steps
    wanted = -np.log1p(-recipe.repeat_share) * num_steps * step_bp / _REPEAT_BP
    num = rng.poisson(wanted)
    first = rng.integers(num_steps, size=num)
    last = np.minimum(first + np.ceil(rng.exponential(_REPEAT_BP, num) / step_bp).astype(np.int64), num_steps)
    change = np.zeros(num_steps + 1, np.int64)
    np.add.at(change, first, 1)
    np.add.at(change, last, -1)
    values = np.where(np.cumsum(change)[:num_steps] > 0, 0, 1).astype(np.float32)
    values[: layout.gap_bins * (recipe.bin_bp // step_bp)] = np.nan
    return values


def _generator(recipe: SimulateRecipe, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(recipe.seed, spawn_key=key)))
