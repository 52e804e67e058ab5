"""The change that variants make to predicted binding, in one process. Knows nothing of Ray or of the run's folder.

Shapes: V = variants, N = (variant, bin) pairs, C = cell types, T = factors, U = different windows of the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from epilm.corpus.gather import ContigReader
from epilm.models.binding_inputs import BindingWindows
from epilm.predict.binding_scorer import BindingScorer
from epilm.predict.variants_dna import Alleles, VariantBins, alternative_dna, largest_change
from epilm.predict.variants_odds import log_odds_in_batches, probability, take

VARIANT_COLUMNS = ("chrom", "pos", "id", "ref", "alt", "record")


@dataclass(frozen=True)
class Effects:
    """Log-odds float32 [N, C, T] of the reference's and of the alternative's windows."""

    bins: VariantBins
    reference: np.ndarray
    alternative: np.ndarray


def variant_effects(
    scorer: BindingScorer,
    reader: ContigReader,
    chrom: np.ndarray,
    alleles: Alleles,
    bins: VariantBins,
    cells: np.ndarray,
) -> Effects:
    """Predict every variant's bins with both alleles.

    States and signals stay where the reference has them: they were measured on the reference's coordinates, and nobody knows
    what the alternative allele would do to them. What is reported is the effect through the DNA alone.

    Args:
        reader: gathers DNA (``variants_reference.dna_reader``).
        chrom: contig of each variant, object [V].
        cells: int64 [C], indices into the scorer's cell types.
    """
    binding, num_cells, variant = scorer.model.binding, len(cells), bins.variant
    names, window_start = chrom[variant], bins.start - binding.flank_bp
    unique, which = _unique_windows(names, bins.start)
    rows = np.repeat(unique, num_cells)
    windows = scorer.windows(names[rows], bins.start[rows], np.tile(cells, len(unique)))
    shape = (-1, num_cells, len(binding.targets))
    reference = _score(scorer, windows, np.arange(len(rows))).reshape(shape)
    of_bin = alleles.take(variant)
    before, behind = of_bin.margins_bp
    dna = reader.gather(names, window_start - before, before + binding.input_bp + behind).dna
    changed = alternative_dna(dna, window_start, of_bin)
    same = (which[:, None] * num_cells + np.arange(num_cells)).reshape(-1)
    alternative = _score(scorer, windows, same, dna=changed, repeat=num_cells).reshape(shape)
    return Effects(bins=bins, reference=reference[which], alternative=alternative)


def _unique_windows(names: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows of the different (contig, start), number of each row's) -> int64 [U], int64 [N]: neighbours share a reference."""
    codes = np.unique(names.astype(str), return_inverse=True)[1]
    _, first, which = np.unique(np.stack([codes, start]), axis=1, return_index=True, return_inverse=True)
    return first, which.reshape(-1)


def _score(
    scorer: BindingScorer, windows: BindingWindows, rows: np.ndarray, *, dna: np.ndarray | None = None, repeat: int = 1
) -> np.ndarray:
    """Log-odds of some rows, batch by batch; row ``i`` reads the DNA ``dna[i // repeat]`` where it is given."""

    def batches():
        for first in range(0, len(rows), scorer.batch_size):
            part = np.arange(first, min(first + scorer.batch_size, len(rows)))
            yield take(windows, rows[part], None if dna is None else dna[part // repeat])

    return log_odds_in_batches(scorer.model, batches(), num_windows=len(rows))


def effects_schema(*, every: bool) -> pa.Schema:
    """Columns of the result; the last three only where all bins were looked at (``every``)."""
    fields = [
        ("chrom", pa.string()), ("pos", pa.int64()), ("id", pa.string()), ("ref", pa.string()), ("alt", pa.string()),
        ("record", pa.int64()), ("cell_type", pa.string()), ("target", pa.string()), ("bin_start", pa.int64()),
        ("probability_ref", pa.float32()), ("probability_alt", pa.float32()), ("change", pa.float32()),
        ("log_odds_change", pa.float32()),
    ]  # fmt: skip
    largest = [("max_change", pa.float32()), ("max_log_odds_change", pa.float32()), ("max_bin_start", pa.int64())]
    return pa.schema([pa.field(*field) for field in fields + (largest if every else [])])


def effects_table(
    variants: pa.Table,
    effects: Effects,
    cell_types: Sequence[str],
    targets: Sequence[str],
    rows: Sequence[int],
    *,
    every: bool,
) -> pa.Table:
    """One row a (variant, cell type, factor), in that order.

    Args:
        variants: columns of ``VARIANT_COLUMNS``, V rows.
        targets: names of the factors to report, whose places in the model's outputs are ``rows``.
    """
    bins, picked = effects.bins, list(rows)
    shape = (len(bins.start), len(cell_types), len(targets))  # a model that reads no cell type has one answer for all
    odds = [
        np.broadcast_to(v[:, :, picked], shape).astype(np.float64) for v in (effects.reference, effects.alternative)
    ]
    odds_change = odds[1] - odds[0]
    chance = [probability(values) for values in odds]
    change = chance[1] - chance[0]
    num_pairs = len(cell_types) * len(targets)
    repeated = variants.select(VARIANT_COLUMNS).take(pa.array(np.repeat(np.arange(variants.num_rows), num_pairs)))
    columns: dict[str, Any] = {name: repeated[name] for name in VARIANT_COLUMNS}
    tile = lambda values, inner, outer: np.tile(np.repeat(np.array(values, object), inner), outer)
    columns["cell_type"] = pa.array(tile(cell_types, len(targets), variants.num_rows), pa.string())
    columns["target"] = pa.array(tile(targets, 1, variants.num_rows * len(cell_types)), pa.string())
    columns["bin_start"] = np.repeat(bins.start[bins.nearest], num_pairs)
    columns["probability_ref"], columns["probability_alt"] = (values[bins.nearest] for values in chance)
    columns["change"], columns["log_odds_change"] = change[bins.nearest], odds_change[bins.nearest]
    if every:
        where = largest_change(odds_change, bins.offsets)
        columns["max_change"] = np.take_along_axis(change, largest_change(change, bins.offsets), axis=0)
        columns["max_log_odds_change"] = np.take_along_axis(odds_change, where, axis=0)
        columns["max_bin_start"] = bins.start[where]
    flat = {key: value.reshape(-1) if isinstance(value, np.ndarray) else value for key, value in columns.items()}
    return pa.table(flat).cast(effects_schema(every=every))
