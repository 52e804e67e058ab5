"""The stage from labels to a folder of predictions, on the toy corpus."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from epilm.baselines.run import check_baseline, run_baseline
from epilm.errors import RunExistsError
from epilm.evaluate.predictions import predictions_schema, read_predictions
from epilm.evaluate.ranking import auprc, count_ranks
from epilm.genome.motifs import read_motifs
from epilm.labels.codes import BOUND, UNBOUND
from epilm.storage import Location

pytestmark = pytest.mark.ray


def columns_of(recipe):
    """(manifest, {(cell type, factor): all values in genome order})."""
    folder = Location(recipe.storage) / recipe.name
    manifest = read_predictions(folder)
    tables = [pq.read_table((folder / part.path).path) for part in manifest.parts]
    for part, table in zip(manifest.parts, tables, strict=True):
        assert table.schema.equals(predictions_schema(len(manifest.columns)))
        assert table.num_rows == part.rows
        assert (folder / part.path).sha256() == part.sha256
        assert table.column("start").to_pylist() == [part.first_start + i * manifest.step_bp for i in range(part.rows)]
    values = {}
    for column in manifest.columns:
        name = manifest.column_name(column.cell_type, column.target)
        values[column.cell_type, column.target] = np.concatenate([t.column(name).to_numpy() for t in tables])
    return manifest, values


def auprc_of(recipe, values, cell_type):
    labels = check_baseline(recipe).labels
    codes, scores = labels.dense("chr3", cell_type, "TF"), values[cell_type, "TF"]
    scored = ((codes == BOUND) | (codes == UNBOUND)) & ~np.isnan(scores)
    return float(auprc(count_ranks(scores[scored], codes[scored] == BOUND)))


LEARN = {"learned": True, "learn": {"max_gap_bp": 3, "num_seeds": 2}}


@pytest.fixture(scope="module")
def learned(toy, ray_local):
    """(recipe, result, lines of progress) of a motif learned from chr1."""
    recipe, lines = toy.recipe("name=pwm", **LEARN), []
    return recipe, run_baseline(recipe, progress=lines.append), lines


@pytest.fixture(scope="module")
def motifs(learned):
    return {"TF": f"{learned[0].storage}/pwm/motifs.meme"}


def test_a_learned_motif_and_its_gate(toy, learned):
    plain, result, lines = learned
    gated = toy.recipe("name=gated", gate={"states": ["open"]}, **LEARN)
    run_baseline(gated)
    manifest, values = columns_of(plain)
    assert manifest.predictor == "pwm"
    assert manifest.contigs == ("chr3",)
    assert manifest.contig_lengths == {"chr3": 15_230}
    assert manifest.provenance is not None
    assert manifest.provenance.trained_contigs == ("chr1",)
    assert manifest.provenance.trained_cell_types == ("blood", "liver")
    assert manifest.selected_on == ()
    assert [part.rows for part in manifest.parts] == [150, 150, 1]
    assert result["num_bins"] == 301
    assert result["targets"]["TF"]["origin"] == "learned"
    assert any("wrote 3 of 3" in line for line in lines)
    assert np.array_equal(values["blood", "TF"], values["liver", "TF"], equal_nan=True)
    (motif,) = read_motifs(f"{plain.storage}/pwm/motifs.meme")
    assert motif.name == "TF"

    _, opened = columns_of(gated)
    assert not np.array_equal(opened["blood", "TF"], opened["liver", "TF"], equal_nan=True)
    for cell_type in ("blood", "liver"):
        assert auprc_of(gated, opened, cell_type) > auprc_of(plain, values, cell_type) + 0.15
        assert auprc_of(plain, values, cell_type) > 0.35


def test_a_file_of_motifs_is_trained_on_nothing(toy, motifs):
    recipe = toy.recipe("name=file", motifs=motifs)
    run_baseline(recipe)
    manifest, _ = columns_of(recipe)
    assert manifest.provenance is None
    assert json.loads((toy.folder / "runs/file/result.json").read_text())["trained_contigs"] == []


def test_kmers_states_and_signals_to_predictions_and_back_after_a_kill(toy, ray_local):
    settings = {"k": 4, "states": True, "tracks": {"dnase": {"signal": "DNase.{cell_type}"}}}
    recipe = toy.recipe("cell_types=[liver, blood]", kind="kmer_logistic", inverse_penalties=[1e-3, 1e-2], **settings)
    result = run_baseline(recipe)
    manifest, values = columns_of(recipe)
    assert [column.cell_type for column in manifest.columns] == ["liver", "blood"]
    assert manifest.selected_on == ("chr2",)
    assert manifest.provenance is not None
    assert manifest.provenance.state_names == ("open", "closed")
    chosen = result["targets"]["TF"]
    assert chosen["validation_auprc"][f"{chosen['inverse_penalty']:g}"] == max(chosen["validation_auprc"].values())
    assert "track.dnase" in chosen["strongest"]
    assert auprc_of(recipe, values, "blood") > 0.5
    unknown = slice(6_000 // 50, 6_400 // 50 + 1)
    assert np.isnan(values["blood", "TF"][unknown]).all()
    assert np.isnan(values["blood", "TF"]).sum() == unknown.stop - unknown.start

    folder = toy.folder / "runs/kmer_logistic"
    before = {path.name: path.read_bytes() for path in folder.glob("part-*")}
    with pytest.raises(RunExistsError):
        run_baseline(recipe)
    fit = (folder / "fit.json").stat().st_mtime_ns
    (folder / "predictions.json").unlink()
    (folder / "part-00001.parquet").unlink()
    (folder / "part-00002.parquet.1234.tmp").write_bytes(b"half")
    again = run_baseline(recipe, on_existing="resume")
    assert again["parts_kept"] == 2
    assert (folder / "fit.json").stat().st_mtime_ns == fit
    assert {path.name: path.read_bytes() for path in folder.glob("part-*")} == before
    assert columns_of(recipe)[0] == manifest


def test_bins_outside_of_what_was_asked_have_no_prediction(toy, motifs):
    recipe = toy.recipe(
        "name=two",
        "contigs=['chr3:1000-2000', 'chr3:3000-4000']",
        "rows_per_part=1000",
        motifs=motifs,
    )
    run_baseline(recipe)
    manifest, values = columns_of(recipe)
    (part,) = manifest.parts
    assert (part.first_start, part.rows) == (1000, (3800 - 1000) // 50 + 1)
    starts = 1000 + np.arange(part.rows) * 50
    inside = (starts <= 1800) | (starts >= 3000)
    assert np.array_equal(~np.isnan(values["blood", "TF"]), inside)
