"""A corpus of three contigs with a planted motif, written by the contract, without Ray."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.baselines.recipe import BaselineRecipe
from epilm.config import apply_overrides, parse_recipe
from epilm.corpus.manifest import CorpusContig, CorpusFile, CorpusManifest, SignalTrack, write_manifest
from epilm.corpus.schema import contig_schema
from epilm.genome.dna import encode_dna, reverse_complement
from epilm.storage import Location

MOTIF = "TTGACGTCGA"
LENGTHS = {"chr1": 40_000, "chr2": 15_000, "chr3": 15_230}
UNKNOWN = slice(6_000, 6_600)
"""N on chr3: some bins have no known base."""
CELLS = ("blood", "liver")
STATES = ("open", "closed")
STATE_BP, SIGNAL_BP, CHUNK_BP = 100, 20, 4000


@dataclass(frozen=True)
class BaselineToy:
    """The corpus' folder, its content as plain arrays, and the peaks."""

    folder: Path
    dna: dict[str, np.ndarray]
    states: dict[str, np.ndarray]
    """contig -> uint8 [cells, state bins]."""
    signals: dict[str, np.ndarray]
    """contig -> float32 [cells, signal bins]."""
    sites: dict[str, np.ndarray]
    """contig -> first base of every planted motif."""

    def recipe(self, *overrides: str, kind: str = "pwm", **predictor: Any) -> BaselineRecipe:
        raw = {
            "name": kind,
            "storage": str(self.folder / "runs"),
            "corpus": str(self.folder / "corpus"),
            "labels": {
                "kind": "peaks",
                "files": {"TF": {cell: str(self.folder / f"{cell}.bed") for cell in CELLS}},
            },
            "split": {"validation_contigs": ["chr2"], "test_contigs": ["chr3"]},
            "predictor": {"kind": kind, **predictor},
            "rows_per_part": 150,
            "num_workers": 1,
        }
        return parse_recipe(BaselineRecipe, apply_overrides(raw, overrides))


def write_toy(folder: Path) -> BaselineToy:
    """Half of the genome is open, in other places for each cell type; a site is bound where it is open."""
    rng = np.random.default_rng(11)
    dna, states, signals, sites = {}, {}, {}, {}
    beds = {cell: [] for cell in CELLS}
    word = encode_dna(MOTIF)
    for name, length in LENGTHS.items():
        dna[name] = rng.integers(0, 4, length, dtype=np.uint8)
        sites[name] = np.arange(300, length - 300, 500) + rng.integers(0, 100, len(range(300, length - 300, 500)))
        for number, site in enumerate(sites[name]):
            dna[name][site : site + len(word)] = word if number % 2 else reverse_complement(word[None])[0]
        if name == "chr3":
            dna[name][UNKNOWN] = 4
        num_bins = -(-length // STATE_BP)
        states[name] = np.repeat(rng.integers(0, 2, (len(CELLS), -(-num_bins // 5)), dtype=np.uint8), 5, axis=1)
        states[name] = states[name][:, :num_bins].copy()
        states[name][0, 20:23] = 255
        is_open = np.repeat(states[name] == 0, STATE_BP // SIGNAL_BP, axis=1)[:, : -(-length // SIGNAL_BP)]
        signals[name] = (rng.random(is_open.shape) + 3 * is_open).astype(np.float32)
        signals[name][1, 100:130] = np.nan
        for row, cell in enumerate(CELLS):
            bound = sites[name][states[name][row, sites[name] // STATE_BP] == 0]
            beds[cell] += [f"{name}\t{max(0, s - 95)}\t{s + 105}" for s in bound]
    for cell, rows in beds.items():
        (folder / f"{cell}.bed").write_text("\n".join(rows) + "\n")
    _write_corpus(folder / "corpus", dna, states, signals)
    return BaselineToy(folder, dna, states, signals, sites)


def _write_corpus(folder: Path, dna: dict, states: dict, signals: dict) -> None:
    files = [_write_contig(folder, name, dna[name], states[name], signals[name]) for name in LENGTHS]
    contigs = [
        CorpusContig(name=name, end_bp=length, split="held_out" if name == "chr3" else "train")
        for name, length in LENGTHS.items()
    ]
    manifest = CorpusManifest(
        name="toy",
        assembly="toy1",
        contigs=tuple(contigs),
        window_bp=200,
        step_bp=200,
        bin_bp=STATE_BP,
        signal_bp=SIGNAL_BP,
        chunk_bp=CHUNK_BP,
        max_n_fraction=0.1,
        cell_types=CELLS,
        state_names=STATES,
        signals=tuple(SignalTrack(name=f"DNase.{cell}", cell_type=cell) for cell in CELLS),
        files=tuple(files),
    )
    write_manifest(Location(str(folder)), manifest)


def _write_contig(folder: Path, name: str, dna: np.ndarray, states: np.ndarray, signals: np.ndarray) -> CorpusFile:
    starts = range(0, len(dna), CHUNK_BP)

    def chunks(values: np.ndarray, width_bp: int) -> list[bytes]:
        size = CHUNK_BP // width_bp
        return [np.ascontiguousarray(values[:, i * size : (i + 1) * size]).tobytes() for i in range(len(starts))]

    rows = {
        "chrom": [name] * len(starts),
        "start": list(starts),
        "dna": chunks(dna[None], 1),
        "states": chunks(states, STATE_BP),
        "signals": chunks(signals.astype("<f4"), SIGNAL_BP),
    }
    table = pa.table(rows, schema=contig_schema(num_cells=len(CELLS), num_signals=len(CELLS)))
    path = f"contigs/{name}.parquet"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / path, row_group_size=2)
    data = (folder / path).read_bytes()
    return CorpusFile(
        path=path,
        view="contigs",
        split="held_out" if name == "chr3" else "train",
        rows=table.num_rows,
        row_group_rows=tuple(min(2, table.num_rows - first) for first in range(0, table.num_rows, 2)),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
