"""Genes of two cell types, from files to :class:`~epilm.histone.pairs.PairedGenes`: read, joined by id, checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from epilm.errors import RecipeError
from epilm.histone.config import (
    SPLITS,
    CountFiles,
    DeepDiffFiles,
    ExpressionData,
    GeneMarksFolder,
    MarksData,
    SplitFiles,
)
from epilm.histone.deepdiff_csv import read_deepdiff
from epilm.histone.expression_tables import join_ids, read_counts, read_table
from epilm.histone.files import unknown
from epilm.histone.gene_marks import GeneMarks
from epilm.histone.pairs import PairedGenes, log_fold_change
from epilm.histone.saved import read_gene_marks
from epilm.histone.split import split_genes
from epilm.storage import Location

_FEW = 5
"""Genes of a split below which the same reads in both cell types prove nothing."""
_NO_CHANCE = 1e-9
"""Probability below which a split's genes are not without reads of a mark by chance."""


@dataclass(frozen=True)
class _Cell:
    """One cell type's genes, in the order train, validation, test."""

    name: str
    marks: GeneMarks
    split: np.ndarray
    """str [n], of ``SPLITS``."""


def load_pairs(
    data: MarksData, expression: ExpressionData, pair: tuple[str, str], marks: Sequence[str] | None = None
) -> PairedGenes:
    """The genes that have marks and expression in both cell types of a pair.

    They come in the order of the first cell type's files, those for training first, then validation, then the test.
    Genes that lack something are left out and counted, as are those without a read of these marks in either cell type.

    Args:
        pair: first and second cell type: the target is ln((first + 1) / (second + 1)).
        marks: by name, in the order wanted; all in the data's order where None.

    Raises:
        RecipeError: a file is malformed (see :mod:`~epilm.histone.deepdiff_csv`, :mod:`~epilm.histone.expression_tables`); an
            unknown cell type, mark or contig; a gene in several splits; a mark without a single read in a cell type; two
            cell types with the same data; a split without genes.
        CorpusError: the folder of ``epilm gene-marks`` is absent or damaged.
    """
    if pair[0] == pair[1]:
        raise RecipeError(f"pair={list(pair)}: give two different cell types.")
    levels = [_read_expression(expression, cell) for cell in pair]
    if isinstance(data, DeepDiffFiles):
        first = _read_deepdiff_cell(data, pair[0], marks)
        second = _read_deepdiff_cell(data, pair[1], first.marks.marks, chosen=marks is not None)
        bin_bp, left_out = data.bin_bp, {}
    else:
        (first, second), bin_bp, left_out = _read_folder_cells(data, pair, marks)
    for cell in (first, second):
        _check_tracks(cell)
    pairs = _join(first, second, levels, left_out, id_version=expression.id_version, bin_bp=bin_bp)
    return replace(pairs, oriented=isinstance(data, GeneMarksFolder))


def _read_expression(expression: ExpressionData, cell: str) -> pd.Series:
    """float64 by gene, without NaN; ids as they are joined on."""
    if isinstance(expression, CountFiles):
        if cell not in expression.files:
            raise RecipeError(f"expression.files: {unknown('cell type', cell, expression.files)}")
        return read_counts(expression.files[cell], id_version=expression.id_version)
    if cell not in expression.columns:
        raise RecipeError(f"expression.columns: {unknown('cell type', cell, expression.columns)}")
    return read_table(expression, cells=[cell])[cell].dropna()


def _read_deepdiff_cell(data: DeepDiffFiles, name: str, marks: Sequence[str] | None, *, chosen: bool = True) -> _Cell:
    """A cell type with its marks in one order for all files.

    Args:
        marks: those wanted; all of the first file where None.
        chosen: whether a user named them; else a file with further marks is refused.
    """
    if name not in data.cells:
        raise RecipeError(f"data.cells: {unknown('cell type', name, data.cells)}")
    files = data.cells[name]
    parts = []
    for split in SPLITS:
        path = getattr(files, split)
        part = read_deepdiff(path, columns=files.columns or data.columns, num_bins=data.num_bins)
        if marks is None:
            marks, chosen = part.marks, False
        if not chosen and set(part.marks) != set(marks):
            raise RecipeError(
                f"{path} has the marks {', '.join(part.marks)}; the first file has {', '.join(marks)}. Name those that all "
                "files have by `marks`, or mend data.columns."
            )
        parts.append(part.with_marks(marks))
    genes = np.concatenate([part.genes for part in parts])
    split = np.repeat(np.array(SPLITS), [len(part.genes) for part in parts])
    _refuse_several_splits(name, genes, split, files)
    values = np.concatenate([part.values for part in parts])
    return _Cell(name, GeneMarks(genes, parts[0].marks, values), split)


def _refuse_several_splits(name: str, genes: np.ndarray, split: np.ndarray, files: SplitFiles) -> None:
    again = pd.Series(genes).duplicated().to_numpy()
    if again.any():
        gene = genes[again][0]
        where = split[genes == gene].tolist()
        paths = ", ".join(str(getattr(files, part)) for part in where)
        raise RecipeError(
            f"data.cells.{name}: {int(again.sum())} genes are in two splits, e.g. {gene} in {' and '.join(where)} ({paths}). "
            "A gene belongs to one: leave it out of the others, in all cell types."
        )


def _read_folder_cells(
    data: GeneMarksFolder, pair: tuple[str, str], marks: Sequence[str] | None
) -> tuple[list[_Cell], int, dict[str, int]]:
    """Cell types of a folder of ``epilm gene-marks``, genes split by place; the bases of a bin; and what was left out."""
    saved = read_gene_marks(Location(data.path))
    for name in pair:
        if name not in saved.cell_types:
            raise RecipeError(f"pair: in {data.path} {unknown('cell type', name, saved.cell_types)}")
    ids = saved.genes["gene_id"].to_numpy(dtype=str)
    twice = pd.Series(ids).duplicated().to_numpy()
    if twice.any():
        raise RecipeError(
            f"{data.path}: {int(twice.sum())} genes are there twice, e.g. {ids[twice][0]}. Run epilm gene-marks with one row "
            "a gene."
        )
    split = split_genes(saved.genes, data.split, window_bp=saved.bin_bp * saved.num_bins, source=data.path)
    left_out = {f"{reason.replace('_', ' ')} (of epilm gene-marks)": n for reason, n in saved.manifest.left_out.items()}
    left_out["window overlaps that of another split's gene"] = int((split == "").sum())
    order = np.concatenate([np.flatnonzero(split == name) for name in SPLITS])
    cells = []
    for name in pair:
        values = saved.values(name)
        if not np.isfinite(values).all():
            raise RecipeError(
                f"{data.path}: the marks of {name} have values that are not finite. Run epilm gene-marks again."
            )
        found = GeneMarks(ids[order], tuple(saved.marks), values[order])
        cells.append(_Cell(name, found.with_marks(marks), split[order]))
    return cells, saved.bin_bp, left_out


def _check_tracks(cell: _Cell) -> None:
    """Refuse a mark that nothing was read of: in no gene, or in none of a split though most genes of the others have reads."""
    read: np.ndarray = np.any(cell.marks.values, axis=1)  # [genes, marks]
    empty = [cell.marks.marks[number] for number in np.flatnonzero(~np.any(read, axis=0))]
    if empty:
        raise RecipeError(
            f"{', '.join(empty)} in cell type {cell.name}: 0 in every bin of every gene, so that nothing was measured or read. "
            "Give its data, or leave the mark out by `marks`."
        )
    values, marks = cell.marks.values, cell.marks.marks
    for later, name in enumerate(marks):
        for earlier in range(later):
            if len(values) >= _FEW and np.array_equal(values[..., earlier], values[..., later]):
                raise RecipeError(
                    f"{marks[earlier]} and {name} of cell type {cell.name} are the same in every bin of every gene. Is one "
                    "file or column named for both? Give each its own, or leave one out by `marks`."
                )
    for split in SPLITS:
        own = cell.split == split
        others = int((~own).sum())
        share = read[~own].sum(axis=0) / (others + 1)  # never 1: a few genes prove little
        silent = ~read[own].any(axis=0) & (own.sum() * np.log1p(-share) < np.log(_NO_CHANCE))
        if silent.any():
            number = int(silent.argmax())
            raise RecipeError(
                f"{cell.marks.marks[number]} in cell type {cell.name}: 0 in every bin of all {own.sum():,} {split} genes, while "
                f"{share[number]:.0%} of the other genes have reads. Is the file of that split whole? Else leave the mark out "
                "by `marks`."
            )


def _join(
    first: _Cell,
    second: _Cell,
    levels: Sequence[pd.Series],
    left_out: dict[str, int],
    *,
    id_version: str,
    bin_bp: int | None,
) -> PairedGenes:
    """Genes of the first cell type that have everything, in its order."""
    ids, others = (_joined_ids(cell, id_version) for cell in (first, second))
    genes = pd.Index(ids)
    row = pd.Index(others).get_indexer(genes)
    both = row >= 0
    _refuse_other_split(first, second, ids, row)
    left_out = Counter({**left_out, f"no marks in {second.name}": int((~both).sum())})
    left_out[f"no marks in {first.name}"] = int((~np.isin(others, ids)).sum())

    expression = np.stack([series.reindex(genes).to_numpy(np.float64) for series in levels], axis=1)
    lacking = np.isnan(expression)
    for named in ((True, True), (True, False), (False, True)):
        without = both & (lacking == named).all(axis=1)
        cells = [cell.name for cell, lacks in zip((first, second), named, strict=True) if lacks]
        left_out[f"no expression in {' and '.join(cells)}"] = int(without.sum())
    kept = np.flatnonzero(both & ~lacking.any(axis=1))

    a, b = first.marks.values[kept], second.marks.values[row[kept]]
    read = a.any(axis=(1, 2)) | b.any(axis=(1, 2))
    left_out["no reads in either cell type"] = int((~read).sum())
    if not read.all():
        kept, a, b = kept[read], a[read], b[read]
    left_out = {reason: number for reason, number in left_out.items() if number}

    split = first.split[kept]
    _check_splits(split, left_out, ids, others, levels)
    names = (first.name, second.name)
    if np.array_equal(a, b):
        raise RecipeError(
            f"pair={list(names)}: both have the same marks in every bin. Are the same files named for both?"
        )
    if np.array_equal(expression[kept, 0], expression[kept, 1]):
        raise RecipeError(
            f"pair={list(names)}: both have the same expression. Is the same file or column named for both?"
        )
    for split_name in SPLITS:
        _refuse_alike(a[split == split_name], b[split == split_name], first.marks.marks, names, split_name)
    for cell, level in zip(names, expression[kept].T, strict=True):
        if np.ptp(level) == 0:
            raise RecipeError(
                f"expression in cell type {cell} is {level[0]:g} for all {len(kept):,} genes, so that nothing was measured or "
                "read. Give its file or column."
            )
    target = log_fold_change(expression[kept])
    return PairedGenes(
        ids[kept], split, first.marks.marks, names, a, b, expression[kept], target, left_out=left_out, bin_bp=bin_bp
    )


def _refuse_alike(a: np.ndarray, b: np.ndarray, marks: Sequence[str], cells: tuple[str, str], split: str) -> None:
    """One path given twice: a split, or a mark of one, with the same reads in both cell types; few genes may agree by chance."""
    if len(a) < _FEW:
        return
    alike = [mark for m, mark in enumerate(marks) if a[..., m].any() and np.array_equal(a[..., m], b[..., m])]
    if alike:
        raise RecipeError(
            f"{', '.join(alike)} of the {len(a):,} {split} genes: the same in every bin in {cells[0]} and {cells[1]}. Is one "
            "file named for both? Give each its own, or leave the mark out by `marks`."
        )


def _joined_ids(cell: _Cell, id_version: str) -> np.ndarray:
    ids = join_ids(cell.marks.genes, id_version)
    twice = pd.Series(ids).duplicated().to_numpy()
    if twice.any():
        raise RecipeError(
            f"cell type {cell.name}: {int(twice.sum())} genes are the same without their version, e.g. {ids[twice][0]}. "
            "Leave out all versions but one, or use expression.id_version: keep."
        )
    return ids


def _refuse_other_split(first: _Cell, second: _Cell, ids: np.ndarray, row: np.ndarray) -> None:
    other = np.flatnonzero((row >= 0) & (first.split != second.split[row]))
    if len(other):
        one = other[0]
        raise RecipeError(
            f"{len(other)} genes are in different splits in the two cell types, e.g. {ids[one]}: {first.split[one]} in "
            f"{first.name}, {second.split[row[one]]} in {second.name}. Are the files of a split mixed up? Split the genes of "
            "all cell types alike."
        )


def _check_splits(
    split: np.ndarray, left_out: dict[str, int], ids: np.ndarray, others: np.ndarray, levels: Sequence[pd.Series]
) -> None:
    empty = [name for name in SPLITS if name not in split]
    if empty and not left_out:
        raise RecipeError(
            f"the marks have no gene for {', '.join(empty)}. Leave some contigs or genes for every split."
        )
    if empty:
        why = "; ".join(f"{reason}: {number}" for reason, number in left_out.items())
        message = f"no genes are left for {', '.join(empty)}. Left out: {why}."
        if any(reason.startswith(("no marks", "no expression")) for reason in left_out):
            heads = ", ".join(
                str(names[0]) if len(names) else "none" for names in (ids, others, *(s.index for s in levels))
            )
            message += (
                f" The first ids of the marks and of the expression are {heads}: do they name genes alike, with versions "
                "(ENSG00000000003.9) everywhere or nowhere? expression.id_version=strip drops them."
            )
        raise RecipeError(message)
