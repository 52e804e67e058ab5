import numpy as np
import pandas as pd
import pytest

from epilm.config import parse_recipe
from epilm.corpus.manifest import CorpusContig, CorpusManifest, CorpusRegion
from epilm.errors import RecipeError
from epilm.regress.recipe import RegressRecipe
from epilm.regress.rows import build_rows, held_out_bp, join_target, split_rows, validation_blocks, with_cell_types

CELLS = ("liver", "lung", "brain")


def manifest(**changes):
    fields = {
        "name": "toy",
        "assembly": "toy1",
        "contigs": (
            CorpusContig(name="chr2", end_bp=1_000_000, split="train"),
            CorpusContig(name="chr1", end_bp=1_000_000, split="train"),
            CorpusContig(name="chr3", end_bp=1_000_000, split="held_out"),
        ),
        "window_bp": 1000,
        "step_bp": 1000,
        "bin_bp": 200,
        "chunk_bp": 10_000,
        "max_n_fraction": 0.1,
        "cell_types": CELLS,
        "held_out_cell_types": ("brain",),
        "state_names": ("a", "b"),
        "files": (),
        "held_out_regions": (CorpusRegion(chrom="chr1", start=500_000, end=600_000),),
    }
    return CorpusManifest(**(fields | changes))


def recipe(**changes):
    raw = {
        "name": "r",
        "corpus": "c",
        "intervals": {"kind": "bed", "path": "b"},
        "target": {"path": "t"},
        "features": {"kmers": {"kind": "kmers"}},
        "block_bp": 50_000,
    }
    return parse_recipe(RegressRecipe, raw | changes)


def intervals(chrom, start, length_bp=1000):
    start = np.asarray(start)
    ids = [f"{c}-{s}" for c, s in zip(chrom, start, strict=True)]
    return pd.DataFrame({"id": ids, "chrom": chrom, "start": start, "end": start + length_bp, "strand": "+"})


def target(ids, cells):
    return pd.DataFrame(
        [(i, c, float(n)) for n, i in enumerate(ids) for c in cells], columns=["id", "cell_type", "value"]
    )


@pytest.fixture
def world():
    chrom = np.repeat(["chr1", "chr2", "chr3"], 100).astype(object)
    table = intervals(chrom, np.tile(np.arange(100) * 10_000, 3))
    return table, target(table["id"], CELLS)


def test_splits_share_no_block_and_nothing_that_is_held_out(world):
    rows, left_out = build_rows(recipe(), *world, manifest())
    place = rows["chrom"] + ":" + (rows["start"] // 50_000).astype(str)
    blocks = {split: set(place[rows["split"] == split]) for split in ("train", "validation")}
    assert not blocks["train"] & blocks["validation"]
    test = rows["split"] == "test"
    in_region = (rows["chrom"] == "chr1") & (rows["start"] >= 500_000) & (rows["end"] <= 600_000)
    np.testing.assert_array_equal(test, (rows["chrom"] == "chr3") | in_region)
    assert set(rows["cell_type"][test]) == set(CELLS)  # a held-out cell type is tested ...
    assert set(rows["cell_type"][~test]) == {"liver", "lung"}  # ... and trains nothing
    assert left_out["rows_of_held_out_cell_types"] == 190
    assert left_out["rows_across_held_out_edges"] == 0
    assert rows["row"].tolist() == list(range(len(rows)))
    assert rows["chrom"].unique().tolist() == ["chr2", "chr1", "chr3"]  # the corpus's order
    share = (rows["split"] == "validation").sum() / (~test).sum()
    assert 0.1 < share < 0.2


def test_all_cell_types_of_an_interval_lie_on_one_side(world):
    rows, _ = build_rows(recipe(), *world, manifest())
    assert (rows.groupby("id")["split"].nunique() == 1).all()


def test_rows_across_the_edge_of_a_held_out_region_are_left_out():
    start = np.array([499_000, 499_999, 500_000, 599_000, 599_001, 600_000, 100, 200_000])
    table = intervals(["chr1"] * 8, start).assign(cell_type="liver", target=0.0)
    split, left_out = split_rows(table, manifest(), recipe())
    assert [name in ("train", "validation") for name in split[[0, 5, 6, 7]]] == [True] * 4
    assert split[1:5].tolist() == ["", "test", "test", ""]
    assert left_out["rows_across_held_out_edges"] == 2


def test_held_out_bases_are_counted():
    chrom = np.array(["chr1", "chr1", "chr1", "chr3"], object)
    start, end = np.array([0, 499_900, 550_000, 5]), np.array([10, 500_100, 550_010, 9])
    np.testing.assert_array_equal(held_out_bp(chrom, start, end, manifest()), [0, 100, 10, 4])


def test_validation_blocks_follow_the_seed_and_the_place_alone():
    rng = np.random.default_rng(0)
    chrom, start = rng.choice(["chr1", "chr2"], 400).astype(object), rng.integers(0, 4_000_000, 400)
    options = {"fraction": 0.2, "block_bp": 100_000}
    chosen = validation_blocks(chrom, start, seed=1, **options)
    order = rng.permutation(400)
    np.testing.assert_array_equal(validation_blocks(chrom[order], start[order], seed=1, **options), chosen[order])
    assert (validation_blocks(chrom, start, seed=2, **options) != chosen).any()
    assert 0.1 < chosen.mean() < 0.3


def test_one_block_alone_cannot_be_split():
    with pytest.raises(RecipeError, match=r"one block of 1,000,000 bp.*smaller block_bp"):
        validation_blocks(np.array(["a"] * 9, object), np.arange(9), fraction=0.1, block_bp=1_000_000, seed=0)
    halves = validation_blocks(np.array(["a", "b"], object), np.array([0, 0]), fraction=0.01, block_bp=10, seed=0)
    assert sorted(halves) == [False, True]


def test_join_counts_what_has_no_partner():
    table = intervals(["chr1"] * 3, [1, 2, 3]).assign(id=["ENSG1.4", "ENSG2.1", "ENSG3.9"])
    joined, counts = join_target(table, target(["ENSG1", "ENSG3", "ENSG9"], ["liver"]), id_version="strip")
    assert joined["id"].tolist() == ["ENSG1.4", "ENSG3.9"]
    assert joined["target"].tolist() == [0.0, 1.0]
    assert counts == {"intervals": 3, "intervals_without_target": 1, "target_rows_without_interval": 1}


@pytest.mark.parametrize(
    ("ids", "id_version", "message"),
    [
        (["a", "b", "a"], "keep", r"1 intervals have an id that another one has, e\.g\. 'a'"),
        (["g.1", "g.2", "h"], "strip", r"e\.g\. 'g'"),
        (["x", "y", "z"], "keep", r"no id of the target is an id of the intervals\. Intervals: x, y, z; target: g, h"),
    ],
)
def test_ids_that_cannot_be_joined(ids, id_version, message):
    table = intervals(["chr1"] * 3, [1, 2, 3]).assign(id=ids)
    with pytest.raises(RecipeError, match=message):
        join_target(table, target(["g", "h"], ["liver"]), id_version=id_version)


def test_the_cell_type_of_a_target_without_one():
    unnamed = target(["g"], [""])
    assert with_cell_types(unnamed, ("liver",), None)["cell_type"].tolist() == ["liver"]
    assert with_cell_types(unnamed, CELLS, "lung")["cell_type"].tolist() == ["lung"]
    assert with_cell_types(unnamed, (), None)["cell_type"].tolist() == [""]
    with pytest.raises(RecipeError, match=r"names no cell type and the corpus has 3 \(liver, lung, brain\)"):
        with_cell_types(unnamed, CELLS, None)
    with pytest.raises(RecipeError, match=r"cell_type='kidney' is not in the corpus; it has liver"):
        with_cell_types(unnamed, CELLS, "kidney")
    with pytest.raises(RecipeError, match="Leave cell_type out"):
        with_cell_types(target(["g"], ["liver"]), CELLS, "lung")


def test_unknown_cell_types_are_counted_or_refused(world):
    table, _ = world
    _, counts = build_rows(recipe(), table, target(table["id"], ["liver", "kidney"]), manifest())
    assert counts["rows_of_unknown_cell_types"] == 300
    with pytest.raises(RecipeError, match=r"none of the target's cell types \(kidney\) is in the corpus \(liver"):
        build_rows(recipe(), table, target(table["id"], ["kidney"]), manifest())


def test_nothing_held_out_is_refused(world):
    table, values = world
    contigs = tuple(contig.model_copy(update={"split": "train"}) for contig in manifest().contigs)
    with pytest.raises(RecipeError, match="the corpus holds out no contig"):
        build_rows(recipe(), table, values, manifest(contigs=contigs, held_out_regions=()))
