"""A simulated epigenome and a corpus on it, built once."""

from __future__ import annotations

import pytest
from regress_toy import CELLS, HELD_OUT, Toy

from epilm.config import parse_recipe
from epilm.corpus.build import build_corpus
from epilm.corpus.recipe import CorpusRecipe
from epilm.simulate.epigenome import simulate
from epilm.simulate.recipe import SimulateRecipe


@pytest.fixture(scope="session")
def toy(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    folder = tmp_path_factory.mktemp("regress")
    simulated = {"contigs": {"chr1": 250_000, "chr2": 200_010, HELD_OUT: 150_000}, "cell_types": CELLS}
    paths = simulate(parse_recipe(SimulateRecipe, {"name": "toy", "storage": str(folder), **simulated}))["paths"]
    recipe = {
        "name": "corpus",
        "storage": str(folder),
        "assembly": "toy1",
        "genome": {"path": paths["genome"]},
        "states": {"kind": "segments", "files": paths["states"]},
        "held_out_contigs": [HELD_OUT],
    }
    manifest = build_corpus(parse_recipe(CorpusRecipe, recipe))
    return Toy(paths, folder / "corpus", manifest, folder / "runs")
