"""The values to regress: a table, or the level of strand-specific tracks over genes -> (id, cell_type, value).

A target is a DataFrame with columns ``id``, ``cell_type`` ("" where the target names none) and ``value`` (transformed,
finite), at most one row for each (id, cell_type).
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.errors import RecipeError
from epilm.genome.annotation import read_genes
from epilm.genome.bigwig import NanPolicy, Statistic, bigwig_contigs, bin_track
from epilm.genome.contigs import match_contigs
from epilm.regress.recipe import TableTarget, TracksTarget, Transformed
from epilm.storage import Location

_STRETCH_BP = 1 << 22
"""Bases of a track in memory at a time, besides the longest gene."""

_COMPRESSIONS = {"gz": "gzip", "bz2": "bz2", "xz": "xz", "zst": "zstd"}


def read_target(config: TableTarget | TracksTarget) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read and transform the target; return it and what was seen on the way (counts, the strand check).

    Raises:
        RecipeError: the file or a column is absent, an (id, cell type) occurs twice, or a value cannot be transformed.
    """
    table, seen = read_table(config) if isinstance(config, TableTarget) else read_tracks(config)
    table["id"] = join_id(table["id"], config.id_version)
    _refuse_duplicates(table, source=_source(config))
    missing = table["value"].isna()
    if missing.all():
        raise RecipeError(
            f"{_source(config)}: none of the {len(table)} rows has a value. Name the column with the values as "
            "target.value, or tracks that cover the genes."
        )
    table = table[~missing].reset_index(drop=True)
    table["value"] = transformed(table["value"].to_numpy(np.float64), config, ids=table["id"], source=_source(config))
    return table, {**seen, "target_rows": len(table), "target_values_missing": int(missing.sum())}


def join_id(ids: pd.Series, id_version: str) -> pd.Series:
    """The id that is joined on: as it is, or without an Ensembl version (``.9``; ``_PAR_Y`` behind it is kept)."""
    ids = ids.astype(str)
    return ids.str.replace(r"\.\d+(?=$|_)", "", regex=True) if id_version == "strip" else ids


def transformed(values: np.ndarray, config: Transformed, *, ids: pd.Series, source: str) -> np.ndarray:
    """Apply the recipe's transform to float64 values.

    Raises:
        RecipeError: a value lies outside the transform's range or is infinite; the first such id is named.
    """
    if config.transform == "none":
        result = values
    else:
        shifted = values + (config.pseudocount if config.pseudocount is not None else 1.0)
        log = {"log1p": np.log, "log2p1": np.log2, "log10": np.log10}[config.transform]
        result = log(shifted, out=np.full_like(shifted, np.nan), where=shifted > 0)
    wrong = ~np.isfinite(result)
    if wrong.any():
        first = int(wrong.argmax())
        raise RecipeError(
            f"{source}: {int(wrong.sum())} of {wrong.size} values cannot be used with transform {config.transform!r}, "
            f"the first is {values[first]} of {ids.iloc[first]!r}. Is the target logarithmic already? Then use "
            "transform: none."
        )
    return result


def read_table(config: TableTarget) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The table as (id, cell_type, value), one row a value; values are NaN where the table has none."""
    wide = config.value if isinstance(config.value, dict) else None
    columns = [
        config.id,
        *(wide.values() if wide else [config.value, *([config.cell_type] if config.cell_type else [])]),
    ]
    frame = _read_columns(Location(config.path), list(dict.fromkeys(columns)))
    if wide:
        parts = [
            pd.DataFrame({"id": frame[config.id], "cell_type": cell, "value": frame[column]})
            for cell, column in wide.items()
        ]
        table = pd.concat(parts, ignore_index=True)
    else:
        cells = frame[config.cell_type].astype(str) if config.cell_type else ""
        table = pd.DataFrame({"id": frame[config.id], "cell_type": cells, "value": frame[config.value]})
    numeric = pd.to_numeric(table["value"], errors="coerce")
    words = table["value"][numeric.isna() & table["value"].notna()]
    if len(words):
        raise RecipeError(
            f"{config.path}: the values are not numbers, e.g. {words.iloc[0]!r} of {table['id'][words.index[0]]!r}. "
            "Name the column with numbers as target.value; an empty field or NA is a missing value."
        )
    table["value"] = numeric.astype(np.float64)
    return table, {}


def read_tracks(config: TracksTarget) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Sense level of each gene as (id, cell_type "", value), and how sense compares with antisense.

    Genes on contigs that the tracks lack have no value.
    """
    genes = read_genes(config.genes, feature=config.feature)
    forward = gene_levels(config.forward, genes, statistic=config.statistic, nan_policy=config.nan_policy)
    reverse = gene_levels(config.reverse, genes, statistic=config.statistic, nan_policy=config.nan_policy)
    plus = (genes["strand"] == "+").to_numpy() == (config.plus_genes == "forward")
    sense, antisense = np.where(plus, forward, reverse), np.where(plus, reverse, forward)
    unstranded = ~genes["strand"].isin(["+", "-"]).to_numpy()
    sense[unstranded] = np.nan
    table = pd.DataFrame({"id": genes["gene_id"].astype(str), "cell_type": "", "value": sense})
    return table, {"strand_check": strand_check(sense, antisense), "genes_without_strand": int(unstranded.sum())}


def strand_check(sense: np.ndarray, antisense: np.ndarray) -> dict[str, float | int] | None:
    """How the sense level of genes compares with the antisense level; both float [n], NaN where absent.

    None where no gene has a level above 0.
    """
    both = np.isfinite(sense) & np.isfinite(antisense) & ((sense > 0) | (antisense > 0))
    if not both.any():
        return None
    sense, antisense = sense[both], antisense[both]
    return {
        "genes": int(both.sum()),
        "sense_above_antisense": float((sense > antisense).mean()),
        "median_sense": float(np.median(sense)),
        "median_antisense": float(np.median(antisense)),
    }


def gene_levels(
    path: str, genes: pd.DataFrame, *, statistic: Statistic = "mean", nan_policy: NanPolicy = "keep"
) -> np.ndarray:
    """The statistic of a track over each gene's bases -> float64 [n]; NaN where there is none, or no such contig.

    Args:
        genes: columns chrom, start, end; genes may overlap, and are cut at the contig's end.
    """
    lengths = bigwig_contigs(path)
    matches = match_contigs(lengths, dict.fromkeys(genes["chrom"].unique()), source="the genes")
    levels = np.full(len(genes), np.nan)
    for chrom, contig in matches.items():
        index = np.flatnonzero((genes["chrom"] == chrom).to_numpy())
        end = np.minimum(genes["end"].to_numpy(np.int64)[index], lengths[contig])
        start = np.minimum(genes["start"].to_numpy(np.int64)[index], end)
        for stretch in np.unique(start // _STRETCH_BP):  # one read a stretch, not one a gene
            mine = np.flatnonzero((start // _STRETCH_BP == stretch) & (end > start))
            if len(mine):
                first = int(start[mine].min())
                values = bin_track(path, contig, first, int(end[mine].max()), 1, nan_policy=nan_policy)
                levels[index[mine]] = levels_of(values, start[mine] - first, end[mine] - first, statistic=statistic)
    return levels


def levels_of(values: np.ndarray, start: np.ndarray, end: np.ndarray, *, statistic: Statistic) -> np.ndarray:
    """The statistic over ``values[start:end]`` of n stretches that may overlap -> float64 [n]; NaN values are left out.

    Args:
        values: [num_bp]; start, end: int [n] with 0 <= start < end <= num_bp.
    """
    held = np.append(~np.isnan(values), False)  # one more, since reduceat takes no index past the end
    # reduceat over start_0:end_0, end_0:start_1, ...; every other one counts
    edges = np.stack([start, end], axis=1).ravel()
    count = np.add.reduceat(held.astype(np.int64), edges)[::2]
    padded = np.append(values, np.nan).astype(np.float64)
    if statistic == "mean":
        total = np.add.reduceat(np.where(held, padded, 0.0), edges)[::2]
        return np.divide(total, count, out=np.full(len(start), np.nan), where=count > 0)
    return (np.fmax if statistic == "max" else np.fmin).reduceat(padded, edges)[::2]


def _read_columns(location: Location, columns: list[str]) -> pd.DataFrame:
    if not location.exists():
        raise RecipeError(f"target.path: {location} does not exist.")
    data = io.BytesIO(location.read_bytes())
    try:
        if location.name.endswith((".parquet", ".pq")):
            present = pq.read_schema(data).names
            _require_columns(columns, present, location)
            return pq.read_table(data, columns=columns).to_pandas()
        ending = location.name.rsplit(".", 1)[-1]
        compression = _COMPRESSIONS.get(ending)
        stem = location.name.removesuffix(f".{ending}") if compression else location.name
        options: dict[str, Any] = {"sep": "," if stem.endswith(".csv") else "\t", "compression": compression}
        present = list(pd.read_csv(data, nrows=0, index_col=False, **options).columns)
        _require_columns(columns, present, location)
        data.seek(0)
        # ids and cell types stay text: a gene called 7157 or a cell called 003 must not become a number
        text = dict.fromkeys(columns, str)
        return pd.read_csv(data, usecols=columns, dtype=text, index_col=False, **options)
    except (pa.ArrowInvalid, EOFError, OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise RecipeError(f"target.path: {location} cannot be read as a table: {error}") from error


def _require_columns(wanted: list[str], present: list[str], location: Location) -> None:
    absent = [column for column in wanted if column not in present]
    if absent:
        raise RecipeError(
            f"target: {location} has no column {absent[0]!r}; it has {', '.join(map(repr, present[:12]))}"
            f"{' ...' if len(present) > 12 else ''}. Set target.id, target.value and target.cell_type to columns "
            "of the table."
        )


def _refuse_duplicates(table: pd.DataFrame, *, source: str) -> None:
    twice = table.duplicated(["id", "cell_type"])
    if twice.any():
        first = table[twice].iloc[0]
        of_cell = f" in cell type {first['cell_type']!r}" if first["cell_type"] else ""
        raise RecipeError(
            f"{source}: {int(twice.sum())} ids have a second value, e.g. {first['id']!r}{of_cell}. Each interval "
            "takes one value a cell type: name the column of cell types (target.cell_type), or leave one row an id."
        )


def _source(config: TableTarget | TracksTarget) -> str:
    return f"target {config.path}" if isinstance(config, TableTarget) else f"target genes {config.genes}"
