"""Check a corpus against its manifest and against itself, to the last byte, and name every fault."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.corpus.gather import ContigReader
from epilm.corpus.manifest import CorpusContig, CorpusFile, CorpusManifest, read_manifest
from epilm.corpus.meter import Meter
from epilm.corpus.plan import SPLITS, assign_split, by_contig, window_starts
from epilm.corpus.schema import BASE_N, CONTIGS, NO_STATE, WINDOWS, contig_schema, window_schema
from epilm.corpus.source import fixed_bytes
from epilm.errors import CorpusError
from epilm.storage import Location

SAMPLED_WINDOWS = 32
"""Windows of a file that are compared with the contigs view."""


class CorpusFaultsError(CorpusError):
    """A corpus that is not what its manifest says; ``faults`` holds one line for each fault."""

    def __init__(self, location: Location, faults: tuple[str, ...]) -> None:
        lines = "\n".join(f"  {fault}" for fault in faults)
        super().__init__(
            f"corpus {location} has {len(faults)} fault{'s' if len(faults) > 1 else ''}:\n{lines}\n"
            "Restore the files named, or build the corpus again (epilm corpus RECIPE --resume)."
        )
        self.faults = faults


@dataclass(frozen=True)
class ValidationReport:
    """A corpus without a fault."""

    location: Location
    num_files: int
    num_bytes: int
    num_windows: dict[str, int]
    num_compared: int
    """Windows compared base by base with the contigs view."""
    fingerprint: str


@dataclass
class _Findings:
    """What one file showed. ``contig`` and ``start``: the rows' positions, contigs as numbers of the manifest."""

    faults: list[str] = field(default_factory=list)
    contig: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    start: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    num_compared: int = 0


def validate_corpus(
    location: Location | str, progress: Callable[[str], None] = lambda message: None
) -> ValidationReport:
    """Check every checksum, schema, row count and value of a corpus, and a sample of its windows against its contigs.

    Needs no Ray; reads each file once, in as many threads as there are cores.

    Raises:
        CorpusFaultsError: naming every fault. CorpusError: there is no finished corpus at all.
    """
    corpus = location if isinstance(location, Location) else Location(str(location))
    manifest = read_manifest(corpus)
    findings: dict[str, _Findings] = {}
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        checks = threads.map(lambda file: _check_file(corpus, manifest, file), manifest.files)
        meter = Meter("files read", "MB", sum(file.bytes for file in manifest.files) / 1e6, progress)
        for file, found in zip(manifest.files, checks, strict=True):
            findings[file.path] = found
            if found.faults:
                progress(f"{file.path}: {found.faults[0]}")
            meter.add(file.bytes / 1e6)
    faults = [f"{path}: {fault}" for path, found in findings.items() for fault in found.faults]
    faults += _check_manifest(corpus, manifest)
    faults += _check_positions(manifest, findings)
    if faults:
        raise CorpusFaultsError(corpus, tuple(faults))
    return ValidationReport(
        location=corpus,
        num_files=len(manifest.files),
        num_bytes=sum(file.bytes for file in manifest.files),
        num_windows={split: manifest.num_windows(split) for split in SPLITS},
        num_compared=sum(found.num_compared for found in findings.values()),
        fingerprint=manifest.fingerprint(),
    )


def _check_manifest(corpus: Location, manifest: CorpusManifest) -> Iterator[str]:
    """Faults of the manifest itself, and files that it does not know of."""
    paths = [file.path for file in manifest.files]
    if len(set(paths)) != len(paths):
        yield "manifest: lists a file twice"
    unknown = set(manifest.held_out_cell_types) - set(manifest.cell_types)
    if unknown:
        yield f"manifest: held-out cell types {sorted(unknown)} are not among its cell types"
    if not manifest.num_windows("train"):
        yield "manifest: has no training window"
    for folder in sorted({path.rsplit("/", 1)[0] for path in paths} | {f"{WINDOWS}/train", f"{WINDOWS}/held_out"}):
        for name in (corpus / folder).children():
            if f"{folder}/{name}" not in paths:
                yield f"{folder}/{name}: is not in the manifest"


def _check_file(corpus: Location, manifest: CorpusManifest, file: CorpusFile) -> _Findings:
    """Checksum first: a file that is not the one that was written is not looked into."""
    location = corpus / file.path
    if not location.exists():
        return _Findings(["is missing"])
    if location.size() != file.bytes:
        return _Findings([f"has {location.size()} bytes, the manifest says {file.bytes}"])
    digest = location.sha256()
    if digest != file.sha256:
        return _Findings([f"its checksum is {digest[:12]}..., the manifest says {file.sha256[:12]}..."])
    try:
        with location.fs.open_input_file(location.path) as stream, pq.ParquetFile(stream) as parquet:
            faults = _check_layout(parquet, manifest, file)
            if faults:
                return _Findings(faults)
            found = (
                _check_windows(parquet, manifest, file) if file.view == WINDOWS else _check_chunks(parquet, manifest)
            )
    except (OSError, pa.ArrowException) as error:
        return _Findings([f"cannot be read as parquet: {error}"])
    if file.view == WINDOWS and not found.faults:
        _compare_with_contigs(corpus, manifest, file, found)
    return found


def _check_layout(parquet: pq.ParquetFile, manifest: CorpusManifest, file: CorpusFile) -> list[str]:
    num_cells = len(manifest.cell_types)
    if file.view == WINDOWS:
        expected = window_schema(
            window_bp=manifest.window_bp,
            bin_bp=manifest.bin_bp,
            num_cells=num_cells,
            num_signals=len(manifest.window_signals),
        )
    else:
        expected = contig_schema(num_cells=num_cells, num_signals=len(manifest.signals))
    faults = []
    if not parquet.schema_arrow.equals(expected):
        got = ", ".join(f"{f.name}: {f.type}" for f in parquet.schema_arrow)
        faults.append(f"its columns are ({got}), expected ({', '.join(f'{f.name}: {f.type}' for f in expected)})")
    rows = tuple(parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups))
    if rows != file.row_group_rows:
        faults.append("its row groups are not those of the manifest")
    if sum(rows) != file.rows:
        faults.append(f"has {sum(rows)} rows, the manifest says {file.rows}")
    return faults


def _check_windows(parquet: pq.ParquetFile, manifest: CorpusManifest, file: CorpusFile) -> _Findings:
    number_of = {contig.name: number for number, contig in enumerate(manifest.contigs)}
    found, contigs, starts = _Findings(), [], []
    for group in range(parquet.num_row_groups):
        table = parquet.read_row_group(group)
        names = table.column("chrom").to_pylist()
        contigs.append(np.array([number_of.get(name, -1) for name in names], np.int64))
        starts.append(table.column("start").to_numpy())
        dna = fixed_bytes(table.column("dna"))
        where = f"row group {group}"
        _check_values(
            found.faults, where, dna, fixed_bytes(table.column("states")) if manifest.cell_types else None, manifest
        )
        share = np.asarray(table.column("n_fraction"))
        if not np.allclose((dna == BASE_N).mean(axis=1), share, atol=1e-6):
            found.faults.append(f"{where}: n_fraction is not the share of N in dna")
        if share.max(initial=0) > np.float32(manifest.max_n_fraction):
            found.faults.append(f"{where}: n_fraction {share.max():.3f} is above the limit {manifest.max_n_fraction}")
    if contigs:
        found.contig, found.start = np.concatenate(contigs), np.concatenate(starts)
    _check_places(found, manifest, file.split)
    return found


def _check_values(
    faults: list[str], where: str, dna: np.ndarray, states: np.ndarray | None, manifest: CorpusManifest
) -> None:
    if dna.max(initial=0) > BASE_N:
        faults.append(f"{where}: dna holds {dna.max()}, allowed are 0 to {BASE_N}")
    if states is not None:
        wrong = states[(states >= len(manifest.state_names)) & (states != NO_STATE)]
        if wrong.size:
            faults.append(
                f"{where}: states holds {wrong[0]}, allowed are 0 to {len(manifest.state_names) - 1} and {NO_STATE}"
            )


def _check_places(found: _Findings, manifest: CorpusManifest, split: str) -> None:
    """Windows lie inside their contigs, on the grid, and in the split of their file."""
    if (found.contig < 0).any():
        found.faults.append("holds windows of a contig that the manifest lacks")
    regions = by_contig(manifest.held_out_regions)
    order = np.argsort(found.contig, kind="stable")
    numbers, firsts = np.unique(found.contig[order], return_index=True)
    for number, rows in zip(numbers.tolist(), np.split(order, firsts[1:]), strict=True):
        if number < 0:
            continue
        contig, start = manifest.contigs[number], found.start[rows]
        outside = (start < contig.start_bp) | (start + manifest.window_bp > contig.end_bp)
        if outside.any():
            found.faults.append(
                f"{int(outside.sum())} windows of {contig.name} lie outside of it, e.g. {start[outside][0]}"
            )
        if (start % manifest.step_bp).any():
            found.faults.append(f"windows of {contig.name} do not start at multiples of {manifest.step_bp}")
        foreign = assign_split(start, manifest.window_bp, contig, regions) != SPLITS.index(split)
        if foreign.any():
            found.faults.append(f"{int(foreign.sum())} windows of {contig.name} are not of the split {split}")


def _check_chunks(parquet: pq.ParquetFile, manifest: CorpusManifest) -> _Findings:
    """Chunks have whole bins for all their bases, and values in range."""
    number_of = {contig.name: number for number, contig in enumerate(manifest.contigs)}
    found, contigs, starts = _Findings(), [], []
    for group in range(parquet.num_row_groups):
        table = parquet.read_row_group(group)
        for row, (name, start) in enumerate(
            zip(table.column("chrom").to_pylist(), table.column("start").to_pylist(), strict=True)
        ):
            where = f"chunk {name}:{start}"
            dna = np.frombuffer(table.column("dna")[row].as_buffer(), np.uint8)
            states = None
            for column, width, bin_bp in (
                ("states", len(manifest.cell_types), manifest.bin_bp),
                ("signals", 4 * len(manifest.signals), manifest.signal_bp),
            ):
                bins = -(-len(dna) // bin_bp)
                if width and len(table.column(column)[row].as_buffer()) != width * bins:
                    found.faults.append(f"{where}: {column} does not hold {bins} bins")
            if manifest.cell_types:
                states = np.frombuffer(table.column("states")[row].as_buffer(), np.uint8)
            _check_values(found.faults, where, dna, states, manifest)
            contig = number_of.get(name, -1)
            if contig < 0 or _chunk_length(manifest.contigs[contig], manifest, start) != len(dna):
                found.faults.append(f"{where}: {len(dna)} bases are not what the contig has there")
            contigs.append(contig)
            starts.append(start)
    found.contig, found.start = np.array(contigs, np.int64), np.array(starts, np.int64)
    return found


def _chunk_length(contig: CorpusContig, manifest: CorpusManifest, start: int) -> int:
    """Bases of the chunk that begins at ``start``."""
    return min((start // manifest.chunk_bp + 1) * manifest.chunk_bp, contig.end_bp) - start


def _check_positions(manifest: CorpusManifest, findings: dict[str, _Findings]) -> Iterator[str]:
    """No window is missing or twice in the corpus, and the chunks of each contig cover it without a gap.

    Needs whole files, so that it says nothing of a view in which one was not readable.
    """
    views: dict[str, list[_Findings]] = {WINDOWS: [], CONTIGS: []}
    for file in manifest.files:
        views[file.view].append(findings[file.path])
    if all(len(found.start) for found in views[WINDOWS]):
        contig, start = _joined(views[WINDOWS])
        longest_bp = max(contig.end_bp for contig in manifest.contigs) + 1
        repeated = len(start) - len(np.unique(contig * longest_bp + start))
        if repeated:
            yield f"windows: {repeated} windows are there twice"
        cut = sum(_num_windows(contig, manifest) for contig in manifest.contigs)
        dropped = sum(manifest.windows_dropped.values())
        if len(start) + dropped != cut:
            yield f"windows: {len(start):,} are kept and {dropped:,} dropped, but the contigs are cut into {cut:,}"
    if any(found.faults or not len(found.start) for found in views[CONTIGS]):
        return
    contig, start = _joined(views[CONTIGS])
    order = np.argsort(contig, kind="stable")
    edges = np.searchsorted(contig[order], np.arange(len(manifest.contigs) + 1))
    for number, contig in enumerate(manifest.contigs):
        first = contig.start_bp // manifest.bin_bp * manifest.bin_bp
        grid = np.arange(first // manifest.chunk_bp + 1, -(-contig.end_bp // manifest.chunk_bp)) * manifest.chunk_bp
        found = start[order[edges[number] : edges[number + 1]]]
        if not np.array_equal(found, np.concatenate([[first], grid])):
            yield f"contigs: the chunks of {contig.name} do not cover it in order"


def _joined(findings: list[_Findings]) -> tuple[np.ndarray, np.ndarray]:
    """(contig, start) of all rows of some files, in their order."""
    none = [np.zeros(0, np.int64)]
    return np.concatenate(none + [f.contig for f in findings]), np.concatenate(none + [f.start for f in findings])


def _num_windows(contig: CorpusContig, manifest: CorpusManifest) -> int:
    """Windows on the grid that lie wholly in a contig, whatever filters say of them."""
    return len(
        window_starts(contig.start_bp, contig.end_bp, contig, window_bp=manifest.window_bp, step_bp=manifest.step_bp)
    )


def _compare_with_contigs(corpus: Location, manifest: CorpusManifest, file: CorpusFile, found: _Findings) -> None:
    """Sampled rows must be, byte for byte, what the contigs view has at their place."""
    sample = np.unique(np.linspace(0, file.rows - 1, min(file.rows, SAMPLED_WINDOWS)).astype(np.int64))
    location = corpus / file.path
    table = pq.read_table(location.path, filesystem=location.fs).take(sample)
    try:
        stored = manifest.model_copy(update={"signals": manifest.window_signals})
        truth = ContigReader(corpus, stored).gather(
            table.column("chrom").to_pylist(), table.column("start").to_numpy(), manifest.window_bp
        )
    except CorpusError as error:
        found.faults.append(f"cannot be compared with the contigs view: {error}")
        return
    for name in table.column_names[3:]:
        expected = np.ascontiguousarray(getattr(truth, name)).view(np.uint8).reshape(len(sample), -1)
        wrong = (fixed_bytes(table.column(name)) != expected).any(axis=1)
        if wrong.any():
            row = int(sample[wrong][0])
            found.faults.append(f"row {row}: {name} is not what the contigs view has at its place")
    found.num_compared = len(sample)
