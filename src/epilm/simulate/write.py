"""The simulated epigenome as the files a user would have: FASTA, BED, bigWig, GTF, TSV."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyBigWig
from numpy.typing import NDArray

from epilm.simulate.grammar import STATE_NAMES
from epilm.simulate.layout import NO_STATE, Layout

_LINE_BP = 60
_LETTERS = np.frombuffer(b"ACGTN", dtype=np.uint8)


def write_fasta(path: Path, sequences: Iterable[tuple[str, NDArray[np.uint8]]]) -> None:
    """Write codes as 60-base lines, and the index ``.fai`` (name, length, offset, bases and bytes a line) beside it."""
    index = []
    with path.open("wb") as stream:
        for name, codes in sequences:
            stream.write(f">{name}\n".encode())
            index.append(f"{name}\t{len(codes)}\t{stream.tell()}\t{_LINE_BP}\t{_LINE_BP + 1}\n")
            letters = _LETTERS[codes]
            whole = len(letters) // _LINE_BP * _LINE_BP
            lines = np.full((whole // _LINE_BP, _LINE_BP + 1), ord("\n"), dtype=np.uint8)
            lines[:, :_LINE_BP] = letters[:whole].reshape(-1, _LINE_BP)
            stream.write(lines.tobytes())
            if whole < len(letters):
                stream.write(letters[whole:].tobytes() + b"\n")
    Path(f"{path}.fai").write_text("".join(index))


def state_segments(layout: Layout, cell: int, bin_bp: int) -> pd.DataFrame:
    """Columns start, end, state: the maximal runs of one state in a cell type; bins without data are left out."""
    states = layout.states[cell]
    first = np.flatnonzero(np.diff(states.astype(np.int64), prepend=-1))
    last = np.append(first[1:], len(states))
    runs = pd.DataFrame(
        {
            "start": first * bin_bp,
            "end": np.minimum(last * bin_bp, layout.length_bp),
            "state": states[first],
        }
    )
    return runs.loc[runs["state"] != NO_STATE].reset_index(drop=True)


def write_states(path: Path, layouts: Mapping[str, Layout], cell: int, bin_bp: int) -> None:
    """Write one cell type's segmentation as BED4 (gzip): chrom, start, end, state name."""
    tables = []
    for contig, layout in layouts.items():
        table = state_segments(layout, cell, bin_bp)
        table.insert(0, "chrom", contig)
        table["state"] = np.array(STATE_NAMES)[table["state"]]
        tables.append(table)
    text = pd.concat(tables).to_csv(None, sep="\t", header=False, index=False)
    # no time stamp and no file name inside: the same recipe writes the same bytes
    with path.open("wb") as stream, gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as zipped:
        zipped.write(text.encode())


def write_bigwig(
    path: Path, lengths: Mapping[str, int], signals: Iterable[tuple[str, NDArray[np.float32]]], step_bp: int
) -> None:
    """Write step signals as a bigWig; NaN steps and a last step cut short by the contig's end are left out."""
    with pyBigWig.open(str(path), "w") as track:
        track.addHeader([(name, int(length)) for name, length in lengths.items()])
        for name, signal in signals:
            kept = np.flatnonzero(np.isfinite(signal[: lengths[name] // step_bp]))
            if len(kept):
                track.addEntries(name, kept * step_bp, values=signal[kept].astype(np.float64), span=step_bp)


def write_genes(path: Path, genes: pd.DataFrame) -> None:
    """Write genes as GTF (1-based, closed): one ``gene`` line each with gene_id and gene_name."""
    start = np.minimum(genes["tss"], genes["end"])
    end = np.maximum(genes["tss"], genes["end"])
    ids = genes["gene_id"]
    table = pd.DataFrame(
        {
            "chrom": genes["chrom"],
            "source": "simulated",
            "feature": "gene",
            "start": start + 1,
            "end": end + 1,
            "score": ".",
            "strand": genes["strand"],
            "frame": ".",
            "attributes": 'gene_id "' + ids + '"; gene_name "' + ids.str.lower() + '";',
        }
    )
    buffer = io.StringIO()
    # the attributes hold quotes of their own, which csv would double
    table.to_csv(buffer, sep="\t", header=False, index=False, quoting=3)
    path.write_text(buffer.getvalue())


def write_expression(path: Path, gene_ids: Sequence[str], cells: Sequence[str], values: NDArray[np.float64]) -> None:
    """Write [K, G] log expression as gene_id, cell_type, expression: a row a (gene, cell type), genes together."""
    table = pd.DataFrame(
        {
            "gene_id": np.repeat(np.asarray(gene_ids, dtype=object), len(cells)),
            "cell_type": np.tile(np.asarray(cells, dtype=object), len(gene_ids)),
            "expression": values.T.reshape(-1),
        }
    )
    table.to_csv(path, sep="\t", index=False, float_format="%.5f")


def write_motifs(
    path: Path, names: Sequence[str], motifs: NDArray[np.float64], background: NDArray[np.float64]
) -> None:
    """Write motifs [T, P, 4] in MEME's minimal format (https://meme-suite.org/meme/doc/meme-format.html).

    Args:
        background: [4] frequencies of the bases in the genome.
    """
    lines = ["MEME version 4", "", "ALPHABET= ACGT", "", "strands: + -", "", "Background letter frequencies"]
    lines += [" ".join(f"{base} {share:.4f}" for base, share in zip("ACGT", background, strict=True)), ""]
    for name, motif in zip(names, motifs, strict=True):
        lines += [f"MOTIF {name}", f"letter-probability matrix: alength= 4 w= {len(motif)}"]
        lines += [" ".join(f"{share:.6f}" for share in row) for row in motif]
        lines.append("")
    path.write_text("\n".join(lines))


def write_binding(path: Path, table: pd.DataFrame) -> None:
    """Write one cell type's bound sites of a factor as BED6 from columns chrom, start, end, name, score, strand."""
    table.to_csv(path, sep="\t", header=False, index=False)
