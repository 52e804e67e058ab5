"""Comparisons that could not be one are refused before anything starts; what each stage is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from study_toy import base_recipe, study_recipe

from epilm.config import fingerprint, parse_recipe
from epilm.errors import EpilmError, LeakError, RecipeError
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.studies.check import check_eval_binding
from epilm.studies.plan import BindingPlan, make_fits
from epilm.studies.recipe import EvalBindingRecipe
from epilm.tasks.save_model import save_model
from epilm.tasks.tf_binding import TfBindingTask

PRETRAINED = {"task.encoder.pretrained": "no/model", "task.encoder.model": None, "task.encoder.tokens": None}


def parsed(folder: Path, **changes: Any) -> EvalBindingRecipe:
    return parse_recipe(EvalBindingRecipe, study_recipe(folder, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {}}, "at least 1 item"),
        ({"baseline": "dbert"}, "baseline='dbert' is no arm; the arms are ebert, few"),
        ({"seeds": [0, 0]}, "different whole numbers"),
        ({"seeds": []}, "different whole numbers"),
        ({"arms": {"a/b": {}}, "baseline": "a/b"}, "names a folder"),
        ({"arms": {"ebert": {"seed": 3}}}, r"arms\.ebert\.seed may not be changed here: .* give seeds"),
        ({"arms": {"ebert": {"task.corpus": "x"}}}, "on the same data"),
        ({"arms": {"ebert": {"task.split.test_contigs": ["chr2"]}}}, "tested on the same contigs"),
        ({"arms": {"ebert": {"task.split": {}}}}, r"arms\.ebert\.task\.split may not be changed"),
        ({"arms": {"ebert": {"task": {}}}}, r"arms\.ebert\.task may not be changed"),
        ({"arms": {"ebert": {"task.encoder.models": 1}}}, "unknown setting. Did you mean 'model'"),
        ({"arms": {"ebert": {"task.input_bp.x": 1}}}, "is a value, not a group"),
        ({"arms": {"ebert": {"train.steps": 0}}}, r"arms\.ebert:\n.*train\.steps"),
        ({"base": "no/such.yaml"}, "no such finetune recipe"),
        ({"rivals": {"ebert": {"predictor": {"kind": "pwm", "learned": True}}}}, "is the name of an arm"),
        ({"rivals": {"few-s1": {"predictor": {"kind": "pwm", "learned": True}}}}, "is the name of an arm, a run"),
        ({"rivals": {"base_rate": {"predictor": {"kind": "pwm", "learned": True}}}}, "the base rate"),
        ({"rivals": {"kmers": {"predictor": {"kind": "svm"}}}}, "kmer_logistic"),
        ({"cell_types": []}, "must name one or more"),
    ],
)
def test_what_could_not_be_compared_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parsed(tmp_path, **changes)


def test_a_base_without_a_test_is_refused(tmp_path: Path) -> None:
    base = base_recipe(tmp_path, split={"validation_contigs": ["chr2"]})
    with pytest.raises(RecipeError, match="test_contigs is empty: there is nothing to compare"):
        parsed(tmp_path, base=base)


def test_the_base_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "base.yaml"
    path.write_text(yaml.safe_dump(base_recipe(tmp_path)))
    assert fingerprint(parsed(tmp_path, base=str(path)).identity()) == fingerprint(parsed(tmp_path).identity())


def test_places_and_speed_are_no_part_of_what_a_comparison_is(tmp_path: Path) -> None:
    one = parsed(tmp_path).identity()
    assert one == parsed(tmp_path, storage="elsewhere", name="b", predict={"num_workers": 7}).identity()
    assert one != parsed(tmp_path, predict={"dtype": "bfloat16"}).identity()
    assert one != parsed(tmp_path, seeds=[0, 2]).identity()


def test_fits_come_seed_by_seed_with_their_arms_settings(tmp_path: Path) -> None:
    fits = make_fits(parsed(tmp_path))
    assert [fit.name for fit in fits] == ["ebert-s0", "few-s0", "ebert-s1", "few-s1"]
    few = fits[3].recipe
    assert (few.name, few.seed, few.task.sampling.max_positives) == ("few-s1", 1, 16)
    assert few.storage == str(tmp_path / "runs" / "study" / "runs")
    assert fits[2].recipe.task.sampling.max_positives is None


def test_the_plan_of_every_stage(toy: Path) -> None:
    rivals = {"kmers": {"predictor": {"kind": "kmer_logistic", "k": 2}}}
    plan = check_eval_binding(parsed(toy, rivals=rivals, allow_overlap={"contigs": ["chr3"]}))
    assert plan.test.cell_types == ("blood", "heart")
    assert plan.test.held_out_cell_types == ("lung",)
    assert plan.test.contigs == ("chr3",)
    assert set(plan.test.positives) == {(c, t) for c in ("blood", "heart", "lung") for t in ("TF1", "TF2")}
    prediction = plan.prediction(plan.fits[0])
    assert prediction.model == str(toy / "runs" / "study" / "runs" / "ebert-s0" / "model")
    assert (prediction.contigs, prediction.cell_types, prediction.step_bp) == (
        ("chr3",),
        ("blood", "heart", "lung"),
        50,
    )
    assert not prediction.outputs.bigwig
    rival = plan.rival("kmers")
    assert (rival.seed, rival.cell_types, rival.split.test_contigs) == (0, ("blood", "heart", "lung"), ("chr3",))
    evaluation = plan.evaluation()
    assert list(evaluation.submissions) == ["ebert-s0", "few-s0", "ebert-s1", "few-s1", "kmers"]
    assert evaluation.submissions["kmers"] == str(toy / "runs" / "study" / "rivals" / "kmers")
    assert (evaluation.contigs, evaluation.held_out_cell_types) == (("chr3",), ("lung",))
    assert plan.bed() is None


def test_parts_of_contigs_are_predicted_and_scored_as_regions(toy: Path) -> None:
    base = base_recipe(toy, split={"validation_contigs": ["chr2"], "test_contigs": ["chr1:16000-24000", "chr3"]})
    plan = check_eval_binding(parsed(toy, base=base))
    assert plan.bed() == "chr1\t16000\t24000\nchr3\t0\t8000\n"
    assert plan.prediction(plan.fits[0]).regions == str(toy / "runs" / "study" / "test.bed")
    assert plan.evaluation().regions == ("chr1:16000-24000", "chr3:0-8000")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell_types": ["blood", "liver"]}, "'liver' is neither trained on nor held out"),
        ({"allow_overlap": {"contigs": ["chr1"]}}, "allow_overlap names 'chr1', which the test does not use"),
        ({"allow_overlap": {"cell_types": ["blood"]}}, "allow_overlap names 'blood'"),
        ({"bootstrap": {"block_bp": 1_000_000}}, "into 1 blocks; intervals need 10"),
        ({"arms": {"ebert": {}, "other": PRETRAINED}}, r"arms\.other: "),
        ({"arms": {"ebert": {}, "open": {"task.sampling.accessible": {"states": ["shut"]}}}}, r"arms\.open: .*shut"),
        ({"rivals": {"pwm": {"predictor": {"kind": "pwm"}}}}, r"rivals\.pwm: "),
    ],
)
def test_every_arm_and_rival_is_checked_before_the_first_starts(
    toy: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(EpilmError, match=message):
        check_eval_binding(parsed(toy, **changes))


def test_a_test_without_positives_is_refused(toy: Path, tmp_path: Path) -> None:
    base = base_recipe(toy)
    bare = tmp_path / "bare.bed"
    for files in base["task"]["labels"]["files"].values():
        bare.write_text(
            "".join(line for line in Path(files["lung"]).read_text().splitlines(True) if line[:4] != "chr3")
        )
        files["lung"] = str(bare)
    base["task"]["labels"]["missing_contigs"] = "no_peaks"
    with pytest.raises(RecipeError, match=r"not one bin of the test contigs \(chr3\) is bound in lung"):
        check_eval_binding(parsed(toy, base=base, cell_types=["blood", "lung"]))
    plan = check_eval_binding(parsed(toy, base=base))
    assert isinstance(plan, BindingPlan)
    assert plan.test.all_cell_types == ("blood", "heart")


@pytest.fixture(scope="module")
def widely_read(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights that were pre-trained on every contig and cell type of the toy."""
    folder = tmp_path_factory.mktemp("pretrained")
    task = TfBindingTask(parsed(toy).arm("ebert").task, 0)
    contigs = tuple(contig.model_copy(update={"split": "train"}) for contig in task.manifest.contigs)
    everything = task.manifest.model_copy(update={"contigs": contigs, "held_out_cell_types": ()})
    state = EbertForPreTraining(task.encoder).state_dict()
    save_model(folder, task.encoder, state, everything, step=1, seed=0, recipe_fingerprint="r", initial=None)
    return str(folder)


def test_weights_that_have_seen_the_test_are_refused_before_anything_is_trained(toy: Path, widely_read: str) -> None:
    base = base_recipe(toy, encoder={"pretrained": widely_read})
    with pytest.raises(
        LeakError, match=r"arms\.ebert: the pre-trained weights have seen chr3, lung, which the test uses"
    ):
        check_eval_binding(parsed(toy, base=base))
    with pytest.raises(LeakError, match=r"have seen lung, which"):
        check_eval_binding(parsed(toy, base=base, allow_overlap={"contigs": ["chr3"]}))
    allowed = {"contigs": ["chr3"], "cell_types": ["lung"]}
    assert check_eval_binding(parsed(toy, base=base, allow_overlap=allowed)).evaluation().allow_overlap.contigs == (
        "chr3",
    )
    random = {"ebert": {"task.encoder.random_weights": True}}
    assert check_eval_binding(parsed(toy, base=base, arms=random)).test.held_out_cell_types == ("lung",)
