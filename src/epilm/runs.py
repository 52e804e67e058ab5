"""The run folder: ``<storage>/<name>/`` with the resolved recipe, ``metrics.jsonl`` and ``result.json``.

Every stage opens its folder here, so that they all refuse an existing one in the same words.
"""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import Field

import epilm
from epilm.config import Config, fingerprint, to_yaml
from epilm.errors import CheckpointError, RunExistsError
from epilm.session import RayConfig
from epilm.storage import Location

RECIPE_FILE = "recipe.resolved.yaml"
RESULT_FILE = "result.json"
METRICS_FILE = "metrics.jsonl"

OnExisting = Literal["refuse", "resume", "overwrite"]


class Recipe(Config):
    """What every stage's recipe has: a name, a storage, a seed and a Ray."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; its folder is ``<storage>/<name>``."""
    storage: str = "runs"
    """Local folder or URI (``s3://``, ``gs://``) that holds the runs."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seed of everything random in the run."""
    ray: RayConfig = RayConfig()
    """Where the run computes."""

    def identity(self) -> dict[str, Any]:
        """What decides the numbers: the recipe without the places where it runs and is kept."""
        return self.model_dump(mode="json", exclude={"storage", "ray", "name"})


@dataclass(frozen=True)
class Run:
    """An open run folder."""

    folder: Location
    resumed: bool

    @property
    def result(self) -> Location:
        return self.folder / RESULT_FILE

    @property
    def metrics(self) -> Location:
        return self.folder / METRICS_FILE

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Write ``result.json`` whole, stamped with the code version and time; return it."""
        stamped = {
            **result,
            "epilm_version": epilm.__version__,
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        self.result.write_json(stamped)
        return stamped


def open_run(
    recipe: Recipe, *, stage: str, on_existing: OnExisting = "refuse", data: dict[str, str] | None = None
) -> Run:
    """Create or reopen ``<storage>/<name>`` and write the resolved recipe into it.

    Args:
        data: fingerprints of the run's inputs (``{"corpus": ...}``), recorded and compared on resume.

    Raises:
        RunExistsError: the folder exists and ``on_existing`` is ``refuse``.
        CheckpointError: resuming a folder that another recipe, stage or input wrote.
        StorageError: the storage is not writable.
    """
    folder = Location(recipe.storage) / recipe.name
    resolved = folder / RECIPE_FILE
    header = {
        "stage": stage,
        "epilm_version": epilm.__version__,
        "recipe_fingerprint": fingerprint(recipe.identity()),
        "data_fingerprints": data or {},
    }
    used = refuse_existing(recipe, on_existing)
    if used and on_existing == "overwrite":
        folder.delete()
    resumed = used and on_existing == "resume" and resolved.exists()
    if resumed:
        _compare(folder, _header_of(resolved), header)
    folder.check_writable()
    resolved.write_text(yaml.safe_dump({"run": header}, sort_keys=False) + to_yaml(recipe))
    return Run(folder=folder, resumed=resumed)


def refuse_existing(recipe: Recipe, on_existing: OnExisting) -> bool:
    """Whether the run's folder is in use, where ``on_existing`` allows that. Writes nothing, so it may stand before all.

    Raises:
        RunExistsError: the folder is in use and ``on_existing`` is ``refuse``, or ``overwrite`` and it is no run's.
    """
    folder = Location(recipe.storage) / recipe.name
    used = folder.exists() and bool(folder.children())
    if used and on_existing == "refuse":
        raise RunExistsError(
            f"the run folder {folder} exists. Use --resume to continue it, --overwrite to delete it, or another name (name=...)."
        )
    if used and on_existing == "overwrite":
        _refuse_foreign(folder)
    return used


def _refuse_foreign(folder: Location) -> None:
    """``--overwrite`` deletes only what a run wrote: never a home folder that a typing error named."""
    if not (folder / RECIPE_FILE).exists():
        raise RunExistsError(
            f"{folder} is not a run folder (no {RECIPE_FILE} in it), so --overwrite will not delete it."
        )


def _header_of(resolved: Location) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(resolved.read_text())["run"])
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"cannot resume: {resolved} is damaged ({error!r}), so what the run was started with is not known. "
            "Use --overwrite or another name."
        ) from error


def _compare(folder: Location, old: dict[str, Any], new: dict[str, Any]) -> None:
    for key, mend in [
        ("stage", "Use another name."),
        (
            "recipe_fingerprint",
            "Resume with the recipe it was started with (recipe.resolved.yaml), or use another name.",
        ),
        ("data_fingerprints", "Its input has been rebuilt since; use --overwrite or another name."),
    ]:
        if old.get(key) != new[key]:
            raise CheckpointError(
                f"cannot resume {folder}: its {key.replace('_', ' ')} is {old.get(key)!r}, this run's is {new[key]!r}. {mend}"
            )


def read_metrics(folder: Location) -> list[dict[str, Any]]:
    """The records of ``metrics.jsonl``; a last line cut off by a kill is dropped."""
    path = folder / METRICS_FILE
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    records = []
    for number, line in enumerate(lines):
        try:
            if line:
                records.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines) - 2:
                raise
    return records
