"""Everything about a predict run that is settled before Ray does anything: a recipe, checked against its inputs."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.corpus.recipe import parse_region
from epilm.errors import GenomeError, RecipeError
from epilm.evaluate.predictions import PredictedColumn
from epilm.genome.annotation import read_bed
from epilm.genome.contigs import match_contigs
from epilm.genome.intervals import merge
from epilm.labels.grid import BinGrid
from epilm.labels.rule import covered_bins
from epilm.labels.runs import Runs
from epilm.models.binding_folder import BINDING_FILE, BindingInfo, read_binding_info
from epilm.models.folder import CONFIG_FILE, WEIGHTS_FILE
from epilm.models.provenance import PROVENANCE_FILE, match_trained, selected_spans
from epilm.predict.binding_scorer import check_binding_corpus, choose_binding_cells, reads_cell_type
from epilm.predict.genome_parts import GenomePart, plan_genome_parts
from epilm.predict.genome_recipe import PredictRecipe
from epilm.predict.parts import MAX_PART_BYTES
from epilm.storage import Location

_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]+")


@dataclass(frozen=True)
class PredictPlan:
    """A recipe whose model, corpus, contigs and cell types are there and fit each other."""

    manifest: CorpusManifest
    info: BindingInfo
    grid: BinGrid
    asked: Runs
    """The bins to predict."""
    contigs: tuple[str, ...]
    """Contigs that they lie on, in the corpus' order."""
    left_out: dict[str, int]
    """Regions or contigs without a bin, by reason."""
    cells: tuple[str, ...]
    """Cell types that are computed; one empty name where the model reads nothing of them."""
    targets: tuple[int, ...]
    """Outputs of the model that are kept."""
    columns: tuple[PredictedColumn, ...]
    column_outputs: tuple[tuple[int, int], ...]
    """For each column, its place in ``cells`` and in ``targets``."""
    parts: list[GenomePart]
    leak: dict[str, Any]
    fingerprints: dict[str, str]
    """Identity of model, corpus and regions, compared when a run resumes."""


def check_predict(recipe: PredictRecipe) -> PredictPlan:
    """Refuse what cannot be predicted; nothing is started and nothing is written.

    Raises:
        EpilmError: model, corpus, contigs, cell types or targets are wrong or do not fit each other.
    """
    corpus, model = Location(recipe.corpus), Location(recipe.model)
    manifest = read_manifest(corpus)
    info = read_binding_info(model)
    check_binding_corpus(info, manifest, corpus=recipe.corpus)
    names = choose_binding_cells(recipe.cell_types, info, manifest, corpus=recipe.corpus)
    targets = _targets(recipe.targets, info)
    grid = BinGrid.of(manifest, info.binding.bin_bp, recipe.step_bp)
    asked, left_out = _asked(recipe, manifest, info, grid)
    cells = names if reads_cell_type(info) else names[:1]
    columns = [PredictedColumn(cell_type=name, target=info.binding.targets[t]) for name in names for t in targets]
    _check_file_names(columns)
    rows = min(recipe.rows_per_part, max(1, MAX_PART_BYTES // (4 * len(columns))))
    parts = plan_genome_parts(grid, asked, rows_per_part=rows, num_cells=len(cells))
    return PredictPlan(
        manifest=manifest,
        info=info,
        grid=grid,
        asked=asked,
        contigs=tuple(dict.fromkeys(part.chrom for part in parts)),
        left_out=left_out,
        cells=cells,
        targets=targets,
        columns=tuple(columns),
        column_outputs=tuple(
            (place % len(cells), target) for place in range(len(names)) for target in range(len(targets))
        ),
        parts=parts,
        leak=leak_of_bins(grid, asked, info, names),
        fingerprints=_fingerprints(recipe, model, manifest),
    )


def file_name(column: PredictedColumn) -> str:
    """``<factor>.<cell type>`` of a column, safe for any file system; the factor alone where there is no cell type."""
    return ".".join(_UNSAFE.sub("_", name) for name in (column.target, column.cell_type) if name)


def leak_of_bins(grid: BinGrid, asked: Runs, info: BindingInfo, cell_types: Sequence[str]) -> dict[str, Any]:
    """Which of the bins and cell types the model was trained on (pre-training included); readers of predictions check it.

    Names of contigs are matched as everywhere (``chrII``, ``II``).
    """
    provenance, record = info.provenance, info.record
    contigs = [contig.name for contig in grid.contigs]
    names = match_trained(provenance.trained_contigs, contigs, source=f"the model's {PROVENANCE_FILE}")
    seen = grid.select(dict.fromkeys(names.values()))
    if provenance.trained_regions is not None:
        regions = [(contigs.index(names[c]), s, e) for c, s, e in provenance.trained_regions if c in names]
        table = np.array(regions, np.int64).reshape(-1, 3)
        seen = seen.intersect(covered_bins(grid, *table.T, min_overlap_bp=1))
    trained_cells = {*provenance.trained_cell_types, *record.train_cell_types}
    chosen_on = selected_spans(record.selected_on, contigs, source=f"the model's {BINDING_FILE}")
    ends = {contig.name: contig.first_bp + contig.num_bins * grid.step_bp + grid.bin_bp for contig in grid.contigs}
    spans = [(contigs.index(name), start, min(end, ends[name])) for name, start, end in chosen_on]
    selected = covered_bins(grid, *np.array(spans, np.int64).reshape(-1, 3).T, min_overlap_bp=1)
    return {
        "trained_contigs": list(provenance.trained_contigs),
        "bins_on_trained": asked.intersect(seen).size,
        "trained_cell_types": [name for name in cell_types if name in trained_cells],
        "selected_on": list(record.selected_on),
        "bins_on_selected": asked.intersect(selected).size,
    }


def _targets(wanted: Sequence[str] | None, info: BindingInfo) -> tuple[int, ...]:
    known = info.binding.targets
    for name in wanted or ():
        if name not in known:
            raise RecipeError(f"targets: the model does not predict {name!r}.{_hint(name, known)}")
    if wanted is not None and len(set(wanted)) != len(wanted):
        raise RecipeError(f"targets names one twice: {', '.join(wanted)}.")
    if wanted is not None and not wanted:
        raise RecipeError("targets is empty: name at least one, or leave it out for all of the model.")
    return tuple(range(len(known))) if wanted is None else tuple(known.index(name) for name in wanted)


def _asked(
    recipe: PredictRecipe, manifest: CorpusManifest, info: BindingInfo, grid: BinGrid
) -> tuple[Runs, dict[str, int]]:
    """The bins to predict, and what was left out by reason."""
    if recipe.regions is not None:
        inside, left_out = _region_bins(recipe, manifest, grid)
        if recipe.contigs is None:
            return inside, left_out
        asked = inside.intersect(grid.select(_named_contigs(recipe.contigs, grid, manifest)))
        if not asked:
            raise RecipeError(f"regions: {recipe.regions} asks for no bin of the contigs {', '.join(recipe.contigs)}.")
        return asked, left_out
    if recipe.contigs is not None:
        return grid.select(_named_contigs(recipe.contigs, grid, manifest)), {}
    chosen = _unseen_contigs(info, manifest)
    short = [name for name in chosen if not grid.contig(name).num_bins]
    asked = grid.select(chosen)
    if not asked:
        raise RecipeError(
            f"contigs: of the held-out contigs of the corpus ({', '.join(manifest.held_out_contigs) or 'none'}) the model "
            f"was trained or selected on all, or none holds a bin of {grid.bin_bp} bp. Name the contigs to predict."
        )
    return asked, {"contigs_without_bins": len(short)} if short else {}


def _named_contigs(wanted: Sequence[str], grid: BinGrid, manifest: CorpusManifest) -> Sequence[str]:
    known = [contig.name for contig in grid.contigs]
    if not wanted:
        raise RecipeError("contigs is empty: name at least one, or leave it out for the held-out ones of the corpus.")
    for position, name in enumerate(wanted):
        if name not in known:
            raise RecipeError(
                f"contigs: {name!r} is not a contig of the corpus {manifest.name!r}.{_contig_hint(name, known)}"
            )
        if name in wanted[:position]:
            raise RecipeError(f"contigs: {name!r} is named twice. Name each contig once.")
        if not grid.contig(name).num_bins:
            held = next(contig for contig in manifest.contigs if contig.name == name)
            raise RecipeError(
                f"contigs: {name} holds {held.end_bp - held.start_bp:,} bp (from {held.start_bp:,}), not one bin of "
                f"{grid.bin_bp} bp at a multiple of step_bp={grid.step_bp}. Leave it out."
            )
    return wanted


def _unseen_contigs(info: BindingInfo, manifest: CorpusManifest) -> list[str]:
    """Held-out contigs of the corpus that neither trained nor selected the model."""
    known = [contig.name for contig in manifest.contigs]
    used = match_trained(info.provenance.trained_contigs, known, source=f"the model's {PROVENANCE_FILE}").values()
    source = f"the model's {BINDING_FILE}"
    chosen_on = {name for name, _, _ in selected_spans(info.record.selected_on, known, source=source)}
    return [name for name in manifest.held_out_contigs if name not in {*used, *chosen_on}]


def _read_regions(recipe: PredictRecipe) -> tuple[str, pd.DataFrame]:
    """Where the regions come from, and their table: chrom, start, end."""
    if isinstance(recipe.regions, str):
        return recipe.regions, read_bed(recipe.regions)
    try:
        regions = [parse_region(text) for text in recipe.regions or ()]
    except ValueError as error:
        raise RecipeError(f"regions: {error}") from error
    return "the recipe", pd.DataFrame(regions, columns=pd.Index(["chrom", "start", "end"]))


def _region_bins(recipe: PredictRecipe, manifest: CorpusManifest, grid: BinGrid) -> tuple[Runs, dict[str, int]]:
    """Bins of the asked regions, and how many regions ask for none.

    Regions that overlap or touch are one: what lies across the edge of two is inside.
    """
    path, bed = _read_regions(recipe)
    known = {contig.name: number for number, contig in enumerate(manifest.contigs)}
    theirs = dict.fromkeys(bed["chrom"].astype(str).unique())
    names = match_contigs(dict.fromkeys(known), theirs, source=path)
    contig = bed["chrom"].astype(str).map(lambda name: known.get(names.get(name, ""), -1)).to_numpy(np.int64)
    start, end = bed["start"].to_numpy(np.int64), bed["end"].to_numpy(np.int64)
    merged = []
    for number in np.unique(contig[contig >= 0]):
        mine = contig == number
        first, last = merge(start[mine], end[mine])
        merged.append(np.stack([np.full(len(first), number), first, last]))
    table = np.concatenate(merged, axis=1)
    overlap = grid.bin_bp if recipe.region_bins == "inside" else 1
    bins = covered_bins(grid, *table, min_overlap_bp=overlap)
    if not bins:
        raise RecipeError(
            f"regions: not one bin of {grid.bin_bp} bp lies {recipe.region_bins} the {len(bed):,} regions of {path}. "
            "Widen them, or set region_bins=touching."
        )
    left_out = {
        "regions_on_unknown_contigs": int((contig < 0).sum()),
        "regions_shorter_than_a_bin": int((table[2] - table[1] < overlap).sum()),
    }
    return bins, {reason: count for reason, count in left_out.items() if count}


def _check_file_names(columns: Iterable[PredictedColumn]) -> None:
    taken: dict[str, PredictedColumn] = {}
    for column in columns:
        name = file_name(column).lower()
        if name in taken:
            raise RecipeError(
                f"{column.target} in {column.cell_type!r} and {taken[name].target} in {taken[name].cell_type!r} would share "
                f"the file name {file_name(column)}. Predict them in two runs (cell_types, targets)."
            )
        taken[name] = column


def _contig_hint(name: str, known: Sequence[str]) -> str:
    try:
        same = list(match_contigs(dict.fromkeys(known), {name: None}, source="contigs").values())
    except GenomeError:
        same = []
    return f" Did you mean {same[0]!r}?" if same else _hint(name, known)


def _hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=2)
    if near:
        return f" Did you mean {' or '.join(map(repr, near))}?"
    return f" It has {', '.join(known[:8])}{f', ... ({len(known)} in all)' if len(known) > 8 else ''}."


def _fingerprints(recipe: PredictRecipe, model: Location, manifest: CorpusManifest) -> dict[str, str]:
    found = {
        "corpus": manifest.fingerprint(),
        "model": (model / WEIGHTS_FILE).sha256(),
        "model_config": (model / CONFIG_FILE).sha256(),
        "binding": (model / BINDING_FILE).sha256(),
    }
    if recipe.regions is not None:
        bed = (
            Location(recipe.regions).read_bytes() if isinstance(recipe.regions, str) else repr(recipe.regions).encode()
        )
        found["regions"] = hashlib.sha256(bed).hexdigest()[:16]
    return found
