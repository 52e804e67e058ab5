"""What ``epilm embed`` refuses before Ray does anything, and the leak that it records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from epilm.errors import CheckpointError, CorpusError, GenomeError, RecipeError
from epilm.models.provenance import Provenance, read_provenance
from epilm.predict.encode import Intervals
from epilm.predict.parts import plan_parts
from epilm.predict.plan import check_embed, leak_summary
from epilm.predict.recipe import EmbedRecipe
from epilm.storage import Location


@pytest.fixture
def recipe(tmp_path, toy_corpus, ebert_folder):
    """``recipe(bed=text, **changes)``: an embed recipe whose intervals are the lines of ``bed``."""

    def make(bed: str = "chr1\t100\t190\n", **changes: object) -> EmbedRecipe:
        (tmp_path / "toy.bed").write_text(bed)
        settings = {
            "name": "embed",
            "storage": str(tmp_path / "runs"),
            "model": str(ebert_folder),
            "corpus": str(toy_corpus.folder),
            "intervals": {"kind": "bed", "path": str(tmp_path / "toy.bed")},
        }
        return EmbedRecipe.model_validate(settings | changes)

    return make


def test_a_plan_names_rows_in_the_order_of_the_recipe(recipe):
    plan = check_embed(recipe("chr2\t0\t90\nchr1\t10\t400\nchr7\t0\t9\n", cell_types=["brain", "liver"]))
    assert plan.columns.chrom.tolist() == ["chr2", "chr1"]
    assert (plan.cells, plan.names, plan.left_out) == ((2, 0), ("brain", "liver"), {"unknown_contig": 1})
    assert [(part.first, part.last, part.rows, part.sequences) for part in plan.parts] == [(0, 2, 4, 2 + 2 * 5)]


def test_all_cell_types_unless_some_are_named(recipe, dbert_folder):
    assert check_embed(recipe()).names == ("liver", "lung", "brain")
    assert check_embed(recipe(model=str(dbert_folder))).names == ("",)


def test_windows_of_the_corpus(recipe):
    plan = check_embed(recipe(intervals={"kind": "windows", "split": "held_out"}))
    assert plan.columns.start.tolist() == list(range(0, 1170, 180))
    with pytest.raises(CorpusError, match="no train windows"):
        check_embed(recipe(intervals={"kind": "windows", "split": "train"}))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "nowhere"}, CheckpointError, "does not exist"),
        ({"corpus": "nowhere"}, CorpusError, "does not exist"),
        ({"intervals": {"kind": "bed", "path": "nowhere.bed"}}, GenomeError, r"nowhere\.bed"),
        ({"cell_types": ["livr"]}, RecipeError, "'livr' is not a cell type .* Did you mean liver"),
        ({"cell_types": ["liver", "liver"]}, RecipeError, "'liver' is named twice"),
        ({"cell_types": []}, RecipeError, "cell_types is empty"),
        ({"bed": "chr1\t10\t12\n"}, RecipeError, r"1 of 1 intervals are shorter .* 3 bp, e\.g\. .*chr1:10-12"),
        ({"bed": "chr1\t0\t500\n", "pooling": "cls"}, RecipeError, "at most 92 bp, but 1 of 1 are longer"),
        ({"bed": "chr9\t0\t500\n"}, CorpusError, "none of the intervals"),
    ],
)
def test_bad_recipes(recipe, tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        check_embed(recipe(**changes))
    assert not (tmp_path / "runs").exists()


def test_the_longest_interval_of_one_window_has_a_cls(recipe):
    assert check_embed(recipe("chr1\t0\t92\n", pooling="cls")).parts[0].sequences == 3
    with pytest.raises(RecipeError, match="pooling=cls"):
        check_embed(recipe("chr1\t0\t93\n", pooling="cls"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"assembly": "hg19"}, "assembly 'hg19', the corpus .* is 'toy1'"),
        ({"bin_bp": 200}, "bins of 200 bp, the corpus .* has 20 bp"),
        ({"state_names": ("open", "closed", "poised", "quiet")}, "state 1 is 'closed' in the model, 'poised' there"),
    ],
)
def test_a_model_of_other_data(recipe, make_model, changes, message):
    with pytest.raises(CheckpointError, match=message):
        check_embed(recipe(model=str(make_model(**changes))))


def test_a_model_of_dna_alone_has_no_cell_types_and_reads_any_alphabet(recipe, make_model):
    model = str(make_model(states=False, bin_bp=200))
    assert check_embed(recipe(model=model)).cells == ()
    with pytest.raises(RecipeError, match="the model reads DNA alone"):
        check_embed(recipe(model=model, cell_types=["liver"]))


def test_a_model_of_states_refuses_a_corpus_of_dna_alone(recipe, toy_corpus, tmp_path):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    manifest = toy_corpus.manifest.model_copy(
        update={"cell_types": (), "state_names": (), "held_out_cell_types": (), "files": ()}
    )
    (corpus / "manifest.json").write_text(manifest.model_dump_json())
    with pytest.raises(CheckpointError, match="is DNA alone"):
        check_embed(recipe(corpus=str(corpus)))


def copy_model(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def test_weights_that_do_not_fit_are_refused_before_a_worker_starts(recipe, ebert_folder, make_model, tmp_path):
    model = copy_model(ebert_folder, tmp_path / "model")
    file = model / "model.safetensors"
    weights, whole = load_file(file), file.read_bytes()
    for kept, message in [
        ({k: v for k, v in weights.items() if k != "state_head.dense.bias"}, r"state_head\.dense\.bias are missing"),
        (weights | {"pooler.weight": weights["state_head.dense.bias"].clone()}, r"pooler\.weight are missing, left"),
        (weights | {"state_head.dense.bias": weights["state_head.dense.bias"][:3].clone()}, r"dense\.bias \(3,\)"),
    ]:
        save_file(kept, file)
        with pytest.raises(CheckpointError, match=message):
            check_embed(recipe(model=str(model)))
    for data in (whole[:-1], whole[:100], b"", b"PK" + whole):
        file.write_bytes(data)
        with pytest.raises(CheckpointError, match="not a whole safetensors file"):
            check_embed(recipe(model=str(model)))
    file.unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        check_embed(recipe(model=str(model)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "model_type is 'bert'"),
        ({"stride": 1}, "the stride is 1 in config.json and 3 in epilm.json"),
        ({"k": 5}, "is not a configuration of an epilm model: dna_vocab_size=69 contradicts k=5"),
    ],
)
def test_a_configuration_of_another_model(recipe, ebert_folder, tmp_path, changes, message):
    model = copy_model(ebert_folder, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(CheckpointError, match=message):
        check_embed(recipe(model=str(model)))
    (model / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        check_embed(recipe(model=str(model)))


def test_identity_is_what_decides_the_numbers(recipe):
    one = check_embed(recipe()).fingerprints
    assert check_embed(recipe("chr1\t100\t191\n")).fingerprints["intervals"] != one["intervals"]
    assert recipe().identity() == recipe(num_workers=3, cpus_per_worker=2, gpus_per_worker=1).identity()
    assert recipe().identity() != recipe(pooling="cls").identity()


def provenance(folder: Path, **changes: object) -> Provenance:
    return read_provenance(Location(str(folder))).model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "on_trained"),
    [
        ({}, 3),
        ({"trained_contigs": ("1",)}, 3),
        ({"trained_contigs": ("chr1", "chrUn")}, 3),
        ({"trained_contigs": ("chr8",)}, 0),
        ({"trained_contigs": ("*",)}, 4),
        ({"trained_regions": (("chr1", 0, 100),)}, 1),
        ({"trained_contigs": ("1",), "trained_regions": (("1", 0, 101), ("1", 399, 400))}, 3),
    ],
)
def test_leaks_are_counted_under_any_contig_name(ebert_folder, changes, on_trained):
    intervals = Intervals(
        np.array(["chr1", "chr1", "chr1", "chr2"], object),
        np.array([0, 100, 300, 0]),
        np.array([90, 190, 400, 90]),
        np.zeros(4, bool),
    )
    leak = leak_summary(intervals, ("brain", "lung"), provenance(ebert_folder, **changes), ["chr1", "chr2"])
    assert leak["intervals_on_trained"] == on_trained
    assert leak["trained_cell_types"] == ["lung"]


def test_parts_hold_whole_intervals_and_a_bounded_number_of_bytes(recipe, monkeypatch):
    layout = check_embed(recipe()).info.layout
    lengths = np.array([90, 90, 900, 90, 90, 90])

    def cut(pooling: str, windows: int) -> list[tuple[int, int, int]]:
        parts = plan_parts(lengths, layout=layout, num_cells=2, pooling=pooling, sequences_per_part=windows)
        return [(part.first, part.last, part.sequences) for part in parts]

    assert cut("mean", 4) == [(0, 2, 4), (2, 3, 20), (3, 5, 4), (5, 6, 2)]
    assert cut("mean", 1000) == [(0, 6, 30)]
    monkeypatch.setattr("epilm.predict.parts.MAX_PART_BYTES", 30 * 2 * 16 * 4 * 2)
    assert cut("mean", 1000) == [(0, 6, 30)]
    assert cut("tokens", 1000) == [(0, 2, 4), (2, 3, 20), (3, 5, 4), (5, 6, 2)]
