"""Where a training keeps its checkpoints: with Ray Train, or, one of many in the same workers, in its own folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import ray.train
import torch.distributed as dist
from pyarrow import fs as pafs
from ray.train import Checkpoint

from epilm.storage import Location

SCORE = "score"
"""Key of the task's score in what is reported with a checkpoint."""
_LIST = "registered.json"


class Registry(Protocol):
    """Every worker of a training has one."""

    def latest(self) -> Checkpoint | None:
        """The last checkpoint that all workers finished."""
        ...

    def register(self, metrics: dict[str, Any], folder: str) -> None:
        """Keep what every worker wrote into its local folder; all call it, with the same metrics."""
        ...


class RayRegistry:
    """Ray Train copies, registers, keeps the best and tells callbacks."""

    def latest(self) -> Checkpoint | None:
        return ray.train.get_checkpoint()

    def register(self, metrics: dict[str, Any], folder: str) -> None:
        ray.train.report(metrics, checkpoint=Checkpoint.from_directory(folder))


@dataclass(frozen=True)
class FolderRegistry:
    """A folder of the storage: the last checkpoint and the best one. A kill while one is written leaves the former ones."""

    folder: Location
    rank: int

    @property
    def entries(self) -> list[dict[str, Any]]:
        """What is registered, oldest first: ``name`` and ``metrics``."""
        path = self.folder / _LIST
        return path.read_json() if path.exists() else []

    def latest(self) -> Checkpoint | None:
        entries = self.entries
        return self.checkpoint(entries[-1]) if entries else None

    def best(self, *, scored: bool) -> dict[str, Any]:
        """The entry that is the training's result: of a task that has a score the one with the best, else the last."""
        entries = self.entries
        return max(entries, key=lambda entry: entry["metrics"][SCORE]) if scored else entries[-1]

    def checkpoint(self, entry: dict[str, Any]) -> Checkpoint:
        place = self.folder / entry["name"]
        return Checkpoint(place.path, filesystem=place.fs)

    def register(self, metrics: dict[str, Any], folder: str) -> None:
        name = f"step-{metrics['step']:09d}"
        target = self.folder / name
        if self.rank == 0:
            target.delete()  # what a kill left there, perhaps of more workers
            target.mkdir()
        dist.barrier()
        pafs.copy_files(folder, target.path, destination_filesystem=target.fs)
        dist.barrier()
        if self.rank == 0:
            entries = [entry for entry in self.entries if entry["name"] != name] + [{"name": name, "metrics": metrics}]
            kept = [entry for entry in entries if entry in (entries[-1], max(entries, key=_score))]
            (self.folder / _LIST).write_json(kept)
            for entry in entries:
                if entry not in kept:
                    (self.folder / entry["name"]).delete()
        dist.barrier()


def _score(entry: dict[str, Any]) -> float:
    return entry["metrics"][SCORE]
