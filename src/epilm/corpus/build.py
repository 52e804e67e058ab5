"""Build a corpus with Ray Data: contigs, then windows scattered by file, then every file put into its shuffled order.

The shuffle is exact and global, in two stages, because reading windows at random from the contigs view would read every
chunk about as often as it has windows. Each stage maps tasks over numbered shards (:mod:`epilm.corpus.shards`); a
stage's tasks hold one part or one file at a time, whatever the genome's size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from epilm.corpus import plan as planning
from epilm.corpus.check import asks_held_out, checked_layout, no_window_left
from epilm.corpus.inputs import absolute
from epilm.corpus.manifest import CorpusFile, CorpusManifest, SourceFile, read_manifest, write_manifest
from epilm.corpus.parts import BUILD_FOLDER, Layout
from epilm.corpus.plan import SPLITS, ShufflePlan
from epilm.corpus.recipe import CorpusRecipe
from epilm.corpus.schema import CONTIGS, MANIFEST_FILE, WINDOWS
from epilm.corpus.shards import Record, ScatterWindows, WriteContigs, WriteWindows
from epilm.corpus.tasks import run_tasks
from epilm.errors import CheckpointError
from epilm.runs import OnExisting, open_run
from epilm.storage import Location

Progress = Callable[[str], None]

SOURCES_FILE = "sources.json"
"""In the build folder: checksums of the inputs that a build was begun with."""


def build_corpus(
    recipe: CorpusRecipe, *, on_existing: OnExisting = "refuse", progress: Progress = lambda message: None
) -> CorpusManifest:
    """Build ``<storage>/<name>/`` inside an open Ray session; return its manifest.

    The result is the same, byte for byte, for any number of workers, uninterrupted or resumed. ``manifest.json`` is
    written last: a folder without one is an unfinished corpus, which ``on_existing="resume"`` continues at the first
    unfinished shard. Resuming a finished corpus checks its files, and builds it again where one is damaged.

    Raises:
        GenomeError, CorpusError: the input is wrong, or no window is left; nothing was written.
        StorageError: the storage is not writable, too small, or full; finished shards stay and can be resumed from.
        RunExistsError, CheckpointError: see :func:`epilm.runs.open_run`.
    """
    layout = checked_layout(recipe)
    for note in layout.inputs.notes:
        progress(note)
    run = open_run(recipe, stage="corpus", on_existing=on_existing)
    folder = layout.folder
    manifest = _finished(folder, progress)
    if manifest is None:
        manifest, composition = _build(layout, progress)
        write_manifest(folder, manifest)
    else:
        composition = run.result.read_json().get("state_composition", {}) if run.result.exists() else {}
    _clean(folder, manifest)
    run.finish(summarize(manifest) | {"state_composition": composition})
    return manifest


def _finished(folder: Location, progress: Progress) -> CorpusManifest | None:
    """The manifest of a corpus that is complete and intact; None where there is something to build.

    A damaged corpus becomes an unfinished one, that must be built from the same sources.
    """
    if not (folder / MANIFEST_FILE).exists():
        return None
    manifest = read_manifest(folder)
    sizes = [file.bytes / 1e6 for file in manifest.files]
    records = run_tasks(_HashFile(folder, manifest.files), sizes, "checksums of the corpus", progress, unit="MB")
    damaged = [
        file.path for file, found in zip(manifest.files, records, strict=True) if found.get("sha256") != file.sha256
    ]
    if not damaged:
        progress(f"{folder} is complete already")
        return manifest
    progress(f"{', '.join(damaged[:3])} ({len(damaged)} files) damaged or missing: building the corpus again")
    _write_sources(folder, manifest.sources)
    (folder / MANIFEST_FILE).delete()
    return None


def _build(layout: Layout, progress: Progress) -> tuple[CorpusManifest, dict[str, dict[str, float]]]:
    """The manifest, and the share of each state in each cell type's bins."""
    folder, recipe = layout.folder, layout.recipe
    for name in ("contigs", "tables", "scatter", "windows"):
        (folder / BUILD_FOLDER / name).mkdir()
    sources = _record_sources(layout, progress)
    mb = [(part.end_bp - part.start_bp) / 1e6 for part in layout.parts]
    contigs = run_tasks(WriteContigs(layout), mb, "contigs", progress, unit="Mb")
    dropped = sum((Counter(record["dropped"]) for record in contigs), Counter())
    kept = np.array([record["kept"] for record in contigs], np.int64)
    for split in [planning.TRAIN] + [planning.HELD_OUT] * asks_held_out(recipe):
        if not kept[:, split].any():
            raise no_window_left(recipe, split, dropped)
    contig_files = _contig_files(layout, contigs)
    layout = replace(layout, manifest=layout.manifest.model_copy(update={"files": contig_files}))
    shuffle = ShufflePlan(recipe.seed, layout.rows_per_file, kept)
    run_tasks(ScatterWindows(layout, shuffle), kept.sum(axis=1), "windows, scattered", progress, unit="windows")
    task = WriteWindows(layout, shuffle.files, shuffle.bucket_offsets())
    rows = [rows for _, _, rows in shuffle.files]
    windows = run_tasks(task, rows, "windows, shuffled", progress, unit="windows")
    window_files = tuple(_file(record, WINDOWS, record["split"]) for record in windows)
    manifest = layout.manifest.model_copy(
        update={
            "files": window_files + contig_files,
            "windows_dropped": {name: dropped[name] for name in planning.DROP_REASONS},
            "sources": sources,
        }
    )
    return manifest, _composition(manifest, contigs)


def _composition(manifest: CorpusManifest, records: list[Record]) -> dict[str, dict[str, float]]:
    if not manifest.cell_types:
        return {}
    bins = np.sum([record["state_bins"] for record in records], axis=0)
    shares = bins / np.maximum(bins.sum(axis=1, keepdims=True), 1)
    return {
        cell: dict(zip(manifest.state_names, row.round(6).tolist(), strict=True))
        for cell, row in zip(manifest.cell_types, shares, strict=True)
    }


def _contig_files(layout: Layout, records: list[Record]) -> tuple[CorpusFile, ...]:
    split_of = {contig.name: contig.split for contig in layout.manifest.contigs}
    pairs = zip(layout.parts, records, strict=True)
    return tuple(_file(record, CONTIGS, split_of[part.contig]) for part, record in pairs)


def _file(record: Record, view: str, split: str) -> CorpusFile:
    return CorpusFile.model_validate(
        {key: record[key] for key in ("path", "rows", "row_group_rows", "bytes", "sha256")}
        | {"view": view, "split": split}
    )


@dataclass(frozen=True)
class _HashSource:
    """Task i: the checksum of source i."""

    paths: tuple[str, ...]

    def __call__(self, index: int) -> Record:
        location = Location(self.paths[index])
        return {"bytes": location.size(), "sha256": location.sha256()}


@dataclass(frozen=True)
class _HashFile:
    """Task i: the checksum of file i of a corpus; nothing where it is missing or of another size."""

    folder: Location
    files: tuple[CorpusFile, ...]

    def __call__(self, index: int) -> Record:
        location = self.folder / self.files[index].path
        if not location.exists() or location.size() != self.files[index].bytes:
            return {}
        return {"sha256": location.sha256()}


def _record_sources(layout: Layout, progress: Progress) -> tuple[SourceFile, ...]:
    """Checksums of all sources, compared with those that the build was begun with."""
    # made absolute here: workers run in folders of their own
    paths = tuple(absolute(path) for path, _ in layout.inputs.sources)
    sizes = [Location(path).size() / 1e6 for path in paths]
    records = run_tasks(_HashSource(paths), sizes, "checksums of the sources", progress, unit="MB")
    named = zip(layout.inputs.sources, records, strict=True)
    sources = tuple(SourceFile(path=path, contig_names=names, **record) for (path, names), record in named)
    known = layout.folder / BUILD_FOLDER / SOURCES_FILE
    if known.exists():
        before = {item["path"]: item["sha256"] for item in known.read_json()}
        changed = [source.path for source in sources if before.get(source.path) != source.sha256]
        if changed:
            raise CheckpointError(
                f"cannot resume {layout.folder}: {', '.join(changed)} changed since it was begun. Use --overwrite."
            )
    else:
        _write_sources(layout.folder, sources)
    return sources


def _write_sources(folder: Location, sources: tuple[SourceFile, ...]) -> None:
    (folder / BUILD_FOLDER).mkdir()
    (folder / BUILD_FOLDER / SOURCES_FILE).write_json([source.model_dump(mode="json") for source in sources])


def _clean(folder: Location, manifest: CorpusManifest) -> None:
    """Leave only what the manifest lists in the views: a killed writer may have left half a file beside."""
    (folder / BUILD_FOLDER).delete()
    listed = {file.path for file in manifest.files}
    for path in {path.rsplit("/", 1)[0] for path in listed}:
        for name in (folder / path).children():
            if f"{path}/{name}" not in listed:
                (folder / path / name).delete()


def summarize(manifest: CorpusManifest) -> dict[str, Any]:
    """The counts of ``result.json``."""
    sizes = {view: sum(file.bytes for file in manifest.select(view)) for view in (WINDOWS, CONTIGS)}
    genome_bp = sum(contig.end_bp - contig.start_bp for contig in manifest.contigs)
    num_windows = sum(manifest.num_windows(split) for split in SPLITS)
    return {
        "stage": "corpus",
        "num_windows": {split: manifest.num_windows(split) for split in SPLITS},
        "windows_dropped": manifest.windows_dropped,
        "num_cell_types": len(manifest.cell_types),
        "num_states": len(manifest.state_names),
        "genome_bp": genome_bp,
        "bytes": sizes,
        "window_bytes_per_locus": sizes[WINDOWS] / num_windows,
        "contig_bytes_per_locus": sizes[CONTIGS] / genome_bp * manifest.window_bp,
        "corpus_fingerprint": manifest.fingerprint(),
    }
