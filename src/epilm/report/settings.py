"""Runs side by side: their figures at a glance, where their recipes differ, and what they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from epilm.report.collect import RunRecord
from epilm.report.text import show, words

PLACES = ("name", "storage", "ray")
"""Settings that say where a run happened, not what it computed."""
NOT_AT_A_GLANCE = ("stage", "name", "model", "corpus", "final", "epilm_version", "finished")
UNITS = {"_share": "percent", "_s": "seconds", "mfu": "percent", "_bytes": "bytes"}


@dataclass(frozen=True)
class Comparison:
    """One row a key, one column a run."""

    runs: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def glance(records: Sequence[RunRecord]) -> Comparison:
    """The single figures of the results (parameters, steps, speed ...); lists and nested values are elsewhere."""
    keys = dict.fromkeys(key for record in records for key, value in record.result.items() if _single(key, value))
    rows = [(_label(key), tuple(_figure(key, record.result.get(key)) for record in records)) for key in keys]
    return Comparison(tuple(record.name for record in records), tuple(rows))


def _label(key: str) -> str:
    """The key in words, without a unit that its values carry."""
    return words(key) if key.endswith("_per_s") else words(key.removesuffix("_s").removesuffix("_bytes"))


def _single(key: str, value: Any) -> bool:
    return key not in NOT_AT_A_GLANCE and not isinstance(value, dict | list)


def _figure(key: str, value: Any) -> str:
    per_second = key.endswith("_per_s")
    style = next((unit for end, unit in UNITS.items() if key.endswith(end) and not per_second), "number")
    return show(value, style)


def differences(records: Sequence[RunRecord]) -> Comparison:
    """The settings in which these recipes differ, by dotted key."""
    flat = [flatten({k: v for k, v in record.recipe.items() if k not in PLACES}) for record in records]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    rows = [(key, tuple(settings.get(key, "–") for settings in flat)) for key in keys]
    return Comparison(tuple(r.name for r in records), tuple(row for row in rows if len(set(row[1])) > 1))


def flatten(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as ``{"train.lr": "0.0003"}``; lists stay whole."""
    if isinstance(value, dict) and value:
        return {k: v for key, item in value.items() for k, v in flatten(item, f"{prefix}{key}.").items()}
    shown = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return {prefix.rstrip("."): shown}


def provenance(record: RunRecord) -> list[tuple[str, str]]:
    """Versions, fingerprints, and what a model has seen, for one run."""
    header, result, weights = record.header, record.result, record.provenance
    data = header.get("data_fingerprints")
    facts = [
        ("stage", record.stage),
        ("status", record.status),
        ("finished", result.get("finished")),
        ("epilm", result.get("epilm_version") or header.get("epilm_version")),
        ("recipe fingerprint", header.get("recipe_fingerprint")),
        *((f"{words(str(k))} fingerprint", v) for k, v in (data.items() if isinstance(data, dict) else ())),
        ("seed", record.recipe.get("seed")),
        ("assembly", weights.get("assembly") or (record.manifest.assembly if record.manifest else None)),
        ("trained on contigs", _seen(result.get("trained_contigs", weights.get("trained_contigs")))),
        ("trained on cell types", _seen(result.get("trained_cell_types", weights.get("trained_cell_types")))),
        ("corpus data", record.manifest.fingerprint() if record.manifest else None),
        ("folder", record.folder),
    ]
    return [(name, str(value)) for name, value in facts if value is not None]


def _seen(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return None if value is None else show(value)
