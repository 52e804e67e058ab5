"""Signals finer than the epigenome's bins: every value where it belongs, and corpora from before them as they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyBigWig
import pytest

from epilm.corpus.build import build_corpus, summarize
from epilm.corpus.check import checked_layout
from epilm.corpus.gather import ContigReader
from epilm.corpus.manifest import CorpusManifest, read_manifest
from epilm.corpus.validate import CorpusFaultsError, validate_corpus
from epilm.errors import RecipeError
from epilm.storage import Location

pytestmark = pytest.mark.ray

BIN = 50

STATISTICS: dict[str, Callable[[list[float]], float]] = {"peaks": max, "worst": min}


@pytest.fixture(scope="module")
def bases(toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A bigWig with a value of its own at every base, NaN in gaps; and those values."""
    folder = tmp_path_factory.mktemp("bases")
    rng = np.random.default_rng(2)
    values = {name: rng.random(len(dna)).astype(np.float32).round(4) for name, dna in toy.dna.items()}
    for track in values.values():
        track[13:37] = np.nan
    values["chr1"][990:1010] = np.nan
    with pyBigWig.open(str(folder / "bases.bw"), "w") as handle:
        handle.addHeader([(name, len(track)) for name, track in values.items()])
        for name, track in values.items():
            at = np.flatnonzero(~np.isnan(track))
            handle.addEntries(name, at.tolist(), values=track[at].astype(float).tolist(), span=1)
    return folder / "bases.bw", values


def fine(toy, bases, storage: Path, signal_bp: int | None, **changes):
    path = str(bases[0])
    signals = {
        "peaks": {"path": path, "cell_type": "a", "statistic": "max"},
        "worst": {"path": path, "statistic": "min", "nan_policy": "zero"},
    }
    return toy.recipe(storage=str(storage), signals=signals, signal_bp=signal_bp, **changes)


@pytest.fixture(scope="module", params=[1, 10, 25])
def corpus(request, toy, bases, ray_local, tmp_path_factory: pytest.TempPathFactory):
    storage = tmp_path_factory.mktemp("fine")
    manifest = build_corpus(fine(toy, bases, storage, request.param, chunk_bp=500))
    return storage / "toy", manifest, request.param


def slow_signal(track: np.ndarray, name: str, index: int, signal_bp: int) -> float:
    """One signal bin from the values of its bases."""
    first = index * signal_bp
    if first < 0 or first >= len(track):
        return np.nan
    values = [value for value in track[first : first + signal_bp].tolist() if value == value]
    if not values:
        return 0.0 if name == "worst" else np.nan
    return STATISTICS[name](values)


@pytest.mark.parametrize("length", [1, 37, 200, 1203])
def test_gather_equals_a_slow_reference_at_any_place(corpus, bases, toy, length: int) -> None:
    folder, _, signal_bp = corpus
    rng = np.random.default_rng(length)
    names = list(toy.dna)
    chroms = np.array(names, object)[rng.integers(0, 4, 24)]
    starts = rng.integers(-1500, 24_500, 24)
    starts[:6] = [-length, 23_456, 0, 499, 500 - length, 23_455 - length]
    found = ContigReader(str(folder)).gather(chroms, starts, length)
    num_bins = -(-length // signal_bp) + 1
    assert found.signals is not None
    assert found.signal_phase is not None
    assert found.signals.shape == (24, 2, num_bins)
    assert found.signals.dtype == np.float32
    for row, (chrom, start) in enumerate(zip(chroms, starts.tolist(), strict=True)):
        first = start // signal_bp
        assert found.signal_phase[row] == start - first * signal_bp
        assert found.phase[row] == start % BIN
        for track, name in enumerate(STATISTICS):
            wanted = [slow_signal(bases[1][chrom], name, first + i, signal_bp) for i in range(num_bins)]
            np.testing.assert_allclose(found.signals[row, track], np.array(wanted, np.float32), equal_nan=True)
        inside = np.arange(start, start + length)
        known = (inside >= 0) & (inside < len(toy.dna[chrom]))
        assert np.array_equal(found.dna[row][known], toy.dna[chrom][inside[known]])
        assert (found.dna[row][~known] == 4).all()


def test_chosen_cells_and_tracks_are_those_of_all(corpus) -> None:
    folder, _, _ = corpus
    reader = ContigReader(str(folder))
    rng = np.random.default_rng(4)
    chroms, starts = np.array(["chr1", "chr2"], object)[rng.integers(0, 2, 30)], rng.integers(-200, 11_200, 30)
    cells, tracks = rng.integers(0, 3, (30, 1)), rng.integers(0, 2, (30, 3))
    everything = reader.gather(chroms, starts, 120)
    chosen = reader.gather(chroms, starts, 120, cells=cells, tracks=tracks)
    assert everything.states is not None
    assert everything.signals is not None
    row = np.arange(30)[:, None]
    np.testing.assert_array_equal(chosen.states, everything.states[row, cells])
    np.testing.assert_array_equal(chosen.signals, everything.signals[row, tracks])
    np.testing.assert_array_equal(chosen.dna, everything.dna)


def test_a_small_cache_reads_the_same(corpus) -> None:
    folder, manifest, _ = corpus
    chroms, starts = np.full(50, "chr1", object), np.random.default_rng(1).integers(-100, 23_500, 50)
    whole, small = ContigReader(str(folder)), ContigReader(str(folder), cached_chunks=1)
    assert whole.cached_chunks > len(manifest.files) * 60  # the toy is small enough to be kept
    for name in ("dna", "states", "signals", "phase", "signal_phase"):
        found = [getattr(reader.gather(chroms, starts, 700), name) for reader in (whole, small)]
        np.testing.assert_array_equal(*found)
    assert len(small._chunks) == 1


def test_fine_signals_stay_out_of_the_windows_and_are_validated(corpus) -> None:
    folder, manifest, signal_bp = corpus
    assert manifest.signal_bp == signal_bp
    assert json.loads((folder / "manifest.json").read_text())["signal_bp"] == signal_bp
    assert read_manifest(Location(str(folder))) == manifest
    assert manifest.window_signals == ()
    report = validate_corpus(str(folder))
    assert report.num_compared > 0
    raw = json.loads((folder / "manifest.json").read_text())
    copy = CorpusManifest.model_validate(raw | {"signal_bp": 5})
    assert copy.fingerprint() != manifest.fingerprint()


def test_another_resolution_than_that_of_the_chunks_is_a_fault(corpus, tmp_path: Path) -> None:
    import shutil

    folder, _, _ = corpus
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"signal_bp": 5}))
    with pytest.raises(CorpusFaultsError, match="signals does not hold 100 bins"):
        validate_corpus(str(tmp_path / "copy"))


def test_signals_as_coarse_as_states_are_the_corpus_of_before(toy, bases, ray_local, tmp_path: Path) -> None:
    """Given or left out, ``signal_bp: bin_bp`` builds the same bytes; and the manifest does not speak of it."""
    built = [build_corpus(fine(toy, bases, tmp_path / str(bp), bp)) for bp in (None, BIN)]
    raw = [json.loads((tmp_path / str(bp) / "toy" / "manifest.json").read_text()) for bp in (None, BIN)]
    assert "signal_bp" not in raw[0] | raw[1]
    assert built[0].files == built[1].files
    assert built[0].signal_bp == BIN
    assert built[0].window_signals == built[0].signals
    assert read_manifest(Location(str(tmp_path / "None" / "toy"))).fingerprint() == built[0].fingerprint()
    validate_corpus(str(tmp_path / "None" / "toy"))


def test_the_identity_of_a_recipe_without_the_setting_does_not_name_it(toy, bases, tmp_path: Path) -> None:
    """Corpora built before can be resumed, and their models say the same corpus."""
    assert "signal_bp" not in fine(toy, bases, tmp_path, None).identity()
    assert fine(toy, bases, tmp_path, 10).identity()["signal_bp"] == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signal_bp": 20}, r"signal_bp=20 does not divide bin_bp=50: .* Try 10\."),
        ({"signal_bp": 100}, r"signal_bp=100 does not divide bin_bp=50: .* Try 50\."),
        ({"signal_bp": 0}, "signal_bp"),
        ({"signal_bp": 10, "signals": {}}, "signal_bp=10 takes no effect without signals"),
    ],
)
def test_wrong_resolutions_are_refused(toy, changes, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        toy.recipe(**changes)


def test_room_is_reckoned_with_the_signals(toy, bases, tmp_path: Path) -> None:
    coarse, every_base = (checked_layout(fine(toy, bases, tmp_path, bp)).manifest for bp in (None, 1))
    assert coarse.chunk_bytes == 1000 + 1000 // BIN * (3 + 2 * 4)
    assert every_base.chunk_bytes == 1000 + 1000 // BIN * 3 + 1000 * 2 * 4


def test_signals_of_cells_without_states(toy, bases, ray_local, tmp_path: Path) -> None:
    """DNA and the accessibility of some cell types, without states: the corpus of DBERT+."""
    manifest = build_corpus(fine(toy, bases, tmp_path, 10, states=None))
    assert manifest.cell_types == ()
    assert [track.cell_type for track in manifest.signals] == ["a", None]
    found = ContigReader(str(tmp_path / "toy")).gather(["chr2"], np.array([500]), 100)
    assert found.states is None
    assert found.signals is not None
    wanted = [slow_signal(bases[1]["chr2"], "peaks", i, 10) for i in range(50, 61)]
    np.testing.assert_allclose(found.signals[0, 0], wanted)
    assert summarize(manifest)["num_cell_types"] == 0
