"""Build a corpus with Ray Data: contigs, then windows scattered by file, then every file put into its shuffled order.

The shuffle is exact and global, in two stages, because reading windows at random from the contigs view would read every
chunk about as often as it has windows. Each stage maps tasks over numbered shards (:mod:`epilm.corpus.shards`); a
stage's tasks hold one part or one file at a time, whatever the genome's size.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from epilm.config import fingerprint
from epilm.corpus import plan as planning
from epilm.corpus.inputs import Inputs, absolute, open_inputs
from epilm.corpus.manifest import (
    CorpusFile,
    CorpusManifest,
    SignalTrack,
    SourceFile,
    read_manifest,
    write_manifest,
)
from epilm.corpus.plan import SPLITS, ShufflePlan
from epilm.corpus.recipe import CorpusRecipe
from epilm.corpus.schema import CONTIGS, MANIFEST_FILE, WINDOWS
from epilm.corpus.shards import BUILD_FOLDER, Layout, Record, ScatterWindows, WriteContigs, WriteWindows, row_dtype
from epilm.corpus.tasks import run_tasks
from epilm.errors import CheckpointError, CorpusError, StorageError
from epilm.runs import OnExisting, open_run
from epilm.storage import Location

COMPRESSED_SHARE = 0.4
"""Parquet bytes per raw byte, rounded up from the 0.25 - 0.35 of real genomes; for the free-space check alone."""

Progress = Callable[[str], None]


def build_corpus(
    recipe: CorpusRecipe, *, on_existing: OnExisting = "refuse", progress: Progress = lambda message: None
) -> CorpusManifest:
    """Build ``<storage>/<name>/`` inside an open Ray session; return its manifest.

    The result is the same, byte for byte, for any number of workers, uninterrupted or resumed. ``manifest.json`` is
    written last: a folder without one is an unfinished corpus, which ``on_existing="resume"`` continues at the first
    unfinished shard.

    Raises:
        GenomeError, CorpusError: the input is wrong, or no window is left; nothing was written in the first case.
        StorageError: the storage is not writable, too small, or full; finished shards stay and can be resumed from.
        RunExistsError, CheckpointError: see :func:`epilm.runs.open_run`.
    """
    inputs = open_inputs(recipe, progress)
    layout = plan_layout(recipe, inputs)
    check_space(layout)
    run = open_run(recipe, stage="corpus", on_existing=on_existing)
    folder = layout.folder
    if (folder / MANIFEST_FILE).exists():
        progress(f"{folder} is complete already")
        manifest = read_manifest(folder)
    else:
        manifest = _build(layout, progress)
        write_manifest(folder, manifest)
    _clean(folder, manifest)
    run.finish(summarize(manifest))
    return manifest


def plan_layout(recipe: CorpusRecipe, inputs: Inputs) -> Layout:
    """The shape of the corpus, before anything is read: its manifest without files, and the parts of its contigs."""
    manifest = CorpusManifest(
        name=recipe.name,
        assembly=recipe.assembly,
        contigs=inputs.contigs,
        held_out_regions=inputs.held_out_regions,
        window_bp=recipe.window_bp,
        step_bp=recipe.resolved_step_bp,
        bin_bp=recipe.bin_bp,
        chunk_bp=recipe.chunk_bp,
        max_n_fraction=recipe.max_n_fraction,
        cell_types=inputs.cell_types,
        held_out_cell_types=recipe.held_out_cell_types,
        state_names=inputs.states.state_names if inputs.states is not None else (),
        signals=tuple(
            SignalTrack(name=name, cell_type=s.cell_type, statistic=s.statistic, nan_policy=s.nan_policy)
            for name, s in recipe.signals.items()
        ),
        files=(),
        recipe_fingerprint=fingerprint(recipe.identity()),
    )
    num_chunks = planning.chunks_per_part(
        chunk_bp=manifest.chunk_bp,
        window_bp=manifest.window_bp,
        step_bp=manifest.step_bp,
        row_bytes=row_dtype(manifest).itemsize,
        chunk_bytes=chunk_bytes(manifest),
    )
    parts = planning.layout_parts(
        manifest.contigs, chunk_bp=manifest.chunk_bp, bin_bp=manifest.bin_bp, num_chunks=num_chunks
    )
    return Layout(Location(recipe.storage) / recipe.name, recipe, inputs, manifest, parts)


def chunk_bytes(manifest: CorpusManifest) -> int:
    """Uncompressed bytes of a whole chunk of the contigs view."""
    bins = manifest.chunk_bp // manifest.bin_bp
    return manifest.chunk_bp + bins * (len(manifest.cell_types) + 4 * len(manifest.signals))


def check_space(layout: Layout) -> int:
    """Bytes that the build needs at most, scattered rows included.

    Raises:
        StorageError: the local disk has less; before anything is written.
    """
    manifest = layout.manifest
    genome_bp = sum(contig.end_bp - contig.start_bp for contig in manifest.contigs)
    scattered = genome_bp // manifest.step_bp * row_dtype(manifest).itemsize
    views = scattered + genome_bp * chunk_bytes(manifest) // manifest.chunk_bp
    needed = int(scattered + COMPRESSED_SHARE * views)
    if layout.folder.is_local:
        place = Path(layout.folder.path)
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if free < needed:
            raise StorageError(
                f"building {layout.folder} needs about {needed / 1e9:.2f} GB, of which {scattered / 1e9:.2f} GB "
                f"only while it runs; {free / 1e9:.2f} GB are free there. Free some space or choose another storage."
            )
    return needed


def _build(layout: Layout, progress: Progress) -> CorpusManifest:
    folder = layout.folder
    for name in ("contigs", "tables", "scatter", "windows"):
        (folder / BUILD_FOLDER / name).mkdir()
    sources = _record_sources(layout, progress)
    contigs = run_tasks(WriteContigs(layout), len(layout.parts), "contigs", progress)
    dropped = sum((Counter(record["dropped"]) for record in contigs), Counter())
    kept = np.array([record["kept"] for record in contigs], np.int64)
    _check_kept(layout, kept.sum(axis=0), dropped)
    contig_files = _contig_files(layout, contigs)
    layout = Layout(
        folder, layout.recipe, layout.inputs, layout.manifest.model_copy(update={"files": contig_files}), layout.parts
    )
    shuffle = ShufflePlan(layout.recipe.seed, layout.recipe.rows_per_file, kept)
    run_tasks(ScatterWindows(layout, shuffle), len(layout.parts), "windows, scattered", progress)
    task = WriteWindows(layout, shuffle.files, shuffle.bucket_offsets())
    windows = run_tasks(task, len(shuffle.files), "windows, shuffled", progress)
    window_files = tuple(_file(record, WINDOWS, record["split"]) for record in windows)
    return layout.manifest.model_copy(
        update={
            "files": window_files + contig_files,
            "windows_dropped": {name: dropped[name] for name in planning.DROP_REASONS},
            "sources": sources,
        }
    )


def _contig_files(layout: Layout, records: list[Record]) -> tuple[CorpusFile, ...]:
    split_of = {contig.name: contig.split for contig in layout.manifest.contigs}
    pairs = zip(layout.parts, records, strict=True)
    return tuple(_file(record, CONTIGS, split_of[part.contig]) for part, record in pairs)


def _file(record: Record, view: str, split: str) -> CorpusFile:
    return CorpusFile.model_validate(
        {key: record[key] for key in ("path", "rows", "row_group_rows", "bytes", "sha256")}
        | {"view": view, "split": split}
    )


def _check_kept(layout: Layout, kept: np.ndarray, dropped: Counter[str]) -> None:
    """Both splits must have windows, where the recipe asks for both."""
    recipe = layout.recipe
    reasons = ", ".join(f"{count:,} by {name}" for name, count in dropped.items() if count) or "none was cut"
    mend = "Loosen max_n_fraction or max_no_state_fraction, check the blacklist, or take more contigs"
    if not kept[planning.TRAIN]:
        raise CorpusError(f"no training window is left after the filters ({reasons}). {mend}.")
    if (recipe.held_out_contigs or recipe.held_out_regions) and not kept[planning.HELD_OUT]:
        raise CorpusError(
            f"no held-out window is left after the filters ({reasons}): held_out_contigs="
            f"{list(recipe.held_out_contigs)}, held_out_regions={list(recipe.held_out_regions)}. {mend}."
        )


@dataclass(frozen=True)
class _HashSource:
    """Task i: the checksum of source i."""

    paths: tuple[str, ...]

    def __call__(self, index: int) -> Record:
        location = Location(absolute(self.paths[index]))
        return {"bytes": location.size(), "sha256": location.sha256()}


def _record_sources(layout: Layout, progress: Progress) -> tuple[SourceFile, ...]:
    """Checksums of all sources, compared with those that the build was begun with."""
    # made absolute here: workers run in folders of their own
    paths = tuple(absolute(path) for path, _ in layout.inputs.sources)
    records = run_tasks(_HashSource(paths), len(paths), "checksums of the sources", progress)
    named = zip(layout.inputs.sources, records, strict=True)
    sources = tuple(SourceFile(path=path, contig_names=names, **record) for (path, names), record in named)
    known = layout.folder / BUILD_FOLDER / "sources.json"
    if known.exists():
        before = {item["path"]: item["sha256"] for item in known.read_json()}
        changed = [source.path for source in sources if before.get(source.path) != source.sha256]
        if changed:
            raise CheckpointError(
                f"cannot resume {layout.folder}: {', '.join(changed)} changed since it was begun. Use --overwrite."
            )
    else:
        known.write_json([source.model_dump(mode="json") for source in sources])
    return sources


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
