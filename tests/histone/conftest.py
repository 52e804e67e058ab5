"""Toy tracks and genes, and recipes of `epilm gene-marks` on them."""

from __future__ import annotations

import numpy as np
import pytest
from gene_mark_files import CELLS, GENES, LENGTHS, MARKS, write_track

from epilm.config import parse_recipe
from epilm.histone.recipe import GeneMarksRecipe


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """(folder with the files, (cell, mark) -> contig -> values of bases); the second cell's tracks say 1, 2 and lack chrM."""
    folder = tmp_path_factory.mktemp("gene-marks")
    rng = np.random.default_rng(7)
    tracks = {}
    for cell in CELLS:
        for mark in MARKS:
            contigs = [c for c in LENGTHS if c != "chrM" or cell == "blood"]
            values = {c: rng.poisson(0.3, LENGTHS[c]).astype(np.float32) for c in contigs}
            for held in values.values():
                held[rng.random(len(held)) < 0.5] = np.nan
            tracks[cell, mark] = values
            write_track(folder / f"{cell}.{mark}.bw", values, {} if cell == "blood" else {"chr1": "1", "chr2": "2"})
    (folder / "genes.bed").write_text(GENES)
    return folder, tracks


@pytest.fixture
def recipe_of(toy, tmp_path):
    folder, _ = toy

    def make(**changes):
        raw = {
            "name": "marks",
            "storage": str(tmp_path / "runs"),
            "genes": str(folder / "genes.bed"),
            "tracks": {cell: {mark: str(folder / f"{cell}.{mark}.bw") for mark in MARKS} for cell in CELLS},
            "bin_bp": 50,
            "num_bins": 8,
            "genes_per_task": 2,
        }
        return parse_recipe(GeneMarksRecipe, raw | changes)

    return make
