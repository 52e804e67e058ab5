"""A corpus with states and peaks of two factors in three cell types, written by the contract, without Ray."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.corpus.manifest import CorpusContig, CorpusFile, CorpusManifest, write_manifest
from epilm.corpus.schema import contig_schema
from epilm.storage import Location

LENGTHS = {"chr1": 24_000, "chr2": 6_000, "chr3": 8_000}
CELLS, TARGETS = ("blood", "heart", "lung"), ("TF1", "TF2")
STATE_BP, CHUNK_BP = 200, 2_000


def write_toy(folder: Path) -> Path:
    """The corpus at ``<folder>/corpus``, peaks at ``<folder>/peaks``: 100 bp every 500 bp or so, elsewhere in each cell type."""
    rng = np.random.default_rng(3)
    files = []
    for name, length in LENGTHS.items():
        dna = rng.integers(0, 4, length, dtype=np.uint8)
        states = rng.integers(0, 3, (len(CELLS), length // STATE_BP), dtype=np.uint8)
        starts = range(0, length, CHUNK_BP)
        rows = {
            "chrom": [name] * len(starts),
            "start": list(starts),
            "dna": [dna[at : at + CHUNK_BP].tobytes() for at in starts],
            "states": [
                np.ascontiguousarray(states[:, at // STATE_BP : (at + CHUNK_BP) // STATE_BP]).tobytes() for at in starts
            ],
        }
        path = folder / "corpus" / "contigs" / name / "part-00000.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table(rows, schema=contig_schema(num_cells=len(CELLS), num_signals=0)), path)
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        place = str(path.relative_to(folder / "corpus"))
        files.append(
            CorpusFile(
                path=place,
                view="contigs",
                split=_split(name),
                rows=len(starts),
                row_group_rows=(len(starts),),
                bytes=len(data),
                sha256=digest,
            )
        )
    manifest = CorpusManifest(
        name="toy",
        assembly="toy1",
        contigs=tuple(CorpusContig(name=n, end_bp=length, split=_split(n)) for n, length in LENGTHS.items()),
        window_bp=400,
        step_bp=400,
        bin_bp=STATE_BP,
        chunk_bp=CHUNK_BP,
        max_n_fraction=0.1,
        cell_types=CELLS,
        held_out_cell_types=("lung",),
        state_names=("open", "closed", "quiet"),
        files=tuple(files),
    )
    write_manifest(Location(str(folder / "corpus")), manifest)
    for target in TARGETS:
        for cell in CELLS:
            lines = []
            for name, length in LENGTHS.items():
                starts = np.arange(100, length - 300, 500) + rng.integers(0, 150)
                lines += [f"{name}\t{start}\t{start + 200}\n" for start in starts]
            peaks = folder / "peaks" / f"{target}.{cell}.bed"
            peaks.parent.mkdir(exist_ok=True)
            peaks.write_text("".join(lines))
    return folder


def _split(name: str) -> Any:
    return "train" if name == "chr1" else "held_out"


def base_recipe(folder: Path, **task: Any) -> dict[str, Any]:
    """A finetune recipe of a tiny EBERT; chr2 decides, chr3 and lung are the test."""
    peaks = {t: {c: str(folder / "peaks" / f"{t}.{c}.bed") for c in CELLS} for t in TARGETS}
    return {
        "name": "base",
        "task": {
            "corpus": str(folder / "corpus"),
            "labels": {"kind": "peaks", "files": peaks},
            "encoder": {
                "model": {"kind": "ebert", "hidden_size": 16, "num_layers": 1, "num_heads": 2, "dropout": 0.0},
                "tokens": {"k": 3},
            },
            "head": {"conv_channels": [8, 8], "dense_size": 8, "segments": 4},
            "input_bp": 240,
            "split": {"validation_contigs": ["chr2"], "test_contigs": ["chr3"], "held_out_cell_types": ["lung"]},
            "evaluation": {"max_positives": 20, "max_negatives": 40},
            "early_stop": None,
            **task,
        },
        "train": {"steps": 2, "global_batch": 8, "num_workers": 1, "eval_every_steps": 1},
    }


def study_recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "study",
        "storage": str(folder / "runs"),
        "base": base_recipe(folder),
        "arms": {"ebert": {}, "few": {"task.sampling.max_positives": 16}},
        "baseline": "ebert",
        "seeds": [0, 1],
        "bootstrap": {"num": 20, "block_bp": 500},
        **changes,
    }
