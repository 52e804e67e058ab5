"""What ``epilm predict`` refuses before Ray does anything, which bins it predicts, and the leak that it records."""

from __future__ import annotations

import numpy as np
import pytest
from toy_signals import BIN_BP, STEP_BP

from epilm.errors import CheckpointError, CorpusError, GenomeError, RecipeError
from epilm.evaluate.predictions import PredictedColumn
from epilm.labels.grid import BinGrid
from epilm.labels.runs import Runs
from epilm.predict.genome_parts import plan_genome_parts
from epilm.predict.genome_plan import check_predict, file_name
from epilm.predict.genome_recipe import PredictRecipe


@pytest.fixture
def recipe(tmp_path, signal_corpus, plus_folder):
    """``recipe(bed=None, **changes)``: a predict recipe; ``bed`` becomes its regions."""

    def make(bed: str | None = None, **changes: object) -> PredictRecipe:
        settings = {
            "name": "predict",
            "storage": str(tmp_path / "runs"),
            "model": str(plus_folder),
            "corpus": str(signal_corpus.folder),
            "cell_types": ["lung", "liver"],
            "step_bp": STEP_BP,
        }
        if bed is not None:
            (tmp_path / "toy.bed").write_text(bed)
            settings["regions"] = str(tmp_path / "toy.bed")
        return PredictRecipe.model_validate(settings | changes)

    return make


def places(plan) -> list[tuple[str, int]]:
    """(contig, start) of every asked bin."""
    contig, start = plan.grid.locate(plan.asked.indices())
    return list(zip(plan.grid.names[contig], start.tolist(), strict=True))


def test_the_default_is_every_bin_of_the_held_out_contigs_that_the_model_has_not_seen(recipe, make_binding_model):
    plan = check_predict(recipe())
    expected = [("chrP", start) for start in range(1040, 2203 - BIN_BP + 1, STEP_BP)]
    expected += [("chrN", start) for start in range(0, 900 - BIN_BP + 1, STEP_BP)]
    assert places(plan) == expected
    assert (plan.contigs, plan.left_out) == (("chrP", "chrN"), {"contigs_without_bins": 1})
    assert [(c.cell_type, c.target) for c in plan.columns] == [
        (cell, target) for cell in ("lung", "liver") for target in ("CTCF", "REST", "MAX/MYC")
    ]
    assert plan.column_outputs == ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2))
    other = make_binding_model(selected_on=("N",), trained_contigs=("A", "chrZ"))
    assert check_predict(recipe(model=str(other))).contigs == ("chrP",)
    with pytest.raises(RecipeError, match=r"held-out contigs of the corpus \(chrP, chrS, chrN\) the model was"):
        check_predict(recipe(model=str(make_binding_model(trained_contigs=("*",)))))


def test_contigs_and_targets_as_named(recipe, dna_folder):
    plan = check_predict(recipe(contigs=["chrN", "chrA"], targets=["MAX/MYC", "CTCF"], rows_per_part=100))
    assert plan.contigs == ("chrA", "chrN")
    assert [(part.chrom, part.first_start, part.rows, part.sequences) for part in plan.parts] == [
        ("chrA", 0, 100, 200),
        ("chrA", 1000, 96, 192),
        ("chrN", 0, 87, 174),
    ]
    assert (plan.targets, plan.column_outputs[:2]) == ((2, 0), ((0, 0), (0, 1)))
    dna = check_predict(recipe(model=str(dna_folder), cell_types=["K562", "skin"], targets=["REST"]))
    assert (dna.cells, dna.column_outputs) == (("K562",), ((0, 0), (0, 0)))
    assert [column.cell_type for column in dna.columns] == ["K562", "skin"]
    assert check_predict(recipe(model=str(dna_folder), cell_types=None)).columns[0].cell_type == ""


def test_bins_of_regions(recipe):
    bed = "A\t100\t150\nA\t150\t162\nA\t300\t330\nchrQ\t0\t500\nchrN\t855\t2000\n"
    plan = check_predict(recipe(bed))
    # 100-162 are one region; 300-330 is shorter than a bin; the last bin of chrN starts at 860
    assert places(plan) == [("chrA", 100), ("chrA", 110), ("chrA", 120), ("chrN", 860)]
    assert plan.left_out == {"regions_on_unknown_contigs": 1, "regions_shorter_than_a_bin": 1}
    assert [(part.first_start, part.rows, part.sequences) for part in plan.parts] == [(100, 3, 6), (860, 1, 2)]
    touching = check_predict(recipe(bed, region_bins="touching", contigs=["chrA"]))
    expected = [*range(70, 170, 10), *range(270, 330, 10)]
    assert places(touching) == [("chrA", start) for start in expected]
    assert [(part.first_start, part.rows, part.sequences) for part in touching.parts] == [(70, 26, 32)]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "nowhere"}, CheckpointError, "no TF-binding model at .*nowhere: the folder does not exist"),
        ({"corpus": "nowhere"}, CorpusError, "does not exist"),
        ({"assembly": "hg19"}, CheckpointError, r"assembly 'hg19', the corpus .* is 'toy1'"),
        ({"contigs": ["N"]}, RecipeError, "'N' is not a contig of the corpus 'signals'. Did you mean 'chrN'"),
        ({"contigs": ["chrX1"]}, RecipeError, "'chrX1' is not a contig"),
        ({"contigs": ["chrA", "chrA"]}, RecipeError, "'chrA' is named twice"),
        ({"contigs": []}, RecipeError, "contigs is empty"),
        (
            {"contigs": ["chrS"]},
            RecipeError,
            r"chrS holds 31 bp \(from 0\), not one bin of 40 bp at a multiple of step_bp",
        ),
        ({"targets": ["CTFC"]}, RecipeError, "does not predict 'CTFC'. Did you mean 'CTCF'"),
        ({"targets": ["CTCF", "CTCF"]}, RecipeError, "targets names one twice"),
        ({"targets": []}, RecipeError, "targets is empty"),
        ({"cell_types": ["brain"]}, CorpusError, "track 'dnase' .* 'DNase.brain' for cell type brain"),
        ({"cell_types": ["livr"]}, RecipeError, "no states of 'livr'. Did you mean liver"),
        ({"regions": "nowhere.bed"}, GenomeError, r"nowhere\.bed"),
        ({"bed": "chr9\t0\t500\n"}, GenomeError, r"toy\.bed: none of its contigs \(chr9\)"),
        ({"bed": "chrA\t0\t39\n"}, RecipeError, "not one bin of 40 bp lies inside the 1 regions"),
        ({"bed": "chrA\t0\t90\n", "contigs": ["chrN"]}, RecipeError, "asks for no bin of the contigs chrN"),
    ],
)
def test_bad_recipes(recipe, make_binding_model, tmp_path, changes, error, message):
    if "assembly" in changes:
        changes = {"model": str(make_binding_model(**changes))}
    with pytest.raises(error, match=message):
        check_predict(recipe(**changes))
    assert not (tmp_path / "runs").exists()


def test_columns_that_would_share_a_file_are_refused(recipe, dna_folder):
    assert file_name(PredictedColumn(cell_type="H1-hESC (p/12)", target="MAX/MYC")) == "MAX_MYC.H1-hESC_p_12_"
    with pytest.raises(RecipeError, match=r"would share the file name CTCF\.k562"):
        check_predict(recipe(model=str(dna_folder), cell_types=["K562", "k562"]))


def test_parts_lie_between_fixed_cuts_from_their_first_asked_bin_to_the_last():
    grid = BinGrid.of_spans([("a", 0, 1150), ("none", 0, 5), ("b", 60, 700)], 200, 50)  # 20 bins and 10
    asked = Runs.of(np.array([1, 6, 9, 18]), np.array([3, 7, 14, 22]))
    parts = plan_genome_parts(grid, asked, rows_per_part=5, num_cells=3)
    assert [(part.chrom, part.first_bin, part.first_start, part.rows, part.sequences) for part in parts] == [
        ("a", 1, 50, 2, 6),
        ("a", 6, 300, 4, 6),
        ("a", 10, 500, 4, 12),
        ("a", 18, 900, 2, 6),
        ("b", 20, 100, 2, 6),
    ]
    whole = plan_genome_parts(grid, grid.all_bins(), rows_per_part=12, num_cells=1)
    assert [(part.path, part.first_bin, part.rows) for part in whole] == [
        ("part-00000.parquet", 0, 12),
        ("part-00001.parquet", 12, 8),
        ("part-00002.parquet", 20, 9),
    ]


@pytest.mark.parametrize(
    ("changes", "on_trained", "on_selected"),
    [
        ({}, 196, 0),
        ({"trained_contigs": ("A",), "selected_on": ("N",)}, 196, 87),
        ({"trained_contigs": ("chr8",)}, 0, 0),
        ({"trained_contigs": ("*",)}, 196 + 87, 0),
        ({"trained_regions": (("chrA", 0, 100), ("chrA", 95, 101))}, 11, 0),
    ],
)
def test_the_leak_is_counted_in_bins(recipe, make_binding_model, changes, on_trained, on_selected):
    model = str(make_binding_model(**changes))
    leak = check_predict(recipe(model=model, contigs=["chrA", "chrN"])).leak
    assert (leak["bins_on_trained"], leak["bins_on_selected"]) == (on_trained, on_selected)
    assert leak["trained_cell_types"] == ["liver"]


def test_identity_is_what_decides_the_numbers(recipe):
    bed = [check_predict(recipe(f"chrA\t0\t{end}\n")).fingerprints for end in (100, 101)]
    assert bed[0]["regions"] != bed[1]["regions"]
    same = recipe(num_workers=3, cpus_per_worker=2, outputs={"dream": True, "bigwig": False})
    assert recipe().identity() == same.identity()
    assert recipe().identity() != recipe(both_strands=True).identity()
