"""``epilm mutagenesis``: every substitution against one mutation at a time; attributions, tracks, logos, bad input, resume."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyBigWig
import pytest
import torch
import variants_toy as toy

from epilm.errors import CorpusError, EpilmError, RecipeError
from epilm.evaluate.predictions import (
    PredictedColumn,
    PredictedPart,
    Predictions,
    predictions_schema,
    write_predictions,
)
from epilm.models.attribution import attribute, spread_to_bases
from epilm.models.binding_folder import load_binding
from epilm.models.binding_inputs import binding_inputs
from epilm.predict import mutagenesis
from epilm.predict.binding_scorer import BindingScorer
from epilm.predict.mutagenesis import IntervalWriter, run_mutagenesis
from epilm.predict.mutagenesis_files import choose_logos, count_substitutions
from epilm.predict.mutagenesis_plan import check_mutagenesis, top_bins
from epilm.predict.mutagenesis_recipe import MutagenesisRecipe, TopBins
from epilm.predict.mutagenesis_scores import substitutions
from epilm.predict.mutagenesis_tracks import mean_track
from epilm.predict.variants_files import read_table, write_table
from epilm.storage import Location

# at both ends of contigs (and past them), across the N gap 500-610, as long as the input, overlapping, of one base
BED = [
    ("chr1", -0, 12, "first", "+"),
    ("chr2", 1190, 1215, "past", "-"),
    ("chr1", 494, 506, "gap", "."),
    ("chr1", 700, 790, "long", "+"),
    ("chr1", 720, 735, "inside", "-"),
    ("chr2", 333, 334, "one", "+"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory, toy_corpus):
    folder = tmp_path_factory.mktemp("binding")
    return {
        "ebert": toy.write_model(folder / "ebert", toy_corpus),
        "strands": toy.write_model(folder / "strands", toy_corpus, both_strands=True),
        "dbert": toy.write_model(folder / "dbert", toy_corpus, states=False),
    }


@pytest.fixture
def recipe(tmp_path, toy_corpus, models):
    """``recipe(**changes)``: the intervals of ``BED`` in two cell types."""
    lines = ["\t".join(map(str, (*row[:4], 0, row[4]))) for row in [*BED, ("chr9", 0, 90, "elsewhere", "+")]]
    (tmp_path / "toy.bed").write_text("\n".join(lines) + "\n")

    def make(**changes) -> MutagenesisRecipe:
        settings = {
            "name": "run",
            "storage": str(tmp_path),
            "model": str(models["ebert"]),
            "corpus": str(toy_corpus.folder),
            "intervals": {"kind": "bed", "path": str(tmp_path / "toy.bed")},
            "cell_types": ["brain", "liver"],
            "attributions": ["gradient", "attention"],
            "batch_size": 37,
            "windows_per_part": 300,
        }
        return MutagenesisRecipe.model_validate(settings | changes)

    return make


def mutate(recipe: MutagenesisRecipe, folder: Path) -> pd.DataFrame:
    """The stage's parts, written in this process."""
    plan, run = check_mutagenesis(recipe), Location(str(folder))
    (run / mutagenesis.PARTS_FOLDER).mkdir()
    write_table(run / mutagenesis.INTERVALS_FILE, plan.intervals)
    writer = IntervalWriter(
        recipe=recipe,
        run_folder=run,
        model=Location(recipe.model),
        corpus=Location(recipe.corpus),
        parts=plan.parts,
        cell_types=plan.cell_types,
        columns=plan.columns,
        target_rows=plan.target_rows,
        device="cpu",
    )
    for part in plan.parts:
        writer.write(part.index)
    tables = [read_table(run / mutagenesis.PARTS_FOLDER / part.path) for part in plan.parts]
    return pa.concat_tables(tables).to_pandas()


@pytest.mark.parametrize("kind", ["ebert", "strands"])
def test_every_substitution_equals_a_mutation_by_hand(tmp_path, toy_corpus, models, recipe, kind):
    table = mutate(recipe(model=str(models[kind])), tmp_path / "out")
    slow = toy.SlowPredictor(load_binding(Location(str(models[kind]))), toy_corpus)
    expected = [(row, cell, target) for row in BED for cell in ("brain", "liver") for target in toy.TARGETS]
    assert len(table) == len(expected)
    largest = 0.0
    for got, ((chrom, start, end, name, _), cell, target) in zip(table.to_dict("records"), expected, strict=True):
        assert [got[key] for key in ("id", "cell_type", "target", "start", "end")] == [name, cell, target, start, end]
        dna, t = toy_corpus.dna[chrom], toy.TARGETS.index(target)
        bin_start = (start + end) // 2 - toy.BIN_BP // 2
        before = slow.odds(chrom, dna, bin_start, cell)[t]
        assert got["bin_start"] == bin_start
        assert got["log_odds"] == pytest.approx(before, abs=1e-5)
        assert got["probability"] == pytest.approx(1 / (1 + math.exp(-before)), abs=1e-6)
        assert got["sequence"] == "".join(toy.LETTERS[dna[i]] if i < len(dna) else "N" for i in range(start, end))
        assert len(got["log_odds_change"]) == len(got["importance"]) == end - start
        for i, (changes, importance) in enumerate(zip(got["log_odds_change"], got["importance"], strict=True)):
            if got["sequence"][i] == "N":
                assert np.isnan(changes).all()
                assert math.isnan(importance)
                continue
            reference = toy.LETTERS.index(got["sequence"][i])
            assert changes[reference] == 0
            assert importance == pytest.approx(-sum(changes) / 3, abs=1e-6)
            for base in {0, 1, 2, 3} - {reference} if i % 5 == 0 or end - start < 20 else ():
                mutant = dna.copy()
                mutant[start + i] = base
                assert changes[base] == pytest.approx(slow.odds(chrom, mutant, bin_start, cell)[t] - before, abs=2e-5)
                largest = max(largest, abs(changes[base]))
    assert largest > 0.1, "what changes nothing tests nothing"


@pytest.mark.parametrize("kind", ["ebert", "strands"])
def test_attributions_are_those_of_the_windows(tmp_path, toy_corpus, models, recipe, kind):
    methods = ["gradient", "integrated_gradients", "attention", "rollout"]
    settings = recipe(model=str(models[kind]), attributions=methods, cell_types=["liver"])
    table = mutate(settings, tmp_path / "out")
    scorer = BindingScorer(Location(settings.model), Location(settings.corpus))
    model = scorer.model
    for row in table[table["id"].isin(["long", "past"])].to_dict("records"):
        cell = toy_corpus.manifest.cell_types.index("liver")
        windows = scorer.windows(np.array([row["chrom"]], object), np.array([row["bin_start"]]), np.array([cell]))
        first = row["start"] - (row["bin_start"] - toy.FLANK_BP)
        for method in methods:
            found = []
            for reverse in (False, True)[: 2 if kind == "strands" else 1]:
                inputs = binding_inputs(
                    windows, encoder=model.config, config=model.binding, reverse=torch.tensor([reverse])
                )
                tokens = attribute(model, inputs, toy.TARGETS.index(row["target"]), method)
                bases = spread_to_bases(tokens, k=3, stride=2, length_bp=toy.INPUT_BP)[0].detach().numpy()
                found.append(bases[::-1] if reverse else bases)
            expected = np.mean(found, axis=0)[first : first + row["end"] - row["start"]]
            np.testing.assert_allclose(row[method], expected, atol=1e-5, err_msg=method)
            assert np.abs(expected).max() > 1e-3


def test_a_model_of_dna_alone_has_one_answer_for_all_cell_types(tmp_path, models, recipe):
    alone = mutate(recipe(model=str(models["dbert"]), cell_types=None, targets=["REST"]), tmp_path / "a")
    named = mutate(recipe(model=str(models["dbert"]), cell_types=["x", "y"]), tmp_path / "b")
    assert set(alone["cell_type"]) == {""}
    for name in ("x", "y"):
        mine = named[(named["cell_type"] == name) & (named["target"] == "REST")]
        for ours, theirs in zip(mine["importance"], alone["importance"], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_substitutions_literally():
    found = substitutions(toy.codes("ACGNT").reshape(1, 5), np.array([1]), np.array([5]))
    assert list(zip(found.place.tolist(), found.base.tolist(), strict=True)) == [
        (1, 0), (1, 2), (1, 3), (2, 0), (2, 1), (2, 3), (4, 0), (4, 1), (4, 2),
    ]  # fmt: skip


def test_bases_of_several_intervals_show_the_mean():
    rows = pa.table(
        {"start": [12, 10], "end": [14, 13], "importance": [[3.0, math.nan], [1.0, 2.0, 5.0]]},
        schema=pa.schema([("start", pa.int64()), ("end", pa.int64()), ("importance", pa.list_(pa.float32()))]),
    )
    track = mean_track("chr1", rows)
    assert track.start.tolist() == [10, 11, 12]
    assert track.end.tolist() == [11, 12, 13]
    assert track.values.tolist() == [1.0, 2.0, 4.0]


def predictions(folder: Path, bins: dict[str, list[tuple[int, list[float]]]], **changes) -> str:
    """A predictions folder with columns (liver, CTCF) and (brain, CTCF): a part a contig."""
    folder.mkdir()
    parts = []
    for number, (chrom, rows) in enumerate(bins.items()):
        columns = [[start for start, _ in rows], *zip(*(values for _, values in rows), strict=True)]
        table = pa.table([pa.array(list(column)) for column in columns], names=["start", "p0", "p1"])
        pq.write_table(table.cast(predictions_schema(2)), folder / f"part-{number}.parquet")
        parts.append(
            PredictedPart(path=f"part-{number}.parquet", chrom=chrom, first_start=0, rows=len(rows), sha256="")
        )
    settings = {
        "assembly": "toy1",
        "bin_bp": 20,
        "step_bp": 10,
        "columns": tuple(PredictedColumn(cell_type=cell, target="CTCF") for cell in ("liver", "brain")),
        "parts": tuple(parts),
        "contig_lengths": dict.fromkeys(bins, 1000),
        "predictor": "model",
    }
    write_predictions(Location(str(folder)), Predictions(**(settings | changes)))
    return str(folder)


def test_the_top_bins_do_not_overlap(tmp_path, toy_corpus):
    nan = math.nan
    bins = {
        "chr2": [(0, [0.1, 0.3]), (10, [0.9, 0.1]), (20, [0.95, nan]), (30, [0.94, 0.2]), (40, [0.5, 0.2])],
        "chr1": [(0, [0.2, 0.95]), (10, [nan, nan]), (50, [0.3, 0.96])],
    }
    folder = predictions(tmp_path / "p", bins)

    def top(n, **settings):
        table = top_bins(TopBins(predictions=folder, n=n, **settings), toy_corpus.manifest)
        return list(zip(table["chrom"].to_pylist(), table["start"].to_pylist(), strict=True))

    assert top(3) == [("chr1", 50), ("chr2", 20), ("chr1", 0)]
    assert top(1) == [("chr1", 50)]
    assert top(3, cell_type="liver") == [("chr2", 20), ("chr2", 40), ("chr1", 50)]
    assert top(99, cell_type="liver") == [("chr2", 20), ("chr2", 40), ("chr1", 50), ("chr1", 0), ("chr2", 0)]
    with pytest.raises(RecipeError, match=r"cell_type: 'lung' was not predicted. Allowed: liver, brain"):
        top(1, cell_type="lung")
    other = predictions(tmp_path / "other", bins, assembly="hg19")
    with pytest.raises(CorpusError, match="predictions of hg19"):
        top_bins(TopBins(predictions=other), toy_corpus.manifest)
    with pytest.raises(CorpusError, match="no predictions at"):
        top_bins(TopBins(predictions=str(tmp_path)), toy_corpus.manifest)
    nothing = predictions(tmp_path / "none", {"chr1": [(0, [nan, nan])]})
    with pytest.raises(CorpusError, match="no prediction at all"):
        top_bins(TopBins(predictions=nothing), toy_corpus.manifest)


def test_top_bins_equal_the_choice_from_all_of_them(tmp_path, toy_corpus):
    rng = np.random.default_rng(4)
    bins = {c: [(10 * i, list(row)) for i, row in enumerate(rng.random((90, 2)).round(2))] for c in ("chr1", "chr2")}
    folder = predictions(tmp_path / "p", bins)
    order = sorted(((c, s, np.float32(max(v))) for c, rows in bins.items() for s, v in rows), key=lambda b: -b[2])
    chosen: list[tuple[str, int]] = []
    for chrom, start, _ in order:
        if len(chosen) < 25 and all(c != chrom or abs(s - start) >= 20 for c, s in chosen):
            chosen.append((chrom, start))
    table = top_bins(TopBins(predictions=folder, n=25), toy_corpus.manifest)
    assert list(zip(table["chrom"].to_pylist(), table["start"].to_pylist(), strict=True)) == chosen
    assert set(np.array(table["end"]) - np.array(table["start"])) == {20}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "nowhere"}, EpilmError, "no TF-binding model"),
        ({"targets": ["MAX"]}, RecipeError, "does not predict 'MAX'"),
        ({"cell_types": ["livr"]}, RecipeError, "Did you mean liver"),
        ({"attributions": ["gradient", "gradient"]}, RecipeError, "attributions names one twice"),
        ({"cell_types": ["x/y", "x y"], "model": "dbert"}, RecipeError, "share the file name 'ctcf.x_y'"),
    ],
)
def test_bad_settings_are_refused(recipe, models, changes, error, message):
    if changes.get("model") in models:
        changes = changes | {"model": str(models[changes["model"]])}
    with pytest.raises(error, match=message):
        check_mutagenesis(recipe(**changes))


def test_an_interval_longer_than_the_input_is_refused(tmp_path, recipe):
    (tmp_path / "long.bed").write_text("chr1\t10\t101\tlong\nchr1\t200\t290\tfits\n")
    with pytest.raises(RecipeError, match=r"1 of 2 intervals are longer than the model's input of 90 bp, e.g. 'long'"):
        check_mutagenesis(recipe(intervals={"kind": "bed", "path": str(tmp_path / "long.bed")}))


@pytest.mark.parametrize("width", [1, 8, 90])
def test_intervals_of_one_width_keep_their_middles(recipe, width):
    plan, before = check_mutagenesis(recipe(width_bp=width)), check_mutagenesis(recipe())
    starts, ends = plan.intervals["start"].to_numpy(), plan.intervals["end"].to_numpy()
    assert set(ends - starts) == {width}
    assert plan.intervals["bin_start"].equals(before.intervals["bin_start"])
    assert plan.intervals["id"].equals(before.intervals["id"])


@pytest.mark.ray
def test_two_workers_and_a_resumed_run_write_what_one_process_writes(ray_local, tmp_path, toy_corpus, recipe):
    lines: list[str] = []
    result = run_mutagenesis(recipe(num_workers=2), progress=lines.append)
    assert any("6 intervals x 2 cell type(s) x 2 factor(s)" in line and "1 unknown_contig" in line for line in lines)
    folder = tmp_path / "run"
    rows, alone = pd.read_parquet(folder / "mutagenesis"), mutate(recipe(), tmp_path / "alone")
    assert rows.drop(columns="log_odds_change").equals(alone.drop(columns="log_odds_change"))
    known = sum(len(s) - s.count("N") for s in rows.drop_duplicates("id")["sequence"])
    assert result["num_substitutions"] == 3 * known
    check_track(folder, rows, toy_corpus)
    check_logos(result["logos"], rows)
    description = (folder / "mutagenesis.json").read_text()
    # a kill: a part is missing, another is half there, and so are the tracks
    parts = sorted((folder / "mutagenesis").iterdir())
    assert len(parts) > 2
    track = (folder / "bigwig" / "CTCF.liver.bw").read_bytes()
    parts[0].unlink()
    parts[1].write_bytes(parts[1].read_bytes()[:100])
    (folder / "bigwig" / "CTCF.liver.bw").rename(folder / "bigwig" / "CTCF.liver.bw.x.tmp")
    again = run_mutagenesis(recipe(), on_existing="resume")
    assert again["parts_kept"] == len(parts) - 2
    assert again["logos"] == result["logos"]
    assert (folder / "mutagenesis.json").read_text() == description
    assert (folder / "bigwig" / "CTCF.liver.bw").read_bytes() == track
    assert sorted(p.name for p in (folder / "bigwig").iterdir()) == sorted(Path(p).name for p in again["bigwig"])


def check_track(folder: Path, rows: pd.DataFrame, corpus) -> None:
    mine = rows[(rows["target"] == "REST") & (rows["cell_type"] == "brain")]
    said: dict[tuple[str, int], list[float]] = {}
    for row in mine.to_dict("records"):
        for i, value in enumerate(row["importance"]):
            if value == value:
                said.setdefault((row["chrom"], row["start"] + i), []).append(float(value))
    with pyBigWig.open(str(folder / "bigwig" / "REST.brain.bw")) as track:
        assert track.chroms() == {name: len(dna) for name, dna in corpus.dna.items()}
        for chrom, dna in corpus.dna.items():
            shown = track.values(chrom, 0, len(dna), numpy=True)
            assert np.flatnonzero(~np.isnan(shown)).tolist() == sorted(p for c, p in said if c == chrom)
            for place in np.flatnonzero(~np.isnan(shown)).tolist():
                assert shown[place] == pytest.approx(np.mean(said[chrom, place]), abs=1e-6)


def check_logos(logos: list[dict], rows: pd.DataFrame) -> None:
    best = rows.loc[rows.groupby("id")["probability"].idxmax()].sort_values("probability", ascending=False)
    assert [(logo["id"], logo["cell_type"], logo["target"]) for logo in logos] == list(
        best[["id", "cell_type", "target"]].itertuples(index=False, name=None)
    )
    for logo, (_, row) in zip(logos, best.iterrows(), strict=True):
        assert logo["sequence"] == row["sequence"]
        values = [math.nan if value is None else value for value in logo["importance"]]
        np.testing.assert_allclose(values, row["importance"], rtol=1e-3, atol=1e-6)


def test_logos_and_counts_of_parts(tmp_path, recipe):
    settings = recipe(num_logos=2)
    table, plan = mutate(settings, tmp_path / "out"), check_mutagenesis(settings)
    paths = [Location(str(tmp_path / "out")) / mutagenesis.PARTS_FOLDER / part.path for part in plan.parts]
    logos = choose_logos(paths, 2)
    assert len({logo["id"] for logo in logos}) == 2
    assert logos[0]["probability"] == pytest.approx(table["probability"].max(), rel=1e-3)
    assert choose_logos(paths, 0) == []
    gap = table[table["id"] == "gap"].iloc[0]["sequence"]
    assert gap.count("N") == 6
    once = table.drop_duplicates("id")["sequence"]
    assert count_substitutions(paths, plan.parts, 4) == 3 * sum(len(s) - s.count("N") for s in once)
