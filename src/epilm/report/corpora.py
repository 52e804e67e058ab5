"""A corpus as a summary table, its contigs to scale, and the composition of its states."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from epilm.corpus.manifest import CorpusManifest
from epilm.report.collect import RunRecord
from epilm.report.text import number, show, words

MAX_CONTIGS = 60

STATE_COLOURS = (
    (r"quies|low_signal|lowsignal", "#b9bec4"),
    (r"biv|poised", "#c2665c"),
    (r"tss|promoter|prom", "#e0483e"),
    (r"enh", "#f0a92b"),
    (r"znf", "#5fb8a5"),
    (r"tx|transcri|elong", "#3f9a4d"),
    (r"het|h3k9", "#8a78c6"),
    (r"repr|polycomb", "#6f7884"),
    (r"ctcf|insul", "#3c8fd4"),
    (r"dnase|open|access", "#d99a1e"),
)
"""The colours that readers of chromatin maps know, by what the state's name says; others get a hue of their own."""


@dataclass(frozen=True)
class ContigSpan:
    name: str
    split: str
    width: float
    """Percentage of the longest contig."""
    text: str


@dataclass(frozen=True)
class StatePart:
    name: str
    share: float
    """Percentage."""
    text: str
    colour: str


@dataclass(frozen=True)
class CorpusView:
    run: str
    facts: tuple[tuple[str, str], ...]
    contigs: tuple[ContigSpan, ...]
    more_contigs: int
    composition: tuple[tuple[str, tuple[StatePart, ...]], ...]
    """(cell type, parts)."""
    legend: tuple[tuple[str, str], ...]


def corpus_view(record: RunRecord) -> CorpusView | None:
    """The view of a corpus run; None where the folder has no manifest (unfinished, or another stage)."""
    manifest = record.manifest
    if manifest is None:
        return None
    composition = _composition(record.result, manifest.state_names)
    legend = {part.name: part.colour for _, parts in composition for part in parts}
    longest = max((c.end_bp - c.start_bp for c in manifest.contigs), default=1)
    spans = tuple(
        ContigSpan(c.name, c.split, 100 * (c.end_bp - c.start_bp) / longest, show(c.end_bp - c.start_bp, "bp"))
        for c in manifest.contigs[:MAX_CONTIGS]
    )
    return CorpusView(
        run=record.name,
        facts=tuple(_facts(manifest)),
        contigs=spans,
        more_contigs=max(0, len(manifest.contigs) - MAX_CONTIGS),
        composition=composition,
        legend=tuple(legend.items()),
    )


def _facts(manifest: CorpusManifest) -> list[tuple[str, str]]:
    contigs, held_out = manifest.contigs, manifest.held_out_contigs
    by_view = {view: sum(f.bytes for f in manifest.select(view)) for view in ("windows", "contigs")}
    dropped = sum(manifest.windows_dropped.values())
    reasons = ", ".join(f"{show(count)} {words(reason)}" for reason, count in manifest.windows_dropped.items() if count)
    total_bp = sum(c.end_bp - c.start_bp for c in contigs)
    return [
        ("Assembly", manifest.assembly),
        ("Sequence", f"{show(total_bp, 'bp')} in {len(contigs)} contig{'s' * (len(contigs) != 1)}"),
        ("Held-out contigs", _names(held_out)),
        ("Cell types", f"{len(manifest.cell_types)}: {_names(manifest.cell_types)}" if manifest.cell_types else "none"),
        ("Held-out cell types", _names(manifest.held_out_cell_types)),
        ("States", f"{len(manifest.state_names)} of {manifest.bin_bp} bp" if manifest.state_names else "none"),
        ("Signals", _names([track.name for track in manifest.signals])),
        ("Windows", f"{manifest.window_bp:,} bp every {manifest.step_bp:,} bp"),
        ("Training windows", show(manifest.num_windows("train"))),
        ("Held-out windows", show(manifest.num_windows("held_out"))),
        ("Windows left out", f"{show(dropped)} ({reasons})" if reasons else show(dropped)),
        ("Size", f"{show(by_view['windows'], 'bytes')} windows, {show(by_view['contigs'], 'bytes')} contigs"),
    ]


def _names(names: Any, most: int = 8) -> str:
    listed = list(names)
    if not listed:
        return "none"
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def _composition(result: dict[str, Any], names: tuple[str, ...]) -> tuple[tuple[str, tuple[StatePart, ...]], ...]:
    cells = result.get("state_composition") or {}
    return tuple((cell, _parts(shares, names)) for cell, shares in cells.items())


def _parts(shares: dict[str, Any], names: tuple[str, ...]) -> tuple[StatePart, ...]:
    colours = state_colours(names)
    known = {state: number(shares.get(state)) or 0.0 for state in names}
    return tuple(StatePart(s, 100 * share, show(share, "percent"), colours[s]) for s, share in known.items())


def state_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour a state: the customary one for what its name says, paler for each further state of that kind.

    Names that say nothing get evenly spread hues.
    """
    colours, used = {}, dict.fromkeys((colour for _, colour in STATE_COLOURS), 0)
    for index, name in enumerate(names):
        base = next((c for pattern, c in STATE_COLOURS if re.search(pattern, name, re.IGNORECASE)), None)
        if base is None:
            rgb = colorsys.hls_to_rgb((0.56 + index / len(names)) % 1.0, 0.55, 0.5)
        else:
            keep = 0.78 ** used[base]
            used[base] += 1
            rgb = tuple(1 - keep * (1 - int(base[i : i + 2], 16) / 255) for i in (1, 3, 5))
        colours[name] = "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
    return colours
