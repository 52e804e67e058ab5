"""Negatives by kind: anywhere, or partly where chromatin is open, which are the ones that a model confuses."""

from __future__ import annotations

import numpy as np

from epilm.corpus.gather import ContigReader
from epilm.corpus.manifest import CorpusManifest
from epilm.errors import RecipeError
from epilm.labels.grid import BinGrid, GridContig
from epilm.labels.runs import Runs
from epilm.models.binding_config import TrackConfig
from epilm.storage import Location
from epilm.tasks.binding_recipe import AccessibleConfig, SamplingConfig
from epilm.tasks.binding_sampling import CellBins, Stratum
from epilm.tasks.binding_split import BindingSplit

_CHUNKS_AT_ONCE = 32


def negative_strata(
    corpus: Location, split: BindingSplit, negatives: CellBins, num_positives: int, config: SamplingConfig
) -> tuple[Stratum, ...]:
    """What an epoch draws from the negatives of each cell type that is trained on.

    Raises:
        RecipeError: no negative is accessible, or all are.
    """
    total = round(config.negatives_per_positive * num_positives)
    if not total:
        setting = split.beside("sampling.negatives_per_positive")
        raise RecipeError(
            f"{setting}={config.negatives_per_positive:g} of {num_positives:,} positives is no negative. Give more."
        )
    if config.accessible is None:
        return (Stratum(negatives, total),)
    grid, cell_types = split.labels.grid, split.train_cell_types
    accessible = accessible_bins(corpus, split.manifest, grid, negatives, cell_types, config.accessible)
    inside = CellBins(tuple(a.intersect(b) for a, b in zip(negatives.runs, accessible, strict=True)))
    outside = CellBins(tuple(a.subtract(b) for a, b in zip(negatives.runs, accessible, strict=True)))
    if not inside.size or not outside.size:
        raise RecipeError(
            f"{split.beside('sampling.accessible')} makes {inside.size:,} of {negatives.size:,} negatives accessible: nothing is "
            "left to draw from on one side. Name other states or another at_least, or leave it out."
        )
    quota = round(config.accessible_share * total)
    return Stratum(inside, quota), Stratum(outside, total - quota)


def accessible_bins(
    corpus: Location,
    manifest: CorpusManifest,
    grid: BinGrid,
    within: CellBins,
    cell_types: tuple[str, ...],
    config: AccessibleConfig,
) -> tuple[Runs, ...]:
    """Accessible bins of every cell type, on the contigs that ``within`` touches."""
    reader = ContigReader(corpus, manifest)
    found: list[list[Runs]] = [[Runs.empty()] for _ in cell_types]
    for contig in grid.contigs:
        mine = Runs.of(np.array([contig.offset]), np.array([contig.offset + contig.num_bins]))
        if not any(runs.intersect(mine) for runs in within.runs):
            continue
        open_CN, unit_bp, first_bp = _open_units(
            reader, manifest, contig, grid.bin_bp, grid.step_bp, cell_types, config
        )
        start = contig.first_bp + np.arange(contig.num_bins) * grid.step_bp - first_bp
        for cell, is_open in enumerate(open_CN):
            before = np.concatenate([[0], np.cumsum(is_open)])
            hits = before[(start + grid.bin_bp - 1) // unit_bp + 1] > before[start // unit_bp]
            found[cell].append(Runs.from_mask(hits, contig.offset))
    return tuple(runs[0].union(*runs[1:]) for runs in found)


def _open_units(
    reader: ContigReader,
    manifest: CorpusManifest,
    contig: GridContig,
    bin_bp: int,
    step_bp: int,
    cell_types: tuple[str, ...],
    config: AccessibleConfig,
) -> tuple[np.ndarray, int, int]:
    """(bool [cells, units], bases of a unit, first base): where a contig is open, by states or by signal."""
    unit_bp = manifest.bin_bp if config.states else manifest.signal_bp
    length_bp = manifest.chunk_bp
    first_bp = contig.first_bp // length_bp * length_bp
    end_bp = contig.first_bp + (contig.num_bins - 1) * step_bp + bin_bp
    starts = np.arange(first_bp, end_bp, length_bp)
    parts = []
    for at in range(0, len(starts), _CHUNKS_AT_ONCE):
        some = starts[at : at + _CHUNKS_AT_ONCE]
        gathered = reader.gather(np.full(len(some), contig.name, object), some, length_bp)
        if config.states:
            codes = [manifest.state_names.index(name) for name in config.states]
            rows = [manifest.cell_types.index(name) for name in cell_types]
            assert gathered.states is not None
            is_open = np.isin(gathered.states[:, rows], codes)
        else:
            rows = [_signal_row(manifest, config.signal or "", name) for name in cell_types]
            assert gathered.signals is not None
            is_open = gathered.signals[:, rows] >= config.at_least  # no data is not open
        whole = is_open[:, :, : length_bp // unit_bp]  # a gathered stretch has one bin more than it covers
        parts.append(whole.swapaxes(0, 1).reshape(len(cell_types), -1))
    return np.concatenate(parts, axis=1), unit_bp, first_bp


def _signal_row(manifest: CorpusManifest, signal: str, cell_type: str) -> int:
    name = TrackConfig(signal=signal).signal_for(cell_type)
    return [track.name for track in manifest.signals].index(name)
