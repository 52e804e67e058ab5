"""What mutagenesis writes: rows of (interval, cell type, factor), and logos for the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from epilm.evaluate.predictions import PredictedColumn
from epilm.genome.dna import decode_dna
from epilm.predict.mutagenesis_scores import Mutated
from epilm.predict.parts import Part
from epilm.predict.variants_files import read_table
from epilm.predict.variants_odds import probability
from epilm.storage import Location

INTERVAL_COLUMNS = ("id", "chrom", "start", "end", "strand", "bin_start")


def mutated_schema(methods: Sequence[str]) -> pa.Schema:
    """Columns of a part. The lists run over the interval's bases, in the genome's order whatever the strand.

    ``log_odds_change`` has four values a base, for A, C, G and T: 0 for the reference's own; all NaN where that is N.
    ``importance`` is minus the mean over the three substitutions; the attributions have a column each.
    """
    numbers = pa.list_(pa.float32())
    fields = [
        ("id", pa.string()), ("chrom", pa.string()), ("start", pa.int64()), ("end", pa.int64()), ("strand", pa.string()),
        ("bin_start", pa.int64()), ("cell_type", pa.string()), ("target", pa.string()), ("probability", pa.float32()),
        ("log_odds", pa.float32()), ("sequence", pa.string()), ("log_odds_change", pa.list_(pa.list_(pa.float32(), 4))),
        ("importance", numbers), *((method, numbers) for method in methods),
    ]  # fmt: skip
    return pa.schema([pa.field(*field) for field in fields])


def mutated_table(
    intervals: pa.Table, mutated: Mutated, columns: Sequence[PredictedColumn], cells: Sequence[int], rows: Sequence[int]
) -> pa.Table:
    """One row a (interval, cell type, factor), in that order.

    Args:
        columns: the (cell type, factor) of an interval's rows.
        cells, rows: for each of them its place among the mutated cell types and among the model's outputs.
    """
    num, pick = intervals.num_rows, (list(cells), list(rows))
    width = np.repeat(np.diff(mutated.offsets), len(columns))
    offsets = np.concatenate([[0], np.cumsum(width)]).astype(np.int32)

    def lists(values: np.ndarray, inner: int = 1) -> pa.Array:
        """[P, ..., C, T] -> one list a row, of fixed lists of ``inner`` where that is more than 1."""
        chosen = values[..., pick[0], pick[1]]
        pieces = np.split(chosen, mutated.offsets[1:-1])
        flat = np.concatenate([np.moveaxis(piece, -1, 0).reshape(-1) for piece in pieces])
        items = pa.array(flat.astype(np.float32))
        return pa.ListArray.from_arrays(
            pa.array(offsets), pa.FixedSizeListArray.from_arrays(items, inner) if inner > 1 else items
        )

    odds = mutated.odds[:, pick[0], pick[1]].reshape(-1)
    text = decode_dna(mutated.dna)
    sequences = [text[a:b] for a, b in zip(mutated.offsets[:-1].tolist(), mutated.offsets[1:].tolist(), strict=True)]
    repeated = np.repeat(np.arange(num), len(columns))
    taken = intervals.select(INTERVAL_COLUMNS).take(pa.array(repeated))
    found: dict[str, Any] = {name: taken[name] for name in INTERVAL_COLUMNS}
    found["cell_type"] = pa.array([column.cell_type for column in columns] * num, pa.string())
    found["target"] = pa.array([column.target for column in columns] * num, pa.string())
    found["probability"], found["log_odds"] = probability(odds), odds
    found["sequence"] = pa.array(sequences, pa.string()).take(pa.array(repeated))
    found["log_odds_change"] = lists(mutated.change, 4)
    found["importance"] = lists(mutated.importance)
    found |= {method: lists(values) for method, values in mutated.attributions.items()}
    return pa.table(found).cast(mutated_schema(list(mutated.attributions)))


def choose_logos(parts: Sequence[Location], num_logos: int) -> list[dict[str, Any]]:
    """The rows of the highest predictions, at most one an interval, as entries of the report's logos."""
    if not num_logos:
        return []
    best: list[tuple[float, int, int]] = []
    for number, part in enumerate(parts):
        table = read_table(part, ["id", "probability"])
        ids = np.unique(table["id"].to_numpy().astype(str), return_inverse=True)[1]
        chance = np.nan_to_num(table["probability"].to_numpy(), nan=-1.0)
        order = np.lexsort((np.arange(len(ids)), -chance))
        first = order[np.sort(np.unique(ids[order], return_index=True)[1])]
        best += [(float(-chance[row]), number, int(row)) for row in first[:num_logos]]
    return [_logo(read_table(parts[number]).slice(row, 1)) for _, number, row in sorted(best)[:num_logos]]


def count_substitutions(parts: Sequence[Location], plan_parts: Sequence[Part], num_columns: int) -> int:
    """Substitutions of all intervals, cell types and factors not counted: three for every known base."""
    total = 0
    for location, part in zip(parts, plan_parts, strict=True):
        rows = np.arange(0, part.rows, num_columns)
        for text in read_table(location, ["sequence"])["sequence"].take(pa.array(rows)).to_pylist():
            total += 3 * (len(text) - text.count("N"))
    return total


def _logo(row: pa.Table) -> dict[str, Any]:
    (entry,) = row.select(
        ["id", "chrom", "start", "end", "cell_type", "target", "probability", "sequence", "importance"]
    ).to_pylist()
    rounded = [None if value != value else float(f"{value:.4g}") for value in entry["importance"]]
    return entry | {"importance": rounded, "probability": float(f"{entry['probability']:.4g}")}
