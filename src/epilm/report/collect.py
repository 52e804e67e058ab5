"""Run folders to records in memory: the only module of the report that reads storage.

Nothing here fails on a run that is missing, unfinished or damaged: the page has to show it as such.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.corpus.schema import MANIFEST_FILE
from epilm.errors import CorpusError
from epilm.runs import RECIPE_FILE, RESULT_FILE, read_metrics
from epilm.storage import Location

Status = Literal["finished", "unfinished", "missing", "unreadable"]

PROVENANCE = ("model", "epilm.json")
"""Where a pretrain run keeps the provenance of its weights."""


@dataclass(frozen=True)
class RunRecord:
    """Everything that one run folder says of itself."""

    name: str
    folder: str
    status: Status
    stage: str = "unknown"
    header: dict[str, Any] = field(default_factory=dict)
    """The ``run:`` block of the resolved recipe: stage, versions, fingerprints."""
    recipe: dict[str, Any] = field(default_factory=dict)
    recipe_text: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    manifest: CorpusManifest | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    """What could not be read, one sentence each."""

    @property
    def is_empty(self) -> bool:
        """Nothing that a stage writes is in the folder: it is no run."""
        return not (self.recipe_text or self.result or self.metrics or self.manifest or self.status == "finished")

    @property
    def last_step(self) -> int | None:
        steps = [r["step"] for r in self.metrics if isinstance(r.get("step"), int)]
        return max(steps, default=None)


def collect_run(folder: Location) -> RunRecord:
    """Read one run folder; faults become ``status`` and ``problems`` of the record."""
    if not folder.is_dir():
        return RunRecord(folder.name, str(folder), "missing", problems=(f"There is no folder {folder}.",))
    problems: list[str] = []
    text = _read(folder / RECIPE_FILE, problems, required=True) or ""
    recipe = _parse(text, yaml.safe_load, RECIPE_FILE, problems)
    header = recipe.pop("run", None)
    header = header if isinstance(header, dict) else {}
    result_text = _read(folder / RESULT_FILE, problems)
    result = _parse(result_text or "", json.loads, RESULT_FILE, problems)
    status: Status = "unfinished" if result_text is None else "finished"
    if problems:
        status = "unreadable"
    return RunRecord(
        name=str(recipe.get("name") or folder.name),
        folder=str(folder),
        status=status,
        stage=str(header.get("stage") or result.get("stage") or "unknown"),
        header=header,
        recipe=recipe,
        recipe_text=text,
        result=result,
        metrics=_metrics(folder, problems),
        manifest=_manifest(folder, problems),
        provenance=_provenance(folder),
        problems=tuple(problems),
    )


def _read(path: Location, problems: list[str], *, required: bool = False) -> str | None:
    if not path.exists():
        if required:
            problems.append(f"{path.name} is absent, so the stage and the settings are unknown.")
        return None
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path.name} cannot be read: {error}")
        return None


def _parse(text: str, loads: Any, name: str, problems: list[str]) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        value = loads(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        problems.append(f"{name} is damaged: {error}")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{name} holds {type(value).__name__}, not a mapping.")
        return {}
    return {str(key): item for key, item in value.items()}


def _metrics(folder: Location, problems: list[str]) -> list[dict[str, Any]]:
    try:
        return [record for record in read_metrics(folder) if isinstance(record, dict)]
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        problems.append(f"metrics.jsonl is damaged: {error}")
        return []


def _manifest(folder: Location, problems: list[str]) -> CorpusManifest | None:
    if not (folder / MANIFEST_FILE).exists():
        return None
    try:
        return read_manifest(folder)
    except CorpusError as error:
        problems.append(str(error))
        return None


def _provenance(folder: Location) -> dict[str, Any]:
    """The weights' own record; a run without weights has none, and a damaged one is no reason to lose the page."""
    path = folder / PROVENANCE[0] / PROVENANCE[1]
    try:
        value = path.read_json() if path.exists() else {}
    except (OSError, json.JSONDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """A list in a result file; an empty one where something else stands."""
    return value if isinstance(value, list) else []


def as_dict(value: Any) -> dict[str, Any]:
    """A mapping in a result file; an empty one where something else stands."""
    return value if isinstance(value, dict) else {}
