"""Simulate genes whose expression is a known function of their histone marks, as the files of DeepDiff's authors.

``<cell>.train.csv.gz``, ``.validation.csv.gz``, ``.test.csv.gz`` (``<gene>_<symbol>_<bin>,count,...`` a line, bins from 1),
``<cell>.expr.csv.gz`` (``gene,reads``), and ``truth.json``, which no stage but a test or a study reads.
"""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import root_scalar
from scipy.special import expit, ndtr

from epilm.errors import RecipeError
from epilm.evaluate.metrics import pearson
from epilm.histone.config import SPLITS
from epilm.runs import OnExisting, open_run
from epilm.simulate.gene_recipe import UNITS, Floats, SimulateGenesRecipe, generating_function, generic_effect
from epilm.storage import Location

_LEVEL = 1  # of gzip: 5,000 genes are 60 MB of text
_WRITTEN_GENES = 500  # whose lines are text in memory at once
_REFERENCE = "reference"
_REFERENCE_GENES = 2000  # on which the noise is set: that of a split does not depend on the size of any split
_REFERENCE_DRAWS = 20  # of the noise of each
_STREAMS = (*SPLITS, _REFERENCE)
_LOG_MOST = 40.0  # exp of it still is a 64-bit integer


def noiseless_target(first: ArrayLike, second: ArrayLike, recipe: SimulateGenesRecipe) -> Floats:
    """ln((E1 + 1) / (E2 + 1)) of the expected reads E: the reference for any predictor.

    Args:
        first, second: counts [n, bins, marks] in the recipe's order of marks.

    Returns:
        [n]; its r with the target of the written reads is the ceiling.
    """
    function = generating_function(recipe)
    return np.logaddexp(0, function.log_reads_of(first)) - np.logaddexp(0, function.log_reads_of(second))


def draw_counts(recipe: SimulateGenesRecipe, split: str, num_genes: int | None = None) -> dict[str, NDArray[np.int32]]:
    """{cell type: counts [n, bins, marks]} of a split; fewer genes are the first of more.

    A gene has an activity, a Polycomb and a heterochromatin level in each cell type, partly shared; each mark takes its
    shape and height from them, over a background of domains; the counts are negative binomial.
    """
    n = getattr(recipe.num_genes, split) if num_genes is None else num_genes
    states = [_mixed(recipe, split, n, 3, "state", cell) for cell in range(len(recipe.cell_types))]
    counts = {name: np.empty((n, recipe.num_bins, len(recipe.marks)), np.int32) for name in recipe.cell_types}
    for column, mark in enumerate(recipe.marks):
        gene = _rng(recipe, split, "gene", mark).standard_normal((n, 3))
        for cell, name in enumerate(recipe.cell_types):
            own = _mixed(recipe, split, n, 3, "own", cell, mark)
            place = _Places(_centres(recipe.num_bins), gene, own, states[cell])
            signal = _SHAPES[mark](place) if mark in _SHAPES else _generic(place, generic_effect(recipe, mark)[1][0])
            rate = recipe.depth * (_background(recipe, split, n, cell, mark) + signal)
            rng = _rng(recipe, split, "counts", mark, cell)
            if recipe.dispersion:
                shape = 1 / recipe.dispersion
                rate *= _rng(recipe, split, "gamma", mark, cell).standard_gamma(shape, rate.shape) / shape
            counts[name][:, :, column] = rng.poisson(rate)
    return counts


def draw_reads(recipe: SimulateGenesRecipe, split: str, log_reads: Floats, noise_sd: float) -> NDArray[np.int64]:
    """Whole read counts [cell types, n] of a split from the function's log reads, with log-normal noise."""
    noise = [
        _rng(recipe, split, "expression", "", cell).standard_normal(log_reads.shape[1])
        for cell in range(len(recipe.cell_types))
    ]
    return _reads(log_reads, np.stack(noise), noise_sd)


def noise_sd_for(recipe: SimulateGenesRecipe) -> float:
    """Standard deviation of the noise of log reads at which ``ceiling_r`` holds, found on genes that are in no split."""
    two = recipe.model_copy(update={"cell_types": recipe.cell_types[:2]})
    function = generating_function(recipe)
    counts = draw_counts(two, _REFERENCE, _REFERENCE_GENES)
    log_reads = np.stack([function.log_reads_of(counts[cell]) for cell in two.cell_types])
    log_reads = np.tile(log_reads, _REFERENCE_DRAWS)
    noise = _rng(recipe, _REFERENCE, "expression").standard_normal(log_reads.shape)
    target = _target(np.exp(log_reads))

    def excess(noise_sd: float) -> float:
        return float(pearson(target, _target(_reads(log_reads, noise, noise_sd)))) - recipe.ceiling_r

    return 0.0 if excess(0.0) <= 0 else root_scalar(excess, bracket=(0.0, 20.0), xtol=1e-4).root


def simulate_genes(
    recipe: SimulateGenesRecipe,
    on_existing: OnExisting = "refuse",
    progress: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Write the genes' files into ``<storage>/<name>`` and return where everything lies.

    A finished run is returned as it is on ``resume``; an unfinished one is written anew, which takes seconds.

    Returns:
        ``result.json`` with the ceiling of every pair and split, the function, and the shares of counts; and the absolute
        path of every file under ``paths``: ``folder``, ``truth``, ``cells`` {cell: {split: path}} and ``expression``
        {cell: path}, as an expression recipe's ``data.cells`` and ``expression.files`` take them.

    Raises:
        RecipeError: the storage is not a local folder.
        RunExistsError, CheckpointError, StorageError: as :func:`epilm.runs.open_run`.
    """
    if not Location(recipe.storage).is_local:
        raise RecipeError(
            f"storage={recipe.storage}: genes are simulated into local folders only. Simulate to one and copy it."
        )
    run = open_run(recipe, stage="simulate-genes", on_existing=on_existing)
    paths = output_paths(recipe, Path(run.folder.path))
    if run.resumed and run.result.exists():
        progress(f"{run.folder} is finished")
        return {**run.result.read_json(), "paths": paths}
    began = time.perf_counter()
    function = generating_function(recipe)
    noise_sd = noise_sd_for(recipe)
    log_reads, reads, tally = {}, {}, np.zeros(3, dtype=np.int64)
    for split in SPLITS:
        counts = draw_counts(recipe, split)
        log_reads[split] = np.stack([function.log_reads_of(counts[cell]) for cell in recipe.cell_types])
        reads[split] = draw_reads(recipe, split, log_reads[split], noise_sd)
        for cell in recipe.cell_types:
            _write_counts(Path(paths["cells"][cell][split]), gene_numbers(recipe, split), counts[cell])
            tally += np.bincount(np.minimum(counts[cell], 2).ravel(), minlength=3)
        progress(f"wrote {split}: {reads[split].shape[1]:,} genes in {len(recipe.cell_types)} cell types")
    for row, cell in enumerate(recipe.cell_types):
        numbers = np.concatenate([gene_numbers(recipe, split) for split in SPLITS])
        values = np.concatenate([reads[split][row] for split in SPLITS])
        _write_csv(Path(paths["expression"][cell]), [[pa.array(_gene_ids(numbers)), pa.array(values)]])
    ceiling = _ceilings(recipe, log_reads, reads)
    truth = {
        "function": function.to_json(),
        "noise_sd": noise_sd,
        "ceiling": ceiling,
        "genes": {
            split: {
                "gene_id": _gene_ids(gene_numbers(recipe, split)),
                "log_reads": dict(zip(recipe.cell_types, log_reads[split].round(5).tolist(), strict=True)),
            }
            for split in SPLITS
        },
    }
    Path(paths["truth"]).write_text(json.dumps(truth) + "\n")
    result = {
        "stage": "simulate-genes",
        "num_genes": recipe.num_genes.model_dump(),
        "cell_types": list(recipe.cell_types),
        "marks": list(recipe.marks),
        "num_bins": recipe.num_bins,
        "count_shares": dict(zip(("0", "1", "2+"), (tally / tally.sum()).round(4).tolist(), strict=True)),
        "ceiling": ceiling,
        "noise_sd": round(noise_sd, 4),
        "function": function.to_json(),
        "seconds": round(time.perf_counter() - began, 2),
    }
    return {**run.finish(result), "paths": paths}


def output_paths(recipe: SimulateGenesRecipe, folder: Path) -> dict[str, Any]:
    """Every file of a run, by role."""
    return {
        "folder": str(folder),
        "truth": str(folder / "truth.json"),
        "cells": {
            cell: {split: str(folder / f"{cell}.{split}.csv.gz") for split in SPLITS} for cell in recipe.cell_types
        },
        "expression": {cell: str(folder / f"{cell}.expr.csv.gz") for cell in recipe.cell_types},
    }


def gene_numbers(recipe: SimulateGenesRecipe, split: str) -> NDArray[np.int64]:
    """Numbers in the ids of a split's genes: validation begins at 1,000,001 and test at 2,000,001, whatever the sizes."""
    return SPLITS.index(split) * 1_000_000 + np.arange(1, getattr(recipe.num_genes, split) + 1)


def _ceilings(recipe: SimulateGenesRecipe, log_reads: dict[str, Floats], reads: dict[str, Any]) -> list[dict[str, Any]]:
    """r between the target without noise and the written one, of each pair of cell types and split."""
    rows = []
    for pair in combinations(range(len(recipe.cell_types)), 2):
        row: dict[str, Any] = {"pair": [recipe.cell_types[cell] for cell in pair]}
        for split in SPLITS:
            both = list(pair)
            r = float(pearson(_target(np.exp(log_reads[split][both])), _target(reads[split][both])))
            row[split] = round(r, 4) if np.isfinite(r) else None
        rows.append(row)
    return rows


def _target(reads: NDArray[Any]) -> Floats:
    """[2, n] reads of two cell types -> [n]."""
    return np.log1p(reads[0]) - np.log1p(reads[1])


def _reads(log_reads: Floats, noise: Floats, noise_sd: float) -> NDArray[np.int64]:
    return np.rint(np.exp(np.minimum(log_reads + noise_sd * noise, _LOG_MOST))).astype(np.int64)


def _rng(recipe: SimulateGenesRecipe, split: str, role: str, mark: str = "", cell: int = 0) -> np.random.Generator:
    """A stream of its own for each role: what one mark, cell type or gene draws changes no other."""
    key = (2, _STREAMS.index(split), zlib.crc32(role.encode()), zlib.crc32(mark.encode()), cell)
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(recipe.seed, spawn_key=key)))


def _mixed(recipe: SimulateGenesRecipe, split: str, n: int, width: int, role: str, cell: int, mark: str = "") -> Floats:
    """[n, width] standard normals that have ``shared`` of their variance in common with the other cell types."""
    common = _rng(recipe, split, f"{role} of all", mark).standard_normal((n, width))
    own = _rng(recipe, split, role, mark, cell).standard_normal((n, width))
    return np.sqrt(recipe.shared) * common + np.sqrt(1 - recipe.shared) * own


def _centres(num_bins: int) -> Floats:
    """[bins] middles in units from the TSS."""
    return (np.arange(num_bins) + 0.5) * UNITS / num_bins - UNITS / 2


def _background(recipe: SimulateGenesRecipe, split: str, n: int, cell: int, mark: str) -> Floats:
    """[n, bins] mean counts outside peaks: log-normal, smooth over about 10 units, half of it alike in the cell types."""
    knots = np.linspace(-UNITS / 2, UNITS / 2, 21)
    near = np.maximum(0, 1 - np.abs(_centres(recipe.num_bins)[None] - knots[:, None]) / (knots[1] - knots[0]))
    near /= np.linalg.norm(near, axis=0)
    field = _rng(recipe, split, "domains of all", mark).standard_normal((n, 21))
    field = (field + _rng(recipe, split, "domains", mark, cell).standard_normal((n, 21))) / np.sqrt(2)
    return 0.75 * np.exp(0.8 * field @ near)


@dataclass(frozen=True)
class _Places:
    """What a mark's shape is made of."""

    x: Floats
    """[bins] places in units from the TSS."""
    gene: Floats
    """[n, 3] standard normals of the gene, alike in all cell types: where peaks are, and how wide."""
    own: Floats
    """[n, 3] of gene and cell type: how high."""
    state: Floats
    """[n, 3] of gene and cell type, alike for all marks: activity, Polycomb, heterochromatin."""

    def peak(self, centre: Floats | float, width: Floats | float) -> Floats:
        """[n, bins], 1 at the centre."""
        return np.exp(-0.5 * ((self.x - _column(centre)) / _column(width)) ** 2)

    def domain(self, start: Floats | float, stop: Floats | float, edge: float = 3.0) -> Floats:
        """[n, bins], 1 inside."""
        return expit((self.x - _column(start)) / edge) * expit((_column(stop) - self.x) / edge)


def _column(value: Floats | float) -> Floats:
    return np.asarray(value, dtype=np.float64).reshape(-1, 1)


def _h3k4me3(p: _Places) -> Floats:
    """A narrow peak at the TSS of active genes."""
    height = 14 * expit(2.5 * p.state[:, 0]) * np.exp(0.4 * p.own[:, 0])
    return _column(height) * p.peak(1.5 * p.gene[:, 0], 4 * np.exp(0.25 * p.gene[:, 1]))


def _h3k4me1(p: _Places) -> Floats:
    """The flanks of active promoters, and two enhancers anywhere, each with an activity of its own."""
    flanks = p.peak(-12 + 1.5 * p.gene[:, 0], 4) + p.peak(12 + 1.5 * p.gene[:, 0], 4)
    total = _column(5 * expit(2 * p.state[:, 0]) * np.exp(0.3 * p.own[:, 0])) * flanks
    for number in (1, 2):
        total += _column(7 * expit(2 * p.own[:, number])) * p.peak(190 * ndtr(p.gene[:, number]) - 95, 5)
    return total


def _h3k36me3(p: _Places) -> Floats:
    """Over the body of transcribed genes, which end 30 to 130 units downstream."""
    height = 4 * expit(2 * p.state[:, 0]) * np.exp(0.3 * p.own[:, 0])
    return _column(height) * p.domain(6, 30 + 100 * ndtr(p.gene[:, 0]))


def _h3k27me3(p: _Places) -> Floats:
    """Broad, over most silent genes and some active ones (bivalent promoters)."""
    height = 6 * expit(3 * (p.state[:, 1] - 0.3 * p.state[:, 0] - 0.5)) * np.exp(0.3 * p.own[:, 0])
    half = 15 + 20 * np.exp(0.4 * p.gene[:, 1])
    return _column(height) * p.domain(12 * p.gene[:, 0] - half, 12 * p.gene[:, 0] + half)


def _h3k9me3(p: _Places) -> Floats:
    """Broad, anywhere."""
    height = 4 * expit(3 * (p.state[:, 2] - 0.3 * p.state[:, 0] - 0.8)) * np.exp(0.3 * p.own[:, 0])
    centre, half = 200 * ndtr(p.gene[:, 0]) - 100, 20 + 40 * ndtr(p.gene[:, 1])
    return _column(height) * p.domain(centre - half, centre + half)


def _generic(p: _Places, span: tuple[int, int]) -> Floats:
    """A peak over the mark's region, of a height of its own."""
    height = 5 * expit(2 * p.own[:, 0]) * np.exp(0.3 * p.own[:, 1])
    return _column(height) * p.peak((span[0] + span[1]) / 2 + 2 * p.gene[:, 0], (span[1] - span[0]) / 3)


_SHAPES: dict[str, Callable[[_Places], Floats]] = {
    "H3K4me3": _h3k4me3,
    "H3K4me1": _h3k4me1,
    "H3K36me3": _h3k36me3,
    "H3K27me3": _h3k27me3,
    "H3K9me3": _h3k9me3,
}


def _gene_ids(numbers: NDArray[np.int64]) -> list[str]:
    return [f"ENSG{number:011d}" for number in numbers]


def _write_counts(path: Path, numbers: NDArray[np.int64], counts: NDArray[np.int32]) -> None:
    """Write counts [n, bins, marks] as ``<gene>_<symbol>_<bin>,count,...`` lines."""
    names = [f"{gene}_GENE{number}_" for gene, number in zip(_gene_ids(numbers), numbers, strict=True)]
    bins = pa.array([str(number) for number in range(1, counts.shape[1] + 1)])

    def blocks() -> Iterator[list[pa.Array]]:
        for first in range(0, len(names), _WRITTEN_GENES):
            block = counts[first : first + _WRITTEN_GENES]
            gene, place = np.divmod(np.arange(block.shape[0] * block.shape[1]), block.shape[1])
            parts = [pa.array(names[first : first + _WRITTEN_GENES]).take(pa.array(gene)), bins.take(pa.array(place))]
            ids = pc.call_function("binary_join_element_wise", [*parts, pa.scalar("")])
            yield [ids, *(pa.array(np.ascontiguousarray(column)) for column in block.reshape(-1, block.shape[2]).T)]

    _write_csv(path, blocks())


def _write_csv(path: Path, blocks: Iterable[list[pa.Array]]) -> None:
    """Write blocks of columns without a header, the same bytes each time."""
    options = pacsv.WriteOptions(include_header=False, quoting_style="none")
    with path.open("wb") as raw, gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as stream:
        for columns in blocks:
            table = pa.table(columns, names=[str(number) for number in range(len(columns))])
            pacsv.write_csv(table, stream, options)
