"""What is counted: stretches of a genome's or a corpus's contigs, cut into the tasks that count them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from epilm.corpus.gather import ContigReader
from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.errors import CorpusError
from epilm.genome.contigs import match_contigs
from epilm.genome.sequence import open_sequence
from epilm.ngrams.recipe import CorpusSource, GenomeSource
from epilm.storage import Location


class DnaReader(Protocol):
    """Bases of a stretch; picklable, each worker opens the files anew."""

    def fetch(self, contig: str, start_bp: int, end_bp: int) -> np.ndarray:
        """Codes uint8 ``[end_bp - start_bp]``, A0 C1 G2 T3 N4."""
        ...


class Region(NamedTuple):
    """A stretch whose n-grams are counted, 0-based half-open; none crosses its ends."""

    contig: str
    start_bp: int
    end_bp: int


class Chunk(NamedTuple):
    """The n-grams of a region that start in [start_bp, end_bp); they may reach as far as ``region_end_bp``."""

    contig: str
    start_bp: int
    end_bp: int
    region_end_bp: int


@dataclass(frozen=True)
class CountPlan:
    """What will be counted."""

    reader: DnaReader
    regions: tuple[Region, ...]
    left_out: tuple[str, ...]
    """Contigs of the source of which nothing is counted."""
    files: tuple[str, ...]
    """Sequence files whose content identifies the source; empty for a corpus, which has a fingerprint."""
    corpus_fingerprint: str | None = None

    @property
    def contigs(self) -> tuple[str, ...]:
        """Contigs that are counted, whole or in part."""
        return tuple(dict.fromkeys(region.contig for region in self.regions))

    @property
    def length_bp(self) -> int:
        return sum(region.end_bp - region.start_bp for region in self.regions)

    def fingerprints(self) -> dict[str, str]:
        """Content of the inputs; reads the sequence files once."""
        if self.corpus_fingerprint is not None:
            return {"corpus": self.corpus_fingerprint}
        return {f"genome_{i}": Location(path).sha256()[:16] for i, path in enumerate(self.files)}


def open_source(source: GenomeSource | CorpusSource) -> CountPlan:
    """Open and check what is to be counted.

    Raises:
        GenomeError: a sequence file is missing, damaged or not what its name says.
        CorpusError: no finished corpus, a contig that is not there, or nothing is left to count.
    """
    return _open_genome(source) if isinstance(source, GenomeSource) else _open_corpus(source)


def _open_genome(source: GenomeSource) -> CountPlan:
    # workers run in folders of their own, so relative paths are those of the driver
    files = tuple(os.path.abspath(os.path.expanduser(p)) if "://" not in p else p for p in source.paths)
    sequence = open_sequence(files)
    known = sequence.contigs
    wanted = list(known) if source.contigs is None else _resolve(source.contigs, known, key="source.contigs")
    excluded = set(_resolve(source.exclude_contigs, known, key="source.exclude_contigs"))
    kept = [name for name in wanted if name not in excluded]
    if not kept:
        raise CorpusError(
            f"source.exclude_contigs leaves no contig to count of {shown_names(wanted)}. Leave out the held-out ones alone."
        )
    regions = tuple(Region(name, known[name].start_bp, known[name].end_bp) for name in kept)
    return CountPlan(sequence, regions, tuple(name for name in known if name not in kept), files)


def _open_corpus(source: CorpusSource) -> CountPlan:
    location = Location(source.path)
    manifest = read_manifest(location)
    if source.held_out == "count":
        regions = tuple(Region(c.name, c.start_bp, c.end_bp) for c in manifest.contigs)
    else:
        regions = tuple(Region(*region) for region in manifest.train_regions)
    counted = {region.contig for region in regions}
    left_out = tuple(c.name for c in manifest.contigs if c.name not in counted)
    return CountPlan(CorpusDna(location, manifest), regions, left_out, (), manifest.fingerprint())


class CorpusDna:
    """The DNA of a corpus's contigs view; states and signals stay unread."""

    def __init__(self, location: Location, manifest: CorpusManifest) -> None:
        self._reader = ContigReader(location, manifest.model_copy(update={"cell_types": (), "signals": ()}))

    def fetch(self, contig: str, start_bp: int, end_bp: int) -> np.ndarray:
        return self._reader.gather([contig], np.array([start_bp]), end_bp - start_bp).dna[0]


def plan_tasks(regions: Sequence[Region], chunk_bp: int) -> list[tuple[Chunk, ...]]:
    """The chunks of every region, shared out to tasks of about ``chunk_bp``: short contigs are counted together."""
    tasks: list[tuple[Chunk, ...]] = []
    task: list[Chunk] = []
    room = chunk_bp
    for chunk in _chunks(regions, chunk_bp):
        size = chunk.end_bp - chunk.start_bp
        if task and size > room:
            tasks.append(tuple(task))
            task, room = [], chunk_bp
        task.append(chunk)
        room -= size
    return [*tasks, tuple(task)] if task else tasks


def _chunks(regions: Iterable[Region], chunk_bp: int) -> Iterator[Chunk]:
    for contig, start, end in regions:
        for first in range(start, end, chunk_bp):
            yield Chunk(contig, first, min(first + chunk_bp, end), end)


def _resolve(names: Iterable[str], known: Collection[str], *, key: str) -> list[str]:
    """Names as the genome has them, through the aliases of contigs."""
    resolved = []
    for name in names:
        if name in known:
            resolved.append(name)
            continue
        try:
            resolved.append(match_contigs(dict.fromkeys(known, None), {name: None}, source=key)[name])
        except ValueError as error:
            near = difflib.get_close_matches(name, list(known), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise CorpusError(
                f"{key}: contig {name!r} is not in the genome.{hint} It has {shown_names(list(known))}."
            ) from error
    if len(set(resolved)) != len(resolved):
        raise CorpusError(f"{key}: two of {', '.join(names)} mean one contig. Name each once.")
    return resolved


def shown_names(names: Sequence[str], limit: int = 8) -> str:
    """The first of the names, and how many there are where that is not all."""
    return ", ".join(names[:limit]) + (f", ... ({len(names)} in all)" if len(names) > limit else "")
