"""Real genomes: every byte of a corpus is what the public files have there, and 127 epigenomes of hg19 fit in 6 GB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import py2bit
import pyarrow as pa
import pyarrow.parquet as pq
import pyBigWig
import pytest

from epilm.config import parse_recipe
from epilm.corpus.build import build_corpus, summarize
from epilm.corpus.gather import ContigReader
from epilm.corpus.manifest import CorpusManifest
from epilm.corpus.recipe import CorpusRecipe
from epilm.corpus.source import fixed_bytes
from epilm.corpus.validate import validate_corpus

pytestmark = [pytest.mark.ray, pytest.mark.real_data]


def build(raw: dict, storage: Path) -> tuple[Path, CorpusManifest]:
    manifest = build_corpus(parse_recipe(CorpusRecipe, raw | {"storage": str(storage)}))
    folder = storage / raw["name"]
    validate_corpus(str(folder))
    return folder, manifest


def windows(folder: Path, manifest: CorpusManifest) -> pa.Table:
    return pa.concat_tables([pq.read_table(folder / file.path) for file in manifest.select("windows")])


def assert_views_agree(folder: Path, table: pa.Table, manifest: CorpusManifest) -> None:
    found = ContigReader(str(folder)).gather(
        table.column("chrom").to_pylist(), table.column("start").to_numpy(), manifest.window_bp
    )
    for name in table.column_names[3:]:
        stored = np.ascontiguousarray(getattr(found, name)).view(np.uint8).reshape(len(table), -1)
        assert np.array_equal(stored, fixed_bytes(table.column(name)))


def test_yeast_windows_are_the_genome_and_the_tracks(shared_data: Path, ray_local, tmp_path: Path) -> None:
    yeast = shared_data / "yeast"
    tracks = {name: str(yeast / "tracks" / f"{name}.bw") for name in ("MNase", "PolII")}
    raw = {
        "name": "yeast",
        "assembly": "sacCer3",
        "genome": {"path": str(yeast / "sacCer3.2bit"), "contigs": ["chrII", "chrXVI"]},
        "states": {"kind": "levels", "tracks": {"cell": tracks}},
        "signals": {"MNase": {"path": tracks["MNase"]}},
        "held_out_contigs": ["16"],
        "window_bp": 1000,
        "step_bp": 900,
        "bin_bp": 75,
        "chunk_bp": 30_000,
    }
    folder, manifest = build(raw, tmp_path)
    table = windows(folder, manifest)
    assert len(table) == sum((contig.end_bp - 1000) // 900 + 1 for contig in manifest.contigs)
    assert_views_agree(folder, table, manifest)
    values = {key: [tracked_bins(path, their) for their in ("II", "XVI")] for key, path in tracks.items()}
    cuts = [np.quantile(values[key][0][~np.isnan(values[key][0])].astype(float), [1 / 3, 2 / 3]) for key in tracks]
    dna, bins = fixed_bytes(table.column("dna")), manifest.bins_per_window
    states = fixed_bytes(table.column("states"))
    signals = fixed_bytes(table.column("signals")).view("<f4")
    code = np.full(256, 4, np.uint8)
    code[np.frombuffer(b"ACGTacgt", np.uint8)] = [0, 1, 2, 3] * 2
    with py2bit.open(str(yeast / "sacCer3.2bit")) as genome:
        for number, contig in enumerate(("chrII", "chrXVI")):
            letters = code[np.frombuffer(genome.sequence(contig).encode(), np.uint8)]
            levels = [np.searchsorted(cut, values[key][number]) for cut, key in zip(cuts, tracks, strict=True)]
            words = np.where(sum(np.isnan(values[key][number]) for key in tracks), 255, levels[0] * 3 + levels[1])
            mine = np.array(table.column("chrom").to_pylist()) == contig
            starts = table.column("start").to_numpy()[mine]
            assert np.array_equal(dna[mine], letters[starts[:, None] + np.arange(1000)])
            index = starts[:, None] // 75 + np.arange(bins)
            inside = index < len(words)
            index = np.minimum(index, len(words) - 1)
            assert np.array_equal(states[mine], np.where(inside, words[index], 255))
            wanted = np.where(inside, values["MNase"][number][index], np.nan)
            assert np.allclose(signals[mine], wanted, equal_nan=True, rtol=1e-6)


def tracked_bins(path: str, contig: str) -> np.ndarray:
    """Mean of the bases that have a value, of every bin of 75 bp."""
    with pyBigWig.open(path) as track:
        length = track.chroms(contig)
        values = np.asarray(track.values(contig, 0, length, numpy=True), np.float64)
    values = np.append(values, np.full(-length % 75, np.nan)).reshape(-1, 75)
    count = (~np.isnan(values)).sum(axis=1)
    return np.divide(np.nansum(values, axis=1), count, out=np.full(len(count), np.nan), where=count > 0).astype("f4")


HG19_BP, HG19_KNOWN_BP = 3_095_677_412, 2_861_327_131
"""chr1-22, X and Y of hg19: all bases, and those that are not N."""
NUM_CELLS, REGION, SHIFT_BP = 127, (20_000_000, 21_000_000), 950_000


def write_epigenomes(states: Path, folder: Path) -> dict[str, str]:
    """127 epigenomes for one megabase: each is another real megabase of one of four tissues, moved there.

    No two share anything, while real cell types share much of their states: the bytes that this takes are a ceiling.
    """
    import pandas as pd

    first, last = REGION
    columns = ["chrom", "start", "end", "state"]
    tissues = [
        pd.read_csv(path, sep="\t", header=None, usecols=[0, 1, 2, 3], names=columns)
        for path in sorted(states.glob("*.bed.gz"))
    ]
    files = {}
    for cell in range(NUM_CELLS):
        rows, shift = tissues[cell % len(tissues)], cell // len(tissues) * SHIFT_BP
        rows = rows.assign(start=(rows.start - shift).clip(lower=first), end=(rows.end - shift).clip(upper=last))
        rows = rows[rows.end > rows.start]
        files[f"E{cell:03d}"] = str(folder / f"E{cell:03d}.bed")
        rows.to_csv(files[f"E{cell:03d}"], sep="\t", header=False, index=False)
    return files


def test_127_epigenomes_of_hg19_fit_in_6_gb(shared_data: Path, ray_local, tmp_path: Path) -> None:
    hg19 = shared_data / "hg19"
    raw = {
        "name": "hg19",
        "assembly": "hg19",
        "genome": {"path": str(hg19 / "chr22_20-21M.fa.gz")},
        "states": {"kind": "segments", "files": write_epigenomes(hg19 / "states_chr22", tmp_path)},
        "held_out_regions": ["22:20900000-21000000"],
    }
    folder, manifest = build(raw, tmp_path)
    assert len(manifest.cell_types) == NUM_CELLS
    table = windows(folder, manifest)
    assert_views_agree(folder, table, manifest)
    states = fixed_bytes(table.column("states")).reshape(len(table), NUM_CELLS, manifest.bins_per_window)
    assert (states[:, :, :-1] != 255).all()
    assert len(np.unique(states[:, :, 0], axis=1).T) == NUM_CELLS  # the shuffle kept them apart, and none is a copy
    counted = summarize(manifest)
    per_window, per_chunk = counted["window_bytes_per_locus"], counted["contig_bytes_per_locus"]
    total_gb = (HG19_KNOWN_BP / 1000 * per_window + HG19_BP / 1000 * per_chunk) / 1e9
    assert total_gb < 6, f"{per_window:.0f} + {per_chunk:.0f} bytes a locus are {total_gb:.2f} GB"
