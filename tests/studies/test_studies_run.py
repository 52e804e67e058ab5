"""A whole comparison for real, of one arm and one seed; then gone on with after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from study_toy import study_recipe

from epilm.config import parse_recipe
from epilm.errors import CheckpointError
from epilm.studies.recipe import EvalBindingRecipe
from epilm.studies.run import run_eval_binding

pytestmark = [pytest.mark.ray, pytest.mark.training]


def test_a_comparison_and_its_resumption(ray_local: None, toy: Path) -> None:
    settings = study_recipe(
        toy,
        arms={"ebert": {"train.optimizer.lr": 1e-3}},
        seeds=[3],
        rivals={"kmers": {"predictor": {"kind": "kmer_logistic", "k": 2, "inverse_penalties": [0.01]}}},
    )
    recipe = parse_recipe(EvalBindingRecipe, settings)
    lines: list[str] = []
    result = run_eval_binding(recipe, progress=lines.append)
    folder = toy / "runs" / "study"
    assert json.loads((folder / "result.json").read_text()) == result
    assert "== ebert, seed 3 (1 of 1)" in lines
    fit = json.loads((folder / "runs" / "ebert-s3" / "result.json").read_text())
    scored = json.loads((folder / "evaluation" / "result.json").read_text())
    ebert, kmers = result["arms"]
    lung = next(one for one in scored["data_sets"] if (one["cell_type"], one["target"]) == ("lung", "TF2"))
    for one, name in ((ebert, "ebert-s3"), (kmers, "kmers")):
        entry = lung["submissions"][name]
        assert one["summary"]["TF2 in lung/auprc"]["mean"] == entry["metrics"]["auprc"]
        bounds = [one["summary"]["TF2 in lung/auprc"][key] for key in ("low", "high")]
        assert bounds == pytest.approx(entry["intervals"]["auprc"])  # one seed: the evaluation's own interval
    assert ebert["runs"][0]["metrics"]["validation/auprc"] == fit["best"]["auprc"]
    assert ebert["positives"] == fit["positives"]
    assert scored["leaks"]["ebert-s3"]["trained_contigs"] == []
    assert scored["leaks"]["ebert-s3"]["model_trained_on"] == {"contigs": ["chr1"], "cell_types": ["blood", "heart"]}

    (folder / "result.json").unlink()  # killed after its last training
    again = run_eval_binding(recipe, on_existing="resume", progress=(seen := []).append)
    assert "   done before" in seen
    assert not [line for line in seen if line.startswith("step ")]
    assert again["arms"] == result["arms"]
    other = recipe.model_copy(update={"seeds": (4,)})
    with pytest.raises(CheckpointError, match="recipe fingerprint"):
        run_eval_binding(other, on_existing="resume")
