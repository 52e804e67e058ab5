"""The run folder: refused, resumed, overwritten; never a foreign folder, never half a result."""

import pytest

from epilm.errors import CheckpointError, RunExistsError
from epilm.runs import Recipe, open_run, read_metrics
from epilm.session import RayConfig
from epilm.storage import Location


class ToyRecipe(Recipe):
    size: int = 1


def recipe(tmp_path, **settings):
    return ToyRecipe(name="toy", storage=str(tmp_path), **settings)


def test_an_existing_run_is_refused_and_its_content_kept(tmp_path):
    run = open_run(recipe(tmp_path), stage="toy")
    run.finish({"stage": "toy", "x": 1})
    with pytest.raises(RunExistsError, match=r"--resume.*--overwrite"):
        open_run(recipe(tmp_path), stage="toy")
    assert run.result.read_json()["x"] == 1


def test_resume_wants_the_same_recipe_stage_and_data(tmp_path):
    open_run(recipe(tmp_path), stage="toy", data={"corpus": "a"})
    assert open_run(recipe(tmp_path), stage="toy", on_existing="resume", data={"corpus": "a"}).resumed
    for settings, stage, data, message in [
        ({"size": 2}, "toy", "a", "recipe fingerprint"),
        ({"seed": 1}, "toy", "a", "recipe fingerprint"),
        ({}, "other", "a", "stage"),
        ({}, "toy", "b", "data fingerprints"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            open_run(recipe(tmp_path, **settings), stage=stage, on_existing="resume", data={"corpus": data})


@pytest.mark.parametrize("text", ["", "run: 3", "{", "name: toy"])
def test_a_damaged_recipe_is_not_resumed(tmp_path, text):
    run = open_run(recipe(tmp_path), stage="toy")
    (run.folder / "recipe.resolved.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=r"recipe\.resolved\.yaml is damaged"):
        open_run(recipe(tmp_path), stage="toy", on_existing="resume")


def test_where_a_run_computes_may_change(tmp_path):
    open_run(recipe(tmp_path), stage="toy")
    assert open_run(recipe(tmp_path, ray=RayConfig(address="auto")), stage="toy", on_existing="resume").resumed


def test_overwrite_deletes_a_run_but_no_foreign_folder(tmp_path):
    run = open_run(recipe(tmp_path), stage="toy")
    (run.folder / "old").write_text("x")
    open_run(recipe(tmp_path), stage="toy", on_existing="overwrite")
    assert not (run.folder / "old").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(RunExistsError, match="not a run folder"):
        open_run(ToyRecipe(name="home", storage=str(tmp_path)), stage="toy", on_existing="overwrite")
    assert (tmp_path / "home" / "letter.txt").exists()


def test_a_metrics_line_cut_off_by_a_kill_is_dropped(tmp_path):
    folder = Location(str(tmp_path))
    (folder / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [r["step"] for r in read_metrics(folder)] == [1, 2]
    assert read_metrics(folder / "absent") == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b"])
def test_names_cannot_leave_the_storage(name):
    with pytest.raises(ValueError, match="name"):
        ToyRecipe(name=name)
