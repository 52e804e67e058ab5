"""A corpus with states and signals of two resolutions, and random TF-binding models that fit it, written by the contract."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from epilm.corpus.manifest import CorpusContig, CorpusFile, CorpusManifest, SignalTrack, write_manifest
from epilm.corpus.schema import contig_schema
from epilm.models.binding import EbertForBinding
from epilm.models.binding_config import BindingConfig, HeadConfig, TrackConfig
from epilm.models.binding_folder import write_binding
from epilm.models.binding_inputs import BindingWindows, binding_inputs
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.provenance import Provenance
from epilm.storage import Location
from epilm.tokens.vocab import num_tokens

STATE_BP, SIGNAL_BP, CHUNK_BP = 20, 5, 400
BIN_BP, INPUT_BP, STEP_BP = 40, 90, 10
CELLS = ("liver", "lung", "brain")
STATE_NAMES = ("open", "poised", "closed", "quiet")
SPANS = {"chrA": (0, 1990), "chrP": (1035, 2203), "chrS": (0, 31), "chrN": (0, 900)}
"""Contig -> (start, end): a whole one, a piece, one shorter than a bin, one with N at both ends and within."""
SIGNALS = ("DNase.liver", "mappability", "DNase.lung")
TRACKS = {
    "dnase": TrackConfig(signal="DNase.{cell_type}", pool="max", scale="log1p"),
    "mappability": TrackConfig(signal="mappability", pool="min", missing=-1.0),
}
TARGETS = ("CTCF", "REST", "MAX/MYC")


@dataclass(frozen=True)
class SignalCorpus:
    """The corpus' folder, and its content as plain arrays from base 0 of each contig on."""

    folder: Path
    manifest: CorpusManifest
    dna: dict[str, np.ndarray]
    """uint8 [end_bp]; N before a piece."""
    states: dict[str, np.ndarray]
    """uint8 [cells, bins]"""
    signals: dict[str, np.ndarray]
    """float32 [tracks, signal bins]"""


def write_signal_corpus(folder: Path) -> SignalCorpus:
    rng = np.random.default_rng(11)
    dna, states, signals = {}, {}, {}
    for name, (start, end) in SPANS.items():
        dna[name] = rng.integers(0, 4, end, dtype=np.uint8)
        dna[name][:start] = 4
        states[name] = rng.integers(0, len(STATE_NAMES), (len(CELLS), -(-end // STATE_BP)), dtype=np.uint8)
        states[name][1, 5:9] = 255
        signals[name] = rng.gamma(0.5, 4, (len(SIGNALS), -(-end // SIGNAL_BP))).astype(np.float32)
        signals[name][:, 20:31] = np.nan
    dna["chrN"][:65] = dna["chrN"][300:400] = dna["chrN"][820:] = 4
    files = tuple(_write_contig(folder, name, dna[name], states[name], signals[name]) for name in SPANS)
    manifest = CorpusManifest(
        name="signals",
        assembly="toy1",
        contigs=tuple(
            CorpusContig(name=name, start_bp=start, end_bp=end, split="train" if name == "chrA" else "held_out")
            for name, (start, end) in SPANS.items()
        ),
        window_bp=INPUT_BP,
        step_bp=INPUT_BP,
        bin_bp=STATE_BP,
        signal_bp=SIGNAL_BP,
        chunk_bp=CHUNK_BP,
        max_n_fraction=1.0,
        cell_types=CELLS,
        held_out_cell_types=("brain",),
        state_names=STATE_NAMES,
        signals=(
            SignalTrack(name="DNase.liver", cell_type="liver"),
            SignalTrack(name="mappability"),
            SignalTrack(name="DNase.lung", cell_type="lung"),
        ),
        files=files,
    )
    write_manifest(Location(str(folder)), manifest)
    return SignalCorpus(folder, manifest, dna, states, signals)


def _write_contig(folder: Path, name: str, dna: np.ndarray, states: np.ndarray, signals: np.ndarray) -> CorpusFile:
    begin = SPANS[name][0] // STATE_BP * STATE_BP
    starts = [max(begin, at) for at in range(begin // CHUNK_BP * CHUNK_BP, len(dna), CHUNK_BP)]
    ends = [min(start // CHUNK_BP * CHUNK_BP + CHUNK_BP, len(dna)) for start in starts]
    pieces = list(zip(starts, ends, strict=True))
    rows = {
        "chrom": [name] * len(starts),
        "start": starts,
        "dna": [dna[start:end].tobytes() for start, end in pieces],
        "states": [states[:, start // STATE_BP : -(-end // STATE_BP)].tobytes() for start, end in pieces],
        "signals": [
            signals[:, start // SIGNAL_BP : start // SIGNAL_BP + -(-(end - start) // STATE_BP) * STATE_BP // SIGNAL_BP]
            .astype("<f4")
            .tobytes()
            for start, end in pieces
        ],
    }
    table = pa.table(rows, schema=contig_schema(num_cells=len(CELLS), num_signals=len(SIGNALS)))
    path = folder / "contigs" / name / "part-00000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(table, path, row_group_size=2)
    data = path.read_bytes()
    return CorpusFile(
        path=str(path.relative_to(folder)),
        view="contigs",
        split="train" if name == "chrA" else "held_out",
        rows=table.num_rows,
        row_group_rows=tuple(min(2, table.num_rows - first) for first in range(0, table.num_rows, 2)),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def write_binding_model(
    folder: Path,
    corpus: CorpusManifest,
    *,
    states: bool = True,
    tracks: bool = True,
    both_strands: bool = False,
    selected_on: tuple[str, ...] = (),
    **provenance: object,
) -> Path:
    """A small random model: EBERT+, EBERT (no tracks) or DBERT (neither)."""
    names = STATE_NAMES if states else ()
    config = EbertConfig(
        k=3,
        stride=3,
        num_states=len(names),
        state_names=list(names),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=num_tokens(INPUT_BP, 3, 3) + 2,
        bin_bp=STATE_BP,
        initializer_range=0.5,
    )
    binding = BindingConfig(
        targets=TARGETS,
        bin_bp=BIN_BP,
        input_bp=INPUT_BP,
        tracks=TRACKS if tracks else {},
        signal_bp=SIGNAL_BP if tracks else None,
        head=HeadConfig(conv_channels=(6, 5), conv_widths=(3, 3), segments=5, dense_size=7),
        both_strands=both_strands,
    )
    torch.manual_seed(5)
    model = EbertForBinding(config, binding)
    _spread(model, states=states, tracks=tracks)
    fields = {
        "assembly": "toy1",
        "trained_contigs": ("chrA",),
        "trained_cell_types": ("liver",) if states else (),
        "corpus_fingerprint": corpus.fingerprint(),
        "window_bp": INPUT_BP,
        "bin_bp": STATE_BP,
        "state_names": names,
        "k": 3,
        "stride": 3,
        "step": 10,
        "seed": 1,
        "recipe_fingerprint": "recipe",
    }
    folder.mkdir(parents=True)
    write_binding(
        folder,
        config,
        binding,
        model.state_dict(),
        Provenance(**(fields | provenance)),  # type: ignore[arg-type]
        extra={
            "train_cell_types": ("liver",),
            "selected_on": selected_on,
            "labels_fingerprint": "labels",
            "corpus_fingerprint": corpus.fingerprint(),
        },
    )
    return folder


@torch.no_grad()
def _spread(model: EbertForBinding, *, states: bool, tracks: bool) -> None:
    """Scale the last layer so that logits of random windows have mean 0 and deviation 1: the input decides the output."""
    num = 64
    windows = BindingWindows(
        dna=torch.randint(0, 4, (num, INPUT_BP), dtype=torch.uint8),
        bins=torch.randint(0, len(STATE_NAMES), (num, INPUT_BP // STATE_BP + 2), dtype=torch.uint8) if states else None,
        phase=torch.randint(0, STATE_BP, (num,)),
        signals=torch.rand(num, len(TRACKS), INPUT_BP // SIGNAL_BP + 1) * 4 if tracks else None,
        signal_phase=torch.randint(0, SIGNAL_BP, (num,)),
    )
    logits = model.eval()(**binding_inputs(windows, encoder=model.config, config=model.binding))
    model.head.out.weight /= logits.std(0)[:, None]
    model.head.out.bias.copy_((model.head.out.bias - logits.mean(0)) / logits.std(0))
