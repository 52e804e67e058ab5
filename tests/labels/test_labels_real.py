"""Published peaks: ENCODE-DREAM's on chr22 of hg19, ChIP-exo of yeast whose chromosomes are numbered otherwise."""

from __future__ import annotations

import gzip
from collections import defaultdict

import numpy as np
import pytest

from epilm.config import parse_recipe
from epilm.corpus.manifest import write_manifest
from epilm.errors import CorpusError, GenomeError, RecipeError
from epilm.genome.contigs import roman_to_int
from epilm.labels.codes import AMBIGUOUS, BOUND
from epilm.labels.load import load_labels
from epilm.labels.recipe import DreamLabels, LabelsRecipe, PeakFileLabels, PeakTableLabels, SavedLabels
from epilm.labels.run import run_labels
from epilm.storage import Location

pytestmark = pytest.mark.real_data

MB = {"22": (20_000_000, 21_000_000)}
DREAM = "hg19/dream_peaks_chr22_19.9-21.4M.tsv.gz"


def every_overlap(starts: np.ndarray, peaks: list[tuple[int, int]]) -> np.ndarray:
    """Bases that each bin shares with each peak, int64 [bins, peaks]."""
    first, last = np.array(peaks, np.int64).reshape(-1, 2).T
    return np.minimum(starts[:, None] + 200, last) - np.maximum(starts[:, None], first)


def reference_codes(starts, conservative, relaxed):
    bound = (every_overlap(starts, conservative) >= 101).any(axis=1)
    touched = (every_overlap(starts, relaxed) >= 1).any(axis=1)
    return np.where(bound, BOUND, np.where(touched, AMBIGUOUS, 0))


@pytest.fixture(scope="module")
def dream_peaks(shared_data) -> dict[tuple[str, str], dict[str, list[tuple[int, int]]]]:
    peaks: dict = defaultdict(lambda: {"conservative": [], "relaxed": []})
    for line in gzip.decompress((shared_data / DREAM).read_bytes()).decode().splitlines():
        cell, target, which, _, start, end = line.split("\t")[:6]
        peaks[cell, target][which].append((int(start), int(end)))
    return peaks


def test_dream_peaks_of_every_cell_type_and_factor(shared_data, dream_peaks, make_manifest, tmp_path):
    manifest = make_manifest(MB, assembly="hg19")
    with pytest.raises(CorpusError, match="is bound by STAT3:"):  # its three peaks lie beside this Mb
        load_labels(PeakTableLabels(path=str(shared_data / DREAM)), manifest)
    targets = tuple(dict.fromkeys(target for _, target in dream_peaks if target != "STAT3"))
    labels = load_labels(PeakTableLabels(path=str(shared_data / DREAM), targets=targets), manifest)
    assert labels.grid.num_bins == 19_997
    assert len(labels.targets) == 30
    assert set(labels.bound) == {pair for pair in dream_peaks if pair[1] != "STAT3"}
    starts = np.arange(20_000_000, 21_000_000 - 199, 50)
    assert not (reference_codes(starts, **dream_peaks["HeLa-S3", "STAT3"]) == BOUND).any()
    bound = 0
    for cell, target in labels.bound:
        wanted = reference_codes(starts, **dream_peaks[cell, target])
        assert labels.dense("22", cell, target).tolist() == wanted.tolist(), (cell, target)
        bound += int((wanted == BOUND).sum())
    assert labels.counts()["bound"].sum() == bound > 5000
    # written as label files and as runs, and read again
    write_manifest(Location(str(tmp_path)), manifest)
    raw = {"kind": "peak_table", "path": str(shared_data / DREAM), "targets": ["CTCF", "MAX"]}
    recipe = {"name": "l", "storage": str(tmp_path / "runs"), "corpus": str(tmp_path), "labels": raw, "write_tsv": True}
    run_labels(parse_recipe(LabelsRecipe, recipe))
    files = {target: str(tmp_path / f"runs/l/tsv/{target}.tsv.gz") for target in ("CTCF", "MAX")}
    for config in (SavedLabels(path=str(tmp_path / "runs/l")), DreamLabels(files=files)):
        again = load_labels(config, manifest)
        for cell, target in again.bound:
            assert (again.dense("22", cell, target) == labels.dense("22", cell, target)).all()
        assert again.targets == ("CTCF", "MAX")


def test_dream_peaks_on_the_wrong_contig(shared_data, make_manifest):
    config = PeakTableLabels(path=str(shared_data / DREAM))
    with pytest.raises(GenomeError, match=r"none of its contigs .chr22. is in the sequence"):
        load_labels(config, make_manifest({"chr1": (0, 1_000_000)}))
    with pytest.raises(GenomeError, match="lies past the end of 22, which has 20,000,000 bp"):
        load_labels(config, make_manifest({"22": (0, 20_000_000)}))
    with pytest.raises(CorpusError, match="is bound by"):
        load_labels(config, make_manifest({"22": (20_000_000, 20_100_000)}))


@pytest.mark.parametrize(("factor", "peaks", "bound"), [("Reb1", 1078, 4077), ("Abf1", 724, 2761), ("Cbf1", 200, 685)])
def test_yeast_peaks_of_one_base(shared_data, make_manifest, factor, peaks, bound):
    sizes = [line.split() for line in (shared_data / "yeast/sacCer3.sizes").read_text().splitlines()]
    spans = {name: (0, int(length)) for name, length in sizes}
    path = shared_data / f"yeast/peaks/{factor}_CX.bed.gz"
    files = {factor: {"yeast": str(path)}}
    manifest = make_manifest(spans, assembly="sacCer3")
    with pytest.raises(RecipeError, match="longest peak has 1 bp"):
        load_labels(PeakFileLabels(files=files), manifest)
    with pytest.raises(CorpusError, match="no peak on chrM of the corpus"):
        load_labels(PeakFileLabels(files=files, resize_bp=200), manifest)
    config = PeakFileLabels(files=files, resize_bp=200, missing_contigs="no_peaks")
    labels = load_labels(config, manifest)
    by_number = defaultdict(list)
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        chrom, start, _ = line.split("\t")[:3]
        by_number[int(chrom.removeprefix("chr"))].append((int(start) - 100, int(start) + 100))
    assert sum(map(len, by_number.values())) == peaks
    total = 0
    for name, (_, length) in spans.items():
        number = roman_to_int(name.removeprefix("chr")) if name != "chrM" else 0
        starts = np.arange(0, length - 199, 50)
        wanted = reference_codes(starts, by_number.get(number, []), [])
        assert labels.dense(name, "yeast", factor).tolist() == wanted.tolist(), name
        total += int((wanted == BOUND).sum())
    assert labels.bound["yeast", factor].size == total == bound
