"""A second, unrelated task for the training loop: regress y = w . x + b from features made of the position alone."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from epilm.errors import CorpusError
from epilm.hashing import hash_u64
from epilm.tasks.protocol import Prepared, mean_metrics

TRUE_WEIGHTS = np.array([1.0, -2.0, 0.5, 3.0], dtype=np.float32)


@dataclass(frozen=True)
class Damage:
    """Data that cannot be read from a position on, while the file ``marker`` is there."""

    from_position: int
    marker: str
    after: str
    """The read fails no sooner than this file exists: a stream reads ahead of the training."""

    def check(self, positions: np.ndarray) -> None:
        if positions.max(initial=-1) < self.from_position or not Path(self.marker).exists():
            return
        deadline = time.monotonic() + 120
        while not Path(self.after).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        raise CorpusError("corrupted shard toy-00003, row group 2: a page's checksum is wrong.")


@dataclass(frozen=True)
class ToySource:
    seed: int
    damage: Damage | None = None
    samples_per_pass: int = 96
    row_bytes: int = 1 << 20  # as if rows were large: a read task of its own for every step
    in_memory: bool = False

    def read(self, positions: np.ndarray) -> pa.Table:
        if self.damage:
            self.damage.check(positions)
        item = np.asarray(positions) % self.samples_per_pass
        bits = hash_u64(self.seed, item[:, None], np.arange(4))
        x = ((bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-23)) - 1
        y = x @ TRUE_WEIGHTS + 0.25
        columns = {f"x{i}": pa.array(x[:, i]) for i in range(4)}
        return pa.table(
            {"position": pa.array(np.asarray(positions)), "item": pa.array(item), "y": pa.array(y), **columns}
        )


@dataclass(frozen=True)
class ToyEvalSet:
    source: ToySource
    num_samples: int = 17  # no multiple of anything: the last batches are ragged

    def read(self, indices: np.ndarray) -> pa.Table:
        return self.source.read(indices)


class Net(nn.Module):
    def __init__(self, dropout: float):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 1))

    def forward(self, x):
        return self.layers(x)[:, 0]


@dataclass(frozen=True)
class ToyTask:
    seed: int = 0
    dropout: float = 0.1
    damage: Damage | None = None
    sum_counts = {"squared_error": "rows"}
    loss_weights = {"squared_error": 1.0}

    def check(self) -> None: ...

    def data_fingerprint(self) -> str:
        return f"toy-{self.seed}"

    def train_source(self) -> ToySource:
        return ToySource(self.seed, self.damage)

    def initial_state(self) -> dict[str, float]:
        return {}

    def observe(self, state, *, step, evaluations):
        return dict(state)

    def moment_metrics(self, moment) -> dict[str, float]:
        return {}

    def finished(self, state) -> bool:
        return False

    def score(self, evaluations):
        return None

    def rate_factor(self, parameter: str) -> float:
        return 1.0

    def tokens_per_row(self) -> int:
        return 1

    def eval_sets(self, *, final: bool) -> dict[str, ToyEvalSet]:
        return {"held_out": ToyEvalSet(ToySource(self.seed + 1))}

    def build_model(self) -> nn.Module:
        return Net(self.dropout)

    def collate(self, table: pa.Table) -> dict[str, torch.Tensor]:
        x = np.stack([table.column(f"x{i}").to_numpy() for i in range(4)], axis=1)
        return {
            "position": torch.from_numpy(table.column("position").to_numpy().copy()),
            "x": torch.from_numpy(x),
            "y": torch.from_numpy(table.column("y").to_numpy().copy()),
        }

    def prepare(self, batch, moment) -> Prepared:
        rows = len(batch["y"])
        return Prepared({"x": batch["x"], "y": batch["y"]}, {"rows": torch.tensor(rows)}, rows, rows)

    def sums(self, model, prepared):
        error = model(prepared.inputs["x"]) - prepared.inputs["y"]
        return {"squared_error": error.square().sum()}

    def summarise(self, sums, counts):
        return mean_metrics(sums, counts, self.sum_counts)

    def flops_per_row(self) -> float:
        return 6 * (4 * 16 + 16)

    def describe(self):
        return {"task": "toy"}

    def save_model(self, folder: Path, state, *, step: int, recipe_fingerprint: str) -> None:
        torch.save(state, folder / "weights.pt")
        (folder / "step.json").write_text(json.dumps(step))
