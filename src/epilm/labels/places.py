"""Parts of a genome as a user names them: a contig, or ``chrom:start-end`` of one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from epilm.corpus.recipe import parse_region
from epilm.errors import RecipeError
from epilm.labels.grid import BinGrid
from epilm.labels.runs import Runs

Place = tuple[str, int | None, int | None]
"""(contig, start, end), 0-based half-open; None = the whole contig."""


def read_places(names: Iterable[str], known: Iterable[str], *, setting: str) -> list[Place]:
    """Contigs and regions by their names.

    Args:
        known: contigs of the corpus.
        setting: what gave the names, for messages.

    Raises:
        RecipeError: neither a contig of the corpus nor a region of one.
    """
    contigs, places = list(known), []
    for name in names:
        if name in contigs:
            places.append((name, None, None))
            continue
        try:
            place = parse_region(name)
        except ValueError:
            place = ("", 0, 0)
        if place[0] not in contigs:
            raise RecipeError(
                f"{setting}: {name!r} is neither a contig of the corpus nor a region of one (chrom:start-end). Contigs: "
                f"{', '.join(contigs[:12])}{', ...' if len(contigs) > 12 else ''}."
            )
        places.append(place)
    return places


def bins_within(grid: BinGrid, places: Iterable[Place]) -> Runs:
    """Bins that lie wholly in one of the places."""
    return _select(grid, places, touching_bp=None)


def bins_near(grid: BinGrid, places: Iterable[Place], distance_bp: int) -> Runs:
    """Bins with a base less than ``distance_bp`` from a place (0: in it); of a whole contig all bins."""
    return _select(grid, places, touching_bp=distance_bp)


def _select(grid: BinGrid, places: Iterable[Place], touching_bp: int | None) -> Runs:
    ranges = []
    for name, start, end in places:
        contig = grid.contig(name)
        first, last = 0, contig.num_bins
        if start is not None and end is not None:
            if touching_bp is None:
                low, high = start, end - grid.bin_bp
            else:  # start + bin_bp + touching > region's start, start - touching < region's end
                low, high = start - grid.bin_bp - touching_bp + 1, end + touching_bp - 1
            first = max(first, -(-(low - contig.first_bp) // grid.step_bp))
            last = min(last, (high - contig.first_bp) // grid.step_bp + 1)
        ranges.append((contig.offset + first, contig.offset + max(first, last)))
    array = np.array(ranges, np.int64).reshape(-1, 2)
    return Runs.of(array[:, 0], array[:, 1])
