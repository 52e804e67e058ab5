"""The whole way, small: every stage runs from the folders of those before, and the report and figures come out."""

import json

import pytest

from epilm.demo import DemoRecipe, run_demo
from epilm.errors import RunExistsError
from epilm.simulate.recipe import SimulateRecipe

pytestmark = pytest.mark.training

FIGURES = {
    "ebert_state_accuracy", "copy_state_accuracy", "majority_state_accuracy", "ebert_dna_accuracy", "dbert_dna_accuracy",
    "unigram_dna_accuracy", "pearson_ebert", "pearson_dbert", "pearson_kmers",
}  # fmt: skip


def test_demo_runs_whole_and_resumes(ray_local, tmp_path):
    recipe = DemoRecipe(
        storage=str(tmp_path),
        seed=3,
        simulation=SimulateRecipe(name="simulate", contigs={"chrA": 160_000, "chrB": 120_000, "chrC": 90_000}),
        held_out_contigs=("chrC",),
        steps=6,
        global_batch=16,
        num_seeds=1,
    )
    lines: list[str] = []
    summary = run_demo(recipe, progress=lines.append)["summary"]
    assert set(summary) >= FIGURES
    assert all(-1 <= summary[name] <= 1 for name in FIGURES)
    assert json.loads((tmp_path / "demo" / "result.json").read_text()) == summary
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "held_out_contigs" in page
    with pytest.raises(RunExistsError):
        run_demo(recipe)
    again: list[str] = []
    resumed = run_demo(recipe, on_existing="resume", progress=again.append)["summary"]
    assert {name: resumed[name] for name in FIGURES} == {name: summary[name] for name in FIGURES}
    assert "== pretrain-ebert: done before" in again
