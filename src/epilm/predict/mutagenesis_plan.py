"""Everything about a mutagenesis run that is settled before Ray does anything: a recipe, checked against its inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.corpus.intervals import INTERVAL_SCHEMA, load_intervals
from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.errors import CorpusError, RecipeError
from epilm.evaluate.predictions import PredictedColumn, Predictions, read_predictions
from epilm.models.binding_folder import BindingInfo, read_binding_info
from epilm.predict.binding_scorer import check_binding_corpus, choose_binding_cells, reads_cell_type
from epilm.predict.genome_plan import file_name
from epilm.predict.mutagenesis_recipe import MutagenesisRecipe, TopBins
from epilm.predict.parts import Part
from epilm.predict.variants_plan import choose_targets, cut_parts, input_fingerprints, table_fingerprint
from epilm.storage import Location


@dataclass(frozen=True)
class MutagenesisPlan:
    """A recipe whose model, corpus, cell types and intervals are there and fit each other."""

    manifest: CorpusManifest
    info: BindingInfo
    intervals: pa.Table
    """id, chrom, start, end, strand, and bin_start of the bin in the middle; in the order of the output."""
    left_out: dict[str, int]
    """Intervals that do not lie on the corpus, by reason."""
    cell_types: tuple[str, ...]
    """One empty name for a model that reads nothing of them."""
    targets: tuple[str, ...]
    target_rows: tuple[int, ...]
    """Places of ``targets`` in the model's outputs."""
    parts: list[Part]
    fingerprints: dict[str, str]

    @property
    def columns(self) -> tuple[PredictedColumn, ...]:
        """Every (cell type, factor), in the order of an interval's rows."""
        return tuple(PredictedColumn(cell_type=c, target=t) for c in self.cell_types for t in self.targets)


def check_mutagenesis(recipe: MutagenesisRecipe) -> MutagenesisPlan:
    """Refuse what cannot be mutated; nothing is started and nothing is written.

    Raises:
        EpilmError: model, corpus, cell types, factors, intervals or predictions are wrong or do not fit each other.
    """
    corpus, model = Location(recipe.corpus), Location(recipe.model)
    manifest, info = read_manifest(corpus), read_binding_info(model)
    check_binding_corpus(info, manifest, corpus=recipe.corpus)
    cell_types = choose_binding_cells(recipe.cell_types, info, manifest, corpus=recipe.corpus)
    targets, rows = choose_targets(recipe.targets, info.binding.targets)
    if len(set(recipe.attributions)) != len(recipe.attributions):
        raise RecipeError(f"attributions names one twice: {', '.join(recipe.attributions)}. Name each once.")
    if isinstance(recipe.intervals, TopBins):
        table = top_bins(recipe.intervals, manifest)
    else:
        table = load_intervals(recipe.intervals, manifest).combine_chunks()
    left_out = {key.decode(): int(count) for key, count in (table.schema.metadata or {}).items() if int(count)}
    if recipe.width_bp is not None:
        table = _resized(table, recipe.width_bp)
    width = table["end"].to_numpy() - table["start"].to_numpy()
    _check_widths(table, width, info.binding.input_bp)
    bin_start = (table["start"].to_numpy() + table["end"].to_numpy()) // 2 - info.binding.bin_bp // 2
    num_cells = len(cell_types) if reads_cell_type(info) else 1
    plan = MutagenesisPlan(
        manifest=manifest,
        info=info,
        intervals=table.append_column("bin_start", pa.array(bin_start)),
        left_out=left_out,
        cell_types=cell_types,
        targets=targets,
        target_rows=rows,
        parts=cut_parts(num_cells * (3 * width + 1), len(cell_types) * len(targets), recipe.windows_per_part),
        fingerprints=input_fingerprints(model, manifest) | {"intervals": table_fingerprint(table)},
    )
    _check_file_names(plan.columns)
    return plan


def top_bins(config: TopBins, manifest: CorpusManifest) -> pa.Table:
    """The bins of the highest predictions, none overlapping a better one, best first; the first of equals in the genome.

    Parts are read one after the other. A bin overlaps at most ``m`` others on either side, so among the ``n * (2 m + 1)``
    highest there are ``n`` that do not overlap.

    Raises:
        CorpusError: no predictions lie there, or they are of another assembly or of contigs that the corpus lacks.
        RecipeError: a cell type or a factor that was not predicted.
    """
    folder = Location(config.predictions)
    found = read_predictions(folder)
    columns = _ranking_columns(config, found)
    known = {contig.name for contig in manifest.contigs}
    if found.assembly != manifest.assembly or not known.issuperset(found.contigs):
        raise CorpusError(
            f"intervals.predictions: {folder} are predictions of {found.assembly} ({', '.join(found.contigs[:4])}), the corpus "
            f"is {manifest.assembly} with {', '.join(sorted(known)[:4])}. Use predictions on the corpus."
        )
    keep = config.n * (2 * (-(-found.bin_bp // found.step_bp) - 1) + 1)
    value, part_of, start = np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64)
    for number, part in enumerate(found.parts):
        place = folder / part.path
        table = pq.read_table(place.path, filesystem=place.fs, columns=["start", *columns])
        best = np.fmax.reduce([table[name].to_numpy() for name in columns])
        some = np.flatnonzero(~np.isnan(best))
        value = np.concatenate([value, best[some]])
        part_of = np.concatenate([part_of, np.full(len(some), number)])
        start = np.concatenate([start, table["start"].to_numpy()[some]])
        order = np.argsort(-value, kind="stable")[:keep]
        value, part_of, start = value[order], part_of[order], start[order]
    chrom = np.array([part.chrom for part in found.parts], object)[part_of]
    if not len(start):
        raise CorpusError(f"intervals.predictions: {folder} holds no prediction at all. Predict some bins first.")
    picked = _apart(chrom, start, found.bin_bp, config.n)
    return _bin_table(chrom[picked], start[picked], found.bin_bp)


def _ranking_columns(config: TopBins, found: Predictions) -> list[str]:
    for key in ("cell_type", "target"):
        wanted = getattr(config, key)
        had = list(dict.fromkeys(getattr(column, key) for column in found.columns))
        if wanted is not None and wanted not in had:
            raise RecipeError(f"intervals.{key}: {wanted!r} was not predicted. Allowed: {', '.join(had[:12])}.")
    columns = [
        f"p{number}"
        for number, column in enumerate(found.columns)
        if config.cell_type in (None, column.cell_type) and config.target in (None, column.target)
    ]
    if not columns:
        raise RecipeError(f"intervals: {config.target} was not predicted in {config.cell_type}. Leave one of them out.")
    return columns


def _apart(chrom: np.ndarray, start: np.ndarray, bin_bp: int, n: int) -> np.ndarray:
    """Rows, best first, of which none overlaps one that was taken before it; at most ``n``."""
    free, picked = np.ones(len(start), bool), []
    while free.any() and len(picked) < n:
        row = int(free.argmax())
        picked.append(row)
        free &= (chrom != chrom[row]) | (np.abs(start - start[row]) >= bin_bp)
    return np.array(picked, np.int64)


def _bin_table(chrom: np.ndarray, start: np.ndarray, bin_bp: int) -> pa.Table:
    end = start + bin_bp
    ids = [f"{c}:{s}-{e}" for c, s, e in zip(chrom, start.tolist(), end.tolist(), strict=True)]
    columns = [ids, chrom, start, end, ["."] * len(ids)]
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, INTERVAL_SCHEMA, strict=True)],
        schema=INTERVAL_SCHEMA,
    )


def _resized(table: pa.Table, width_bp: int) -> pa.Table:
    start = (table["start"].to_numpy() + table["end"].to_numpy()) // 2 - width_bp // 2
    for name, values in (("start", start), ("end", start + width_bp)):
        table = table.set_column(table.schema.get_field_index(name), INTERVAL_SCHEMA.field(name), pa.array(values))
    return table


def _check_widths(table: pa.Table, width: np.ndarray, input_bp: int) -> None:
    long = np.flatnonzero(width > input_bp)
    if len(long):
        row = table.slice(int(long[0]), 1).to_pylist()[0]
        raise RecipeError(
            f"{len(long)} of {len(width)} intervals are longer than the model's input of {input_bp} bp, e.g. {row['id']!r} "
            f"({row['chrom']}:{row['start']}-{row['end']}, {width[long[0]]} bp): bases outside of it have no "
            "effect. Cut them, or set width_bp."
        )


def _check_file_names(columns: tuple[PredictedColumn, ...]) -> None:
    names = [file_name(column).lower() for column in columns]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise RecipeError(f"two cell types or factors would share the file name {twice!r}. Mutate them in two runs.")
