"""A corpus of two short contigs and three cell types, written by the contract, and random models that fit it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from toy_signals import SignalCorpus, write_binding_model, write_signal_corpus

from epilm.corpus.manifest import CorpusContig, CorpusFile, CorpusManifest, write_manifest
from epilm.corpus.schema import bins_per_window, contig_schema, window_schema
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.models.provenance import Provenance, write_provenance
from epilm.models.tokenization_ebert import KmerTokenizer
from epilm.storage import Location
from epilm.tokens.vocab import dna_vocab_size

BIN_BP, WINDOW_BP, CHUNK_BP = 20, 90, 400
CELLS = ("liver", "lung", "brain")
STATE_NAMES = ("open", "poised", "closed", "quiet")
LENGTHS = {"chr1": 1990, "chr2": 1203}


@dataclass(frozen=True)
class ToyCorpus:
    """The corpus' folder, and its content as plain arrays for slow references."""

    folder: Path
    manifest: CorpusManifest
    dna: dict[str, np.ndarray]
    states: dict[str, np.ndarray]


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Models this small run faster on one thread than on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def toy_corpus(tmp_path_factory) -> ToyCorpus:
    folder = tmp_path_factory.mktemp("predict") / "corpus"
    rng = np.random.default_rng(7)
    dna = {name: rng.integers(0, 4, length, dtype=np.uint8) for name, length in LENGTHS.items()}
    dna["chr1"][500:610] = 4
    states = {}
    for name, length in LENGTHS.items():
        states[name] = rng.integers(0, len(STATE_NAMES), (len(CELLS), -(-length // BIN_BP)), dtype=np.uint8)
        states[name][1, 5:9] = 255
    manifest = CorpusManifest(
        name="toy",
        assembly="toy1",
        contigs=(
            CorpusContig(name="chr1", end_bp=LENGTHS["chr1"], split="train"),
            CorpusContig(name="chr2", end_bp=LENGTHS["chr2"], split="held_out"),
        ),
        window_bp=WINDOW_BP,
        step_bp=WINDOW_BP,
        bin_bp=BIN_BP,
        chunk_bp=CHUNK_BP,
        max_n_fraction=0.1,
        cell_types=CELLS,
        held_out_cell_types=("brain",),
        state_names=STATE_NAMES,
        files=(
            *(_write_contig(folder, name, dna[name], states[name]) for name in LENGTHS),
            _write_windows(folder, "chr2", dna["chr2"], states["chr2"]),
        ),
    )
    write_manifest(Location(str(folder)), manifest)
    return ToyCorpus(folder, manifest, dna, states)


def _write_contig(folder: Path, name: str, dna: np.ndarray, states: np.ndarray) -> CorpusFile:
    schema = contig_schema(num_cells=len(CELLS), num_signals=0)
    starts = range(0, len(dna), CHUNK_BP)
    chunk_bins = CHUNK_BP // BIN_BP
    rows = {
        "chrom": [name] * len(starts),
        "start": list(starts),
        "dna": [dna[start : start + CHUNK_BP].tobytes() for start in starts],
        "states": [
            np.ascontiguousarray(states[:, i * chunk_bins : (i + 1) * chunk_bins]).tobytes() for i in range(len(starts))
        ],
    }
    table = pa.table(rows, schema=schema)
    split = "train" if name == "chr1" else "held_out"
    return _write_file(folder, f"contigs/{name}/part-00000.parquet", table, view="contigs", split=split)


def _write_windows(folder: Path, name: str, dna: np.ndarray, states: np.ndarray) -> CorpusFile:
    """Every second window of a held-out contig, last first: the corpus keeps windows shuffled."""
    num_bins = bins_per_window(WINDOW_BP, BIN_BP)
    starts = range(len(dna) // WINDOW_BP * WINDOW_BP - WINDOW_BP, -1, -2 * WINDOW_BP)
    rows = {
        "chrom": [name] * len(starts),
        "start": list(starts),
        "n_fraction": [0.0] * len(starts),
        "dna": [dna[start : start + WINDOW_BP].tobytes() for start in starts],
        "states": [
            np.ascontiguousarray(states[:, start // BIN_BP : start // BIN_BP + num_bins]).tobytes() for start in starts
        ],
    }
    schema = window_schema(window_bp=WINDOW_BP, bin_bp=BIN_BP, num_cells=len(CELLS), num_signals=0)
    table = pa.table(rows, schema=schema)
    return _write_file(folder, "windows/held_out/part-00000.parquet", table, view="windows", split="held_out")


def _write_file(folder: Path, path: str, table: pa.Table, *, view: str, split: str) -> CorpusFile:
    (folder / path).parent.mkdir(parents=True)
    pq.write_table(table, folder / path, row_group_size=2)
    data = (folder / path).read_bytes()
    groups = tuple(min(2, table.num_rows - first) for first in range(0, table.num_rows, 2))
    return CorpusFile(
        path=path,
        view=view,  # type: ignore[arg-type]
        split=split,  # type: ignore[arg-type]
        rows=table.num_rows,
        row_group_rows=groups,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


@pytest.fixture(scope="session")
def make_model(tmp_path_factory, toy_corpus):
    """``make_model(k=3, stride=3, states=True, combine="sum")`` -> folder of a small random model, as training writes it."""

    def make(*, k: int = 3, stride: int = 3, states: bool = True, combine: str = "sum", **provenance: object) -> Path:
        folder = tmp_path_factory.mktemp("model") / "model"
        names = STATE_NAMES if states else ()
        config = EbertConfig(
            dna_vocab_size=dna_vocab_size(k),
            num_states=len(names),
            state_names=list(names),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=(WINDOW_BP - k) // stride + 3,
            k=k,
            stride=stride,
            bin_bp=BIN_BP,
            combine=combine,
            initializer_range=0.5,  # large weights, so that the input decides the output
        )
        torch.manual_seed(k * 100 + stride)
        EbertForPreTraining(config).save_pretrained(folder)
        KmerTokenizer(k=k, stride=stride).save_pretrained(folder)
        fields = {
            "assembly": "toy1",
            "trained_contigs": ("chr1",),
            "trained_cell_types": ("liver", "lung") if states else (),
            "corpus_fingerprint": toy_corpus.manifest.fingerprint(),
            "window_bp": WINDOW_BP,
            "bin_bp": BIN_BP,
            "state_names": names,
            "k": k,
            "stride": stride,
            "step": 10,
            "seed": 1,
            "recipe_fingerprint": "recipe",
        }
        write_provenance(Location(str(folder)), Provenance(**(fields | provenance)))  # type: ignore[arg-type]
        return folder

    return make


@pytest.fixture(scope="session")
def ebert_folder(make_model) -> Path:
    return make_model()


@pytest.fixture(scope="session")
def dbert_folder(make_model) -> Path:
    return make_model(states=False)


@pytest.fixture(scope="session")
def signal_corpus(tmp_path_factory) -> SignalCorpus:
    return write_signal_corpus(tmp_path_factory.mktemp("signals") / "corpus")


@pytest.fixture(scope="session")
def make_binding_model(tmp_path_factory, signal_corpus):
    """``make_binding_model(states=True, tracks=True, ...)`` -> folder of a small random TF-binding model."""

    def make(**changes: object) -> Path:
        return write_binding_model(tmp_path_factory.mktemp("binding") / "model", signal_corpus.manifest, **changes)

    return make


@pytest.fixture(scope="session")
def plus_folder(make_binding_model) -> Path:
    """EBERT+: states and tracks."""
    return make_binding_model()


@pytest.fixture(scope="session")
def dna_folder(make_binding_model) -> Path:
    """DBERT: DNA alone."""
    return make_binding_model(states=False, tracks=False)
