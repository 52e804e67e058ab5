"""What a baseline refuses before any work, and the draw that it learns from."""

from __future__ import annotations

import numpy as np
import pytest

from epilm.baselines.plan import check_baseline
from epilm.baselines.samples import training_samples, validation_samples
from epilm.errors import EpilmError, RecipeError
from epilm.labels.codes import BOUND
from epilm.tasks.binding_draw import split_bins

TRACK = {"dnase": {"signal": "DNase.{cell_type}"}}


@pytest.mark.parametrize(
    ("overrides", "predictor", "message"),
    [
        ((), {"kind": "pwm"}, "predictor.motifs has none for TF. Give a file"),
        ((), {"kind": "pwm", "motifs": {"TG": "x"}}, "predictor.motifs: 'TG' is no target. There are: TF"),
        ((), {"kind": "pwm", "learned": True, "gate": {"states": ["opn"]}}, "'opn' is no state of the corpus. Did you"),
        ((), {"kind": "pwm", "learned": True, "input_bp": 201}, "no bin of bin_bp=200 in its middle"),
        (("contigs=[chr9]",), {"kind": "pwm", "learned": True}, "contigs: 'chr9' is neither a contig"),
        (("contigs=['chr3:0-100']",), {"kind": "pwm", "learned": True}, "holds no bin of 200 bp"),
        (("split.test_contigs=[]",), {"kind": "pwm", "learned": True}, "none to predict"),
        (("split.test_contigs=[chr2]",), {"kind": "pwm", "learned": True}, "share 297 bins on chr2"),
        (("split.train_contigs=[chr1, chr3]",), {"kind": "pwm", "learned": True}, "both name chr3"),
        (("split.test_contigs=[chr1, chr3]",), {"kind": "pwm", "learned": True}, "no bin is left to train on"),
        (
            ("split.held_out_cell_types=[blood, liver]",),
            {"kind": "pwm", "learned": True},
            "no cell type is left to train on",
        ),
        (("split.cell_types=[bood]",), {"kind": "pwm", "learned": True}, "Did you mean 'blood'"),
        (("cell_types=[spleen]",), {"kind": "pwm", "learned": True}, "'spleen' is no cell type of labels or corpus"),
        (("targets=[TG]",), {"kind": "pwm", "learned": True}, "TG"),
        (("max_samples=2",), {"kind": "pwm", "learned": True}, "not one is"),
        (
            ("sampling.accessible.states=[oben]",),
            {"kind": "pwm", "learned": True},
            "sampling.accessible.states: 'oben'",
        ),
        (
            ("sampling.accessible.signal='DNase.{cell_type}'", "sampling.accessible.at_least=99"),
            {"kind": "pwm", "learned": True},
            "sampling.accessible makes 0 of",
        ),
        (("split.train_contigs=['chr1:0-300']",), {"kind": "pwm", "learned": True}, "binds nowhere on the training"),
        (("split.validation_contigs=['chr2:0-300']",), {"kind": "kmer_logistic"}, "binds nowhere on the validation"),
        ((), {"kind": "kmer_logistic", "tracks": {"a": {"signal": "DNase"}}}, "predictor.tracks.a.signal"),
        ((), {"kind": "kmer_logistic", "inverse_penalties": [0.1, 0.1]}, "stands once"),
    ],
)
def test_wrong_recipes_are_refused(toy, overrides, predictor, message):
    with pytest.raises(EpilmError) as error:
        check_baseline(toy.recipe(*overrides, **predictor))
    assert message in str(error.value)
    assert "task." not in str(error.value)  # the settings of a fine-tuning
    assert not (toy.folder / "runs" / predictor["kind"]).exists()


def test_a_motif_must_fit_its_input(toy, tmp_path):
    rows = "\n".join(["0.7 0.1 0.1 0.1"] * 210)
    path = tmp_path / "long.meme"
    path.write_text(f"MEME version 4\n\nMOTIF TF\nletter-probability matrix: alength= 4 w= 210\n{rows}\n")
    with pytest.raises(RecipeError, match=r"input_bp=200 is shorter than TF can be \(210 bp\)"):
        check_baseline(toy.recipe(motifs={"TF": str(path)}))
    assert check_baseline(toy.recipe(motifs={"TF": str(path)}, input_bp=400)).binding.input_bp == 400


def test_a_motif_is_found_by_the_name_of_its_factor_or_by_the_name_given(toy, tmp_path):
    block = "MOTIF {}\nletter-probability matrix: alength= 4 w= 6\n" + "0.7 0.1 0.1 0.1\n" * 6
    path = tmp_path / "two.meme"
    path.write_text("MEME version 4\n\n" + block.format("MA1 TF") + "\n" + block.format("MA2 other"))
    plan = check_baseline(toy.recipe(motifs={"TF": str(path)}))
    assert plan.motifs["TF"].name == "MA1"
    assert not plan.is_trained
    named = check_baseline(toy.recipe(motifs={"TF": {"path": str(path), "name": "other"}}))
    assert named.motifs["TF"].name == "MA2"
    assert named.fingerprints["motifs"] == plan.fingerprints["motifs"]  # equal matrices


def test_samples_are_the_first_epochs_of_a_fine_tuning(toy):
    plan = check_baseline(toy.recipe("epochs=2", kind="kmer_logistic", k=3))
    split, sampler = plan.split, plan.draw.sampler
    positives, negatives, _ = split_bins(plan.labels, split.train_cells, split.train_bins)
    size = sampler.epoch_size
    assert (sampler.positives.size, size) == (positives.size, positives.size * 11)
    samples = training_samples(plan.draw, plan.rows, epochs=2, max_samples=10**6)
    assert len(samples) == 2 * size
    assert (np.diff(samples.bins) >= 0).all()
    assert samples.bound(0).sum() == 2 * positives.size
    shown = {*zip(*positives.at(np.arange(positives.size)), strict=True)}
    shown |= {*zip(*negatives.at(np.arange(negatives.size)), strict=True)}
    bins, cells = sampler.locate(np.arange(2 * size))
    assert {*zip(bins.tolist(), cells.tolist(), strict=True)} <= {(int(b), int(c)) for b, c in shown}
    assert sorted(bins.tolist()) == samples.bins.tolist()
    for row in range(0, len(samples), 97):
        contig, start = (int(v[0]) for v in plan.labels.grid.locate(samples.bins[row : row + 1]))
        assert contig == 0
        assert np.array_equal(samples.dna[row], toy.dna["chr1"][start : start + 200])


def test_a_validation_draw_stands_for_all_bins(toy):
    plan = check_baseline(toy.recipe("evaluation.max_negatives=100", kind="kmer_logistic", k=3))
    _, _, others = split_bins(plan.labels, plan.split.train_cells, plan.split.validation_bins)
    samples = validation_samples(plan.draw, plan.rows)
    assert samples.weight.sum() == pytest.approx(2 * plan.labels.grid.contig("chr2").num_bins)
    assert (samples.weight > 1).sum() == 100 < others.size
    assert (samples.weight[samples.labels[:, 0] == BOUND] == 1).all()


def test_training_keeps_away_from_parts_that_are_held_out(toy):
    recipe = toy.recipe("split.validation_contigs=['chr2:5000-9000']", kind="kmer_logistic", k=3, input_bp=400)
    split = check_baseline(recipe).split
    assert split.trained_contigs == ("chr1", "chr2")
    assert split.trained_regions is not None
    inside = [(start, end) for name, start, end in split.trained_regions if name == "chr2"]
    assert inside == [(0, 5000), (9000, 15_000 + 100)]
    assert check_baseline(toy.recipe(kind="kmer_logistic", k=3)).split.trained_regions is None
