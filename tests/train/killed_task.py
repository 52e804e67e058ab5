"""Trainings whose worker kills itself at given steps, once each: what a lost node does, at a known moment."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from epilm.tasks.masked_epigenome import MaskedEpigenomeTask
from epilm.tasks.tf_binding import TfBindingTask
from epilm.train.checkpoint import read_meta


@dataclass(frozen=True)
class Kill:
    step: int
    """Optimizer steps done when it happens."""
    checkpoint: int
    """It waits until Ray has registered the checkpoint of this step."""
    folder: str
    """Of the run's checkpoints."""

    def strike(self, step: int) -> None:
        done = Path(self.folder).parent / f"killed-at-{self.step}"
        if step != self.step or done.exists():
            return
        deadline = time.monotonic() + 120
        while self._registered() < self.checkpoint and time.monotonic() < deadline:
            time.sleep(0.05)
        done.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def _registered(self) -> int:
        """Step of the last checkpoint that Ray knows of."""
        try:
            snapshot = json.loads(Path(self.folder, "checkpoint_manager_snapshot.json").read_text())
            names = [result["checkpoint_dir_name"] for result in snapshot["checkpoint_results"]]
            return max(read_meta(Path(self.folder, name)).step for name in names)
        except (OSError, ValueError, LookupError):  # not there yet, or just being written
            return -1


class _Killed:
    kills: tuple[Kill, ...]

    def prepare(self, batch, moment):
        if moment is not None:
            for kill in self.kills:
                kill.strike(moment.step)
        return super().prepare(batch, moment)


@dataclass(frozen=True)
class KilledTask(_Killed, MaskedEpigenomeTask):
    kills: tuple[Kill, ...] = ()


@dataclass(frozen=True)
class KilledBinding(_Killed, TfBindingTask):
    kills: tuple[Kill, ...] = ()
