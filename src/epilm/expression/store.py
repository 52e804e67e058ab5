"""What each row of the table predicted from each seed, kept as it comes so that a killed study goes on."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.expression.plan import RowKey
from epilm.storage import Location
from epilm.tasks.gene_table import Genes

PREDICTIONS_FILE = "predictions.parquet"


@dataclass(frozen=True)
class Outcome:
    """One fit: a row of the table from one seed."""

    key: RowKey
    seed: int
    prediction: np.ndarray
    """float64 [n], a value for each gene of validation and test, NaN for those that it was not asked for."""
    chosen: dict[str, Any]
    """What validation chose: rounds, step, penalty."""
    num_features: int | None


@dataclass(frozen=True)
class Store:
    """``<run>/parts/<arm>/<inputs>/seed-<n>.parquet``, each written whole or not at all."""

    folder: Location
    genes: Genes

    def _path(self, key: RowKey, seed: int) -> Location:
        return self.folder / key.arm / key.inputs / f"seed-{seed}.parquet"

    def has(self, key: RowKey, seed: int) -> bool:
        return self._path(key, seed).exists()

    def put(self, outcome: Outcome) -> None:
        path = self._path(outcome.key, outcome.seed)
        (self.folder / outcome.key.arm / outcome.key.inputs).mkdir()
        facts = {"chosen": outcome.chosen, "num_features": outcome.num_features}
        table = pa.table(
            {"gene_id": pa.array(self.genes.genes.astype(str)), "prediction": pa.array(outcome.prediction)}
        )
        sink = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({"facts": json.dumps(facts)}), sink, compression="zstd")
        path.write_bytes(sink.getvalue())

    def get(self, key: RowKey, seed: int) -> Outcome:
        path = self._path(key, seed)
        table = pq.read_table(path.path, filesystem=path.fs)
        assert table.column("gene_id").to_pylist() == self.genes.genes.tolist(), f"{path} is of other genes"
        facts = json.loads(table.schema.metadata[b"facts"])
        return Outcome(key, seed, table.column("prediction").to_numpy(), facts["chosen"], facts["num_features"])

    def matrix(self, key: RowKey, seeds: tuple[int, ...], split: str) -> np.ndarray:
        """Predictions of a split's genes: float64 [seeds, n]; NaN of a network that diverged."""
        rows = self.genes.rows(split)
        return np.stack([self.get(key, seed).prediction[rows] for seed in seeds])

    def write_predictions(self, path: Location, keys: list[tuple[RowKey, tuple[int, ...]]]) -> None:
        """Validation and test predictions of all rows in long form, the genes of each in the data's order."""
        asked = np.flatnonzero(np.isin(self.genes.split, ["validation", "test"]))
        parts = []
        for key, seeds in keys:
            for seed in seeds:
                parts.append(
                    pa.table(
                        {
                            "gene_id": pa.array(self.genes.genes[asked].astype(str)),
                            "split": pa.array(self.genes.split[asked].astype(str)),
                            "target": pa.array(self.genes.target[asked]),
                            "arm": pa.array([key.arm] * len(asked)),
                            "inputs": pa.array([key.inputs] * len(asked)),
                            "seed": pa.array([seed] * len(asked), pa.int64()),
                            "prediction": pa.array(self.get(key, seed).prediction[asked]),
                        }
                    )
                )
        sink = io.BytesIO()
        pq.write_table(pa.concat_tables(parts), sink, compression="zstd")
        path.write_bytes(sink.getvalue())
