"""A literal toy genome with states of three cells and a track, and one corpus built from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyBigWig
import pytest

from epilm.config import parse_recipe
from epilm.corpus.build import build_corpus
from epilm.corpus.manifest import CorpusManifest
from epilm.corpus.recipe import CorpusRecipe
from epilm.storage import Location

LENGTHS = {"chr1": 23_456, "chr2": 11_000, "chr3": 9_999, "tiny": 40}
CELLS = ("a", "b", "c")
STATES = ("1_Open", "2_Weak", "18_Closed")
BIN = 50


@dataclass(frozen=True)
class Toy:
    """The files, and what they hold."""

    folder: Path
    dna: dict[str, np.ndarray]
    """contig -> uint8 codes."""
    states: dict[str, np.ndarray]
    """contig -> uint8 [cells, bins]."""
    track: dict[str, np.ndarray]
    """contig -> float32 [bins], NaN where the track has a gap."""

    def raw(self, **changes: Any) -> dict[str, Any]:
        return {
            "name": "toy",
            "storage": str(self.folder / "runs"),
            "seed": 3,
            "assembly": "toy1",
            "genome": {"path": str(self.folder / "toy.fa")},
            "states": {"kind": "segments", "files": {c: str(self.folder / f"{c}.bed") for c in CELLS}},
            "signals": {"mark": {"path": str(self.folder / "mark.bw"), "cell_type": "b", "missing_contigs": "no_data"}},
            "window_bp": 100,
            "bin_bp": BIN,
            "chunk_bp": 1000,
            "held_out_contigs": ["chr3"],
            "rows_per_group": 16,
            "groups_per_file": 4,
            "max_n_fraction": 0.2,
        } | changes

    def recipe(self, **changes: Any) -> CorpusRecipe:
        return parse_recipe(CorpusRecipe, self.raw(**changes))


def write_toy(folder: Path) -> Toy:
    rng = np.random.default_rng(7)
    dna, states, track = {}, {}, {}
    for name, length in LENGTHS.items():
        dna[name] = rng.integers(0, 4, length).astype(np.uint8)
        num_bins = -(-length // BIN)
        states[name] = rng.integers(0, len(STATES), (len(CELLS), num_bins)).astype(np.uint8)
        states[name][1, 10:14] = 255
        track[name] = rng.random(num_bins).astype(np.float32).round(3)
    dna["chr1"][:1500] = 4
    dna["chr1"][5000:5025] = 4
    track["chr1"][3:9] = np.nan
    lines = []
    for name, codes in dna.items():
        text = np.frombuffer(b"ACGTN", np.uint8)[codes].tobytes().decode()
        lines += [f">{name}", *(text[i : i + 60] for i in range(0, len(text), 60))]
    (folder / "toy.fa").write_text("\n".join(lines) + "\n")
    for row, cell in enumerate(CELLS):
        rows = [
            f"{name}\t{i * BIN}\t{min((i + 1) * BIN, LENGTHS[name])}\t{STATES[s]}"
            for name in LENGTHS
            for i, s in enumerate(states[name][row])
            if s != 255
        ]
        (folder / f"{cell}.bed").write_text("\n".join(rows) + "\n")
    with pyBigWig.open(str(folder / "mark.bw"), "w") as handle:
        covered = ["chr1", "chr2", "chr3"]
        handle.addHeader([(name, LENGTHS[name]) for name in covered])
        for name in covered:
            bins = np.flatnonzero(~np.isnan(track[name]))
            starts, ends = bins * BIN, np.minimum((bins + 1) * BIN, LENGTHS[name])
            values = track[name][bins].astype(float).tolist()
            handle.addEntries([name] * len(bins), starts.tolist(), ends=ends.tolist(), values=values)
    track["tiny"][:] = np.nan
    return Toy(folder, dna, states, track)


@dataclass(frozen=True)
class ToyCorpus:
    toy: Toy
    location: Location
    manifest: CorpusManifest


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return write_toy(tmp_path_factory.mktemp("toy_genome"))


@pytest.fixture(scope="session")
def toy_corpus(toy: Toy, ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> ToyCorpus:
    """Built once; tests must not change it."""
    storage = tmp_path_factory.mktemp("toy_corpus")
    manifest = build_corpus(toy.recipe(storage=str(storage)))
    return ToyCorpus(toy, Location(str(storage)) / "toy", manifest)


@pytest.fixture
def corpus_copy(toy_corpus: ToyCorpus, tmp_path: Path) -> Callable[[], Location]:
    """Makes a copy of the toy corpus that a test may damage."""
    import shutil

    def copy() -> Location:
        target = tmp_path / "copy"
        shutil.copytree(toy_corpus.location.path, target)
        return Location(str(target))

    return copy
