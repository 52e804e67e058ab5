"""A tiny corpus for real trainings: simulated once, built once."""

import pytest

from epilm.corpus.build import build_corpus
from epilm.corpus.recipe import CorpusRecipe
from epilm.simulate.epigenome import simulate
from epilm.simulate.recipe import SimulateRecipe
from epilm.storage import Location


@pytest.fixture(scope="session")
def tiny_corpus(ray_local, tmp_path_factory) -> Location:
    """About 200 training windows of 600 bp with three cell types, one of them held out, and a held-out contig."""
    folder = tmp_path_factory.mktemp("tiny")
    recipe = SimulateRecipe(
        name="toy",
        storage=str(folder),
        contigs={"chr1": 121_300, "chr2": 40_000},
        cell_types=("blood", "heart", "brain"),
        genes_per_mb=100.0,
    )
    toy = simulate(recipe)["paths"]
    build_corpus(
        CorpusRecipe.model_validate(
            {
                "name": "corpus",
                "storage": str(folder),
                "assembly": "toy",
                "genome": {"path": toy["genome"]},
                "states": {"kind": "segments", "files": toy["states"]},
                "window_bp": 600,
                "held_out_contigs": ["chr2"],
                "held_out_cell_types": ["brain"],
                "rows_per_group": 32,
            }
        )
    )
    return Location(str(folder)) / "corpus"
