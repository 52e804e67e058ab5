"""A table of n-gram scores: what was counted, how many words of each length have an NPMI, and the ends of the ranking."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from epilm.report.collect import RunRecord
from epilm.report.text import ABSENT, number, show

_LIST = re.compile(r"(top|bottom)_(\d+)mers")
MAX_NAMES = 12


@dataclass(frozen=True)
class KmerRow:
    kmer: str
    npmi: str
    count: str
    rank: str
    share: float
    """Length of the bar, percent of the greatest absolute NPMI of the page's lists of this length."""


@dataclass(frozen=True)
class KmerList:
    title: str
    rows: tuple[KmerRow, ...]


@dataclass(frozen=True)
class NgramView:
    run: str
    facts: tuple[tuple[str, str], ...]
    lengths: tuple[tuple[str, ...], ...]
    """A row a length, as in :data:`LENGTH_HEADS`."""
    lists: tuple[KmerList, ...]


LENGTH_HEADS = ("n", "possible", "seen", "occurrences", "with NPMI", "share", "lowest NPMI", "median", "highest")
_LENGTH_KEYS = (
    ("possible", "number"),
    ("seen", "number"),
    ("occurrences", "number"),
    ("scored", "number"),
    ("scored_share", "percent"),
    ("lowest_npmi", "three"),
    ("median_npmi", "three"),
    ("highest_npmi", "three"),
)


def ngram_view(record: RunRecord) -> NgramView | None:
    """The view of an ``npmi`` run; None where it has no result."""
    if not record.result:
        return None
    result = record.result
    lengths = result.get("ngrams")
    rows = lengths.items() if isinstance(lengths, dict) else ()
    return NgramView(
        run=record.name,
        facts=tuple(_facts(result)),
        lengths=tuple(_length_row(str(n), row) for n, row in rows if isinstance(row, dict)),
        lists=_lists(result),
    )


def _facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [
        ("Source", result.get("source")),
        ("Contigs counted", _names(result.get("contigs_counted"))),
        ("Contigs left out", _names(result.get("contigs_left_out"))),
        ("Bases counted", _shown(result, "num_bases")),
        ("Unknown bases", _shown(result, "num_unknown_bases")),
        ("Strands", _shown(result, "strands")),
        ("Total in p = f / N", _shown(result, "total")),
        ("Least count for an NPMI", _shown(result, "min_count")),
        ("Time of counting", _shown(result, "seconds", "duration")),
        ("Speed", f"{show(result['mbases_per_s'])} Mb/s" if "mbases_per_s" in result else None),
    ]
    return [(name, str(value)) for name, value in facts if value is not None]


def _shown(result: Mapping[str, Any], key: str, style: str = "number") -> str | None:
    return show(result[key], style) if key in result else None


def _names(value: Any) -> str | None:
    if not isinstance(value, list):
        return None
    more = f" and {len(value) - MAX_NAMES} more" if len(value) > MAX_NAMES else ""
    return f"{len(value)}: {', '.join(map(str, value[:MAX_NAMES]))}{more}" if value else "none"


def _length_row(n: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    return (n, *(_three(row.get(k)) if style == "three" else show(row.get(k), style) for k, style in _LENGTH_KEYS))


def _three(value: Any) -> str:
    found = number(value)
    return ABSENT if found is None else f"{found:.3f}".replace("-", "−")


def _lists(result: Mapping[str, Any]) -> tuple[KmerList, ...]:
    """The longest words first, of each length the top before the bottom."""
    found: dict[int, dict[str, list[dict[str, Any]]]] = {}
    for key, value in result.items():
        match = _LIST.fullmatch(str(key))
        if match and isinstance(value, list):
            entries = [entry for entry in value if isinstance(entry, dict)]
            found.setdefault(int(match[2]), {})[match[1]] = entries
    lists = []
    for n in sorted(found, reverse=True):
        known = [abs(v) for entries in found[n].values() for e in entries if (v := number(e.get("npmi"))) is not None]
        most = max(known, default=0.0) or 1.0
        titles = {"top": f"Highest NPMI, {n}-mers", "bottom": f"Lowest NPMI, {n}-mers"}
        for end, title in titles.items():
            if found[n].get(end):
                lists.append(KmerList(title, tuple(_kmer(entry, most) for entry in found[n][end])))
    return tuple(lists)


def _kmer(entry: Mapping[str, Any], most: float) -> KmerRow:
    value = number(entry.get("npmi"))
    share = 0.0 if value is None else 100 * abs(value) / most
    return KmerRow(
        str(entry.get("kmer", ABSENT)), _three(value), show(entry.get("count")), show(entry.get("rank")), share
    )
