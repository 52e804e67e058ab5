"""Simulate a toy epigenome with planted truth into a run folder.

``genome.fa`` (and ``.fai``), ``states/<cell>.bed.gz``, ``tracks/<cell>.<mark>.bw``, ``genes.gtf``, ``expression.tsv``
(log scale), ``binding/<cell>.<tf>.bed``, ``motifs.meme``, where asked for ``mappability.bw``, and ``truth.json``, which no
stage but a test reads.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from epilm.errors import RecipeError
from epilm.runs import OnExisting, open_run
from epilm.simulate.accessibility import make_dnase, make_mappability
from epilm.simulate.dna import Sites, bound_sites, draw_sites, make_dna
from epilm.simulate.expression import noiseless_expression
from epilm.simulate.grammar import Grammar, make_grammar
from epilm.simulate.layout import Layout, make_layout
from epilm.simulate.recipe import DNASE, SimulateRecipe
from epilm.simulate.signals import make_track
from epilm.simulate.write import (
    write_bigwig,
    write_binding,
    write_expression,
    write_fasta,
    write_genes,
    write_motifs,
    write_states,
)
from epilm.storage import Location


@dataclass(frozen=True)
class SimulatedContig:
    """One contig, complete. Axes: K cell types, G genes, T factors."""

    layout: Layout
    sites: Sites
    carried: NDArray[np.bool_]
    """[G, T] whether a gene's promoter carries a factor's motif."""
    dna: NDArray[np.uint8]
    """[length_bp] codes."""
    promoter_state: NDArray[np.uint8]
    """[K, G] state at the TSS."""
    noiseless: NDArray[np.float64]
    """[K, G] log expression without noise."""
    expression: NDArray[np.float64]
    """[K, G] log expression as written."""


def simulate(
    recipe: SimulateRecipe,
    on_existing: OnExisting = "refuse",
    progress: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Write the epigenome into ``<storage>/<name>`` and return where everything lies.

    A finished run is returned as it is on ``resume``; an unfinished one is written anew, which takes seconds.

    Returns:
        ``result.json`` with counts, and the absolute path of every file under ``paths``: ``folder``, ``genome``,
        ``genes``, ``expression``, ``truth``, ``motifs``, ``states`` {cell: path}, ``tracks`` {cell: {mark: path}},
        ``binding`` {cell: {tf: path}}, and ``mappability`` where the recipe asks for it.

    Raises:
        RecipeError: the storage is not a local folder.
        RunExistsError, CheckpointError, StorageError: as :func:`epilm.runs.open_run`.
    """
    folder = Location(recipe.storage)
    if not folder.is_local:
        raise RecipeError(
            f"storage={recipe.storage}: bigWigs are written to local folders only. Simulate to one and copy it."
        )
    run = open_run(recipe, stage="simulate", on_existing=on_existing)
    paths = output_paths(recipe, Path(run.folder.path))
    if run.resumed and run.result.exists():
        progress(f"{run.folder} is finished")
        return {**run.result.read_json(), "paths": _as_text(paths)}
    began = time.perf_counter()
    grammar = make_grammar(recipe)
    contigs = {}
    for number, name in enumerate(recipe.contigs):
        contigs[name] = make_contig(recipe, grammar, number)
        progress(f"simulated {name}: {recipe.contigs[name]:,} bp, {len(contigs[name].layout.tss)} genes")
    genes = gene_table(contigs)
    _write_all(recipe, grammar, contigs, genes, paths)
    result = {
        "stage": "simulate",
        "num_contigs": len(contigs),
        "genome_bp": sum(recipe.contigs.values()),
        "num_genes": len(genes),
        "num_cell_types": len(recipe.cell_types),
        "bound_share": bound_share(recipe, contigs),
        "seconds": round(time.perf_counter() - began, 2),
    }
    return {**run.finish(result), "paths": _as_text(paths)}


def make_contig(recipe: SimulateRecipe, grammar: Grammar, number: int) -> SimulatedContig:
    """Simulate contig ``number`` of the recipe; its content does not depend on the other contigs."""
    length_bp = list(recipe.contigs.values())[number]
    seeds = np.random.SeedSequence(recipe.seed, spawn_key=(1, number)).spawn(4)
    layout_rng, site_rng, dna_rng, noise_rng = (np.random.Generator(np.random.Philox(seed)) for seed in seeds)
    layout = make_layout(recipe, grammar, length_bp, layout_rng)
    sites, carried = draw_sites(layout, grammar, site_rng)
    promoter_state = layout.states[:, layout.tss // recipe.bin_bp]
    noiseless = noiseless_expression(promoter_state, carried, grammar.state_effect, grammar.motif_effect)
    return SimulatedContig(
        layout=layout,
        sites=sites,
        carried=carried,
        dna=make_dna(layout, sites, grammar, dna_rng),
        promoter_state=promoter_state,
        noiseless=noiseless,
        expression=noiseless + grammar.noise_sd * noise_rng.standard_normal(noiseless.shape),
    )


def gene_table(contigs: dict[str, SimulatedContig]) -> pd.DataFrame:
    """gene_id, chrom, tss, end, strand of every gene, in genome order; ids are unique over the contigs."""
    tables = [
        pd.DataFrame(
            {
                "gene_id": [f"SIM{number:02d}G{gene:05d}" for gene in range(1, len(contig.layout.tss) + 1)],
                "chrom": name,
                "tss": contig.layout.tss,
                "end": contig.layout.end,
                "strand": np.where(contig.layout.forward, "+", "-"),
            }
        )
        for number, (name, contig) in enumerate(contigs.items(), start=1)
    ]
    return pd.concat(tables, ignore_index=True)


def bound_share(recipe: SimulateRecipe, contigs: dict[str, SimulatedContig]) -> dict[str, dict[str, float]]:
    """{cell: {tf: share of the planted sites that are bound there}}: what a reader of DNA alone gets right at best, which
    cannot tell one cell type from another."""
    bound = np.concatenate([bound_sites(c.layout, c.sites, recipe.bin_bp) for c in contigs.values()], axis=1)
    tf = np.concatenate([contig.sites.tf for contig in contigs.values()])
    return {
        cell: {
            name: round(float(bound[row, tf == number].mean()), 4) if (tf == number).any() else 0.0
            for number, name in enumerate(tf_names(recipe))
        }
        for row, cell in enumerate(recipe.cell_types)
    }


def output_paths(recipe: SimulateRecipe, folder: Path) -> dict[str, Any]:
    """Every file of a run, by role."""
    factors = tf_names(recipe)
    asked = {"mappability": folder / "mappability.bw"} if recipe.mappability else {}
    return asked | {
        "folder": folder,
        "genome": folder / "genome.fa",
        "genes": folder / "genes.gtf",
        "expression": folder / "expression.tsv",
        "truth": folder / "truth.json",
        "motifs": folder / "motifs.meme",
        "states": {cell: folder / "states" / f"{cell}.bed.gz" for cell in recipe.cell_types},
        "tracks": {
            cell: {mark: folder / "tracks" / f"{cell}.{mark}.bw" for mark in recipe.tracks}
            for cell in recipe.cell_types
        },
        "binding": {
            cell: {tf: folder / "binding" / f"{cell}.{tf}.bed" for tf in factors} for cell in recipe.cell_types
        },
    }


def tf_names(recipe: SimulateRecipe) -> list[str]:
    return [f"TF{number}" for number in range(1, recipe.num_tfs + 1)]


def _write_all(
    recipe: SimulateRecipe,
    grammar: Grammar,
    contigs: dict[str, SimulatedContig],
    genes: pd.DataFrame,
    paths: dict[str, Any],
) -> None:
    for kind in ("states", "tracks", "binding"):
        (paths["folder"] / kind).mkdir(exist_ok=True)
    layouts = {name: contig.layout for name, contig in contigs.items()}
    write_fasta(paths["genome"], ((name, contig.dna) for name, contig in contigs.items()))
    write_genes(paths["genes"], genes)
    expression = np.concatenate([contig.expression for contig in contigs.values()], axis=1)
    write_expression(paths["expression"], genes["gene_id"].tolist(), recipe.cell_types, expression)
    for cell_number, cell in enumerate(recipe.cell_types):
        write_states(paths["states"][cell], layouts, cell_number, recipe.bin_bp)
        for mark_number, mark in enumerate(recipe.tracks):
            signals = _signals(recipe, grammar, contigs, cell_number, mark_number)
            write_bigwig(paths["tracks"][cell][mark], recipe.contigs, signals, recipe.track_step_bp)
        binding = _binding_table(contigs, cell_number, recipe)
        for tf in tf_names(recipe):
            write_binding(paths["binding"][cell][tf], binding.loc[binding["name"] == tf])
    if recipe.mappability:
        placed = (
            (name, make_mappability(layout, recipe, number)) for number, (name, layout) in enumerate(layouts.items())
        )
        write_bigwig(paths["mappability"], recipe.contigs, placed, recipe.track_step_bp)
    write_motifs(paths["motifs"], tf_names(recipe), grammar.motifs, _base_shares(contigs))
    paths["truth"].write_text(json.dumps(_truth(recipe, grammar, contigs, genes)) + "\n")


def _base_shares(contigs: dict[str, SimulatedContig]) -> NDArray[np.float64]:
    """[4] frequencies of A, C, G and T over both strands."""
    counts = np.sum([np.bincount(contig.dna, minlength=5)[:4] for contig in contigs.values()], axis=0)
    return (counts + counts[::-1]) / (2 * counts.sum())


def _signals(recipe: SimulateRecipe, grammar: Grammar, contigs: dict[str, SimulatedContig], cell: int, mark: int):
    """(contig, signal) pairs, made one at a time: a track is never in memory whole."""
    for number, (name, contig) in enumerate(contigs.items()):
        seed = np.random.SeedSequence(recipe.seed, spawn_key=(2, number, cell, mark))
        rng = np.random.Generator(np.random.Philox(seed))
        signal = make_track(contig.layout.states[cell], mark, recipe, grammar, rng)
        if recipe.tracks[mark] == DNASE:
            signal = make_dnase(signal, contig.layout, contig.sites, cell, recipe, number)
        yield name, signal


def _binding_table(contigs: dict[str, SimulatedContig], cell: int, recipe: SimulateRecipe) -> pd.DataFrame:
    """BED6 columns of the bound sites of all factors in one cell type."""
    names = np.array(tf_names(recipe), dtype=object)
    tables = []
    for contig_name, contig in contigs.items():
        bound = bound_sites(contig.layout, contig.sites, recipe.bin_bp)[cell]
        start = contig.sites.start[bound]
        tables.append(
            pd.DataFrame(
                {
                    "chrom": contig_name,
                    "start": start,
                    "end": start + recipe.motif_bp,
                    "name": names[contig.sites.tf[bound]],
                    "score": 1000,
                    "strand": np.where(contig.sites.forward[bound], "+", "-"),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _truth(
    recipe: SimulateRecipe, grammar: Grammar, contigs: dict[str, SimulatedContig], genes: pd.DataFrame
) -> dict[str, Any]:
    """The grammar, and for each gene what its expression was made from."""
    carried = np.concatenate([contig.carried for contig in contigs.values()])
    promoter_state = np.concatenate([contig.promoter_state for contig in contigs.values()], axis=1)
    noiseless = np.concatenate([contig.noiseless for contig in contigs.values()], axis=1)
    return {
        **grammar.to_json(),
        "cell_types": list(recipe.cell_types),
        "tfs": tf_names(recipe),
        "genes": {
            "gene_id": genes["gene_id"].tolist(),
            "carried": carried.astype(int).tolist(),
            "promoter_state": dict(zip(recipe.cell_types, promoter_state.tolist(), strict=True)),
            "noiseless": dict(zip(recipe.cell_types, noiseless.round(5).tolist(), strict=True)),
        },
    }


def _as_text(paths: Any) -> Any:
    return {key: _as_text(value) for key, value in paths.items()} if isinstance(paths, dict) else str(paths)
