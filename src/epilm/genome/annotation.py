"""Genes and regions from GTF, BED and SGD tables as data frames, 0-based half-open."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from epilm.errors import GenomeError
from epilm.genome import files

_BED = [
    ("chrom", pa.string()), ("start", pa.int64()), ("end", pa.int64()),
    ("name", pa.string()), ("score", pa.string()), ("strand", pa.string()),
]  # fmt: skip
_GTF = [
    ("chrom", pa.string()), ("source", pa.string()), ("feature", pa.string()), ("start", pa.int64()),
    ("end", pa.int64()), ("score", pa.string()), ("strand", pa.string()), ("frame", pa.string()),
    ("attributes", pa.string()),
]  # fmt: skip
_SGD = [
    (name, pa.string())
    for name in (
        "id", "feature", "qualifier", "name", "gene_name", "alias", "parent", "other_id",
        "chrom", "first", "last", "strand",
    )
]  # fmt: skip
_SGD_ID = re.compile(r"[SL]\d{6,}$")
_FILL = {"name": "", "score": "", "strand": "."}


def read_bed(path: str | Path) -> pd.DataFrame:
    """BED3 to BED6+ (plain or compressed) -> columns chrom, start, end, name, score (float, NaN where absent), strand.

    Raises:
        GenomeError: not BED, or an interval that ends before it starts.
    """
    table = files.read_columns(path, _BED, what="BED")
    if table.num_columns < 3:
        raise GenomeError(f"{path} is not BED: it has {table.num_columns} columns; chrom, start and end are needed.")
    frame = table.to_pandas()
    for name, value in _FILL.items():
        if name not in frame:
            frame[name] = value
    frame["score"] = pd.to_numeric(frame["score"], errors="coerce")
    strange = ~frame["strand"].isin(["+", "-", "."])
    frame.loc[strange, "strand"] = "."
    bad = frame.index[(frame["start"] < 0) | (frame["end"] < frame["start"])]
    if len(bad):
        row = frame.loc[bad[0]]
        raise GenomeError(
            f"{path}: {row['chrom']}:{row['start']}-{row['end']} (row {bad[0] + 1}) is not an interval. "
            "BED is 0-based: start <= end."
        )
    return frame


def read_blacklist(path: str | Path) -> pd.DataFrame:
    """Regions to leave out (BED3+) -> columns chrom, start, end."""
    return read_bed(path)[["chrom", "start", "end"]]


def read_genes(path: str | Path, *, feature: str | None = None) -> pd.DataFrame:
    """Genes of a GTF, BED6 or SGD table (told apart by content) -> one row a gene, in the file's order.

    Columns gene_id, gene_name ("" where unknown), chrom (as in the file), start, end (0-based half-open), strand, tss (the
    first transcribed base, 0-based: ``start`` on ``+``, ``end - 1`` on ``-``).

    Args:
        feature: rows to take. GTF: ``gene``, or the extent of all rows of a ``gene_id`` where the file has no such rows.
            SGD: ``ORF``. BED has no features.

    Raises:
        GenomeError: none of these formats, no such feature, a gene without a strand, or a gene twice.
    """
    data = files.read_text(path)
    kind = _gene_format(data)
    claimed = _claimed_format(path)
    if claimed not in (None, kind):
        raise GenomeError(f"{path} is named like {claimed}, but its rows are not. Rename it, or get the right file.")
    if kind == "BED" and feature is not None:
        raise GenomeError(f"{path} is BED, which has no features; leave out feature={feature!r} or give a GTF.")
    if kind == "GTF":
        genes = _genes_of_gtf(path, data, feature)
    elif kind == "SGD":
        genes = _genes_of_sgd(path, data, feature or "ORF")
    else:
        genes = _genes_of_bed(path)
    return _check_genes(genes, path)


def _first_row(data: bytes) -> list[str]:
    lines = (line for line in data.split(b"\n", 200)[:200])
    row = next((line for line in lines if line.strip() and not line.startswith((b"#", b"track", b"browser"))), b"")
    return row.decode("utf-8", "replace").split("\t")


def _gene_format(data: bytes) -> str:
    row = _first_row(data)
    is_bed = len(row) > 2 and row[1].isdecimal() and row[2].isdecimal()  # BED9 may have numbers as names and scores
    if len(row) == 9 and row[3].isdecimal() and row[4].isdecimal() and not is_bed:
        return "GTF"
    if len(row) >= 12 and _SGD_ID.match(row[0]):
        return "SGD"
    return "BED"


def _claimed_format(path: str | Path) -> str | None:
    suffixes = [suffix.lower() for suffix in Path(path).suffixes]
    return "GTF" if ".gtf" in suffixes else "BED" if ".bed" in suffixes else None


def _genes_of_gtf(path: str | Path, data: bytes, feature: str | None) -> pd.DataFrame:
    table = files.read_columns(path, _GTF, what="GTF", data=data)
    kinds = table["feature"].unique().to_pylist()
    wanted = feature or ("gene" if "gene" in kinds else None)
    if wanted is not None:
        if wanted not in kinds:
            raise GenomeError(f"{path} has no feature {wanted!r}. It has: {', '.join(sorted(kinds)[:12])}.")
        table = table.filter(pc.call_function("equal", [table["feature"], pa.scalar(wanted)]))
    gene_id, gene_name = (_attribute(table["attributes"], key) for key in ("gene_id", "gene_name"))
    if gene_id.isna().any():
        example = table["attributes"][int(gene_id.isna().to_numpy().argmax())].as_py()
        raise GenomeError(f'{path}: a row has no gene_id "...": {example[:80]!r}. GTF is needed; GFF3 is not read.')
    genes = table.select(["chrom", "start", "end", "strand"]).to_pandas()
    genes["start"] -= 1  # GTF is one-based and inclusive
    genes.insert(0, "gene_id", gene_id)
    genes.insert(1, "gene_name", gene_name.fillna(""))
    if wanted == "gene":
        return genes
    # the rows of a gene on one strand of one contig; a gene in two places stays twice, and is refused as a duplicate
    extent = {"gene_name": "first", "start": "min", "end": "max"}
    joined = genes.groupby(["gene_id", "chrom", "strand"], sort=False, as_index=False).agg(extent)
    return joined[list(genes.columns)]


def _attribute(attributes: pa.ChunkedArray, key: str) -> pd.Series:
    """The value of ``key "value";`` in every row; null where it is absent."""
    options = pc.ExtractRegexOptions(rf'(?:^|[; ]){key} "(?P<value>[^"]*)"')
    found = pc.call_function("extract_regex", [attributes], options)
    return pc.call_function("struct_field", [found], pc.StructFieldOptions([0])).to_pandas()


def _genes_of_sgd(path: str | Path, data: bytes, feature: str) -> pd.DataFrame:
    table = files.read_columns(path, _SGD, what="SGD features", data=data).to_pandas()
    if not (table["feature"] == feature).any():
        raise GenomeError(
            f"{path} has no feature {feature!r}. It has: {', '.join(sorted(set(table['feature']))[:12])}."
        )
    # features that are not in the reference sequence have no place
    rows = table[(table["feature"] == feature) & (table["chrom"] != "") & (table["first"] != "")]
    ends = rows[["first", "last"]].apply(pd.to_numeric, errors="coerce")
    if ends.isna().to_numpy().any():
        raise GenomeError(f"{path}: a position of a {feature} is not a number. Get the file again.")
    # one-based and inclusive; on the Crick strand the first base has the higher number
    low, high = ends.min(axis=1).astype("int64") - 1, ends.max(axis=1).astype("int64")
    strand = rows["strand"].map({"W": "+", "C": "-"}).fillna(".")
    return pd.DataFrame(
        {
            "gene_id": rows["name"],
            "gene_name": rows["gene_name"],
            "chrom": rows["chrom"],
            "start": low,
            "end": high,
            "strand": strand,
        }
    )


def _genes_of_bed(path: str | Path) -> pd.DataFrame:
    table = read_bed(path)
    if (table["name"] == "").any():
        raise GenomeError(f"{path} has no gene names: genes need BED6 (chrom, start, end, name, score, strand).")
    genes = table.rename(columns={"name": "gene_id"}).assign(gene_name="")
    return genes[["gene_id", "gene_name", "chrom", "start", "end", "strand"]]


def _check_genes(genes: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    genes = genes.reset_index(drop=True)
    twice = genes["gene_id"][genes["gene_id"].duplicated()]
    if len(twice):
        raise GenomeError(
            f"{path}: {twice.nunique()} genes are there twice, the first is {twice.iloc[0]!r}. One row a gene is needed."
        )
    placeless = genes.index[~genes["strand"].isin(["+", "-"]) | (genes["end"] <= genes["start"]) | (genes["start"] < 0)]
    if len(placeless):
        row = genes.loc[placeless[0]]
        raise GenomeError(
            f"{path}: gene {row['gene_id']!r} at {row['chrom']}:{row['start']}-{row['end']} ({row['strand']}) needs a "
            "strand, + or -, and at least one base, so that its start of transcription is known."
        )
    return genes.assign(tss=genes["start"].where(genes["strand"] == "+", genes["end"] - 1).astype("int64"))
