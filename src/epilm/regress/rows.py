"""The rows of a regression: intervals joined with the target, and which of them train, choose the rounds, or test.

A rows table is a DataFrame with columns ``row`` (0..n-1), ``id``, ``cell_type`` ("" where there is none), ``chrom``,
``start``, ``end``, ``strand``, ``target`` and ``split`` (``train``, ``validation``, ``test``), in genome order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from epilm.corpus.manifest import CorpusManifest
from epilm.errors import RecipeError
from epilm.genome.intervals import overlap_bp
from epilm.hashing import hash_u64
from epilm.regress.recipe import RegressRecipe
from epilm.regress.target import join_id

SPLITS = ("train", "validation", "test")


def build_rows(
    recipe: RegressRecipe, intervals: pd.DataFrame, target: pd.DataFrame, manifest: CorpusManifest
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Join, choose the cell types, and split; return the rows and how many were left out, by reason.

    Args:
        intervals: id, chrom (corpus name), start, end, strand.
        target: id, cell_type, value, as :func:`epilm.regress.target.read_target` gives it.

    Raises:
        RecipeError: ids occur twice, nothing joins, or a split comes out empty.
    """
    target = with_cell_types(target, manifest.cell_types, recipe.cell_type)
    joined, counts = join_target(intervals, target, id_version=recipe.target.id_version)
    known = joined["cell_type"].isin(manifest.cell_types).to_numpy() | (not manifest.cell_types)
    counts["rows_of_unknown_cell_types"] = int((~known).sum())
    if not known.any():
        raise RecipeError(
            f"none of the target's cell types ({examples(joined['cell_type'].unique())}) is in the corpus "
            f"({examples(manifest.cell_types)}). Rename them in the table, or give target.value as "
            "{cell type: column}."
        )
    rows = joined[known].reset_index(drop=True)
    split, left_out = split_rows(rows, manifest, recipe)
    kept = split != ""
    rows = rows.assign(split=split)[kept]
    rank = {contig.name: position for position, contig in enumerate(manifest.contigs)}
    rows = rows.sort_values(
        ["chrom", "start", "end", "id", "cell_type"], key=lambda c: c.map(rank) if c.name == "chrom" else c
    )
    rows = rows.reset_index(drop=True)
    rows.insert(0, "row", np.arange(len(rows), dtype=np.int64))
    return rows, {**counts, **left_out}


def with_cell_types(target: pd.DataFrame, cell_types: Sequence[str], chosen: str | None) -> pd.DataFrame:
    """Name the cell type of a target that has none: the recipe's ``cell_type``, or the corpus's only one.

    Raises:
        RecipeError: the corpus has several cell types and none is chosen, or the setting fits neither side.
    """
    named = (target["cell_type"] != "").any()
    if named:
        if chosen is not None:
            raise RecipeError(f"cell_type={chosen!r}, but the target names its cell types. Leave cell_type out.")
        return target
    if chosen is not None and chosen not in cell_types:
        raise RecipeError(f"cell_type={chosen!r} is not in the corpus; it has {examples(cell_types)}.")
    if chosen is None and len(cell_types) > 1:
        raise RecipeError(
            f"the target names no cell type and the corpus has {len(cell_types)} ({examples(cell_types)}). Set "
            "cell_type to the one that the values were measured in, or target.cell_type to a column of the table."
        )
    return target.assign(cell_type=chosen or (cell_types[0] if cell_types else ""))


def join_target(
    intervals: pd.DataFrame, target: pd.DataFrame, *, id_version: str
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Exact join on the id -> one row a target value that has an interval; what has no partner is counted.

    Raises:
        RecipeError: an interval's id occurs twice, or nothing joins.
    """
    keyed = intervals.assign(key=join_id(intervals["id"], id_version))
    twice = keyed.duplicated("key")
    if twice.any():
        raise RecipeError(
            f"{int(twice.sum())} intervals have an id that another one has, e.g. {keyed['key'][twice].iloc[0]!r}. "
            "A target is joined by id, so ids must be unique: give a file with one interval for each."
        )
    joined = keyed.merge(
        target.rename(columns={"id": "key", "value": "target"}), on="key", how="inner", validate="one_to_many"
    )
    if joined.empty:
        raise RecipeError(
            f"no id of the target is an id of the intervals. Intervals: {examples(keyed['key'])}; target: "
            f"{examples(target['id'])}. Use one naming on both sides (target.id names the column; "
            "target.id_version: strip drops Ensembl versions)."
        )
    counts = {
        "intervals": len(intervals),
        "intervals_without_target": int((~keyed["key"].isin(target["id"])).sum()),
        "target_rows_without_interval": int((~target["id"].isin(keyed["key"])).sum()),
    }
    return joined[["id", "cell_type", "chrom", "start", "end", "strand", "target"]], counts


def split_rows(
    rows: pd.DataFrame, manifest: CorpusManifest, recipe: RegressRecipe
) -> tuple[np.ndarray, dict[str, int]]:
    """``train``, ``validation``, ``test`` or "" (left out) of each row -> object [n], and the counts left out.

    Test rows lie wholly in the corpus's held-out contigs or regions. Left out are rows across the edge of a held-out
    region, and rows of held-out cell types elsewhere: a cell type that the model must not see trains no regressor.

    Raises:
        RecipeError: no test rows, or too few rows for training and validation.
    """
    held_bp = held_out_bp(rows["chrom"].to_numpy(object), rows["start"].to_numpy(), rows["end"].to_numpy(), manifest)
    test = held_bp == (rows["end"] - rows["start"]).to_numpy()
    edge = ~test & (held_bp > 0)
    held_cell = ~test & ~edge & rows["cell_type"].isin(manifest.held_out_cell_types).to_numpy()
    fit = ~(test | edge | held_cell)
    if not test.any():
        held = manifest.held_out_contigs
        raise RecipeError(
            f"no row to test on: the corpus holds out {examples(held) if held else 'no contig'}, and the rows lie on "
            f"{examples(rows['chrom'].unique())}. Build a corpus with held_out_contigs that the intervals reach."
        )
    validation = validation_blocks(
        rows["chrom"].to_numpy(object)[fit],
        rows["start"].to_numpy()[fit],
        fraction=recipe.validation_fraction,
        block_bp=recipe.block_bp,
        seed=recipe.seed,
    )
    split = np.full(len(rows), "", object)
    split[test] = "test"
    split[fit] = np.where(validation, "validation", "train")
    return split, {"rows_across_held_out_edges": int(edge.sum()), "rows_of_held_out_cell_types": int(held_cell.sum())}


def held_out_bp(chrom: np.ndarray, start: np.ndarray, end: np.ndarray, manifest: CorpusManifest) -> np.ndarray:
    """Bases of each interval that the corpus holds out -> int64 [n]."""
    whole = np.isin(chrom.astype(str), manifest.held_out_contigs)
    regions = pd.DataFrame([r.model_dump() for r in manifest.held_out_regions], columns=["chrom", "start", "end"])
    return np.where(whole, end - start, overlap_bp(chrom, start, end, regions))


def validation_blocks(chrom: np.ndarray, start: np.ndarray, *, fraction: float, block_bp: int, seed: int) -> np.ndarray:
    """Which rows validate -> bool [n]: whole blocks of the genome, in the order of a seeded hash, up to ``fraction``.

    The choice depends on the block alone, so all cell types of a locus and its neighbours fall on one side, and adding
    contigs does not redraw it at random. At least one block validates and one trains.

    Raises:
        RecipeError: all rows lie in one block.
    """
    names, codes = np.unique(chrom.astype(str), return_inverse=True)
    keys = np.array([int.from_bytes(hashlib.blake2b(n.encode(), digest_size=7).digest()) for n in names], np.int64)
    blocks = np.stack([codes, start // block_bp], axis=1)
    unique, block_of_row, sizes = np.unique(blocks, axis=0, return_inverse=True, return_counts=True)
    if len(unique) < 2:
        raise RecipeError(
            f"all {len(start)} training rows lie in one block of {block_bp:,} bp, so none is left to choose the "
            "rounds on. Use a smaller block_bp, or more intervals."
        )
    order = np.argsort(hash_u64(seed, keys[unique[:, 0]], unique[:, 1]), kind="stable")
    before = np.concatenate([[0], np.cumsum(sizes[order])[:-1]])  # rows that validate before this block is added
    chosen = before + sizes[order] / 2 <= fraction * len(start)
    chosen[0], chosen[-1] = True, False
    is_validation = np.zeros(len(unique), bool)
    is_validation[order] = chosen
    return is_validation[block_of_row.reshape(-1)]


def examples(names: Iterable[object], count: int = 4) -> str:
    """The first names for a message: ``a, b, c, d, ... (120 in all)``."""
    names = [str(name) for name in names]
    shown = ", ".join(names[:count]) or "none"
    return f"{shown}, ... ({len(names)} in all)" if len(names) > count else shown
