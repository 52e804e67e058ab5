"""What ``epilm gene-marks`` will do: which genes, where their windows lie, and the tracks that they are read from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from epilm.corpus.inputs import absolute
from epilm.errors import GenomeError, RecipeError
from epilm.genome import files
from epilm.genome.annotation import read_genes
from epilm.genome.bigwig import bigwig_contigs, bigwig_summary, open_big
from epilm.genome.contigs import describe_matches, match_contigs
from epilm.histone.recipe import GeneMarksRecipe
from epilm.histone.saved import GENE_COLUMNS, part_table
from epilm.histone.windows import mark_values, window_starts

_ENOUGH = 10
"""Rows from which equal widths are no chance."""
_LIKE_WINDOWS = 0.9
"""Share of rows of one width above which they are taken for windows."""


@dataclass(frozen=True)
class Track:
    """A bigWig of one mark in one cell type. Picklable: workers open the file themselves."""

    cell: str
    mark: str
    path: str
    """Absolute."""
    contigs: dict[str, str]
    """Contig of the genes' file -> name in the track."""
    lengths_bp: dict[str, int]
    """Contig of the genes' file -> its length in the track."""

    @property
    def label(self) -> str:
        return f"tracks.{self.cell}.{self.mark} ({self.path})"


@dataclass(frozen=True)
class GeneMarksPlan:
    """Everything that the tasks need, checked."""

    recipe: GeneMarksRecipe
    genes: pd.DataFrame
    """Columns number, gene_id, chrom, tss, strand, start (of the window); sorted by chrom and start."""
    tracks: tuple[Track, ...]
    """Cell types in the recipe's order, within each the marks in theirs."""
    left_out: dict[str, int]
    matched: tuple[str, ...]
    """How the tracks' contigs were matched with the genes'."""

    @property
    def notes(self) -> list[str]:
        """What a user wants to know before anything starts."""
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        sizes = (
            f"{len(self.genes):,} genes x {len(self.recipe.cell_types)} cell type(s) x {len(self.recipe.marks)} mark(s) in "
            f"{self.num_parts} part(s)"
        )
        return [*self.matched, sizes + (f"; left out: {left_out}" if left_out else "")]

    @property
    def num_parts(self) -> int:
        return -(-len(self.genes) // self.recipe.genes_per_task)

    def part(self, index: int) -> pd.DataFrame:
        first = index * self.recipe.genes_per_task
        return self.genes.iloc[first : first + self.recipe.genes_per_task]

    @property
    def schema(self) -> pa.Schema:
        """Of every part."""
        none = np.empty((0, self.recipe.num_bins, len(self.recipe.marks)), np.float32)
        return part_table(self.genes.iloc[:0], dict.fromkeys(self.recipe.cell_types, none)).schema


def check_gene_marks(recipe: GeneMarksRecipe) -> GeneMarksPlan:
    """Read the genes, open every track, and see that they belong together; writes nothing.

    Raises:
        GenomeError: a file is missing, damaged or of another assembly, a gene is there twice, or a track is empty, all 0, or
            negative in a window.
        RecipeError: no gene is left, or it is not clear where a row's TSS is.
    """
    genes, left_out = _choose_genes(recipe)
    tracks = _open_tracks(recipe, genes["chrom"].unique().tolist())
    lengths_bp = _common_lengths(tracks)
    covered = genes["chrom"].isin(list(lengths_bp))
    lacking = genes["chrom"][~covered].unique().tolist()
    genes = genes[covered]
    length_bp = genes["chrom"].map(lengths_bp).to_numpy(np.int64)
    beyond = genes[genes["tss"].to_numpy() >= length_bp]
    if len(beyond):
        row = beyond.iloc[0]
        raise GenomeError(
            f"{recipe.genes}: {len(beyond):,} genes start past the end of their contig, the first is {row['gene_id']!r} at "
            f"{row['chrom']}:{row['tss'] + 1:,}, which has {lengths_bp[row['chrom']]:,} bp in the tracks. "
            "Use genes of the tracks' assembly."
        )
    plus = (genes["strand"] == "+").to_numpy()
    genes = genes.assign(start=window_starts(genes["tss"].to_numpy(), plus, recipe.window_bp))
    leaves = (genes["start"] < 0).to_numpy() | (genes["start"].to_numpy() + recipe.window_bp > length_bp)
    left_out |= {"contig_not_in_tracks": int((~covered).sum())}
    if recipe.off_contig == "leave_out":
        left_out |= {"window_off_contig": int(leaves.sum())}
        genes = genes[~leaves]
    left_out = {reason: count for reason, count in left_out.items() if count}
    if genes.empty:
        told = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        raise RecipeError(
            f"{recipe.genes}: no gene is left ({told}). Check genes and gene_list, or bin_bp and num_bins."
        )
    genes = genes.assign(number=np.arange(len(genes)))
    contig, _ = pd.factorize(genes["chrom"])
    genes = genes.iloc[np.lexsort((genes["number"], genes["start"], contig))].reset_index(drop=True)
    plan = GeneMarksPlan(recipe, genes, tracks, left_out, tuple(_notes(tracks, lacking)))
    _refuse_impossible(plan)
    return plan


def _choose_genes(recipe: GeneMarksRecipe) -> tuple[pd.DataFrame, dict[str, int]]:
    """The genes that the recipe asks for, in their file's order, and how many were left out for what."""
    genes, left_out = _named(_anchored(read_genes(recipe.genes, feature=recipe.feature), recipe), recipe)
    genes["gene_id"] = _ids(genes["gene_id"], recipe)
    twice = genes["gene_id"][genes["gene_id"].duplicated()]
    if len(twice):
        raise GenomeError(
            f"{recipe.genes}: without versions {twice.nunique():,} genes are there twice, the first is "
            f"{twice.iloc[0]!r}. Set id_version: keep, or leave one row a gene."
        )
    if recipe.gene_list is None:
        return genes, left_out
    wanted = _ids(pd.Series(_listed(recipe.gene_list), dtype=object), recipe)
    if wanted.duplicated().any():
        raise RecipeError(f"gene_list names {wanted[wanted.duplicated()].iloc[0]!r} twice. Name each gene once.")
    chosen = genes[genes["gene_id"].isin(wanted)]
    if chosen.empty:
        raise RecipeError(
            f"gene_list: none of its {len(wanted):,} ids ({', '.join(wanted[:3])}, ...) is in {recipe.genes} "
            f"({', '.join(genes['gene_id'][:3])}, ...). Versions of Ensembl ids? Set id_version: strip."
        )
    return chosen, left_out | {"not_in_genes": len(wanted) - len(chosen)}


def _anchored(genes: pd.DataFrame, recipe: GeneMarksRecipe) -> pd.DataFrame:
    """Genes with their TSS where the recipe says.

    Raises:
        RecipeError: it does not say, and the rows look like windows around TSSs.
    """
    width = genes["end"] - genes["start"]
    if recipe.anchor is None and len(genes) >= _ENOUGH:
        usual = int(width.median())
        alike = float(((width - usual).abs() <= 1).mean())
        if usual > 2 and alike > _LIKE_WINDOWS:
            raise RecipeError(
                f"{recipe.genes}: {alike:.0%} of its {len(genes):,} rows are {usual:,} bp long, as windows around TSSs are. "
                "Say where the TSS of a row is: anchor: centre, or anchor: start."
            )
    if recipe.anchor != "centre":
        return genes
    # on the minus strand a window is the mirror image of one on the plus strand, see windows.py
    mirrored = (genes["strand"] == "-").astype("int64")
    return genes.assign(tss=(genes["start"] + genes["end"] - mirrored) // 2)


def _named(genes: pd.DataFrame, recipe: GeneMarksRecipe) -> tuple[pd.DataFrame, dict[str, int]]:
    """Genes under the name that the recipe asks for, in the columns ``GENE_COLUMNS``."""
    left_out = {}
    if recipe.id == "gene_name":
        nameless = genes["gene_name"] == ""
        if nameless.all():
            raise RecipeError(f"id: gene_name, but {recipe.genes} has no names of genes. Use id: gene_id.")
        shared = ~nameless & genes["gene_name"].duplicated(keep=False)
        left_out = {"without_gene_name": int(nameless.sum()), "gene_name_not_unique": int(shared.sum())}
        genes = genes[~nameless & ~shared].assign(gene_id=genes["gene_name"])
    return genes[list(GENE_COLUMNS)].reset_index(drop=True), left_out


def _listed(given: str | tuple[str, ...]) -> list[str]:
    if not isinstance(given, str):
        return list(given)
    lines = files.read_text(given).decode("utf-8", "replace").split("\n")
    return [line.split()[0] for line in lines if line.strip() and not line.startswith("#")]


def _ids(ids: pd.Series, recipe: GeneMarksRecipe) -> pd.Series:
    """``ENSG00000000003.9`` -> ``ENSG00000000003`` where asked; what follows a version (``_PAR_Y``) is kept."""
    return ids.str.replace(r"\.\d+(?=$|_)", "", regex=True) if recipe.id_version == "strip" else ids


def _open_tracks(recipe: GeneMarksRecipe, chroms: list[str]) -> tuple[Track, ...]:
    tracks = []
    for cell in recipe.cell_types:
        for mark in recipe.marks:
            path = absolute(recipe.tracks[cell][mark])
            lengths = bigwig_contigs(path)
            source = f"tracks.{cell}.{mark} ({path})"
            _refuse_empty(path, source)
            matches = match_contigs(dict.fromkeys(chroms, None), lengths, source=source)
            contigs = {ours: theirs for theirs, ours in matches.items()}
            tracks.append(Track(cell, mark, path, contigs, {ours: lengths[contigs[ours]] for ours in contigs}))
    return tuple(tracks)


def _refuse_empty(path: str, source: str) -> None:
    summary = bigwig_summary(path)
    if summary is not None and (summary.num_bases == 0 or summary.sum_of_squares == 0):
        raise GenomeError(
            f"{source}: {'it holds no value' if summary.num_bases == 0 else 'all its values are 0'}, so that nothing was "
            "measured. Give a track with reads."
        )


def _refuse_impossible(plan: GeneMarksPlan) -> None:
    """Look at the windows of tracks that have a negative or infinite value somewhere; others need no look.

    Raises:
        GenomeError: a window has one.
    """
    for track in plan.tracks:
        summary = bigwig_summary(track.path)
        if summary is None or (summary.lowest >= 0 and math.isfinite(summary.sum_of_squares)):
            continue
        with open_big(track.path, "bigWig") as opened:
            for chrom, genes in plan.genes.groupby("chrom", sort=False):
                starts, plus = genes["start"].to_numpy(np.int64), (genes["strand"] == "+").to_numpy()
                mark_values(opened, track.contigs[str(chrom)], starts, plus, plan.recipe, source=track.label)


def _common_lengths(tracks: tuple[Track, ...]) -> dict[str, int]:
    """Length of each contig that every track has.

    Raises:
        GenomeError: tracks disagree on it, or have none in common.
    """
    first = tracks[0]
    for track in tracks[1:]:
        for chrom, length_bp in track.lengths_bp.items():
            if first.lengths_bp.get(chrom, length_bp) != length_bp:
                raise GenomeError(
                    f"{track.label}: {chrom} has {length_bp:,} bp, but {first.lengths_bp[chrom]:,} bp in {first.label}. "
                    "Use tracks of one assembly."
                )
    common = {c: n for c, n in first.lengths_bp.items() if all(c in track.contigs for track in tracks)}
    if not common:
        fewest = min(tracks, key=lambda track: len(track.contigs))
        raise GenomeError(
            f"the tracks have no contig of the genes in common: {first.label} has {', '.join(list(first.contigs)[:5])}, "
            f"{fewest.label} has {', '.join(list(fewest.contigs)[:5])}. Give tracks of the same contigs."
        )
    return common


def _notes(tracks: tuple[Track, ...], lacking: list[str]) -> list[str]:
    """What to log: how contigs were matched, told once for tracks that name them alike; and which have no track."""
    alike: dict[str, list[str]] = {}
    for track in tracks:
        alike.setdefault(describe_matches({theirs: ours for ours, theirs in track.contigs.items()}), []).append(
            track.path
        )
    notes = []
    for matches, paths in alike.items():
        more = f" and {len(paths) - 1} more tracks" if len(paths) > 1 else ""
        notes.append(f"contigs of {paths[0]}{more}: {matches}")
    if lacking:
        shown = ", ".join(lacking[:8]) + (f", ... ({len(lacking)} in all)" if len(lacking) > 8 else "")
        notes.append(f"not in every track, so their genes are left out: {shown}")
    return notes
