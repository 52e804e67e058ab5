"""Everything about a variants run that is settled before Ray does anything: a recipe, checked against its inputs."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.errors import CorpusError, RecipeError
from epilm.genome.contigs import match_contigs
from epilm.genome.vcf import changed_span, lengths_bp, read_vcf
from epilm.labels.grid import BinGrid
from epilm.models.binding_folder import BINDING_FILE, BindingInfo, read_binding_info
from epilm.models.folder import CONFIG_FILE, WEIGHTS_FILE
from epilm.predict.binding_scorer import check_binding_corpus, choose_binding_cells, reads_cell_type
from epilm.predict.parts import Part
from epilm.predict.variants_dna import VariantBins, variant_bins
from epilm.predict.variants_recipe import VariantsRecipe
from epilm.predict.variants_reference import check_reference, dna_reader, mismatch_error
from epilm.storage import Location


@dataclass(frozen=True)
class VariantsPlan:
    """A recipe whose model, corpus, cell types and variants are there and fit each other."""

    manifest: CorpusManifest
    info: BindingInfo
    variants: pa.Table
    """chrom (of the corpus), pos (1-based), id, ref, alt, record, and start and end of the changed bases; the file's order."""
    num_records: int
    excluded: dict[str, int]
    """Alleles left out, by reason; reasons that met none are absent."""
    cell_types: tuple[str, ...]
    """One empty name for a model that reads nothing of them."""
    targets: tuple[str, ...]
    target_rows: tuple[int, ...]
    """Places of ``targets`` in the model's outputs."""
    parts: list[Part]
    fingerprints: dict[str, str]


def check_variants(recipe: VariantsRecipe) -> VariantsPlan:
    """Refuse what cannot be predicted; nothing is started and nothing is written.

    Raises:
        EpilmError: model, corpus, cell types, factors or variants are wrong or do not fit each other; reference alleles are
            not those of the corpus and ``on_mismatch`` is ``error``.
    """
    corpus, model = Location(recipe.corpus), Location(recipe.model)
    manifest, info = read_manifest(corpus), read_binding_info(model)
    check_binding_corpus(info, manifest, corpus=recipe.corpus)
    cell_types = choose_binding_cells(recipe.cell_types, info, manifest, corpus=recipe.corpus)
    targets, rows = choose_targets(recipe.targets, info.binding.targets)
    grid = BinGrid.of(manifest, info.binding.bin_bp, recipe.step_bp)
    path = os.path.expanduser(recipe.vcf)
    found = read_vcf(path)
    excluded = dict(found.excluded)
    table = _on_corpus(found.table, manifest, grid, recipe, excluded)
    table = _with_right_reference(table, corpus, manifest, recipe, excluded)
    num_cells = len(cell_types) if reads_cell_type(info) else 1
    sequences = 2 * num_cells * np.diff(bins_of(table, grid, every=recipe.bins == "all").offsets)
    return VariantsPlan(
        manifest=manifest,
        info=info,
        variants=table,
        num_records=found.num_records,
        excluded={reason: count for reason, count in excluded.items() if count},
        cell_types=cell_types,
        targets=targets,
        target_rows=rows,
        parts=cut_parts(sequences, len(cell_types) * len(targets), recipe.windows_per_part),
        fingerprints=input_fingerprints(model, manifest) | {"vcf": table_fingerprint(table)},
    )


def choose_targets(wanted: Sequence[str] | None, known: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """(names, places in the model's outputs) of the wanted factors, in the wanted order; all for None.

    Raises:
        RecipeError: an unknown or repeated factor, or none at all.
    """
    names = tuple(known if wanted is None else wanted)
    if not names:
        raise RecipeError("targets is empty: name at least one factor, or leave it out for all of the model.")
    for place, name in enumerate(names):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"It predicts {', '.join(known[:12])}."
            raise RecipeError(f"targets: the model does not predict {name!r}. {hint}")
        if name in names[:place]:
            raise RecipeError(f"targets: {name!r} is named twice. Name each factor once.")
    return names, tuple(list(known).index(name) for name in names)


def bins_of(variants: pa.Table, grid: BinGrid, *, every: bool) -> VariantBins:
    """The bins of the variants of a plan (or of a slice of them)."""
    ends = {contig.name: (contig.first_bp, contig.num_bins) for contig in grid.contigs}
    names, codes = np.unique(variants["chrom"].to_numpy().astype(str), return_inverse=True)
    first, number = np.array([ends[str(name)] for name in names], np.int64).reshape(-1, 2)[codes].T
    return variant_bins(
        variants["start"].to_numpy(),
        variants["end"].to_numpy(),
        first,
        first + (number - 1) * grid.step_bp,
        bin_bp=grid.bin_bp,
        step_bp=grid.step_bp,
        every=every,
    )


def cut_parts(sequences: np.ndarray, rows_each: int, per_part: int) -> list[Part]:
    """Neighbouring items in parts of at most ``per_part`` windows; an item that needs more is a part of its own.

    Args:
        sequences: int64 [n], windows of each item.
        rows_each: rows that an item gives.
    """
    done = np.concatenate([[0], np.cumsum(sequences)])
    parts: list[Part] = []
    first = 0
    while first < len(sequences):
        last = max(first + 1, int(np.searchsorted(done, done[first] + per_part, side="right")) - 1)
        parts.append(Part(len(parts), first, last, (last - first) * rows_each, int(done[last] - done[first])))
        first = last
    return parts


def input_fingerprints(model: Location, manifest: CorpusManifest) -> dict[str, str]:
    """Identity of model and corpus, compared when a run resumes."""
    return {
        "corpus": manifest.fingerprint(),
        "model": (model / WEIGHTS_FILE).sha256(),
        "model_config": (model / CONFIG_FILE).sha256(),
        "binding": (model / BINDING_FILE).sha256(),
    }


def table_fingerprint(table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    bare = table.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(sink, bare.schema) as stream:
        stream.write_table(bare)
    return hashlib.sha256(sink.getvalue()).hexdigest()[:16]


def _on_corpus(
    table: pa.Table, manifest: CorpusManifest, grid: BinGrid, recipe: VariantsRecipe, excluded: dict[str, int]
) -> pa.Table:
    """The alleles that lie on the corpus, in its names, with their changed bases; the rest is counted."""
    if not table.num_rows:
        raise CorpusError(
            f"{recipe.vcf} holds no allele that is a sequence: {_counts(excluded)}. Nothing can be predicted."
        )
    given = table["chrom"].to_numpy().astype(str)
    lengths: dict[str, int | None] = {contig.name: None for contig in manifest.contigs}
    names = match_contigs(lengths, dict.fromkeys(np.unique(given).tolist(), None), source=recipe.vcf)
    # a contig on which no bin fits cannot hold a variant either
    spans = {c.name: (c.start_bp, c.end_bp) for c in manifest.contigs if grid.contig(c.name).num_bins}
    unique, codes = np.unique(given, return_inverse=True)
    ours = np.array([names.get(str(name), "") for name in unique], object)[codes]
    first, last = (
        np.array([spans.get(names.get(str(name), ""), (0, 0)) for name in unique], np.int64).reshape(-1, 2)[codes].T
    )
    pos, ref_bp, alt_bp = table["pos"].to_numpy(), lengths_bp(table["ref"]), lengths_bp(table["alt"])
    kept = np.ones(table.num_rows, bool)
    for reason, bad in [
        ("unknown_contig", ours == ""),
        ("outside", (pos - 1 < first) | (pos - 1 + ref_bp > last)),
        ("too_long", np.maximum(ref_bp, alt_bp) > recipe.max_allele_bp),
    ]:
        excluded[reason] = int((kept & bad).sum())
        kept &= ~bad
    table = table.set_column(0, "chrom", pa.array(ours, pa.string())).filter(pa.array(kept)).combine_chunks()
    start, end = changed_span(table["pos"].to_numpy(), table["ref"], table["alt"])
    return _some(table.append_column("start", pa.array(start)).append_column("end", pa.array(end)), recipe, excluded)


def _with_right_reference(
    table: pa.Table, corpus: Location, manifest: CorpusManifest, recipe: VariantsRecipe, excluded: dict[str, int]
) -> pa.Table:
    """The alleles whose reference is that of the corpus; a place without a known base is counted, another base refused."""
    reader = dna_reader(corpus, manifest)
    check = check_reference(reader, table["chrom"].to_numpy(), table["pos"].to_numpy() - 1, table["ref"])
    if check.differs.any() and recipe.on_mismatch == "error":
        raise mismatch_error(reader, table, check.differs, vcf=recipe.vcf, assembly=manifest.assembly)
    excluded["reference_mismatch"] = int(check.differs.sum())
    excluded["reference_unknown"] = int(check.unknown.sum())
    return _some(table.filter(pa.array(~(check.differs | check.unknown))).combine_chunks(), recipe, excluded)


def _some(table: pa.Table, recipe: VariantsRecipe, excluded: dict[str, int]) -> pa.Table:
    if not table.num_rows:
        raise CorpusError(
            f"no variant of {recipe.vcf} is left to predict: {_counts(excluded)}. Use a file of the corpus' assembly and contigs."
        )
    return table


def _counts(excluded: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in excluded.items() if count)
