"""The input files of a corpus, opened and checked against one another before any worker starts."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from epilm.config import ConfigT
from epilm.corpus.manifest import CorpusContig, CorpusRegion
from epilm.corpus.plan import Regions, by_contig
from epilm.corpus.recipe import CorpusRecipe, SequenceConfig, SignalConfig, parse_region
from epilm.errors import CorpusError
from epilm.genome.annotation import read_blacklist
from epilm.genome.bigwig import bigwig_contigs, bin_track
from epilm.genome.contigs import Contig, describe_matches, match_contigs, with_sizes
from epilm.genome.intervals import merge, rename
from epilm.genome.sequence import SequenceSource, open_sequence, read_sizes
from epilm.genome.states import StateSource, open_states

_PATH_KEYS = ("path", "files", "tracks")
"""Settings of the states' formats that hold nothing but paths."""


@dataclass(frozen=True)
class SignalSource:
    """One bigWig, read in the corpus's contig names. Picklable."""

    path: str
    config: SignalConfig
    contig_names: dict[str, str]
    """Name in the file -> name in the corpus."""

    def read(self, contig: str, start_bp: int, end_bp: int, bin_bp: int) -> np.ndarray:
        """float32 [num_bins]; a contig that the track lacks is not covered anywhere."""
        theirs = {ours: name for name, ours in self.contig_names.items()}.get(contig)
        if theirs is None:
            fill = 0.0 if self.config.nan_policy == "zero" else np.nan
            return np.full(-(-(end_bp - start_bp) // bin_bp), fill, np.float32)
        return bin_track(
            self.path,
            theirs,
            start_bp,
            end_bp,
            bin_bp,
            statistic=self.config.statistic,
            nan_policy=self.config.nan_policy,
        )


@dataclass(frozen=True)
class Inputs:
    """Everything that a build reads. Picklable: workers open the files themselves."""

    sequence: SequenceSource
    contigs: tuple[CorpusContig, ...]
    held_out_regions: tuple[CorpusRegion, ...]
    states: StateSource | None
    signals: tuple[SignalSource, ...]
    blacklist: Regions
    sources: tuple[tuple[str, dict[str, str]], ...]
    """(path, name in the file -> name in the corpus) of every input file."""
    notes: tuple[str, ...] = ()
    """What to log: how contigs were matched, what was mended in the files."""

    @property
    def cell_types(self) -> tuple[str, ...]:
        return self.states.cell_types if self.states is not None else ()


def open_inputs(recipe: CorpusRecipe) -> Inputs:
    """Open every input of a recipe and check that they belong together.

    Raises:
        GenomeError: a file is missing, damaged, of another assembly, or not what its name says.
        CorpusError: the recipe asks for contigs, regions or cell types that the files do not have.
    """
    sequence = open_sequence([absolute(path) for path in recipe.genome.paths])
    reference = select_contigs(sequence.contigs, recipe.genome)
    contigs = _split_contigs(reference, recipe)
    lengths = {name: contig.length_bp for name, contig in reference.items()}
    regions = _held_out_regions(contigs, recipe)
    sources: dict[str, dict[str, str]] = {path: {} for path in recipe.genome.paths}
    states = None
    if recipe.states is not None:
        train = [contig.name for contig in contigs if contig.split == "train"]
        config, given = absolute_paths(recipe.states)
        states = open_states(
            config, reference=reference, train_contigs=train, bin_bp=recipe.bin_bp, held_out=by_contig(regions)
        )
        _check_state_contigs(states, reference, recipe)
        sources |= {given.get(path, path): dict(states.contig_names.get(path, {})) for path in states.source_paths}
    signals = tuple(_open_signal(name, config, lengths) for name, config in recipe.signals.items())
    sources |= {signal.config.path: signal.contig_names for signal in signals}
    blacklist: Regions = {}
    if recipe.blacklist is not None:
        blacklist, names = _read_regions(recipe.blacklist, lengths)
        sources[recipe.blacklist] = names
    notes = states.notes if states is not None else ()
    inputs = Inputs(
        sequence=sequence,
        contigs=contigs,
        held_out_regions=regions,
        states=states,
        signals=signals,
        blacklist=blacklist,
        sources=tuple(sources.items()),
        notes=(*notes, *_describe_contigs(sources)),
    )
    _check_cell_types(recipe, inputs.cell_types)
    return inputs


def _describe_contigs(sources: dict[str, dict[str, str]]) -> Iterator[str]:
    """One line for the files that name the contigs alike: 127 epigenomes need not be told apart."""
    alike: dict[str, list[str]] = {}
    for path, names in sources.items():
        if names:
            alike.setdefault(describe_matches(names), []).append(path)
    for matches, paths in alike.items():
        more = f" and {len(paths) - 1} more files" if len(paths) > 1 else ""
        yield f"contigs of {paths[0]}{more}: {matches}"


def select_contigs(contigs: dict[str, Contig], config: SequenceConfig) -> dict[str, Contig]:
    """The contigs that a recipe takes, in its order, checked against its sizes file."""
    if config.contigs is not None:
        wanted = _resolve(config.contigs, contigs, key="genome.contigs")
        contigs = {name: contigs[name] for name in wanted}
    if config.sizes is not None:
        sizes = read_sizes(absolute(config.sizes))
        known = {name: contig.length_bp for name, contig in contigs.items()}
        match_contigs(known, sizes, source=config.sizes, required=contigs)
        contigs = with_sizes(contigs, sizes, source=config.sizes)
    return contigs


def _split_contigs(reference: dict[str, Contig], recipe: CorpusRecipe) -> tuple[CorpusContig, ...]:
    held_out = set(_resolve(recipe.held_out_contigs, reference, key="held_out_contigs"))
    if held_out == set(reference):
        raise CorpusError(
            f"held_out_contigs takes every contig of the corpus ({', '.join(reference)}); none is left to train on. "
            "Hold out some of them, or parts of one with held_out_regions."
        )
    fits = [c.name for c in reference.values() if c.end_bp - c.start_bp >= recipe.window_bp and c.name not in held_out]
    if not fits:
        longest = max(c.end_bp - c.start_bp for c in reference.values() if c.name not in held_out)
        raise CorpusError(
            f"no training contig holds a window of window_bp={recipe.window_bp}: the longest has {longest:,} bp. "
            "Choose a shorter window or more contigs."
        )
    return tuple(
        CorpusContig(
            name=contig.name,
            start_bp=contig.start_bp,
            end_bp=contig.end_bp,
            split="held_out" if contig.name in held_out else "train",
        )
        for contig in reference.values()
    )


def _held_out_regions(contigs: tuple[CorpusContig, ...], recipe: CorpusRecipe) -> tuple[CorpusRegion, ...]:
    """The regions of the recipe in corpus names; those that touch are joined."""
    by_name = {contig.name: contig for contig in contigs}
    spans: dict[str, list[tuple[int, int]]] = {}
    for text in recipe.held_out_regions:
        given, start, end = parse_region(text)
        (name,) = _resolve((given,), by_name, key="held_out_regions")
        contig = by_name[name]
        if contig.split == "held_out":
            raise CorpusError(f"held_out_regions: {text} lies in {name}, which held_out_contigs holds out whole.")
        if end <= contig.start_bp or start >= contig.end_bp:
            raise CorpusError(
                f"held_out_regions: {text} lies outside {name}, of which the genome holds "
                f"{contig.start_bp:,}-{contig.end_bp:,} (0-based half-open)."
            )
        spans.setdefault(name, []).append((start, end))
    regions = []
    for name, pairs in spans.items():
        starts, ends = merge(*(np.array(column) for column in zip(*pairs, strict=True)))
        regions += [
            CorpusRegion(chrom=name, start=s, end=e) for s, e in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
    return tuple(regions)


def _check_state_contigs(states: StateSource, reference: dict[str, Contig], recipe: CorpusRecipe) -> None:
    covered = {ours for names in states.contig_names.values() for ours in names.values()}
    bare = [name for name in reference if name not in covered]
    if bare and recipe.max_no_state_fraction == 1:
        raise CorpusError(
            f"no state file covers {', '.join(bare[:8])} ({len(bare)} of {len(reference)} contigs). Leave them out "
            "(genome.contigs), or drop windows without states (max_no_state_fraction below 1)."
        )


def _open_signal(name: str, config: SignalConfig, lengths: dict[str, int | None]) -> SignalSource:
    path = absolute(config.path)
    theirs: dict[str, int | None] = dict(bigwig_contigs(path))
    required = tuple(lengths) if config.missing_contigs == "error" else ()
    names = match_contigs(lengths, theirs, source=f"signals.{name} ({config.path})", required=required)
    return SignalSource(path=path, config=config, contig_names=names)


def _read_regions(path: str, lengths: dict[str, int | None]) -> tuple[Regions, dict[str, str]]:
    table = read_blacklist(absolute(path))
    names = match_contigs(lengths, dict.fromkeys(table["chrom"].unique(), None), source=path)
    table = rename(table, names)
    regions = {
        str(chrom): merge(rows["start"].to_numpy(), rows["end"].to_numpy()) for chrom, rows in table.groupby("chrom")
    }
    return regions, names


def _check_cell_types(recipe: CorpusRecipe, cell_types: tuple[str, ...]) -> None:
    asked = [("held_out_cell_types", name) for name in recipe.held_out_cell_types]
    if cell_types:
        asked += [
            (f"signals.{key}.cell_type", s.cell_type) for key, s in recipe.signals.items() if s.cell_type is not None
        ]
    for key, name in asked:
        if name not in cell_types:
            raise CorpusError(f"{key}: {name!r} is not a cell type of the states.{_hint(name, cell_types)}")
    if cell_types and set(recipe.held_out_cell_types) == set(cell_types):
        raise CorpusError("held_out_cell_types takes every cell type; none is left to train on. Hold out some of them.")


def _resolve(names: Iterable[str], known: Collection[str], *, key: str) -> list[str]:
    """Names as the corpus has them, through the aliases of contigs, in the given order."""
    resolved = []
    for name in names:
        exact = {name: name} if name in known else {}
        try:
            found = exact or match_contigs(dict.fromkeys(known, None), {name: None}, source=key)
        except ValueError as error:
            raise CorpusError(f"{key}: contig {name!r} is not in the genome.{_hint(name, known)}") from error
        resolved.append(found[name])
    if len(set(resolved)) != len(resolved):
        raise CorpusError(f"{key}: two of {', '.join(names)} mean one contig. Name each once.")
    return resolved


def _hint(name: str, known: Collection[str], limit: int = 8) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    shown = ", ".join(list(known)[:limit]) + (f", ... ({len(known)} in all)" if len(known) > limit else "")
    return (f" Did you mean {near[0]!r}?" if near else "") + f" Allowed: {shown}."


def absolute(path: str) -> str:
    """Workers run in folders of their own, so relative paths are those of the driver."""
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def absolute_paths(config: ConfigT) -> tuple[ConfigT, dict[str, str]]:
    """A copy of a states' config whose paths are absolute, and absolute path -> path as it was given."""
    given: dict[str, str] = {}

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: resolve(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [resolve(item) for item in value]
        given[absolute(value)] = value
        return absolute(value)

    raw = {key: resolve(v) if key in _PATH_KEYS else v for key, v in config.model_dump().items()}
    return type(config).model_validate(raw), given
