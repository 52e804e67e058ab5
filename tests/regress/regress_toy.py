"""A simulated epigenome with a corpus on it, recipes that regress its expression, and embeddings with known content."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from epilm.config import parse_recipe
from epilm.corpus.intervals import PromoterIntervals, load_intervals
from epilm.corpus.manifest import CorpusManifest
from epilm.predict.encode import Encoded
from epilm.predict.parts import Part, part_table, write_part
from epilm.regress.recipe import RegressRecipe
from epilm.storage import Location

CELLS = ("liver", "lung", "brain")
HELD_OUT = "chr3"


@dataclass(frozen=True)
class Toy:
    """The simulated files, the corpus, and a place for runs."""

    paths: Mapping[str, Any]
    corpus: Path
    manifest: CorpusManifest
    runs: Path

    def raw(self, **changes: Any) -> dict[str, Any]:
        """A recipe from state fractions, with top-level settings changed."""
        return {
            "name": "regress",
            "storage": str(self.runs),
            "corpus": str(self.corpus),
            "intervals": {"kind": "promoters", "genes": self.paths["genes"], "upstream_bp": 300, "downstream_bp": 300},
            "target": {"path": self.paths["expression"], "cell_type": "cell_type"},
            "features": {"states": {"kind": "state_fractions"}},
            "block_bp": 30_000,
            "num_bootstrap": 100,
            **changes,
        }

    def recipe(self, **changes: Any) -> RegressRecipe:
        return parse_recipe(RegressRecipe, self.raw(**changes))

    def intervals(self) -> pa.Table:
        return load_intervals(PromoterIntervals(**self.raw()["intervals"]), self.manifest)


def write_embeddings(
    folder: Path,
    intervals: pa.Table,
    values: np.ndarray,
    *,
    cell_types: tuple[str, ...] = ("",),
    num_parts: int = 2,
    pooling: str = "mean",
    **model: object,
) -> Path:
    """Embeddings [intervals, cell types, D] as ``epilm embed`` writes them; ``model`` is their model's provenance."""
    edges = np.linspace(0, intervals.num_rows, num_parts + 1).astype(int)
    files = []
    location = Location(str(folder)).mkdir()
    for index, (first, last) in enumerate(itertools.pairwise(edges)):
        vectors = values[first:last].reshape(-1, values.shape[-1]).astype(np.float32)
        encoded = Encoded(vectors, None, np.ones(last - first, np.int64))
        part = Part(index, int(first), int(last), len(vectors), len(vectors))
        table = part_table(intervals.slice(first, last - first), encoded, cell_types=cell_types)
        files.append(write_part(location, part, table))
    provenance = {"assembly": "toy1", "trained_contigs": ["chr1", "chr2"], "trained_regions": None, **model}
    description = {
        "pooling": pooling,
        "dim": values.shape[-1],
        "corpus_fingerprint": "corpus",
        "model": provenance,
        "files": files,
    }
    (location / "embeddings.json").write_json(description)
    return folder
