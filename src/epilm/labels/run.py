"""``epilm labels``: peaks or label files, read once, checked, and kept as runs of bins."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from epilm.config import fingerprint
from epilm.corpus.manifest import SourceFile, read_manifest
from epilm.labels.dream_write import check_writable_as_dream, write_dream
from epilm.labels.load import OpenLabels, ReadLabels, open_labels, read_labels
from epilm.labels.recipe import LabelsRecipe
from epilm.labels.saved import LABELS_FILE, read_labels_manifest, write_labels
from epilm.runs import RESULT_FILE, OnExisting, Run, open_run, refuse_existing
from epilm.storage import Location

STAGE = "labels"
TSV_FOLDER = "tsv"

Progress = Callable[[str], None]


def check_labels(recipe: LabelsRecipe) -> OpenLabels:
    """Refuse what cannot be labelled, as far as that shows without reading label files whole; writes nothing.

    Raises:
        EpilmError: the corpus or a source is missing or damaged, or their names do not fit each other.
    """
    return open_labels(recipe.labels, read_manifest(Location(recipe.corpus)))


def run_labels(
    recipe: LabelsRecipe, *, on_existing: OnExisting = "refuse", progress: Progress = lambda message: None
) -> dict[str, Any]:
    """Write ``labels.parquet`` and ``labels.json`` into ``<storage>/<name>``, and ``tsv/FACTOR.tsv.gz`` where asked.

    Needs no Ray. All sources are read and checked before anything is written; a run that is resumed keeps the label files
    that are whole.

    Returns:
        what ``result.json`` holds.

    Raises:
        EpilmError: as :func:`check_labels`, and all that only shows when the sources are read.
    """
    refuse_existing(recipe, on_existing)
    began = time.monotonic()
    opened = check_labels(recipe)
    sources = _sources(opened)
    data = {"corpus": opened.manifest.fingerprint(), "sources": fingerprint([source.sha256 for source in sources])}
    if on_existing == "resume" and (Location(recipe.storage) / recipe.name / RESULT_FILE).exists():
        run = open_run(recipe, stage=STAGE, on_existing=on_existing, data=data)
        progress(f"{run.folder} is finished")
        return run.result.read_json()
    read = read_labels(opened, progress=progress)
    if recipe.write_tsv:
        check_writable_as_dream(read.labels)
    run = open_run(recipe, stage=STAGE, on_existing=on_existing, data=data)
    for note in read.notes:
        progress(f"labels: {note}")
    named = tuple(
        source.model_copy(update={"contig_names": read.contig_names.get(source.path, {})}) for source in sources
    )
    if not (run.resumed and (run.folder / LABELS_FILE).exists()):
        settings = recipe.labels.model_dump(mode="json")
        write_labels(run.folder, read.labels, opened.manifest, sources=named, settings=settings)
    if recipe.write_tsv:
        _write_tsv(run, read, progress)
    return run.finish(_result(run, read, time.monotonic() - began, progress))


def _sources(opened: OpenLabels) -> tuple[SourceFile, ...]:
    locations = [(path, Location(path)) for path in opened.paths]
    return tuple(SourceFile(path=path, bytes=place.size(), sha256=place.sha256()) for path, place in locations)


def _write_tsv(run: Run, read: ReadLabels, progress: Progress) -> None:
    folder = (run.folder / TSV_FOLDER).mkdir()
    there = folder.children()
    for name in there:
        if name.endswith(".tmp"):  # half of a file that a killed run left behind
            (folder / name).delete()
    for target in read.labels.targets:
        name = f"{target.replace('/', '_')}.tsv.gz"
        if name not in there:
            rows = write_dream(folder / name, read.labels, target)
            progress(f"labels: {TSV_FOLDER}/{name}: {rows:,} bins")


def _result(run: Run, read: ReadLabels, seconds: float, progress: Progress) -> dict[str, Any]:
    labels, manifest = read.labels, read_labels_manifest(run.folder)
    bound = sum(row.bound for row in manifest.counts)
    progress(
        f"labels: {len(manifest.counts)} pairs of {len(labels.targets)} factor(s) and {len(labels.cell_types)} cell "
        f"type(s) on {labels.grid.num_bins:,} bins; {bound:,} bound"
    )
    return {
        "stage": STAGE,
        "assembly": manifest.assembly,
        "bin_bp": manifest.bin_bp,
        "step_bp": manifest.step_bp,
        "num_bins": manifest.num_bins,
        "num_excluded": labels.excluded.size,
        "cell_types": list(labels.cell_types),
        "targets": list(labels.targets),
        "counts": [row.model_dump() for row in manifest.counts],
        "notes": list(read.notes),
        "labels_fingerprint": manifest.labels_fingerprint,
        "seconds": round(seconds, 3),
    }
