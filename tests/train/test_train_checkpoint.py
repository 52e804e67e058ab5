"""A checkpoint goes on with its own recipe and corpus alone."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from epilm.errors import CheckpointError
from epilm.train.checkpoint import CheckpointMeta, check_meta, read_meta

META = CheckpointMeta(step=7, num_workers=2, zero_stage=1, recipe_fingerprint="r1", data_fingerprint="d1")


def test_its_own_recipe_and_corpus() -> None:
    check_meta(META, recipe_fingerprint="r1", data_fingerprint="d1")


def test_another_recipe() -> None:
    with pytest.raises(CheckpointError, match=r"step 7 was written for another recipe \(r1; this run's is r2\)\. Use"):
        check_meta(META, recipe_fingerprint="r2", data_fingerprint="d1")


def test_another_corpus() -> None:
    with pytest.raises(CheckpointError, match=r"another corpus \(d1; this run's is d2\)"):
        check_meta(META, recipe_fingerprint="r1", data_fingerprint="d2")


def test_what_is_no_checkpoint(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="is not an epilm checkpoint"):
        read_meta(tmp_path)
    path = tmp_path / "epilm-checkpoint.json"
    for text in ("{", json.dumps({**asdict(META), "rank": 0}), json.dumps({"step": 3})):
        path.write_text(text)
        with pytest.raises(CheckpointError, match="is not an epilm checkpoint"):
            read_meta(tmp_path)
    path.write_text(json.dumps(asdict(META)))
    assert read_meta(tmp_path) == META
