"""Toy tracks and genes of `epilm gene-marks`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyBigWig

LENGTHS = {"chr1": 4_000, "chr2": 1_500, "chrM": 600}
MARKS = ("H3K4me3", "H3K36me3")
CELLS = ("blood", "liver")
GENES = """\
chr2\t700\t900\tE.3\t0\t-
chr1\t1000\t1500\tA\t0\t+
chr1\t3500\t3990\tnear the end\t0\t-
chr1\t1050\t1090\tB\t0\t-
chr9\t50\t90\telsewhere\t0\t+
chr1\t2500\t2600\tC\t0\t+
chr2\t800\t1000\tD\t0\t+
chr1\t100\t1001\tE\t0\t-
chrM\t300\t400\tF\t0\t+
"""
"""Window of 400 bp: ``near the end`` leaves chr1; chrM is in the tracks of one cell type only."""
KEPT = ["E.3", "A", "B", "C", "D", "E"]


def write_track(path: Path, values: dict[str, np.ndarray], names: dict[str, str]) -> None:
    with pyBigWig.open(str(path), "w") as track:
        track.addHeader([(names.get(contig, contig), len(held)) for contig, held in values.items()])
        for contig, held in values.items():
            kept = np.flatnonzero(~np.isnan(held))
            if kept.size:
                track.addEntries(
                    names.get(contig, contig), kept.tolist(), values=held[kept].astype(float).tolist(), span=1
                )
