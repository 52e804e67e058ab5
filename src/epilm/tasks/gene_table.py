"""The genes of a study as one parquet file that every worker opens: marks, words, expression. Small enough for memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.corpus.source import as_fixed_bytes, fixed_bytes
from epilm.histone.bpe import EncodedLines
from epilm.histone.pairs import PairedGenes, fingerprint_of
from epilm.histone.words import EXCHANGED, LINES
from epilm.storage import Location


@dataclass(frozen=True)
class Genes:
    """n genes in memory; arrays are aligned."""

    genes: np.ndarray
    split: np.ndarray
    first: np.ndarray
    """float32 [n, bins, marks]; so is ``second``."""
    second: np.ndarray
    expression: np.ndarray
    """float64 [n, 2]."""
    target: np.ndarray
    """float64 [n]."""
    lines: Mapping[str, EncodedLines]
    """``LINES`` -> the words of each gene's line, as token ids."""

    @property
    def num_bins(self) -> int:
        return self.first.shape[1]

    def rows(self, split: str) -> np.ndarray:
        """Indices of a split's genes, in order."""
        return np.flatnonzero(self.split == split)

    def exchanged(self) -> Genes:
        """The same genes with the cell types in each other's place: the target changes its sign."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            expression=self.expression[:, ::-1],
            target=-self.target,
            lines={name: self.lines[EXCHANGED[name]] for name in self.lines},
        )


@dataclass(frozen=True)
class GeneTable:
    """Where the genes lie, and a hash of their marks, targets and words. Picklable; each process reads the file once."""

    location: Location
    fingerprint: str

    @cached_property
    def genes(self) -> Genes:
        return _read(self.location, self.fingerprint)

    def __getstate__(self) -> dict[str, object]:
        return {"location": self.location, "fingerprint": self.fingerprint}  # never the genes themselves


def write_gene_table(location: Location, pairs: PairedGenes, lines: Mapping[str, EncodedLines]) -> GeneTable:
    """Write the genes, whole or not at all."""
    columns: dict[str, pa.Array] = {
        "gene_id": pa.array(pairs.genes.astype(str)),
        "split": pa.array(pairs.split.astype(str)),
        "target": pa.array(pairs.target),
        "expression": _packed(pairs.expression),
        "first": _packed(pairs.first),
        "second": _packed(pairs.second),
    }
    for name in LINES:
        columns |= {
            f"{name}_ids": _packed(lines[name].ids),
            f"{name}_bins": _packed(lines[name].bins),
            f"{name}_length": pa.array(lines[name].lengths),
        }
    shape = ",".join(map(str, pairs.first.shape[1:]))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns).replace_schema_metadata({"shape": shape}), sink, compression="zstd")
    location.write_bytes(sink.getvalue().to_pybytes())
    digest = hashlib.sha256(fingerprint_of(pairs).encode())
    for name in LINES:
        digest.update(lines[name].ids.tobytes())
    return GeneTable(location, digest.hexdigest()[:16])


@lru_cache(maxsize=2)  # a study with the published protocol has two
def _read(location: Location, fingerprint: str) -> Genes:
    del fingerprint  # it keeps a file that was written anew apart from what was there before
    table = pq.read_table(location.path, filesystem=location.fs)
    bins, marks = map(int, table.schema.metadata[b"shape"].split(b","))

    def unpacked(name: str, kind: str, *shape: int) -> np.ndarray:
        return fixed_bytes(table.column(name)).copy().view(kind).reshape(table.num_rows, *shape)

    return Genes(
        genes=table.column("gene_id").to_numpy(),
        split=table.column("split").to_numpy(),
        first=unpacked("first", "<f4", bins, marks),
        second=unpacked("second", "<f4", bins, marks),
        expression=unpacked("expression", "<f8", 2),
        target=table.column("target").to_numpy(),
        lines={
            name: EncodedLines(
                ids=unpacked(f"{name}_ids", "<i4", -1),
                bins=unpacked(f"{name}_bins", "<i2", -1),
                lengths=table.column(f"{name}_length").to_numpy(),
            )
            for name in LINES
        },
    )


def _packed(values: np.ndarray) -> pa.Array:
    """[n, ...] numbers as fixed-size binary, a row an item."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    return as_fixed_bytes(flat.view(np.uint8).reshape(len(values), -1))
