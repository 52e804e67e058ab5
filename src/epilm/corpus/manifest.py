"""``manifest.json``: everything a reader must know of a corpus, and the checksum of every file in it."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from epilm.config import Config, fingerprint
from epilm.corpus.schema import MANIFEST_FILE, bins_per_window
from epilm.errors import CorpusError
from epilm.runs import RECIPE_FILE
from epilm.storage import Location

FORMAT_VERSION = 1


class CorpusContig(Config):
    """One contig of the corpus. A FASTA piece with an offset covers only a part of its contig."""

    name: str
    start_bp: int = 0
    """First base that the sequence file holds (0 unless the file is a piece)."""
    end_bp: int
    """One past the last base that the sequence file holds; the contig's length unless the file is a piece."""
    split: Literal["train", "held_out"]


class CorpusRegion(Config):
    """A part of a training contig that is held out, 0-based half-open."""

    chrom: str
    start: int
    end: int


class SignalTrack(Config):
    """One numeric track kept in the corpus."""

    name: str
    cell_type: str | None = None
    statistic: Literal["mean", "max", "min"] = "mean"
    nan_policy: Literal["keep", "zero"] = "keep"
    """What bins without coverage hold: NaN (``keep``) or 0."""


class CorpusFile(Config):
    """One parquet file, relative to the corpus folder."""

    path: str
    view: Literal["windows", "contigs"]
    split: Literal["train", "held_out"]
    rows: int
    row_group_rows: tuple[int, ...]
    bytes: int
    sha256: str


class SourceFile(Config):
    """One input file, as it was when the corpus was built."""

    path: str
    bytes: int
    sha256: str
    contig_names: dict[str, str] = {}
    """Contig name in the file -> contig name in the corpus, where they were matched."""


class CorpusManifest(Config):
    """The whole description of a corpus."""

    format_version: Literal[1] = FORMAT_VERSION
    name: str
    assembly: str
    contigs: tuple[CorpusContig, ...]
    window_bp: int
    step_bp: int
    """Distance between the starts of neighbouring windows."""
    bin_bp: int
    signal_bp: int = Field(default_factory=lambda given: given["bin_bp"])
    """Length of a signal bin; ``bin_bp`` where signals are as coarse as states, which is then left out of the file."""
    chunk_bp: int
    max_n_fraction: float
    cell_types: tuple[str, ...] = ()
    """Order of the cells in ``states``; empty for a corpus of DNA alone."""
    held_out_cell_types: tuple[str, ...] = ()
    state_names: tuple[str, ...] = ()
    """Name of state 0, 1, ...; the byte in ``states`` is the index."""
    signals: tuple[SignalTrack, ...] = ()
    files: tuple[CorpusFile, ...]
    windows_dropped: dict[str, int] = {}
    """Windows left out, by reason (``straddles_split``, ``n_fraction``, ``blacklist``, ``no_state``); a window
    counts once, under the first that applies."""
    held_out_regions: tuple[CorpusRegion, ...] = ()
    """Parts of training contigs whose windows are in the held-out split (a contig's ``split`` does not tell it)."""
    sources: tuple[SourceFile, ...] = ()
    recipe_fingerprint: str = ""

    @property
    def held_out_contigs(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.contigs if c.split == "held_out")

    @property
    def train_contigs(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.contigs if c.split == "train")

    @property
    def train_regions(self) -> tuple[tuple[str, int, int], ...]:
        """(contig, start, end) of every stretch that training windows come from, 0-based half-open."""
        regions = []
        for contig in self.contigs:
            if contig.split != "train":
                continue
            start = contig.start_bp
            for held in sorted((r for r in self.held_out_regions if r.chrom == contig.name), key=lambda r: r.start):
                if held.start > start:
                    regions.append((contig.name, start, min(held.start, contig.end_bp)))
                start = max(start, held.end)
            if start < contig.end_bp:
                regions.append((contig.name, start, contig.end_bp))
        return tuple(regions)

    @property
    def train_cell_types(self) -> tuple[str, ...]:
        return tuple(c for c in self.cell_types if c not in self.held_out_cell_types)

    @property
    def bins_per_window(self) -> int:
        return bins_per_window(self.window_bp, self.bin_bp)

    @property
    def window_signals(self) -> tuple[SignalTrack, ...]:
        """Signals that the windows view holds: all, or none where they are finer than the epigenome's bins."""
        return self.signals if self.signal_bp == self.bin_bp else ()

    @property
    def chunk_bytes(self) -> int:
        """Uncompressed bytes of a whole chunk of the contigs view."""
        states, signals = len(self.cell_types), 4 * len(self.signals)
        return self.chunk_bp + self.chunk_bp // self.bin_bp * states + self.chunk_bp // self.signal_bp * signals

    def select(self, view: str, split: str | None = None) -> tuple[CorpusFile, ...]:
        """Files of one view, in their order in the manifest (the order that row numbers follow)."""
        return tuple(f for f in self.files if f.view == view and (split is None or f.split == split))

    def num_windows(self, split: str) -> int:
        return sum(f.rows for f in self.select("windows", split))

    def fingerprint(self) -> str:
        """Identity of the data: layout and checksums, not the place it lies at."""
        return fingerprint(self.model_dump(mode="json", exclude={"sources", "name"}))

    @model_serializer(mode="wrap")
    def _without_defaults_of_later_versions(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A corpus from before signals could be finer than states keeps its fingerprint."""
        values = dump(self)
        if self.signal_bp == self.bin_bp:
            values.pop("signal_bp", None)
        return values


def read_manifest(corpus: Location) -> CorpusManifest:
    """Read a corpus's manifest.

    Raises:
        CorpusError: no corpus lies there, it is unfinished, or another version of epilm wrote it.
    """
    path = corpus / MANIFEST_FILE
    if not path.exists():
        what = "is no corpus"
        if not corpus.exists():
            what = "does not exist"
        elif (corpus / RECIPE_FILE).exists() and "stage: corpus" in (corpus / RECIPE_FILE).read_text():
            what = "is not finished (run `epilm corpus` again with --resume)"
        raise CorpusError(f"no corpus at {corpus}: it {what}; a corpus is a folder with {MANIFEST_FILE}.")
    try:
        return CorpusManifest.model_validate(json.loads(path.read_text()))
    except (json.JSONDecodeError, ValidationError) as error:
        raise CorpusError(f"{path} is not a corpus manifest of format {FORMAT_VERSION}: {error}") from error


def write_manifest(corpus: Location, manifest: CorpusManifest) -> None:
    """Write the manifest; it comes last, so that a corpus without one is known to be unfinished."""
    (corpus / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1) + "\n")
