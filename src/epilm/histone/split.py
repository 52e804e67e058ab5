"""Genes for training, validation and the test by where they lie, so that no window reaches into another split's."""

from __future__ import annotations

import numpy as np
import pandas as pd

from epilm.corpus.recipe import parse_region
from epilm.errors import RecipeError
from epilm.histone.config import GeneSplit
from epilm.histone.files import unknown
from epilm.histone.windows import window_starts


def split_genes(genes: pd.DataFrame, split: GeneSplit, *, window_bp: int, source: str) -> np.ndarray:
    """The split of each gene -> str [n], "" where it is left out.

    A gene belongs to the contig or region that holds its TSS; those in none are for training. Left out are training genes
    whose window shares a base with that of a validation or test gene, and validation genes with a test gene's.

    Args:
        genes: columns chrom, tss, strand.
        source: names the genes in messages.

    Raises:
        RecipeError: a contig or region has no gene, or a gene is for validation and for the test.
    """
    chrom, tss = genes["chrom"].to_numpy(object), genes["tss"].to_numpy(np.int64)
    test = _inside(chrom, tss, split.test_contigs, "test_contigs", source)
    validation = _inside(chrom, tss, split.validation_contigs, "validation_contigs", source)
    if (test & validation).any():
        row = int((test & validation).argmax())
        raise RecipeError(
            f"data.split: {int((test & validation).sum())} genes are for validation and for the test, the first at "
            f"{chrom[row]}:{tss[row]:,}. Give regions that do not overlap."
        )
    starts = window_starts(tss, (genes["strand"] == "+").to_numpy(), window_bp)
    result = np.where(test, "test", np.where(validation, "validation", "train"))
    near_test = _near(chrom, starts, test, window_bp)
    result[validation & near_test] = ""
    train = ~test & ~validation
    result[train & (near_test | _near(chrom, starts, validation, window_bp))] = ""
    return result


def _inside(chrom: np.ndarray, tss: np.ndarray, places: tuple[str, ...], setting: str, source: str) -> np.ndarray:
    """Which genes begin in any of the contigs or regions -> bool [n]."""
    contigs = list(dict.fromkeys(chrom))
    inside = np.zeros(len(chrom), bool)
    for place in places:
        if place in contigs:
            inside |= chrom == place
            continue
        contig, start, end = parse_region(place) if ":" in place else (place, 0, 0)
        if contig not in contigs:
            raise RecipeError(f"data.split.{setting}: among the genes of {source} {unknown('contig', contig, contigs)}")
        own = (chrom == contig) & (tss >= start) & (tss < end)
        if not own.any():
            there = tss[chrom == contig]
            raise RecipeError(
                f"data.split.{setting}: no gene of {source} begins in {place}; those of {contig} begin at {there.min():,} to "
                f"{there.max():,}. Give a region with genes."
            )
        inside |= own
    return inside


def _near(chrom: np.ndarray, starts: np.ndarray, of: np.ndarray, window_bp: int) -> np.ndarray:
    """Which windows share a base with one of the windows ``of`` -> bool [n]."""
    near = np.zeros(len(starts), bool)
    for contig in dict.fromkeys(chrom[of]):
        here = np.flatnonzero(chrom == contig)
        others = np.sort(starts[of & (chrom == contig)])
        place = np.searchsorted(others, starts[here])
        before = starts[here] - others[np.maximum(place - 1, 0)]
        behind = others[np.minimum(place, len(others) - 1)] - starts[here]
        near[here] = (np.abs(before) < window_bp) | (np.abs(behind) < window_bp)
    return near
