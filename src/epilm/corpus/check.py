"""Everything that can be wrong with a corpus's recipe and files, found before any worker starts or a byte is written."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from epilm.config import fingerprint
from epilm.corpus import plan as planning
from epilm.corpus.inputs import Inputs, open_inputs
from epilm.corpus.manifest import CorpusManifest, SignalTrack
from epilm.corpus.parts import Layout, keep_windows, read_part, row_dtype
from epilm.corpus.plan import Part
from epilm.corpus.recipe import CorpusRecipe
from epilm.corpus.schema import MANIFEST_FILE
from epilm.errors import CorpusError, StorageError
from epilm.storage import Location

COMPRESSED_SHARE = 0.4
"""Parquet bytes per raw byte, rounded up from the 0.25 - 0.35 of real genomes; for the free-space check alone."""

_checked: dict[str, Layout] = {}
"""The layout that was checked last, by its recipe: reading 127 epigenomes takes a minute and is done once."""


def check_corpus(recipe: CorpusRecipe) -> None:
    """Open every input, see that they belong together, that windows are left, and that the storage has the room.

    Raises:
        GenomeError, CorpusError, StorageError: as :func:`epilm.corpus.build.build_corpus`.
    """
    layout = checked_layout(recipe)
    _checked.clear()
    _checked[recipe.model_dump_json()] = layout


def checked_layout(recipe: CorpusRecipe) -> Layout:
    """The layout of a recipe that passed every check; taken over where :func:`check_corpus` has just made it."""
    done = _checked.pop(recipe.model_dump_json(), None)
    if done is not None:
        return done
    layout = plan_layout(recipe, open_inputs(recipe))
    if not (layout.folder / MANIFEST_FILE).exists():
        check_space(layout)
    check_windows(layout)  # also over a finished corpus: --overwrite deletes it before anything is built
    return layout


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
        signal_bp=recipe.resolved_signal_bp,
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
        chunk_bytes=manifest.chunk_bytes,
    )
    parts = planning.layout_parts(
        manifest.contigs, chunk_bp=manifest.chunk_bp, bin_bp=manifest.bin_bp, num_chunks=num_chunks
    )
    return Layout(Location(recipe.storage) / recipe.name, recipe, inputs, manifest, parts)


def check_space(layout: Layout) -> int:
    """Bytes that the build needs at most, scattered rows included.

    Raises:
        StorageError: the local disk has less; before anything is written.
    """
    manifest = layout.manifest
    genome_bp = sum(contig.end_bp - contig.start_bp for contig in manifest.contigs)
    scattered = genome_bp // manifest.step_bp * row_dtype(manifest).itemsize
    views = scattered + genome_bp * manifest.chunk_bytes // manifest.chunk_bp
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


def check_windows(layout: Layout) -> None:
    """Each split that the recipe asks for keeps a window: reads until the first of each is found, mostly two parts.

    Raises:
        CorpusError: no window of a split passes the filters; says how many were dropped for which reason.
    """
    for split in (planning.TRAIN, planning.HELD_OUT):
        dropped: Counter[str] = Counter()
        if split == planning.HELD_OUT and not asks_held_out(layout.recipe):
            continue
        for part in _parts_of_split(layout, split):
            dna, states, _ = read_part(layout, part, with_signals=False)
            kept, reasons = keep_windows(layout, part, dna, states)
            if (kept["split"] == split).any():
                break
            dropped.update(reasons)
        else:
            raise no_window_left(layout.recipe, split, dropped)


def _parts_of_split(layout: Layout, split: int) -> Iterator[Part]:
    """The parts that may have windows of a split."""
    contigs = {contig.name: contig for contig in layout.manifest.contigs}
    for part in layout.parts:
        own = contigs[part.contig].split == planning.SPLITS[split]
        reach_bp = part.end_bp + layout.manifest.window_bp
        touched = any(
            region.chrom == part.contig and region.start < reach_bp and region.end > part.start_bp
            for region in layout.manifest.held_out_regions
        )
        if own or (split == planning.HELD_OUT and touched):
            yield part


def asks_held_out(recipe: CorpusRecipe) -> bool:
    return bool(recipe.held_out_contigs or recipe.held_out_regions)


def no_window_left(recipe: CorpusRecipe, split: int, dropped: Counter[str]) -> CorpusError:
    """The error of a split without a window."""
    reasons = ", ".join(f"{count:,} by {name}" for name, count in dropped.items() if count) or "none was cut"
    name, where = "training", ""
    if split == planning.HELD_OUT:
        name = "held-out"
        where = f": held_out_contigs={list(recipe.held_out_contigs)}, held_out_regions={list(recipe.held_out_regions)}"
    return CorpusError(
        f"no {name} window is left after the filters ({reasons}){where}. Loosen max_n_fraction or "
        "max_no_state_fraction, check the blacklist, or take more contigs."
    )
