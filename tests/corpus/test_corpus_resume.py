"""A build that is killed goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import scaffolds
import yaml

from epilm.config import parse_recipe
from epilm.corpus.build import build_corpus
from epilm.corpus.recipe import CorpusRecipe
from epilm.corpus.validate import validate_corpus
from epilm.errors import CheckpointError, CorpusError

pytestmark = pytest.mark.ray


def kill_midway(recipe_file: Path, folder: Path) -> None:
    """Run the build in a process of its own, and end it with SIGKILL once some shuffled files are there."""
    log = (recipe_file.parent / "log").open("w")
    process = subprocess.Popen(
        [sys.executable, scaffolds.__file__, str(recipe_file)], stdout=log, stderr=log, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 200
        while len(list((folder / ".build" / "windows").glob("*.json"))) < 5:
            assert process.poll() is None, (recipe_file.parent / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def test_a_killed_build_resumes_without_redoing_shards(ray_local, tmp_path: Path) -> None:
    raw = scaffolds.write_scaffolds(tmp_path, 30)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(yaml.safe_dump(raw | {"storage": str(killed)}))
    folder = killed / "scaffolds"
    kill_midway(recipe_file, folder)
    assert not (folder / "manifest.json").exists()
    with pytest.raises(CorpusError, match=r"not finished \(run `epilm corpus` again with --resume\)"):
        validate_corpus(str(folder))
    time.sleep(1)  # a worker of the killed run may finish its task
    records = list((folder / ".build").glob("*/*.json"))
    shards = {json.loads(r.read_text())["path"]: r.stat().st_mtime_ns for r in records}
    before = {path: (folder / path).stat().st_mtime_ns for path in shards}
    finished = [path for path in before if path.startswith("windows/")]
    (folder / "windows" / "train" / "part-00001.parquet.0badc0de.tmp").write_bytes(b"half a file")
    uncut = build_corpus(parse_recipe(CorpusRecipe, raw | {"storage": str(whole)}))
    assert 5 <= len(finished) < len(uncut.select("windows"))

    resumed = build_corpus(parse_recipe(CorpusRecipe, raw | {"storage": str(killed)}), on_existing="resume")
    assert (folder / "manifest.json").read_bytes() == (whole / "scaffolds" / "manifest.json").read_bytes()
    assert resumed == uncut
    kept = {path for path in before if not path.startswith(".build")}
    assert {path: (folder / path).stat().st_mtime_ns for path in kept} == {path: before[path] for path in kept}
    assert sum(validate_corpus(str(folder)).num_windows.values()) == sum(
        uncut.num_windows(s) for s in ("train", "held_out")
    )


def test_a_build_is_not_resumed_with_other_sources(toy, toy_corpus, corpus_copy, ray_local) -> None:
    copy = corpus_copy()
    (copy / "manifest.json").delete()
    sources = [{"path": source.path, "sha256": source.sha256} for source in toy_corpus.manifest.sources]
    sources[1]["sha256"] = "0" * 64
    (copy / ".build").mkdir()
    (copy / ".build" / "sources.json").write_json(sources)
    recipe = toy.recipe(storage=str(Path(copy.path).parent), name="copy")
    with pytest.raises(CheckpointError, match=r"a\.bed changed since it was begun"):
        build_corpus(recipe, on_existing="resume")
