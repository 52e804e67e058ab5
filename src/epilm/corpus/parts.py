"""One part of a contig, read from the genome's files: its bases and bins, and which windows are kept of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from epilm.corpus import plan as planning
from epilm.corpus.inputs import Inputs
from epilm.corpus.manifest import CorpusManifest
from epilm.corpus.plan import Part
from epilm.corpus.recipe import CorpusRecipe
from epilm.corpus.schema import BASE_N, CONTIGS, NO_STATE
from epilm.storage import Location

BUILD_FOLDER = ".build"
"""Records, window tables and scattered windows of an unfinished build, inside the corpus's folder."""
FILE_BYTES = 256 << 20
"""Most bytes of windows that a file holds before compression: a task keeps about three times as much in memory."""


@dataclass(frozen=True)
class Layout:
    """What every task of a build knows. Picklable."""

    folder: Location
    recipe: CorpusRecipe
    inputs: Inputs
    manifest: CorpusManifest
    """Without files: the corpus's shape."""
    parts: tuple[Part, ...]

    @property
    def row_dtype(self) -> np.dtype:
        return row_dtype(self.manifest)

    @property
    def rows_per_file(self) -> int:
        """Whole row groups; fewer than the recipe's where windows are so long that a file would not fit in memory."""
        group = self.recipe.rows_per_group
        fitting = max(1, FILE_BYTES // (group * self.row_dtype.itemsize))
        return group * min(self.recipe.groups_per_file, fitting)

    def part_path(self, part: Part) -> str:
        return f"{CONTIGS}/{quote(part.contig, safe='')}/part-{part.number:05d}.parquet"

    def record(self, kind: str, index: int) -> Location:
        return self.folder / BUILD_FOLDER / kind / f"{index:05d}.json"

    def table(self, index: int) -> Location:
        return self.folder / BUILD_FOLDER / "tables" / f"{index:05d}.npz"

    def bucket_path(self, index: int) -> str:
        return f"{BUILD_FOLDER}/scatter/{index:05d}.rows"


def row_dtype(manifest: CorpusManifest) -> np.dtype:
    """A scattered window: its place in its file, then what the windows view holds."""
    fields: list[tuple[Any, ...]] = [("row", "<i4"), ("contig", "<i4"), ("start", "<i8"), ("n_fraction", "<f4")]
    fields.append(("dna", "u1", (manifest.window_bp,)))
    if manifest.cell_types:
        fields.append(("states", "u1", (len(manifest.cell_types) * manifest.bins_per_window,)))
    if manifest.window_signals:
        fields.append(("signals", "<f4", (len(manifest.window_signals) * manifest.bins_per_window,)))
    return np.dtype(fields)


def read_part(
    layout: Layout, part: Part, *, with_signals: bool = True
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """DNA and bins of a part and of the window that may reach past its end.

    Returns:
        dna uint8 [bp], states uint8 [cells, bins], signals float32 [tracks, signal bins]; from ``part.start_bp``.
    """
    inputs, manifest = layout.inputs, layout.manifest
    contig = next(c for c in manifest.contigs if c.name == part.contig)
    # a window may begin at the last base; whole bins, so that none is judged by a part of its bases
    end = min(-(-(part.end_bp + manifest.window_bp) // manifest.bin_bp) * manifest.bin_bp, contig.end_bp)
    first = max(part.start_bp, contig.start_bp)
    dna = np.full(end - part.start_bp, BASE_N, np.uint8)
    dna[first - part.start_bp :] = inputs.sequence.fetch(part.contig, first, end)
    states = signals = None
    num_bins = -(-(end - part.start_bp) // manifest.bin_bp)
    if inputs.states is not None:
        states = inputs.states.read(part.contig, part.start_bp, end, manifest.bin_bp)
        assert states.shape == (len(manifest.cell_types), num_bins)
    if inputs.signals and with_signals:
        signals = np.stack([s.read(part.contig, part.start_bp, end, manifest.signal_bp) for s in inputs.signals])
        signals = signals.astype("<f4", copy=False)
    return dna, states, signals


def keep_windows(
    layout: Layout, part: Part, dna: np.ndarray, states: np.ndarray | None
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The kept windows of a part (start, n_fraction, split) and how many were dropped for which reason.

    Args:
        dna, states: as :func:`read_part` gives them.
    """
    recipe, manifest = layout.recipe, layout.manifest
    contig = next(c for c in manifest.contigs if c.name == part.contig)
    window_bp, bin_bp = manifest.window_bp, manifest.bin_bp
    held_out = planning.by_contig(manifest.held_out_regions)
    no_state = None if states is None else (states == NO_STATE).sum(axis=0)
    tables = [(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.int8), np.zeros(0, np.int8))]
    for start, end in planning.chunk_edges(part.start_bp, part.end_bp, manifest.chunk_bp):  # sums take 8 bytes a base
        starts = planning.window_starts(start, end, contig, window_bp=window_bp, step_bp=manifest.step_bp)
        if not len(starts):
            continue
        offset = starts - part.start_bp
        here, reach = offset[0], offset[-1] + window_bp
        n_fraction = planning.fraction_within(dna[here:reach] == BASE_N, offset - here, offset - here + window_bp)
        stateless = np.zeros(len(starts), np.float32)
        if no_state is not None:
            stateless = planning.fraction_within(no_state, offset // bin_bp, -(-(offset + window_bp) // bin_bp))
            stateless /= len(manifest.cell_types)
        split = planning.assign_split(starts, window_bp, contig, held_out)
        reason = planning.drop_reason(
            split < 0,
            n_fraction > recipe.max_n_fraction,
            planning.touches(starts, window_bp, part.contig, layout.inputs.blacklist),
            stateless > recipe.max_no_state_fraction,
        )
        tables.append((starts, n_fraction, split, reason))
    starts, n_fraction, split, reason = (np.concatenate(column) for column in zip(*tables, strict=True))
    kept = reason == planning.KEPT
    dropped = {name: int((reason == code).sum()) for code, name in enumerate(planning.DROP_REASONS, start=1)}
    return {"start": starts[kept], "n_fraction": n_fraction[kept], "split": split[kept]}, dropped
