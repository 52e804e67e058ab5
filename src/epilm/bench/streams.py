"""Corpus shards to batches: the exact stream against Ray's plain one, and our reader against pyarrow's."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.bench.measure import Case, Duel, Workbench
from epilm.corpus.manifest import CorpusContig, CorpusFile, CorpusManifest
from epilm.corpus.schema import WINDOWS, window_schema
from epilm.corpus.source import WindowSource, as_fixed_bytes, fixed_bytes
from epilm.corpus.stream import StreamPlan, iterate_steps, segment_dataset
from epilm.storage import Location

WINDOW_BP, BIN_BP, CELLS, STATES = 1000, 200, 4, 18
GROUP_ROWS, FILE_GROUPS = 256, 64
CONSUMERS = 2
GLOBAL_BATCH = 512
COLUMNS = ["start", "dna", "states"]


def write_windows(folder: Location, num_rows: int, seed: int) -> CorpusManifest:
    """Shards of random windows in the corpus's own layout: four cell types, 256 rows a row group, 64 groups a file."""
    generator = np.random.default_rng(seed)
    schema = window_schema(window_bp=WINDOW_BP, bin_bp=BIN_BP, num_cells=CELLS, num_signals=0)
    (folder / WINDOWS / "train").mkdir()
    starts = generator.permutation(num_rows) * WINDOW_BP
    files = []
    for index, first in enumerate(range(0, num_rows, GROUP_ROWS * FILE_GROUPS)):
        start = starts[first : first + GROUP_ROWS * FILE_GROUPS]
        num = len(start)
        dna = generator.integers(0, 4, (num, WINDOW_BP), dtype=np.uint8)
        states = generator.integers(0, STATES, (num, schema.field("states").type.byte_width), dtype=np.uint8)
        chrom, n_fraction = pa.array(["chr1"] * num), pa.array(np.zeros(num, np.float32))
        columns = [chrom, pa.array(start), n_fraction, as_fixed_bytes(dna), as_fixed_bytes(states)]
        name = f"{WINDOWS}/train/part-{index:05d}.parquet"
        path = folder / name
        table = pa.table(columns, schema=schema)
        pq.write_table(
            table, path.path, row_group_size=GROUP_ROWS, compression="zstd", compression_level=1, use_dictionary=False
        )
        groups = tuple(min(GROUP_ROWS, num - row) for row in range(0, num, GROUP_ROWS))
        file = CorpusFile(
            path=name, view="windows", split="train", rows=num, row_group_rows=groups, bytes=path.size(), sha256=""
        )
        files.append(file)
    return CorpusManifest(
        name="bench",
        assembly="random",
        contigs=(CorpusContig(name="chr1", end_bp=num_rows * WINDOW_BP, split="train"),),
        window_bp=WINDOW_BP,
        step_bp=WINDOW_BP,
        bin_bp=BIN_BP,
        chunk_bp=BIN_BP * 500,
        max_n_fraction=0.1,
        cell_types=tuple(f"cell{i}" for i in range(CELLS)),
        state_names=tuple(f"state{i}" for i in range(STATES)),
        files=tuple(files),
    )


def make_source(bench: Workbench, full_rows: int) -> tuple[WindowSource, int]:
    """A source over synthetic shards whose rows are whole global batches."""
    num_rows = max(1, bench.scaled(full_rows) // GLOBAL_BATCH) * GLOBAL_BATCH
    folder = Location(str(bench.folder / "corpus"))
    manifest = write_windows(folder, num_rows, bench.seed)
    return WindowSource(folder, manifest, "train", tuple(range(CELLS)), bench.seed), num_rows


def shard_paths(source: WindowSource) -> list[str]:
    return [(source.corpus / file.path).path for file in source.files]


def pyarrow_iteration(bench: Workbench) -> Duel:
    """One pass over the shards in one thread: ours in the exact shuffled order with a cell type chosen for each window,
    pyarrow's in file order with all cell types."""
    source, num_rows = make_source(bench, 65_536)
    block_rows = min(8_192, num_rows)

    def ours() -> int:
        checksum = 0
        for first in range(0, num_rows, block_rows):
            table = source.read(np.arange(first, min(first + block_rows, num_rows)))
            checksum += int(np.sort(table.column("locus").to_numpy()).sum())
        return checksum

    def theirs() -> int:
        rows = 0
        for path in shard_paths(source):
            for batch in pq.ParquetFile(path).iter_batches(GROUP_ROWS, columns=COLUMNS, use_threads=False):
                rows += len(fixed_bytes(batch.column("dna")))
        return rows

    def compare(mine: int, other: int) -> str:
        return "" if other == num_rows and mine == num_rows * (num_rows - 1) // 2 else "rows seen in a pass"

    return Duel(ours, theirs, num_rows, num_rows, compare, lambda: f"{num_rows:,} windows of {WINDOW_BP} bp")


@dataclass
class _Ledger:
    """Rows that each pass of one side delivered."""

    expected: int
    passes: list[int] = field(default_factory=list)

    def dropped(self) -> str:
        worst = self.expected - min(self.passes)
        return f"{worst:,} ({100 * worst / self.expected:.1f} %)"


def stream_two_consumers(bench: Workbench) -> Duel:
    """One pass by two Ray actors that take every batch as torch tensors, worker start-up included on both sides.

    The peer is what Ray's documentation shows for distributed ingest, with an Arrow collate function, its quickest way
    to turn bytes into tensors. Ours does more: an order that is exact and resumable, and a cell type for each window.
    """
    import ray

    from epilm.session import RayConfig, ray_session

    source, num_rows = make_source(bench, 200_000)
    session = ExitStack()
    session.enter_context(ray_session(RayConfig(num_cpus=2 * CONSUMERS)))
    consumers = [ray.remote(_Consumer).remote() for _ in range(CONSUMERS)]
    ray.get([consumer.ready.remote() for consumer in consumers])
    ledgers = _Ledger(num_rows), _Ledger(num_rows)

    def ours() -> np.ndarray:
        plan = StreamPlan(0, num_rows // GLOBAL_BATCH, GLOBAL_BATCH, CONSUMERS, source.row_bytes)
        seen = []
        for segment in plan.segments():
            iterators = segment_dataset(source, segment).streaming_split(CONSUMERS, equal=True)
            tasks = [c.take_ours.remote(i, segment) for c, i in zip(consumers, iterators, strict=True)]
            seen += ray.get(tasks)
        loci = np.sort(np.concatenate(seen))
        ledgers[0].passes.append(len(np.unique(loci)))
        return loci

    def theirs() -> int:
        dataset = ray.data.read_parquet(shard_paths(source)).select_columns(COLUMNS)
        iterators = dataset.streaming_split(CONSUMERS, equal=True)
        tasks = [c.take_theirs.remote(i) for c, i in zip(consumers, iterators, strict=True)]
        rows = sum(ray.get(tasks))
        ledgers[1].passes.append(rows)
        return rows

    def compare(mine: np.ndarray, other: int) -> str:
        if not np.array_equal(mine, np.arange(num_rows)):
            return f"our stream gave {len(np.unique(mine))} of {num_rows} windows"
        return "" if other <= num_rows else f"the peer gave {other} of {num_rows} rows"

    def describe() -> str:
        ours_lost, theirs_lost = (ledger.dropped() for ledger in ledgers)
        return f"{num_rows:,} rows a pass; most rows dropped in a pass: ours {ours_lost}, peer {theirs_lost}"

    return Duel(ours, theirs, num_rows, num_rows, compare, describe, least_s=0, close=session.close)


class _Consumer:
    """An actor in a training worker's place: it makes tensors of every batch and nothing more."""

    def ready(self) -> None:
        import torch

        torch.set_num_threads(1)

    def take_ours(self, iterator: Any, segment: Any) -> np.ndarray:
        import torch

        loci = []
        for table in iterate_steps(iterator, segment):
            torch.from_numpy(fixed_bytes(table.column("dna")).copy())
            torch.from_numpy(fixed_bytes(table.column("states")).copy())
            loci.append(table.column("locus").to_numpy())
        return np.concatenate(loci)

    def take_theirs(self, iterator: Any) -> int:
        rows = 0
        batches = iterator.iter_torch_batches(
            batch_size=GLOBAL_BATCH // CONSUMERS, prefetch_batches=2, collate_fn=arrow_to_torch()
        )
        for batch in batches:
            rows += len(batch["dna"])
        return rows


def arrow_to_torch() -> Any:
    """An Arrow collate function: one copy of each column's bytes, as ours."""
    import torch
    from ray.data.collate_fn import ArrowBatchCollateFn

    class Collate(ArrowBatchCollateFn):
        def __call__(self, batch: pa.Table) -> dict[str, torch.Tensor]:
            return {name: torch.from_numpy(fixed_bytes(batch.column(name)).copy()) for name in ("dna", "states")}

    return Collate()


CASES = (
    Case(
        name="stream_two_consumers",
        about="corpus shards to two consumers",
        peer="ray.data.read_parquet -> streaming_split(2, equal=True) -> iter_torch_batches",
        unit="krows/s",
        target=1.5,
        build=stream_two_consumers,
        clock="wall",
        pairs=3,
        scale=1e3,
        isolated=True,
    ),
    Case(
        name="pyarrow_iteration",
        about="corpus shards to arrays in one process",
        peer="pyarrow ParquetFile.iter_batches",
        unit="krows/s",
        target=0.3,
        build=pyarrow_iteration,
        pairs=5,
        scale=1e3,
    ),
)
