"""What rank 0 writes while it trains: ``metrics.jsonl`` and TensorBoard, cut back to the step that a run resumes from."""

from __future__ import annotations

import json
import tempfile
import time
from typing import Any

from pyarrow import fs as pafs

from epilm.runs import METRICS_FILE, read_metrics
from epilm.storage import Location

_FLUSH_S = 30.0
"""Seconds between writes to an object store, which cannot append."""


class Records:
    """Writer of one attempt of a run.

    Args:
        start: optimizer steps done; later records of an earlier attempt are dropped, for they will be written again.
    """

    def __init__(self, folder: Location, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder, self._path = folder, folder / METRICS_FILE
        kept = [r for r in read_metrics(folder) if r["step"] <= start]
        self._path.write_text("".join(json.dumps(r) + "\n" for r in kept))
        self._pending: list[str] = []
        self._flushed = time.monotonic()
        self._scratch = None if folder.is_local else tempfile.TemporaryDirectory(prefix="epilm-tensorboard-")
        log_dir = self._scratch.name if self._scratch else (folder / "tensorboard").path
        self._board = SummaryWriter(log_dir=log_dir, purge_step=start + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record (``kind``, ``step``, and numbers) to both."""
        self._pending.append(json.dumps(record))
        prefix = f"eval/{record['set']}" if record["kind"] == "eval" else record["kind"]
        for name, value in record.items():
            if isinstance(value, int | float) and name not in ("step", "time"):
                self._board.add_scalar(f"{prefix}/{name}", value, record["step"])
        if self._folder.is_local or time.monotonic() - self._flushed > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        if self._pending:
            self._path.append_text("".join(line + "\n" for line in self._pending))
            self._pending = []
        self._flushed = time.monotonic()
        self._board.flush()
        if self._scratch:
            target = self._folder / "tensorboard"
            pafs.copy_files(self._scratch.name, target.path, destination_filesystem=target.fs)

    def close(self) -> None:
        self.flush()
        self._board.close()
        if self._scratch:
            self._scratch.cleanup()
