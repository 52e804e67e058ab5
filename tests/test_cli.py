"""The command line: help that teaches, errors without a traceback, nothing started for a mistake."""

import subprocess
import sys

import pytest

from epilm import cli


def run(capsys, *arguments):
    code = cli.main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("stage", list(cli.STAGES))
def test_settings_list_every_setting(capsys, stage):
    code, out, _ = run(capsys, stage, "--settings")
    assert code == 0
    for key in ("name", "storage", "seed", "ray.address"):
        assert f"\n{key}  (" in f"\n{out}"


@pytest.mark.parametrize("stage", list(cli.STAGES))
def test_a_stage_without_a_recipe_says_what_it_needs(capsys, stage):
    code, _, err = run(capsys, stage)
    assert code == 2
    assert f"epilm {stage} rayjobs/{stage}/NAME.yaml" in err


def test_mistakes_are_told_without_a_traceback(capsys, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: x\nassembli: y\n")
    code, _, err = run(capsys, "corpus", str(recipe))
    assert code == 2
    assert "assembli: unknown setting. Did you mean 'assembly'?" in err
    assert "Traceback" not in err


def test_a_recipe_of_another_stage_is_named(capsys, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: x\ntask: {corpus: none}\ntrain: {steps: 1, global_batch: 6, lrr: 1}\n")
    code, _, err = run(capsys, "expression", str(recipe), "--dry-run")
    assert (code, err) == (
        2,
        f"error: {recipe} is no recipe of epilm expression, but one of epilm pretrain or epilm finetune.\n",
    )
    code, _, err = run(capsys, "pretrain", str(recipe), "--dry-run")
    assert code == 2
    assert "train.lrr: unknown setting" in err


def test_a_corpus_that_is_absent_stops_before_any_worker(capsys, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"name: x\nstorage: {tmp_path}\ntask: {{corpus: {tmp_path}/none}}\ntrain: {{steps: 1, global_batch: 6}}\n"
    )
    for extra in ([], ["--dry-run"]):
        code, _, err = run(capsys, "pretrain", str(recipe), *extra)
        assert code == 2
        assert "no corpus at" in err
    assert not (tmp_path / "x").exists()


def test_a_demo_of_no_steps_is_refused(capsys):
    code, _, err = run(capsys, "demo", "--steps", "0")
    assert code == 2
    assert "steps: Input should be greater than or equal to 1 (got 0)" in err


def test_a_run_that_exists_and_a_storage_in_the_way_stop_before_ray(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray was started"))
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"name: x\nstorage: {tmp_path}\n")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "metrics.jsonl").write_text("kept")
    for extra, message in [([], "--resume"), (["--overwrite"], "is not a run folder")]:
        code, _, err = run(capsys, "simulate", str(recipe), *extra)
        assert code == 2
        assert message in err
    code, _, err = run(capsys, "simulate", str(recipe), f"storage={recipe}/in-the-way")
    assert code == 2
    assert "cannot create the folder" in err
    assert (tmp_path / "x" / "metrics.jsonl").read_text() == "kept"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.global_batch=7"], "global_batch=7"),
        (["train.num_workers=0"], "at least 1"),
        (["task.tokens.k=9"], "task.tokens.k"),
        (["train.optimizer.warmup_steps=9"], "warmup_steps=9 exceeds steps=1"),
        (["task.model.hidden_size=30"], "multiple of num_heads"),
        (["train.zero_stage=4"], "zero_stage"),
    ],
)
def test_settings_out_of_range_are_refused(capsys, tmp_path, overrides, message):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: x\ntask: {corpus: none}\ntrain: {steps: 1, global_batch: 6, num_workers: 2}\n")
    code, _, err = run(capsys, "pretrain", str(recipe), *overrides)
    assert code == 2
    assert message in err


def test_settings_may_stand_behind_options(capsys, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: x\ntask: {corpus: none}\ntrain: {steps: 1, global_batch: 6, num_workers: 2}\n")
    code, _, err = run(capsys, "pretrain", str(recipe), "--resume", "train.num_workers=4")
    assert code == 2
    assert "num_workers=4" in err
    with pytest.raises(SystemExit):
        cli.main(["pretrain", str(recipe), "--resum", "--nonsense"])
    assert "unrecognized arguments: --resum --nonsense" in capsys.readouterr().err


def test_resume_and_overwrite_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        cli.main(["corpus", "x.yaml", "--resume", "--overwrite"])
    assert "not allowed with" in capsys.readouterr().err


def test_help_starts_at_once():
    """The heavy packages are imported when a stage runs, not for `--help`."""
    heavy = "('ray', 'torch', 'deepspeed', 'transformers')"
    code = f"import sys; from epilm import cli; cli._parser(); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
