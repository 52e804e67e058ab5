"""A genome of many small scaffolds with states of two cells: a corpus of many shards, built in seconds.

Also a program, so that a test can kill it: ``python scaffolds.py RECIPE`` builds with one CPU.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

BIN = 20


def write_scaffolds(folder: Path, num: int = 60) -> dict[str, Any]:
    """Write the files; return the recipe without its storage."""
    rng = np.random.default_rng(11)
    lengths = rng.integers(40, 700, num)
    fasta, beds = [], {"x": [], "y": []}
    for number, length in enumerate(lengths.tolist()):
        name = f"scaffold_{number:04d}|v1"
        fasta += [f">{name}", "".join(rng.choice(list("ACGT"), length))]
        for rows in beds.values():
            starts = range(0, length, BIN)
            rows += [f"{name}\t{s}\t{min(s + BIN, length)}\tE{rng.integers(1, 4)}" for s in starts]
    (folder / "scaffolds.fa").write_text("\n".join(fasta) + "\n")
    for cell, rows in beds.items():
        (folder / f"{cell}.bed").write_text("\n".join(rows) + "\n")
    return {
        "name": "scaffolds",
        "seed": 1,
        "assembly": "draft",
        "genome": {"path": str(folder / "scaffolds.fa")},
        "states": {"kind": "segments", "files": {cell: str(folder / f"{cell}.bed") for cell in beds}},
        "held_out_contigs": ["scaffold_0003|v1", "scaffold_0005|v1"],
        "window_bp": 50,
        "step_bp": 10,
        "bin_bp": BIN,
        "chunk_bp": 200,
        "rows_per_group": 4,
        "groups_per_file": 4,
    }


if __name__ == "__main__":
    from epilm.config import load_recipe
    from epilm.corpus.build import build_corpus
    from epilm.corpus.recipe import CorpusRecipe
    from epilm.session import RayConfig, ray_session

    with ray_session(RayConfig(num_cpus=1)):
        build_corpus(load_recipe(CorpusRecipe, sys.argv[1]), on_existing="resume")
