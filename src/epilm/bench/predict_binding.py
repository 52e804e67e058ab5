"""Genome-wide prediction against the loop over batches that one would write: what gathering and writing cost beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from epilm.bench.masks import one_thread
from epilm.bench.measure import Case, Duel, Workbench
from epilm.corpus.gather import ContigReader
from epilm.corpus.manifest import CorpusContig, CorpusFile, CorpusManifest, SignalTrack, write_manifest
from epilm.corpus.schema import CONTIGS, bins_per_window, contig_schema
from epilm.models.binding import EbertForBinding
from epilm.models.binding_config import BindingConfig, TrackConfig
from epilm.models.binding_folder import write_binding
from epilm.models.binding_inputs import BindingWindows, binding_inputs
from epilm.models.configuration_ebert import EbertConfig
from epilm.models.provenance import Provenance
from epilm.predict.genome_parts import read_column
from epilm.predict.genome_plan import check_predict
from epilm.predict.genome_recipe import PredictRecipe
from epilm.predict.genome_worker import GenomeWriter
from epilm.storage import Location

BIN_BP, SIGNAL_BP, STEP_BP, INPUT_BP, CHUNK_BP = 200, 10, 50, 1000, 100_000
CELLS, TRACKS, STATES = 8, 9, 36
BATCH = 64
TOLERANCE = 1e-5


def predict_genome(bench: Workbench) -> Duel:
    """EBERT+ of 2 x 128 over every 50 bp of a contig, one cell type, one thread; both sides end with the same probabilities.

    Ours is all that an actor does: it opens the corpus, gathers from its parquet files and writes a part. The peer has its
    windows in memory before the timing, cut from the whole contig's arrays, and runs the same model on batches of them.
    """
    num = bench.scaled(1024, 96)
    dna, states, signals = _contig((num - 1) * STEP_BP + BIN_BP, bench.seed)
    corpus, folder = Location(str(bench.folder / "corpus")), Location(str(bench.folder / "run")).mkdir()
    manifest = _write_corpus(corpus, dna, states, signals)
    model = _write_model(bench.folder / "model", manifest)
    recipe = PredictRecipe(
        name="run",
        storage=str(bench.folder),
        model=str(model),
        corpus=str(corpus),
        cell_types=("cell1",),
        batch_size=BATCH,
    )
    restore_threads, plan = one_thread(), check_predict(recipe)
    writer = GenomeWriter(
        recipe=recipe,
        folder=folder,
        model=Location(recipe.model),
        corpus=corpus,
        parts=plan.parts,
        asked=plan.asked,
        cells=plan.cells,
        targets=plan.targets,
        column_outputs=plan.column_outputs,
        device="cpu",
    )
    plain = writer.scorer.model  # the same weights, loaded once
    windows = _windows_of(dna, states[1], signals[[1, CELLS]], num)

    def ours() -> np.ndarray:
        writer.scorer.reader = ContigReader(corpus, manifest)  # an empty cache
        for part in plan.parts:
            writer.write(part.index)
        return np.concatenate([read_column(folder, part, 0) for part in plan.parts])

    @torch.inference_mode()
    def theirs() -> np.ndarray:
        found = []
        for first in range(0, num, BATCH):
            batch = BindingWindows(*(part[first : first + BATCH] for part in windows))
            found.append(plain(**binding_inputs(batch, encoder=plain.config, config=plain.binding)).sigmoid())
        return torch.cat(found)[:, 0].numpy()

    def compare(mine: np.ndarray, other: np.ndarray) -> str:
        worst = float(np.abs(mine - other).max())
        return f"probabilities by up to {worst:g}" if worst > TOLERANCE or np.ptp(mine) < TOLERANCE else ""

    described = f"{num:,} bins, {CELLS} cell types and {TRACKS} tracks in the corpus, batches of {BATCH}"
    return Duel(ours, theirs, num, num, compare, lambda: described, least_s=0, close=restore_threads)


def _contig(length_bp: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """DNA uint8 [bp], states uint8 [cells, bins], signals float32 [tracks, signal bins]."""
    generator = np.random.default_rng(seed)
    num_bins = -(-length_bp // BIN_BP)
    return (
        generator.integers(0, 4, length_bp, dtype=np.uint8),
        generator.integers(0, STATES, (CELLS, num_bins), dtype=np.uint8),
        generator.gamma(0.5, 2, (TRACKS, num_bins * BIN_BP // SIGNAL_BP)).astype(np.float32),
    )


def _windows_of(dna: np.ndarray, states: np.ndarray, signals: np.ndarray, num: int) -> tuple[Tensor, ...]:
    """The input of every bin, as a loop would have it in memory: N and no data outside of the contig."""
    flank = (INPUT_BP - BIN_BP) // 2
    spare = INPUT_BP + BIN_BP  # whole bins of padding on either side
    starts = np.arange(num) * STEP_BP - flank + spare
    around = (spare, spare)
    padded = [
        np.pad(dna, around, constant_values=4),
        np.pad(states, [spare // BIN_BP] * 2, constant_values=255),
        np.pad(signals, [(0, 0), [spare // SIGNAL_BP] * 2], constant_values=np.nan),
    ]
    slide = np.lib.stride_tricks.sliding_window_view
    num_bins, num_signal = bins_per_window(INPUT_BP, BIN_BP), bins_per_window(INPUT_BP, SIGNAL_BP)
    parts = (
        slide(padded[0], INPUT_BP)[starts],
        slide(padded[1], num_bins)[starts // BIN_BP],
        starts % BIN_BP,
        slide(padded[2], num_signal, axis=1)[:, starts // SIGNAL_BP].swapaxes(0, 1),
        starts % SIGNAL_BP,
    )
    return tuple(torch.from_numpy(np.ascontiguousarray(part)) for part in parts)


def _write_corpus(folder: Location, dna: np.ndarray, states: np.ndarray, signals: np.ndarray) -> CorpusManifest:
    """A corpus of one contig, in chunks of 100 kb as `epilm corpus` writes them."""
    starts = range(0, len(dna), CHUNK_BP)

    def chunks(values: np.ndarray, width_bp: int) -> list[bytes]:
        per_chunk = CHUNK_BP // width_bp
        return [values[..., i * per_chunk : (i + 1) * per_chunk].tobytes() for i in range(len(starts))]

    rows = {
        "chrom": ["chr1"] * len(starts),
        "start": list(starts),
        "dna": chunks(dna, 1),
        "states": chunks(states, BIN_BP),
        "signals": chunks(signals, SIGNAL_BP),
    }
    path = folder / CONTIGS / "chr1" / "part-00000.parquet"
    (folder / CONTIGS / "chr1").mkdir()
    schema = contig_schema(num_cells=CELLS, num_signals=TRACKS)
    pq.write_table(pa.table(rows, schema=schema), path.path, row_group_size=1, compression="zstd", use_dictionary=False)
    file = CorpusFile(
        path=f"{CONTIGS}/chr1/part-00000.parquet",
        view="contigs",
        split="held_out",
        rows=len(starts),
        row_group_rows=(1,) * len(starts),
        bytes=path.size(),
        sha256="",
    )
    manifest = CorpusManifest(
        name="bench",
        assembly="random",
        contigs=(CorpusContig(name="chr1", end_bp=len(dna), split="held_out"),),
        window_bp=INPUT_BP,
        step_bp=INPUT_BP,
        bin_bp=BIN_BP,
        signal_bp=SIGNAL_BP,
        chunk_bp=CHUNK_BP,
        max_n_fraction=0.1,
        cell_types=tuple(f"cell{i}" for i in range(CELLS)),
        state_names=tuple(f"state{i}" for i in range(STATES)),
        signals=(
            *(SignalTrack(name=f"DNase.cell{i}", cell_type=f"cell{i}") for i in range(CELLS)),
            SignalTrack(name="mappability"),
        ),
        files=(file,),
    )
    write_manifest(folder, manifest)
    return manifest


def _write_model(folder: Path, manifest: CorpusManifest) -> Path:
    """A random EBERT+ of 7-mers."""
    config = EbertConfig(
        state_names=list(manifest.state_names),
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=144,
        initializer_range=0.3,  # large weights, so that the input decides the output
    )
    binding = BindingConfig(
        targets=("CTCF",),
        tracks={
            "dnase": TrackConfig(signal="DNase.{cell_type}", pool="max", scale="log1p"),
            "mappability": TrackConfig(signal="mappability", pool="min"),
        },
        signal_bp=SIGNAL_BP,
    )
    torch.manual_seed(0)
    provenance = Provenance(
        assembly=manifest.assembly,
        trained_contigs=(),
        corpus_fingerprint=None,
        window_bp=INPUT_BP,
        bin_bp=BIN_BP,
        state_names=manifest.state_names,
        k=config.k,
        stride=config.stride,
        step=None,
        seed=None,
        recipe_fingerprint=None,
    )
    extra = {"train_cell_types": (), "selected_on": (), "labels_fingerprint": "", "corpus_fingerprint": ""}
    folder.mkdir()
    write_binding(folder, config, binding, EbertForBinding(config, binding).state_dict(), provenance, extra=extra)
    return folder


CASES = (
    Case(
        name="predict_genome",
        about="bins gathered from a corpus, predicted and written",
        peer="a plain PyTorch loop over batches of windows in memory",
        unit="intervals/s",
        target=0.9,
        build=predict_genome,
        clock="wall",
        pairs=5,
        isolated=True,
    ),
)
