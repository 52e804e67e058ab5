"""A corpus built in a bucket is the one that is built on a disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scaffolds
import yaml
from tiny_s3 import serve_bucket

from epilm.corpus.gather import ContigReader
from epilm.corpus.validate import CorpusFaultsError, validate_corpus
from epilm.storage import Location

pytestmark = pytest.mark.ray


def test_a_corpus_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = scaffolds.write_scaffolds(tmp_path, 8)
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(yaml.safe_dump(raw | {"storage": "s3://bucket/runs", "groups_per_file": 64}))
    with serve_bucket() as (url, objects):
        for key, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            monkeypatch.setenv(key, value)
        done = subprocess.run(
            [sys.executable, scaffolds.__file__, str(recipe_file)], env=dict(os.environ), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        corpus = Location("s3://bucket/runs/scaffolds")
        report = validate_corpus(corpus)
        manifest = json.loads(objects["bucket/runs/scaffolds/manifest.json"])
        lengths = [contig["end_bp"] for contig in manifest["contigs"]]
        assert sum(report.num_windows.values()) == sum(max(0, (length - 50) // 10 + 1) for length in lengths)
        assert not [key for key in objects if "/.build/" in key]
        name, sequence = (tmp_path / "scaffolds.fa").read_text().split("\n")[:2]
        found = ContigReader(corpus).gather([name[1:]], np.array([13]), 20)
        assert bytes(b"ACGTN"[code] for code in found.dna[0]).decode() == sequence[13:33]

        path = f"bucket/runs/scaffolds/{manifest['files'][0]['path']}"
        objects[path] = objects[path][:-1] + b"?"
        with pytest.raises(CorpusFaultsError, match="its checksum is"):
            validate_corpus(corpus)
