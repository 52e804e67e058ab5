"""A corpus with states and signals of three cell types, and peaks of two factors, written by the contract, without Ray."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.corpus.manifest import CorpusContig, CorpusFile, CorpusManifest, SignalTrack, write_manifest
from epilm.corpus.schema import contig_schema
from epilm.storage import Location
from epilm.tasks.binding_recipe import TfBindingConfig
from epilm.tasks.tf_binding import TfBindingTask

BIN_BP, SIGNAL_BP, CHUNK_BP = 100, 10, 3000
CELLS = ("liver", "lung", "brain")
STATES = ("open", "closed", "quiet")
LENGTHS = {"chr1": 9000, "chr2": 6050, "chr3": 4000}
SIGNALS = ("DNase.liver", "DNase.lung", "DNase.brain", "mappability")
PEAKS = {
    "A": {"liver": [("chr1", 1000), ("chr1", 5000), ("chr2", 3000)], "lung": [("chr1", 2000), ("chr2", 1000)]},
    "B": {"liver": [("chr1", 7000), ("chr2", 5000), ("chr3", 500)], "brain": [("chr1", 4000), ("chr2", 2000)]},
}


@dataclass(frozen=True)
class BindingCorpus:
    """The corpus' folder, and its content as plain arrays for slow references."""

    folder: Path
    dna: dict[str, np.ndarray]
    states: dict[str, np.ndarray]
    """contig -> uint8 [cells, bins]."""
    signals: dict[str, np.ndarray]
    """contig -> float32 [signals, signal bins]."""

    def config(self, **changes: object) -> TfBindingConfig:
        files = {tf: {cell: str(self.folder / f"{tf}.{cell}.bed") for cell in cells} for tf, cells in PEAKS.items()}
        settings = {
            "corpus": str(self.folder / "corpus"),
            "labels": {"kind": "peaks", "files": files, "missing_contigs": "no_peaks"},
            "encoder": {
                "model": {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "dropout": 0.0},
                "tokens": {"k": 3},
            },
            "head": {"conv_channels": [4, 4], "dense_size": 4, "segments": 5, "dropout": 0.0},
            "tracks": {
                "dnase": {"signal": "DNase.{cell_type}", "pool": "max"},
                "unique": {"signal": "mappability", "pool": "min", "missing": -1.0},
            },
            "input_bp": 400,
            "split": {"validation_contigs": ["chr2"]},
        }
        return TfBindingConfig.model_validate(settings | changes)

    def task(self, seed: int = 3, **changes: object) -> TfBindingTask:
        return TfBindingTask(self.config(**changes), seed)


def write_binding_corpus(folder: Path) -> BindingCorpus:
    rng = np.random.default_rng(11)
    dna, states, signals, files = {}, {}, {}, []
    for name, length in LENGTHS.items():
        dna[name] = rng.integers(0, 4, length).astype(np.uint8)
        states[name] = rng.integers(0, 3, (len(CELLS), -(-length // BIN_BP))).astype(np.uint8)
        signals[name] = rng.random((len(SIGNALS), -(-length // SIGNAL_BP))).astype(np.float32)
        signals[name][:, 40:60] = np.nan
        files.append(_write_contig(folder / "corpus", name, dna[name], states[name], signals[name]))
    manifest = CorpusManifest(
        name="toy",
        assembly="toy1",
        contigs=tuple(CorpusContig(name=n, end_bp=length, split="train") for n, length in LENGTHS.items()),
        window_bp=400,
        step_bp=400,
        bin_bp=BIN_BP,
        signal_bp=SIGNAL_BP,
        chunk_bp=CHUNK_BP,
        max_n_fraction=0.1,
        cell_types=CELLS,
        state_names=STATES,
        signals=tuple(
            SignalTrack(
                name=name,
                cell_type=name.partition(".")[2] or None,
                statistic="max",
                nan_policy="keep",
            )
            for name in SIGNALS
        ),
        files=tuple(files),
    )
    write_manifest(Location(str(folder / "corpus")), manifest)
    for target, cells in PEAKS.items():
        for cell, peaks in cells.items():
            text = "".join(f"{chrom}\t{start}\t{start + 200}\n" for chrom, start in peaks)
            (folder / f"{target}.{cell}.bed").write_text(text)
    return BindingCorpus(folder, dna, states, signals)


def _write_contig(corpus: Path, name: str, dna: np.ndarray, states: np.ndarray, signals: np.ndarray) -> CorpusFile:
    starts = list(range(0, len(dna), CHUNK_BP))
    columns = {
        "chrom": [name] * len(starts),
        "start": starts,
        "dna": [dna[s : s + CHUNK_BP].tobytes() for s in starts],
        "states": [states[:, s // BIN_BP : (s + CHUNK_BP) // BIN_BP].tobytes() for s in starts],
        "signals": [
            np.ascontiguousarray(signals[:, s // SIGNAL_BP : (s + CHUNK_BP) // SIGNAL_BP], "<f4").tobytes()
            for s in starts
        ],
    }
    schema = contig_schema(num_cells=len(CELLS), num_signals=len(SIGNALS))
    path = corpus / "contigs" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), path, row_group_size=1, write_page_checksum=True)
    data = path.read_bytes()
    return CorpusFile(
        path=f"contigs/{name}.parquet",
        view="contigs",
        split="train",
        rows=len(starts),
        row_group_rows=(1,) * len(starts),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
