"""States from tracks: levels cut at quantiles of the training contigs, crossed into words."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from genome_files import write_bigwig, write_dense_bigwig
from pydantic import ValidationError

from epilm.errors import GenomeError
from epilm.genome.contigs import Contig
from epilm.genome.states import NO_STATE, TrackLevelStates, open_states
from epilm.genome.states.levels import LevelSource, cross_levels, level_words

BIN = 10
REFERENCE = {"chrI": Contig("chrI", 905), "chrII": Contig("chrII", 400), "chrIII": Contig("chrIII", 100)}
N = NO_STATE


def values(seed: int, held_out_scale: float = 1.0) -> dict[str, np.ndarray]:
    """A value a base; chrI has a gap, chrII is held out, chrIII is in no track. Named without chr."""
    generator = np.random.default_rng(seed)
    result = {"I": generator.gamma(2, size=905), "II": held_out_scale * generator.gamma(2, size=400)}
    result["I"][200:250] = np.nan
    return {name: track.astype(np.float32) for name, track in result.items()}


def tracks(folder: Path, **scales: float) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    return {
        name: write_dense_bigwig(folder / f"{name}.bw", values(seed, scales.get(name, 1.0)))
        for seed, name in enumerate(("M", "P", "S"))
    }


def open_(config: TrackLevelStates, **options: Any) -> LevelSource:
    settings: dict[str, Any] = {"reference": REFERENCE, "train_contigs": ["chrI"], "bin_bp": BIN, **options}
    source = open_states(config, **settings)
    assert isinstance(source, LevelSource)
    return source


def obvious(contig: str, cuts: list[list[float]]) -> list[int]:
    """A bin at a time, a track at a time."""
    result = []
    for at in range(0, len(values(0)[contig]), BIN):
        word = 0
        for seed, cut in enumerate(cuts):
            held = values(seed)[contig][at : at + BIN].astype(np.float64)
            mean = np.float32(np.nanmean(held)) if not np.isnan(held).all() else np.nan
            word = N if word == N or np.isnan(mean) else word * (len(cut) + 1) + sum(bool(c < mean) for c in cut)
        result.append(word)
    return result


def test_three_tracks_are_27_states(tmp_path: Path) -> None:
    source = open_(TrackLevelStates(tracks={"yeast": tracks(tmp_path)}))
    assert len(source.state_names) == 27
    assert source.state_names[:4] == (
        "M_low|P_low|S_low",
        "M_low|P_low|S_mid",
        "M_low|P_low|S_high",
        "M_low|P_mid|S_low",
    )
    binned = [[np.nanmean(values(s)["I"][a : a + BIN].astype(float)) for a in (*range(0, 200, 10), *range(250, 905, 10))]
              for s in range(3)]  # fmt: skip
    cuts = [np.quantile(np.array(row, np.float32), [1 / 3, 2 / 3], method="linear").tolist() for row in binned]
    np.testing.assert_allclose(source.cuts[0], cuts, rtol=1e-6)
    for contig in ("I", "II"):
        length_bp = len(values(0)[contig])
        states = pickle.loads(pickle.dumps(source)).read(f"chr{contig}", 0, length_bp, BIN)
        assert states.tolist() == [obvious(contig, source.cuts[0].tolist())]
    assert source.read("chrI", 200, 250, BIN).tolist() == [[N] * 5]
    assert source.read("chrI", 50, 120, BIN).tolist() == [obvious("I", source.cuts[0].tolist())[5:12]]


def test_a_third_of_the_training_bins_is_in_each_level(tmp_path: Path) -> None:
    source = open_(TrackLevelStates(tracks={"y": {"M": tracks(tmp_path)["M"]}}))
    states = source.read("chrI", 0, 905, BIN)[0]
    assert source.state_names == ("M_low", "M_mid", "M_high")
    assert np.bincount(states[states != N]).tolist() == [29, 28, 29]


def test_held_out_contigs_teach_nothing(tmp_path: Path) -> None:
    """The held-out contig's values may be anything: the cuts, and the training contig's states, stay."""
    before = open_(TrackLevelStates(tracks={"y": tracks(tmp_path / "a")}))
    after = open_(TrackLevelStates(tracks={"y": tracks(tmp_path / "b", M=100, P=0, S=7)}))
    np.testing.assert_array_equal(before.cuts, after.cuts)
    np.testing.assert_array_equal(before.read("chrI", 0, 905, BIN), after.read("chrI", 0, 905, BIN))
    assert (before.read("chrII", 0, 400, BIN) != after.read("chrII", 0, 400, BIN)).any()
    both = open_(TrackLevelStates(tracks={"y": tracks(tmp_path / "b", M=100)}), train_contigs=["chrI", "chrII"])
    assert (both.cuts != before.cuts).any()  # the same track teaches where it may


def test_each_cell_is_cut_at_its_own_quantiles(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    weak = generator.gamma(2, size=905).astype(np.float32)
    paths = [write_dense_bigwig(tmp_path / f"{i}.bw", {"I": scale * weak}) for i, scale in enumerate((1, 8))]
    source = open_(TrackLevelStates(tracks={"a": {"M": paths[0]}, "b": {"M": paths[1]}}))
    first, second = source.read("chrI", 0, 905, BIN)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(source.cuts[1], 8 * source.cuts[0])


def test_contigs_without_a_track_have_no_state_and_are_noted(tmp_path: Path) -> None:
    source = open_(TrackLevelStates(tracks={"y": tracks(tmp_path)}))
    assert source.read("chrIII", 0, 100, BIN).tolist() == [[N] * 10]
    assert source.notes == ("no states on chrIII: a track does not cover these contigs.",)
    assert set(source.contig_names[source.source_paths[0]].items()) == {("I", "chrI"), ("II", "chrII")}


def test_a_piece_is_cut_by_the_bases_it_holds(tmp_path: Path) -> None:
    path = tracks(tmp_path)["M"]
    reference = {"chrI": Contig("chrI", None, 305, 700)}
    source = open_(TrackLevelStates(tracks={"y": {"M": path}}, quantiles=(0.5,)), reference=reference)
    held = values(0)["I"][310:700].reshape(-1, BIN).mean(axis=1)
    np.testing.assert_allclose(source.cuts, [[[np.quantile(held, 0.5)]]], rtol=1e-6)


def test_zeros_stay_in_the_lowest_level(tmp_path: Path) -> None:
    path = write_bigwig(tmp_path / "x.bw", {"chrI": 905}, [("chrI", 0, 800, 0.0), ("chrI", 800, 905, 3.0)])
    source = open_(TrackLevelStates(tracks={"y": {"M": path}}))
    assert source.read("chrI", 0, 905, BIN).tolist() == [[0] * 80 + [2] * 11]
    assert any("two levels are cut at the same value" in note for note in source.notes)


def test_cross_levels_on_literal_values() -> None:
    tracks_of_bins = np.array([[0, 1, 2, 3, np.nan], [5, 5.5, 9, np.nan, 1]], np.float32)
    cuts = np.array([[1, 2], [5, 8]], float)
    assert cross_levels(tracks_of_bins, cuts).tolist() == [0, 1, 5, N, N]  # a value at a cut is below it
    assert level_words(["a", "b"], ["lo", "hi"]) == ("a_lo|b_lo", "a_lo|b_hi", "a_hi|b_lo", "a_hi|b_hi")


def test_names_of_levels() -> None:
    tracks_given = {"y": {"M": "m.bw"}}
    assert TrackLevelStates(tracks=tracks_given, quantiles=(0.9,)).levels == ("low", "high")
    assert TrackLevelStates(tracks=tracks_given, quantiles=(0.2, 0.5, 0.8)).levels == ("q0", "q1", "q2", "q3")
    named = TrackLevelStates(tracks=tracks_given, quantiles=(0.5,), level_names=("off", "on"))
    assert named.levels == ("off", "on")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"quantiles": (0.7, 0.3)}, "ascending"),
        ({"quantiles": (0.3, 0.3)}, "ascending"),
        ({"quantiles": (0.0, 0.5)}, "between 0 and 1"),
        ({"quantiles": ()}, "between 0 and 1"),
        ({"level_names": ("low", "high")}, "2 quantiles make 3 levels"),
        ({"level_names": ("a", "a", "b")}, "a name of its own"),
        ({"tracks": {"y": {"M": "m"}, "z": {"P": "p"}}}, "give each the same"),
        ({"tracks": {"y": {}}}, "give each the same"),
        ({"tracks": {}}, "at least 1"),
    ],
)
def test_settings_that_contradict_themselves(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrackLevelStates(**{"tracks": {"y": {"M": "m.bw"}}, **config})


def test_tracks_that_cannot_serve(tmp_path: Path) -> None:
    def states(path: str, **options: Any) -> None:
        open_(TrackLevelStates(tracks={"y": {"M": path}}), **options)

    good = tracks(tmp_path)["M"]
    only_two = write_dense_bigwig(tmp_path / "two.bw", {"II": values(0)["II"]})
    empty = write_bigwig(tmp_path / "empty.bw", {"I": 905, "II": 400}, [("II", 0, 400, 1.0)])
    longer = write_bigwig(tmp_path / "longer.bw", {"I": 906}, [("I", 0, 9, 1.0)])
    other = write_bigwig(tmp_path / "other.bw", {"scaffold_9": 905}, [("scaffold_9", 0, 9, 1.0)])
    text = tmp_path / "text.bw"
    text.write_text("chrI\t0\t9\t1.0\n")
    cases: list[tuple[str, dict[str, Any], str]] = [
        (only_two, {}, r"two\.bw has no data on the training contigs \(chrI\); it has II\. Train on contigs"),
        (empty, {}, r"empty\.bw has no data on the training contigs \(chrI\)"),
        (longer, {}, r"longer\.bw: contig I has 906 bp, but chrI of the sequence has 905 bp"),
        (other, {}, r"other\.bw: none of its contigs \(scaffold_9\) is in the sequence"),
        (good, {"required": ["chrI", "chrIII"]}, r"M\.bw: no contig for chrIII; it has I, II"),
        (good, {"train_contigs": ["chrIV"]}, r"contig 'chrIV' is not in the sequence"),
        (str(text), {}, "named like a bigWig file, but its content is text"),
        (str(tmp_path / "absent.bw"), {}, "does not exist"),
    ]
    for path, options, message in cases:
        with pytest.raises(GenomeError, match=message):
            states(path, **options)


def test_too_many_words_and_another_bin(tmp_path: Path) -> None:
    path = tracks(tmp_path)["M"]
    with pytest.raises(GenomeError, match=r"6 tracks of 3 levels make 729 states, at most 254.*fewer tracks or fewer"):
        open_(TrackLevelStates(tracks={"y": dict.fromkeys("abcdef", path)}))
    source = open_(TrackLevelStates(tracks={"y": {"M": path}}))
    with pytest.raises(GenomeError, match="cut for bins of 10 bp and cannot be read at 20 bp"):
        source.read("chrI", 0, 400, 20)
    with pytest.raises(GenomeError, match="multiple of the bin size"):
        source.read("chrI", 5, 400, BIN)


def test_held_out_regions_teach_no_cuts(tmp_path: Path) -> None:
    config = TrackLevelStates(tracks={"yeast": tracks(tmp_path)})
    region = {"chrI": (np.array([105]), np.array([395]))}  # touches the bins 100-110 to 390-400
    cuts = open_(config, held_out=region).cuts
    kept = [np.nanmean(values(0)["I"][a : a + BIN].astype(float)) for a in (*range(0, 100, 10), *range(400, 905, 10))]
    np.testing.assert_allclose(cuts[0][0], np.quantile(np.array(kept, np.float32), [1 / 3, 2 / 3]), rtol=1e-6)
    assert not np.allclose(cuts, open_(config).cuts)
