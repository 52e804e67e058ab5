"""What ``epilm evaluate`` refuses before any task starts, and what it settles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import evaluation_scenes as scenes
import numpy as np
import pytest

from epilm.config import parse_recipe
from epilm.corpus.manifest import CorpusManifest, CorpusRegion
from epilm.errors import CorpusError, EpilmError, LeakError, RecipeError
from epilm.evaluate.check import bins_within, check_evaluate
from epilm.evaluate.recipe import EvaluateRecipe
from epilm.labels.grid import BinGrid


@pytest.fixture
def manifest(tmp_path: Path) -> CorpusManifest:
    return scenes.write_corpus(tmp_path / "corpus")


@pytest.fixture
def raw(tmp_path: Path, manifest: CorpusManifest) -> dict[str, Any]:
    grid = BinGrid.of(manifest)
    scores = {
        ("K562", "CTCF"): np.zeros(grid.num_bins, np.float32),
        ("HepG2", "CTCF"): np.ones(grid.num_bins, np.float32),
    }
    return {
        "name": "scored",
        "storage": str(tmp_path / "runs"),
        "corpus": str(tmp_path / "corpus"),
        "labels": {**scenes.write_peaks(tmp_path), "targets": ["CTCF"]},
        "submissions": {"mine": scenes.write_scores(tmp_path / "mine", grid, scores)},
        "bootstrap": {"block_bp": 5_000},
    }


def check(raw: dict[str, Any], **changes: Any):
    return check_evaluate(parse_recipe(EvaluateRecipe, raw | changes))


def test_held_out_contigs_are_the_default(raw: dict[str, Any], manifest: CorpusManifest) -> None:
    plan = check(raw)
    assert plan.contigs == ("chr2", "chr3")
    assert plan.bins == plan.labels.grid.select(["chr2", "chr3"])
    assert plan.pairs == (("HepG2", "CTCF"), ("K562", "CTCF"))
    assert plan.leaks["mine"]["model_trained_on"] == {"contigs": ["chr1"], "cell_types": ["K562"]}
    assert set(plan.fingerprints) == {"corpus", "labels", "submission mine"}


def test_held_out_regions_belong_to_the_default(raw: dict[str, Any], tmp_path: Path) -> None:
    region = CorpusRegion(chrom="chr1", start=1_010, end=20_000)
    scenes.write_corpus(tmp_path / "other", held_out_regions=[region])
    plan = check(raw, corpus=str(tmp_path / "other"), allow_overlap={"contigs": ["chr1"]})
    assert plan.spans[-1] == ("chr1", 1_010, 20_000)
    first = int(plan.bins.start[0])
    assert plan.labels.grid.locate(np.array([first]))[1].tolist() == [1_050]


def test_regions_hold_whole_bins_alone() -> None:
    grid = BinGrid.of_spans([("a", 0, 1000), ("b", 25, 1000)], 200, 50)
    assert bins_within(grid, [("a", 0, 1000)]).size == 17
    assert grid.locate(bins_within(grid, [("a", 101, 400)]).indices())[1].tolist() == [150, 200]
    assert grid.locate(bins_within(grid, [("b", 0, 300)]).indices())[1].tolist() == [50, 100]
    assert not bins_within(grid, [("a", 100, 299), ("b", 5000, 9000)])


def test_a_pair_without_a_bound_bin_is_left_out_and_told_or_refused_where_it_was_asked_for(raw: dict[str, Any]) -> None:
    labels = check(raw).labels
    alone = labels.bound["HepG2", "CTCF"].subtract(labels.bound["K562", "CTCF"])
    contig, start = labels.grid.locate(alone.indices())
    start = int(start[contig == 1][0])  # a bin of chr2 that is bound in one of the two
    changes: dict[str, Any] = {"regions": [f"chr2:{start - 50}-{start + 200}"], "bootstrap": {"num": 0}}
    plan = check(raw, **changes)
    assert plan.bins.size == 2
    assert plan.skipped == {"CTCF:K562": "0 bound and 2 unbound bins: nothing to rank"}
    assert plan.pairs == (("HepG2", "CTCF"),)
    with pytest.raises(RecipeError, match=r"cell_types: 'K562' has no bound bin in what is evaluated"):
        check(raw, **changes, cell_types=["K562"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contigs": ["chr7"]}, "contigs: the corpus has no contig 'chr7'. It has: chr1, chr2, chr3"),
        ({"regions": ["chr7:0-5000"]}, "regions: the corpus has no contig 'chr7'"),
        ({"regions": ["chr3:0-100"]}, "not one bin of 200 bp lies in what is to be evaluated"),
        ({"contigs": ["chr2"], "regions": ["chr2:0-9000"]}, "contigs and regions both"),
        ({"regions": ["chr2"]}, "is not a region"),
        ({"contigs": []}, "must name one or more"),
        ({"cell_types": ["Hep"]}, "no labels of cell type 'Hep'"),
        ({"baseline": "his"}, "baseline='his' is no submission. Allowed: mine, base_rate"),
        ({"bootstrap": {}}, "into 2 blocks; intervals need 10 or more. Try 6,000"),
        ({"bootstrap": {"block_bp": 1}, "contigs": ["chr3"], "name": "x"}, None),
        ({"allow_overlap": {"contigs": ["chr1"]}}, "allow_overlap.contigs names 'chr1', which is not evaluated"),
        ({"allow_overlap": {"cell_types": ["K562"]}}, "allow_overlap.cell_types names 'K562'"),
        ({"held_out_cell_types": ["liver"]}, "held_out_cell_types names 'liver', which is not scored"),
        ({"submissions": {"base_rate": "x"}}, "is the row of a constant score"),
        ({"submissions": {"gone": "no/such/folder"}}, "no predictions at .*no/such/folder"),
        ({"submissions": {"d": {"dream": {"K562": {"CTCF": "no.tab.gz"}}}}}, "no.tab.gz does not exist"),
        ({"labels": {"kind": "labels", "path": "nowhere"}}, "nowhere"),
    ],
)
def test_bad_input_is_refused(raw: dict[str, Any], changes: dict[str, Any], message: str | None) -> None:
    if message is None:
        assert len(check(raw, **changes).blocks) == check(raw, **changes).bins.size
        return
    with pytest.raises(EpilmError, match=message):
        check(raw, **changes)


def test_leaks_are_refused_before_anything_else_of_the_submission_is_read(raw: dict[str, Any]) -> None:
    with pytest.raises(LeakError, match=r"'mine' was trained on chr1\."):
        check(raw, contigs=["chr1", "chr2"])
    with pytest.raises(LeakError, match="held-out cell types K562"):
        check(raw, held_out_cell_types=["K562"])
    assert check(raw, held_out_cell_types=["HepG2"]).leaks["mine"]["allowed_cell_types"] == []


def test_a_submission_of_other_pairs_or_contigs_is_refused(raw: dict[str, Any], tmp_path: Path, manifest) -> None:
    grid = BinGrid.of(manifest)
    zeros = np.zeros(grid.num_bins, np.float32)
    other = scenes.write_scores(tmp_path / "other", grid, {("liver", "CTCF"): zeros})
    with pytest.raises(
        RecipeError, match=r"'other' predicts none of the data sets that are scored \(CTCF:HepG2, CTCF:K562\)"
    ):
        check(raw, submissions={**raw["submissions"], "other": other})
    half = scenes.write_scores(tmp_path / "half", grid, {("K562", "CTCF"): zeros}, contigs=["chr2"])
    with pytest.raises(RecipeError, match="no submission predicts CTCF:HepG2"):
        check(raw, submissions={"half": half})
    with pytest.raises(CorpusError, match="'half' predicts no bin of chr3"):
        check(raw, submissions={"half": half}, cell_types=["K562"], contigs=["chr3"])


def test_nothing_is_written_by_a_check(raw: dict[str, Any], tmp_path: Path) -> None:
    check(raw)
    assert not (tmp_path / "runs").exists()


def test_figures_do_not_depend_on_the_size_of_tasks(raw: dict[str, Any]) -> None:
    small, large = (parse_recipe(EvaluateRecipe, raw | {"bins_per_task": n}) for n in (10, 10**7))
    assert small.identity() == large.identity()
