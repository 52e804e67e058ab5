"""Labels of a corpus from any kind of source: checked cheaply first, then read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from epilm.corpus.manifest import CorpusManifest
from epilm.errors import CorpusError
from epilm.genome import files
from epilm.genome.annotation import read_blacklist
from epilm.labels.from_dream import files_of, gather_dream, measured_in_dream
from epilm.labels.from_peaks import gather_files, gather_table, measured_in_files, measured_in_table, paths_of
from epilm.labels.gathered import Gathered, Names, choose_names
from epilm.labels.grid import BinGrid
from epilm.labels.label_set import LabelSet
from epilm.labels.peaks import place_regions, read_peak_table
from epilm.labels.recipe import DreamLabels, LabelsConfig, PeakFileLabels, PeakTableLabels, SavedLabels
from epilm.labels.rule import blacklisted_bins
from epilm.labels.saved import LABELS_FILE, RUNS_FILE, LabelsManifest, check_saved, gather_saved, measured_in_saved

Progress = Callable[[str], None]


@dataclass(frozen=True)
class OpenLabels:
    """Sources that are there and whose names fit the corpus; label files are not read yet beyond their headers."""

    config: LabelsConfig
    manifest: CorpusManifest
    grid: BinGrid
    names: Names
    paths: tuple[str, ...]
    """Every file that the labels come from."""
    opened: pd.DataFrame | LabelsManifest | None = None
    """What had to be read to know the names: a table of peaks, the description of saved labels."""


@dataclass(frozen=True)
class ReadLabels:
    """Labels, and what is to be told of how they came about."""

    labels: LabelSet
    contig_names: dict[str, dict[str, str]]
    """Path -> name of a contig in the file -> name in the corpus."""
    notes: tuple[str, ...]


def load_labels(
    config: LabelsConfig, manifest: CorpusManifest, *, progress: Progress = lambda message: None
) -> LabelSet:
    """The labels of a corpus.

    Cell types come in the corpus' order (in that of the labels where the corpus has none), targets in that of
    ``config.targets`` or the source.

    Raises:
        GenomeError: a file is missing, malformed, or of another assembly.
        CorpusError: a cell type, target or contig that labels or corpus lack; a target without a single bound bin.
        RecipeError: settings under which nothing could be bound.
    """
    read = read_labels(open_labels(config, manifest), progress=progress)
    for note in read.notes:
        progress(f"labels: {note}")
    return read.labels


def open_labels(config: LabelsConfig, manifest: CorpusManifest) -> OpenLabels:
    """Check what can be checked without reading everything; raises as :func:`load_labels`."""
    opened = None
    bins = config
    if isinstance(config, PeakFileLabels):
        measured, source = measured_in_files(config), "labels.files"
    elif isinstance(config, PeakTableLabels):
        opened, source = read_peak_table(config.path), config.path
        measured = measured_in_table(opened)
    elif isinstance(config, DreamLabels):
        measured, source = measured_in_dream(config), "labels.files"
    else:
        bins = opened = check_saved(config, manifest)
        measured, source = measured_in_saved(opened), config.path
    names = choose_names(config, dict(measured), manifest, source=source)
    paths = _paths(config, names)
    for path in paths:
        if not isinstance(config, SavedLabels) or path == config.blacklist:
            files.content_kind(path)
    grid = BinGrid.of(manifest, bins.bin_bp, bins.step_bp)  # pyright: ignore[reportAttributeAccessIssue]
    return OpenLabels(config, manifest, grid, names, paths, opened)


def read_labels(opened: OpenLabels, *, progress: Progress = lambda message: None) -> ReadLabels:
    """Read the sources; raises as :func:`load_labels`."""
    config, manifest, grid, names = opened.config, opened.manifest, opened.grid, opened.names
    if isinstance(config, PeakFileLabels):
        found = gather_files(config, manifest, grid, names)
    elif isinstance(config, PeakTableLabels):
        assert isinstance(opened.opened, pd.DataFrame)
        found = gather_table(config, opened.opened, manifest, grid, names)
    elif isinstance(config, DreamLabels):
        found = gather_dream(config, manifest, grid, names, progress)
    else:
        assert isinstance(opened.opened, LabelsManifest)
        found = gather_saved(config, opened.opened, manifest, grid, names)
    if config.blacklist is not None:
        _add_blacklist(found, config.blacklist, manifest, grid)
    labels = LabelSet.build(
        grid,
        names.cell_types,
        names.targets,
        bound=found.bound,
        ambiguous=found.ambiguous,
        excluded=found.excluded,
        unlabelled=found.unlabelled,
    )
    _check_positives(labels, found, manifest)
    return ReadLabels(labels, found.contig_names, tuple(dict.fromkeys(found.notes)))


def _paths(config: LabelsConfig, names: Names) -> tuple[str, ...]:
    if isinstance(config, PeakFileLabels):
        paths: Sequence[str] = paths_of(config, names)
    elif isinstance(config, PeakTableLabels):
        paths = (config.path,)
    elif isinstance(config, DreamLabels):
        paths = [path for target in names.targets for path in files_of(config, target)]
    else:
        paths = (f"{config.path}/{LABELS_FILE}", f"{config.path}/{RUNS_FILE}")
    return tuple(dict.fromkeys([*paths, *([config.blacklist] if config.blacklist else [])]))


def _add_blacklist(found: Gathered, path: str, manifest: CorpusManifest, grid: BinGrid) -> None:
    regions, found.contig_names[path], _ = place_regions(read_blacklist(path), manifest, source=path)
    columns = (regions[name].to_numpy() for name in ("contig", "start", "end"))
    bins = blacklisted_bins(grid, *columns)
    found.excluded = found.excluded.union(bins)
    found.notes.append(f"{path} excludes {bins.size:,} of {grid.num_bins:,} bins")


def _check_positives(labels: LabelSet, found: Gathered, manifest: CorpusManifest) -> None:
    """Refuse targets that are bound nowhere; note the pairs that are not."""
    bare = [pair for pair, runs in labels.bound.items() if not runs]
    bound = {target for (_, target), runs in labels.bound.items() if runs}
    without = [target for target in labels.targets if target not in bound]
    if without:
        rest = ", ".join(target for target in labels.targets if target in bound)
        raise CorpusError(
            f"no bin of the corpus {manifest.name} ({', '.join(labels.grid.names[:5])}) is bound by "
            f"{', '.join(without)}: nothing could be learned or scored. "
            + (f"Take the others: targets: [{rest}]." if rest else "Use labels of these contigs.")
        )
    if bare:
        found.notes.append("no bound bin: " + ", ".join(f"{target} in {cell}" for cell, target in sorted(bare)))
