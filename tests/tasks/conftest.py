"""A corpus of two short contigs and three cell types, written by the contract, without Ray."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from epilm.corpus.manifest import CorpusContig, CorpusFile, CorpusManifest, write_manifest
from epilm.corpus.schema import bins_per_window, window_schema
from epilm.storage import Location
from epilm.tasks.masked_epigenome import MaskedEpigenomeTask
from epilm.tasks.recipe import MaskedEpigenomeConfig

WINDOW_BP, STEP_BP, BIN_BP = 90, 50, 20
CELLS = ("liver", "lung", "brain")
STATE_NAMES = ("open", "poised", "closed", "quiet")
LENGTHS = {"chr1": 4000, "chr2": 1500}


@dataclass(frozen=True)
class TaskCorpus:
    """The corpus' folder, and its content as plain arrays for slow references."""

    folder: Path
    manifest: CorpusManifest
    dna: dict[str, np.ndarray]
    states: dict[str, np.ndarray]
    """contig -> uint8 [cells, bins]."""
    windows: dict[str, list[tuple[str, int]]]
    """split -> (contig, start) of each locus, in the order of the files."""

    def dna_of(self, split: str, locus: int) -> np.ndarray:
        chrom, start = self.windows[split][locus]
        return self.dna[chrom][start : start + WINDOW_BP]

    def state_of(self, split: str, locus: int, cell: int) -> np.ndarray:
        """State byte of each base of a window."""
        chrom, start = self.windows[split][locus]
        return self.states[chrom][cell][np.arange(start, start + WINDOW_BP) // BIN_BP]

    def task(self, seed: int = 5, **changes: object) -> MaskedEpigenomeTask:
        settings = {
            "corpus": str(self.folder),
            "tokens": {"k": 3},
            "model": {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.0},
            "state_mask": {"flank_bp": 10, "whole_bin": True},
        }
        return MaskedEpigenomeTask(MaskedEpigenomeConfig.model_validate(settings | changes), seed)


@pytest.fixture(scope="session")
def task_corpus(tmp_path_factory) -> TaskCorpus:
    folder = tmp_path_factory.mktemp("tasks") / "corpus"
    rng = np.random.default_rng(7)
    dna = {name: rng.choice(4, length, p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8) for name, length in LENGTHS.items()}
    dna["chr1"][500:505] = 4
    states = {}
    for name, length in LENGTHS.items():
        num_bins = -(-length // BIN_BP) + 1
        states[name] = rng.choice(4, (len(CELLS), num_bins), p=[0.1, 0.2, 0.3, 0.4]).astype(np.uint8)
        states[name][0, 10:20] = 255
    windows = {"train": ("chr1", 3), "held_out": ("chr2", 2)}
    files, places = [], {}
    for split, (name, num_files) in windows.items():
        starts = rng.permutation(np.arange(0, LENGTHS[name] - WINDOW_BP + 1, STEP_BP))
        places[split] = [(name, int(start)) for start in starts]
        for i, part in enumerate(np.array_split(starts, num_files)):
            files.append(_write_windows(folder, split, i, name, part, dna[name], states[name]))
    manifest = CorpusManifest(
        name="toy",
        assembly="toy1",
        contigs=(
            CorpusContig(name="chr1", end_bp=LENGTHS["chr1"], split="train"),
            CorpusContig(name="chr2", end_bp=LENGTHS["chr2"], split="held_out"),
        ),
        window_bp=WINDOW_BP,
        step_bp=STEP_BP,
        bin_bp=BIN_BP,
        chunk_bp=400,
        max_n_fraction=0.1,
        cell_types=CELLS,
        held_out_cell_types=("brain",),
        state_names=STATE_NAMES,
        files=tuple(files),
    )
    write_manifest(Location(str(folder)), manifest)
    return TaskCorpus(folder, manifest, dna, states, places)


def _write_windows(folder, split, index, name, starts, dna, states) -> CorpusFile:
    num_bins = bins_per_window(WINDOW_BP, BIN_BP)
    rows = {
        "chrom": [name] * len(starts),
        "start": starts,
        "n_fraction": [float((dna[s : s + WINDOW_BP] == 4).mean()) for s in starts],
        "dna": [dna[s : s + WINDOW_BP].tobytes() for s in starts],
        "states": [np.ascontiguousarray(states[:, s // BIN_BP : s // BIN_BP + num_bins]).tobytes() for s in starts],
    }
    schema = window_schema(window_bp=WINDOW_BP, bin_bp=BIN_BP, num_cells=len(CELLS), num_signals=0)
    path = f"windows/{split}/part-{index:05d}.parquet"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows, schema=schema), folder / path, row_group_size=8, write_page_checksum=True)
    data = (folder / path).read_bytes()
    return CorpusFile(
        path=path,
        view="windows",
        split=split,
        rows=len(starts),
        row_group_rows=tuple(min(8, len(starts) - first) for first in range(0, len(starts), 8)),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
