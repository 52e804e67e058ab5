"""DNase has its summits where factors are bound, mappability its repeats, and a genome with them is the one without."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pyBigWig
import pytest

from epilm.config import parse_recipe
from epilm.errors import RecipeError
from epilm.genome.bigwig import bin_track
from epilm.simulate.accessibility import make_dnase, make_mappability
from epilm.simulate.dna import Sites, bound_sites
from epilm.simulate.epigenome import make_contig, make_grammar, simulate
from epilm.simulate.grammar import OPEN_STATES
from epilm.simulate.recipe import SimulateRecipe

STEP = 10
RAW = {
    "name": "small",
    "contigs": {"a": 60_050, "b": 41_000},
    "cell_types": ["x", "y"],
    "seed": 5,
    "tracks": ["DNase", "H3K4me3"],
    "track_step_bp": STEP,
    "mappability": True,
}
BEFORE = {
    "genome": "edad7d6a757bdffc",
    "genes": "9b3d0f7bb287d2f7",
    "expression": "ca6d5b54cf593ca5",
    "truth": "701f5f71b19a053e",
    "states": "c01ceb20b2fb8586",
    "binding": "68c5d4970871f769",
    "tracks": "8383837e44d182d3",
}
"""Digests of what seed 5 wrote before there were DNase, mappability and motif files."""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    recipe = parse_recipe(SimulateRecipe, {**RAW, "storage": str(tmp_path_factory.mktemp("runs"))})
    return recipe, simulate(recipe)


def contig_of(recipe, number=0):
    return make_contig(recipe, make_grammar(recipe), number)


def digests(paths):
    """16 hex digits of every kind of file; of what is compressed, the contents."""
    found = {name: Path(paths[name]).read_bytes() for name in ("genome", "genes", "expression", "truth")}
    found["states"] = b"".join(gzip.decompress(Path(path).read_bytes()) for path in paths["states"].values())
    found["binding"] = b"".join(Path(path).read_bytes() for cell in paths["binding"].values() for path in cell.values())
    values = []
    for cell in paths["tracks"].values():
        for mark in ("H3K4me3", "H3K36me3", "H3K27me3"):
            with pyBigWig.open(cell[mark]) as track:
                values.append(track.values("a", 0, 60_050, numpy=True))
    found["tracks"] = np.nan_to_num(np.concatenate(values), nan=-1).round(3).astype(np.float32).tobytes()
    return {name: hashlib.sha256(data).hexdigest()[:16] for name, data in found.items()}


def test_what_old_recipes_simulate_has_not_changed(tmp_path):
    raw = {key: RAW[key] for key in ("name", "contigs", "cell_types", "seed")}
    paths = simulate(parse_recipe(SimulateRecipe, {**raw, "storage": str(tmp_path)}))["paths"]
    assert digests(paths) == BEFORE
    assert "mappability" not in paths
    assert not (tmp_path / "small" / "mappability.bw").exists()


def test_new_tracks_change_nothing_else(tmp_path):
    """Truth names the tracks' levels, so that it alone differs."""
    tracks = [*SimulateRecipe.model_fields["tracks"].default, "DNase"]
    raw = {**RAW, "storage": str(tmp_path), "tracks": tracks, "track_step_bp": 50, "dnase": {"reach_bp": 150}}
    found = digests(simulate(parse_recipe(SimulateRecipe, raw))["paths"])
    assert found.pop("truth") != BEFORE["truth"]
    assert found == {name: value for name, value in BEFORE.items() if name != "truth"}


def test_a_summit_has_the_stated_shape():
    """Of a flat track: each lone site's steps are 1 + (height - 1) exp(-d^2 / 2 s^2), and exactly 1 from 75 bp on."""
    recipe = parse_recipe(SimulateRecipe, {**RAW, "mappability": False, "dnase": {"decoys_per_open_bin": 0}})
    contig = contig_of(recipe)
    flat = np.ones(contig.layout.num_bins * 20, np.float32)
    track = make_dnase(flat, contig.layout, contig.sites, 1, recipe, 0)
    bound = bound_sites(contig.layout, contig.sites, 200)[1]
    centres = contig.sites.start[bound] + 5
    middles = np.arange(len(track)) * STEP + 5
    distance = np.abs(middles[:, None] - centres).min(axis=1)
    np.testing.assert_array_equal(track[distance > 75], 1)
    assert (track[distance <= 75] > 1).all()
    heights = []
    for centre in centres:
        if (np.abs(centres - centre) <= 150).sum() > 1:
            continue
        own = np.abs(middles - centre) <= 75
        shape = np.exp(-0.5 * ((middles[own] - centre) / 25.0) ** 2)
        height = (track[own] - 1) / shape
        np.testing.assert_allclose(height, height[0], rtol=1e-4)
        heights.append(1 + height[0])
    assert len(heights) > 10
    assert 4 < np.mean(heights) < 6.5  # 5, as set


def test_no_summit_at_sites_in_closed_bins():
    recipe = parse_recipe(SimulateRecipe, {**RAW, "mappability": False, "dnase": {"decoys_per_open_bin": 0}})
    contig = contig_of(recipe)
    closed = ~bound_sites(contig.layout, contig.sites, 200)[0]
    assert 0.2 < closed.mean() < 0.8  # DNA alone has many false sites
    only = Sites(tf=contig.sites.tf[closed], start=contig.sites.start[closed], forward=contig.sites.forward[closed])
    flat = np.ones(contig.layout.num_bins * 20, np.float32)
    np.testing.assert_array_equal(make_dnase(flat, contig.layout, only, 0, recipe, 0), flat)


def test_decoys_lie_in_open_bins_at_the_stated_rate():
    raw = {
        **RAW,
        "contigs": {"a": 400_000},
        "mappability": False,
        "dnase": {"decoys_per_open_bin": 0.2, "reach_bp": 30},
    }
    recipe = parse_recipe(SimulateRecipe, raw)
    contig = contig_of(recipe)
    none = Sites(tf=np.zeros(0, np.int64), start=np.zeros(0, np.int64), forward=np.zeros(0, bool))
    track = make_dnase(np.ones(contig.layout.num_bins * 20, np.float32), contig.layout, none, 0, recipe, 0)
    raised = np.flatnonzero(np.diff(np.concatenate([[0], track > 1, [0]]).astype(int)).reshape(-1))
    middle = (raised[::2] + raised[1::2]) * STEP / 2
    is_open = np.isin(contig.layout.states[0], OPEN_STATES)
    assert len(middle) == pytest.approx(0.2 * is_open.sum(), rel=0.2)
    nearest = np.abs(np.flatnonzero(is_open) * 200 + 100 - middle[:, None]).min(axis=1)
    assert (nearest <= 100 + STEP).all()


def test_written_dnase_stands_out_at_bound_sites(written):
    recipe, result = written
    for row, cell in enumerate(recipe.cell_types):
        ratio = {True: [], False: []}
        for number, name in enumerate(recipe.contigs):
            contig = contig_of(recipe, number)
            length = recipe.contigs[name] // STEP * STEP
            track = bin_track(result["paths"]["tracks"][cell]["DNase"], name, 0, length, STEP, nan_policy="keep")
            is_open = np.isin(contig.layout.states[row], OPEN_STATES)
            usual = np.nanmedian(track[np.repeat(is_open, 20)[: len(track)]])
            bound = bound_sites(contig.layout, contig.sites, 200)[row]
            for is_bound in (True, False):
                at = contig.sites.start[bound == is_bound] + 5
                ratio[is_bound].append(track[at[at < length] // STEP] / usual)
        medians = {is_bound: np.nanmedian(np.concatenate(values)) for is_bound, values in ratio.items()}
        assert medians[True] > 2.5
        assert medians[False] < 0.5  # closed


def test_mappability(written):
    recipe, result = written
    with pyBigWig.open(result["paths"]["mappability"]) as track:
        assert track.chroms() == recipe.contigs
        values = track.values("a", 0, 60_050, numpy=True)
    assert np.isnan(values[: recipe.gap_bp]).all()
    assert set(np.unique(values[recipe.gap_bp : 60_050])) == {0, 1}
    wanted = make_mappability(contig_of(recipe).layout, recipe, 0)
    np.testing.assert_array_equal(values, np.repeat(wanted, STEP)[:60_050])
    dnase = bin_track(result["paths"]["tracks"]["x"]["DNase"], "a", 0, 60_050, STEP)
    repeats = wanted[: len(dnase)] == 0
    assert (dnase[repeats & ~np.isnan(dnase)] == 0).all()
    assert (dnase[~repeats & ~np.isnan(dnase)] > 0).all()
    h3k4me3 = bin_track(result["paths"]["tracks"]["x"]["H3K4me3"], "a", 0, 60_050, STEP)
    assert np.nanmin(h3k4me3[repeats]) > 0


def test_repeats_take_the_stated_share():
    recipe = SimulateRecipe(name="r", contigs={"a": 2_000_000}, mappability=True, repeat_share=0.2)
    values = make_mappability(contig_of(recipe).layout, recipe, 0)
    assert (values == 0).mean() == pytest.approx(0.2, abs=0.03)


def test_motif_file_holds_the_planted_motifs(written):
    recipe, result = written
    lines = Path(result["paths"]["motifs"]).read_text().splitlines()
    assert lines[0] == "MEME version 4"
    background = lines[lines.index("Background letter frequencies") + 1].split()
    assert background[::2] == list("ACGT")
    dna = np.concatenate([contig_of(recipe, number).dna for number in range(2)])
    share = np.bincount(dna, minlength=5)[:4] / (dna < 4).sum()
    assert [float(x) for x in background[1::2]] == pytest.approx((share + share[::-1]) / 2, abs=1e-4)
    motifs = make_grammar(recipe).motifs
    starts = [i for i, line in enumerate(lines) if line.startswith("MOTIF")]
    assert [lines[i] for i in starts] == ["MOTIF TF1", "MOTIF TF2", "MOTIF TF3"]
    for motif, first in zip(motifs, starts, strict=True):
        assert lines[first + 1] == "letter-probability matrix: alength= 4 w= 10"
        rows = [[float(x) for x in line.split()] for line in lines[first + 2 : first + 12]]
        np.testing.assert_allclose(rows, motif, atol=1e-6)


def test_the_share_of_bound_sites_is_told(written):
    recipe, result = written
    contigs = [contig_of(recipe, number) for number in range(2)]
    for cell in recipe.cell_types:
        for number, tf in enumerate(("TF1", "TF2", "TF3")):
            planted = sum((contig.sites.tf == number).sum() for contig in contigs)
            lines = Path(result["paths"]["binding"][cell][tf]).read_text().splitlines()
            assert result["bound_share"][cell][tf] == pytest.approx(len(lines) / planted, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"track_step_bp": 50}, "track_step_bp=50 is too coarse for the summits of DNase"),
        ({"dnase": {"summit": 1}}, "dnase.summit"),
        ({"dnase": {"height": 3}}, "Allowed: decoys_per_open_bin, reach_bp, summit"),
        ({"repeat_share": 0.9}, "repeat_share"),
    ],
)
def test_wrong_settings_are_named(change, message):
    with pytest.raises(RecipeError, match=message):
        parse_recipe(SimulateRecipe, {**RAW, **change})
