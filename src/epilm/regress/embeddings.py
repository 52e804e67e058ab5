"""Embeddings of ``epilm embed`` as features: an index of the folder, the leak guard, and a maker that reads rows.

Only the index (id, cell type, place) is held in memory; the vectors stay in their files until a task needs them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from epilm.errors import LeakError, RecipeError
from epilm.genome.intervals import overlaps
from epilm.models.provenance import ALL_CONTIGS, match_trained
from epilm.regress.rows import examples
from epilm.storage import Location

EMBEDDINGS_FILE = "embeddings.json"

_PLACE = ["chrom", "start", "end", "strand"]


@dataclass(frozen=True)
class EmbeddingsInfo:
    """What an embed run says of itself."""

    folder: Location
    dim: int
    files: tuple[str, ...]
    file_rows: tuple[int, ...]
    corpus_fingerprint: str
    provenance: Mapping[str, Any] | None
    """Of the model: assembly, trained_contigs, trained_regions, ...; None where it was not recorded."""
    fingerprint: str
    """Of the files' checksums."""


@dataclass(frozen=True)
class EmbeddingMaker:
    """Reads the embeddings of rows; ``file_of_row`` and ``place_of_row`` (int32, int64 [all rows]) are their places."""

    info: EmbeddingsInfo
    file_of_row: np.ndarray
    place_of_row: np.ndarray

    @property
    def columns(self) -> list[str]:
        return [f"e{position}" for position in range(self.info.dim)]

    def read(self, rows: pd.DataFrame) -> np.ndarray:
        number = rows["row"].to_numpy()
        files, places = self.file_of_row[number], self.place_of_row[number]
        result = np.empty((len(rows), self.info.dim), np.float32)
        for file in np.unique(files):
            mine = np.flatnonzero(files == file)
            result[mine] = _read_vectors(self.info.folder / self.info.files[file], places[mine], self.info.dim)
        return result


def read_info(folder: Location) -> EmbeddingsInfo:
    """Read ``embeddings.json``.

    Raises:
        RecipeError: no finished embed run lies there, or its pooling is per token.
    """
    path = folder / EMBEDDINGS_FILE
    if not path.exists():
        raise RecipeError(
            f"no embeddings at {folder}: it has no {EMBEDDINGS_FILE}. Give the folder of a finished `epilm embed` run."
        )
    try:
        raw = path.read_json()
        if raw["pooling"] == "tokens":
            raise RecipeError(
                f"{folder} holds one vector a token; a regression takes one an interval. Embed with pooling: mean."
            )
        return EmbeddingsInfo(
            folder=folder,
            dim=int(raw["dim"]),
            files=tuple(file["path"] for file in raw["files"]),
            file_rows=tuple(int(file["rows"]) for file in raw["files"]),
            corpus_fingerprint=raw["corpus_fingerprint"],
            provenance=raw.get("model"),
            fingerprint=",".join(file["sha256"][:8] for file in raw["files"]),
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise RecipeError(f"{path} is not what `epilm embed` writes ({error!r}). Embed again.") from error


def read_index(info: EmbeddingsInfo) -> pd.DataFrame:
    """(id, chrom, start, end, strand, cell_type, file, place) of every embedding.

    Raises:
        RecipeError: a file is missing, unreadable or of another length, or an (id, cell type) occurs twice.
    """
    parts = []
    for position, (name, num_rows) in enumerate(zip(info.files, info.file_rows, strict=True)):
        path = info.folder / name
        try:
            table = pq.read_table(path.path, filesystem=path.fs, columns=["id", *_PLACE, "cell_type"])
        except (OSError, pa.ArrowException) as error:
            raise RecipeError(f"embeddings {path} cannot be read: {error}. Embed again.") from error
        if table.num_rows != num_rows:
            raise RecipeError(
                f"embeddings {path} has {table.num_rows} rows, {EMBEDDINGS_FILE} says {num_rows}. Embed again."
            )
        part = table.to_pandas()
        parts.append(part.assign(file=np.int32(position), place=np.arange(num_rows)))
    index = pd.concat(parts, ignore_index=True)
    twice = index.duplicated(["id", "cell_type"])
    if twice.any():
        first = index[twice].iloc[0]
        raise RecipeError(
            f"embeddings {info.folder}: {int(twice.sum())} (id, cell type) occur twice, e.g. {first['id']!r}, "
            f"{first['cell_type']!r}. Embed intervals with unique ids."
        )
    return index


def locate(rows: pd.DataFrame, index: pd.DataFrame, *, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Where the embedding of each row lies -> (file int32 [n], place int64 [n]), -1 where there is none.

    A model of DNA alone has one embedding an interval (cell type ""), which serves all its cell types.

    Raises:
        RecipeError: nothing joins, or an id means another interval there.
    """
    by_cell = (index["cell_type"] != "").any()
    keys = ["id", "cell_type"] if by_cell else ["id"]
    found = rows[keys + _PLACE].merge(
        index[[*keys, *_PLACE, "file", "place"]],
        on=keys,
        how="left",
        suffixes=("", "_embedded"),
        validate="many_to_one",
    )
    present = found["file"].notna().to_numpy()
    if not present.any():
        shown = [", ".join(pair) for pair in rows[["id", "cell_type"]].head(3).itertuples(index=False)]
        embedded = [", ".join(pair) for pair in index[["id", "cell_type"]].head(3).itertuples(index=False)]
        raise RecipeError(
            f"no row has an embedding in {source}. Rows (id, cell type): {'; '.join(shown)}; embeddings: "
            f"{'; '.join(embedded)}. Embed the same intervals and cell types."
        )
    same = np.ones(len(found), bool)
    for key in _PLACE:
        same &= (found[key] == found[f"{key}_embedded"]).to_numpy(bool)
    if (present & ~same).any():
        first = found[present & ~same].iloc[0]
        here, there = (
            f"{first['chrom' + s]}:{first['start' + s]:.0f}-{first['end' + s]:.0f}({first['strand' + s]})"
            for s in ("", "_embedded")
        )
        raise RecipeError(
            f"{source}: {int((present & ~same).sum())} ids lie elsewhere there, e.g. {first['id']!r} is {here} here "
            f"and {there} in the embeddings. Embed with the same corpus and the same `intervals` settings."
        )
    file = np.where(present, found["file"], -1).astype(np.int32)
    return file, np.where(present, found["place"], -1).astype(np.int64)


def find_leak(info: EmbeddingsInfo, test_rows: pd.DataFrame, *, contigs: Sequence[str], assembly: str) -> str | None:
    """What of the test rows the model behind the embeddings was trained on, in words; None where nothing was.

    Contig names are matched as everywhere (``chrXVI`` = ``XVI``); a model of ``*`` has seen them all. A model of
    another assembly's contigs overlaps too: the genes are the same, whatever the coordinates.
    """
    if info.provenance is None:
        return f"{info.folder} does not record what its model was trained on"
    trained = info.provenance["trained_contigs"]
    names = match_trained(trained, contigs, source=str(info.folder))
    rows = test_rows[test_rows["chrom"].isin(names.values())]
    regions = info.provenance.get("trained_regions")
    if regions is not None and info.provenance.get("assembly") == assembly:
        seen = pd.DataFrame(
            [(names[chrom], start, end) for chrom, start, end in regions if chrom in names],
            columns=["chrom", "start", "end"],
        )
        if len(seen) and len(rows):
            rows = rows[
                overlaps(rows["chrom"].to_numpy(object), rows["start"].to_numpy(), rows["end"].to_numpy(), seen)
            ]
        else:
            rows = rows[:0]
    if rows.empty:
        return None
    on = f"the whole of {info.provenance.get('assembly')}" if ALL_CONTIGS in trained else examples(trained)
    return (
        f"{info.folder}: its model was trained on {on}, on which {len(rows)} of the {len(test_rows)} "
        f"test rows lie ({examples(rows['chrom'].unique())})"
    )


def refuse_leaks(leaks: Sequence[str], *, allow_overlap: bool) -> None:
    """Raise where a leak was found and not allowed.

    Raises:
        LeakError: naming every leak.
    """
    if leaks and not allow_overlap:
        raise LeakError(
            "the test would not be held out: " + "; ".join(leaks) + ". Pre-train without the test contigs "
            "(held_out_contigs of the corpus), or set allow_overlap=true and the result says so."
        )


def _read_vectors(path: Location, places: np.ndarray, dim: int) -> np.ndarray:
    """Rows of one file -> float32 [n, dim]; only the row groups that hold them are read."""
    try:
        with path.fs.open_input_file(path.path) as stream:
            file = pq.ParquetFile(stream)
            sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
            begins = np.concatenate([[0], np.cumsum(sizes)])
            group_of = np.searchsorted(begins, places, side="right") - 1
            groups, group_at = np.unique(group_of, return_inverse=True)
            column = file.read_row_groups(groups.tolist(), columns=["embedding"]).column("embedding").combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise RecipeError(f"embeddings {path} cannot be read: {error}. Embed again.") from error
    vectors = np.asarray(column.flatten(), dtype=np.float32).reshape(-1, dim)
    offset = np.concatenate([[0], np.cumsum(np.asarray(sizes)[groups])])  # of each group among those read
    return vectors[offset[group_at] + places - begins[group_of]]
