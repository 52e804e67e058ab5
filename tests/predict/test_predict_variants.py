"""``epilm variants``: haplotypes, bins and changes against one window at a time; bad input; order, parts and resume."""

from __future__ import annotations

import gzip
import json
import math
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import variants_toy as toy

from epilm.errors import CheckpointError, CorpusError, EpilmError, GenomeError, RecipeError
from epilm.models.binding_folder import load_binding
from epilm.predict import variants
from epilm.predict.variants import VariantWriter, run_variants
from epilm.predict.variants_dna import Alleles, alternative_dna, largest_change, variant_bins
from epilm.predict.variants_files import read_table, write_table
from epilm.predict.variants_odds import probability
from epilm.predict.variants_plan import check_variants
from epilm.predict.variants_recipe import VariantsRecipe
from epilm.storage import Location

# (contig, first base from 0, bases that are replaced, what replaces them: None for others than the reference's)
PLACES = [
    ("chr1", 300, 1, None),  # an SNV
    ("chr1", 0, 1, None),  # at the contig's first base
    ("chr1", 1989, 1, None),  # at its last: no whole bin holds it
    ("chr2", 1202, 1, "GAT"),  # an insertion at the end
    ("chr2", 0, 3, "A"),  # a deletion at the beginning
    ("chr2", 1180, 23, "T"),  # a deletion up to the end
    ("chr1", 700, 5, None),  # several bases at once
    ("chr1", 708, 1, "ACGTTGCATTGACCA" * 7),  # an insertion longer than the window
    ("chr1", 800, 60, "C"),  # a deletion of most of a window
    ("chr1", 900, 2, "TTTTT"),
    ("chr2", 611, 1, None),
    ("chr2", 611, 1, "AC"),
    ("chr1", 480, 1, None),  # beside the N gap 500-610
    ("chr2", 37, 40, "GGC"),
]


def records(corpus) -> list[tuple[str, int, str, str]]:
    """(contig, POS, REF, ALT) of ``PLACES``."""
    generator, found = random.Random(2), []
    for chrom, start, width, alt in PLACES:
        ref = toy.letters(corpus.dna[chrom][start : start + width])
        other = "".join(generator.choice([b for b in "ACGT" if b != base]) for base in ref)
        text = other if alt is None else alt if alt[0] != ref[0] or len(alt) != len(ref) else other
        found.append((chrom, start + 1, ref, text))
    return found


def write_vcf(path: Path, rows: list[tuple], header: str = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\n") -> str:
    path.write_text(header + "".join(f"{c}\t{p}\trs{i}\t{r}\t{a}\n" for i, (c, p, r, a) in enumerate(rows)))
    return str(path)


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
    """``recipe(rows, **changes)``: the variants of a VCF in two cell types."""

    def make(rows=None, **changes) -> VariantsRecipe:
        settings = {
            "name": "run",
            "storage": str(tmp_path),
            "model": str(models["ebert"]),
            "corpus": str(toy_corpus.folder),
            "cell_types": ["brain", "liver"],
            "step_bp": toy.STEP_BP,
            "batch_size": 7,
            "windows_per_part": 40,
        }
        if "vcf" not in changes:
            settings["vcf"] = write_vcf(tmp_path / "toy.vcf", records(toy_corpus) if rows is None else rows)
        return VariantsRecipe.model_validate(settings | changes)

    return make


def predict(recipe: VariantsRecipe, folder: Path) -> pd.DataFrame:
    """The stage's parts, written in this process."""
    plan = check_variants(recipe)
    run = Location(str(folder))
    (run / variants.PARTS_FOLDER).mkdir()
    write_table(run / variants.ALLELES_FILE, plan.variants)
    writer = VariantWriter(
        recipe=recipe,
        run_folder=run,
        model=Location(recipe.model),
        corpus=Location(recipe.corpus),
        parts=plan.parts,
        cell_types=plan.cell_types,
        targets=plan.targets,
        target_rows=plan.target_rows,
        device="cpu",
    )
    for part in plan.parts:
        writer.write(part.index)
    return pd.concat([read_table(run / variants.PARTS_FOLDER / part.path).to_pandas() for part in plan.parts])


def all_bins(corpus, chrom: str) -> list[int]:
    return list(range(0, len(corpus.dna[chrom]) - toy.BIN_BP + 1, toy.STEP_BP))


def shortest(pos: int, ref: str, alt: str) -> tuple[int, int]:
    """The changed bases, cut one by one."""
    start, end = pos - 1, pos - 1 + len(ref)
    while min(len(ref), len(alt)) > 1 and ref[-1] == alt[-1]:
        ref, alt, end = ref[:-1], alt[:-1], end - 1
    while min(len(ref), len(alt)) > 1 and ref[0] == alt[0]:
        ref, alt, start = ref[1:], alt[1:], start + 1
    return start, end


def slow_rows(corpus, model, rows, cells) -> list[dict]:
    """Every (variant, cell, target) by writing out the haplotype of the whole contig."""
    slow, found = toy.SlowPredictor(model, corpus), []
    for chrom, pos, ref, alt in rows:
        dna = corpus.dna[chrom]
        haplotype = np.concatenate([dna[: pos - 1], toy.codes(alt), dna[pos - 1 + len(ref) :]])
        start, end = shortest(pos, ref, alt)
        distance = {b: abs(2 * b + toy.BIN_BP - start - end) for b in all_bins(corpus, chrom)}
        nearest = min(distance, key=lambda b: (distance[b], b))
        held = [b for b in distance if b < end and b + toy.BIN_BP > start]
        bins = sorted({nearest, *held})
        for cell in cells:
            before = {b: slow.odds(chrom, dna, b, cell) for b in bins}
            after = {b: slow.odds(chrom, haplotype, b, cell) for b in bins}
            for t, target in enumerate(toy.TARGETS):
                p = lambda odds: 1 / (1 + math.exp(-odds))
                odds = {b: after[b][t] - before[b][t] for b in bins}
                change = {b: p(after[b][t]) - p(before[b][t]) for b in bins}
                largest = max(bins, key=lambda b: abs(odds[b]))
                found.append({
                    "chrom": chrom, "pos": pos, "ref": ref, "alt": alt, "cell_type": cell, "target": target,
                    "bin_start": nearest, "probability_ref": p(before[nearest][t]), "probability_alt": p(after[nearest][t]),
                    "change": change[nearest], "log_odds_change": odds[nearest],
                    "max_change": max(change.values(), key=abs), "max_log_odds_change": odds[largest], "max_bin_start": largest,
                })  # fmt: skip
    return found


@pytest.mark.parametrize("kind", ["ebert", "strands"])
def test_changes_equal_those_of_written_out_haplotypes(tmp_path, toy_corpus, models, recipe, kind):
    rows = records(toy_corpus)
    table = predict(recipe(model=str(models[kind])), tmp_path / "out")
    expected = slow_rows(toy_corpus, load_binding(Location(str(models[kind]))), rows, ("brain", "liver"))
    assert len(table) == len(expected) == len(rows) * 4
    assert (np.abs(table["max_log_odds_change"]) > 1e-3).mean() > 0.8, "what changes nothing tests nothing"
    for row, right in zip(table.to_dict("records"), expected, strict=True):
        for key, value in right.items():
            if isinstance(value, float):
                assert row[key] == pytest.approx(value, abs=2e-5), (key, right)
            elif key != "max_bin_start" or abs(right["max_log_odds_change"]) > 1e-4:
                assert row[key] == value, (key, right)


def test_the_centre_alone_gives_the_same_numbers(tmp_path, recipe):
    every, centre = predict(recipe(), tmp_path / "a"), predict(recipe(bins="centre"), tmp_path / "b")
    assert "max_change" not in centre
    shared = ["pos", "alt", "cell_type", "target", "bin_start"]
    pd.testing.assert_frame_equal(every[shared].reset_index(drop=True), centre[shared].reset_index(drop=True))
    np.testing.assert_allclose(every["log_odds_change"], centre["log_odds_change"], atol=1e-5)
    assert (every["max_log_odds_change"].abs() >= every["log_odds_change"].abs() - 1e-6).all()


def test_a_model_of_dna_alone_has_one_answer_for_all_cell_types(tmp_path, models, recipe):
    alone = predict(recipe(model=str(models["dbert"]), cell_types=None, targets=["REST"]), tmp_path / "a")
    named = predict(recipe(model=str(models["dbert"]), cell_types=["x", "y"]), tmp_path / "b")
    assert set(alone["cell_type"]) == {""}
    assert set(alone["target"]) == {"REST"}
    for name in ("x", "y"):
        mine = named[(named["cell_type"] == name) & (named["target"] == "REST")]
        np.testing.assert_allclose(mine["log_odds_change"], alone["log_odds_change"], atol=1e-6)


@pytest.mark.parametrize(
    ("start", "ref_bp", "alt", "first", "window"),
    [
        (4, 1, "GTT", 4, "GTTGT"),  # an insertion moves on what is right of it
        (4, 3, "G", 4, "GTACN"),  # a deletion pulls in what lies behind, N past the end
        (2, 1, "TTT", 3, "TTCGG"),  # begun before the window
        (2, 5, "C", 1, "ACTAC"),
        (0, 1, "T", 5, "GTTAC"),  # wholly before it: nothing moves
    ],
)
def test_the_window_keeps_its_place_left_of_the_variant(start, ref_bp, alt, first, window):
    dna = toy.codes("N" * 9 + "AACCGGTTAC" + "N" * 9)
    alleles = Alleles(*(np.array([n]) for n in (start, ref_bp, len(alt), 0)), toy.codes(alt))
    before, behind = alleles.margins_bp
    row = dna[9 + first - before : 9 + first + 5 + behind]
    assert toy.letters(alternative_dna(row[None], np.array([first]), alleles)[0]) == window


@pytest.mark.parametrize("every", [True, False])
def test_bins_by_looking_at_all_of_them(every):
    generator = random.Random(1)
    spans = [(start := generator.randint(0, 400), start + generator.randint(1, 90)) for _ in range(400)]
    first, last = 60, 330
    start, end = np.array(spans).T
    got = variant_bins(start, end, np.full(400, first), np.full(400, last), bin_bp=40, step_bp=10, every=every)
    bins = range(first, last + 1, 10)
    for v, (a, b) in enumerate(spans):
        nearest = min(bins, key=lambda x: (abs(2 * x + 40 - a - b), x))
        held = {x for x in bins if x < b and x + 40 > a} if every else set()
        mine = got.start[got.offsets[v] : got.offsets[v + 1]].tolist()
        assert {nearest, *held} <= set(mine)
        assert mine == list(range(min({nearest, *held}), max({nearest, *held}) + 1, 10))
        assert got.start[got.nearest[v]] == nearest


def test_largest_change_passes_over_nan_and_takes_the_first_of_equals():
    values = np.array([[1.0, math.nan], [-3.0, math.nan], [3.0, math.nan], [math.nan, 1.0], [0.0, -1.0]])
    assert largest_change(values, np.array([0, 3, 5])).tolist() == [[1, 0], [4, 3]]
    np.testing.assert_allclose(probability(np.array([-800.0, 0.0, 40.0])), [0, 0.5, 1], atol=1e-15)


def test_what_is_left_out_is_counted(toy_corpus, recipe):
    base = toy.letters(toy_corpus.dna["chr1"][99:100])
    other = "A" if base != "A" else "C"
    last = toy.letters(toy_corpus.dna["chr1"][1980:])
    rows = [
        ("chr1", 100, base, f"{other},<DEL>,*,N"),
        ("chr9", 5, "A", "C"),
        ("chr1", 1981, last + "A", "A"),
        ("chr1", 0, "A", "C"),
        ("chr1", 505, "A", "C"),
        ("chr1", 100, base, base + "A" * 500),
    ]
    plan = check_variants(recipe(rows))
    assert plan.variants.num_rows == 1
    assert plan.num_records == 6
    assert plan.excluded == {
        "symbolic": 1, "star": 1, "ambiguous": 1, "unknown_contig": 1, "outside": 2, "too_long": 1, "reference_unknown": 1,
    }  # fmt: skip


def test_contigs_go_by_any_of_their_names(toy_corpus, recipe):
    base = toy.letters(toy_corpus.dna["chr1"][99:100])
    plan = check_variants(recipe([("1", 100, base, "A" if base != "A" else "C")]))
    assert plan.variants["chrom"].to_pylist() == ["chr1"]


def shifted(corpus, by: int, complement: bool = False) -> list[tuple]:
    rows = []
    for pos in range(40, 80):
        base = int(corpus.dna["chr2"][pos - 1])
        base = 3 - base if complement else base
        rows.append(("chr2", pos + by, "ACGT"[base], "ACGT"[(base + 1) % 4]))
    return rows


@pytest.mark.parametrize(
    ("by", "complement", "message"),
    [(-1, False, "counted from 0"), (0, True, "other strand"), (400, False, "another assembly")],
)
def test_reference_alleles_of_another_kind_are_refused_with_the_cause(toy_corpus, recipe, by, complement, message):
    rows = shifted(toy_corpus, by, complement)
    with pytest.raises(CorpusError, match=message) as caught:
        check_variants(recipe(rows))
    wrong = [r for r in rows if r[2] != toy.letters(toy_corpus.dna["chr2"][r[1] - 1 : r[1]])]
    assert f"{len(wrong)} of 40 reference alleles" in str(caught.value)
    chrom, pos, ref, _ = wrong[0]
    here = toy.letters(toy_corpus.dna["chr2"][pos - 1 : pos])
    assert f"record {rows.index(wrong[0]) + 1}, {chrom}:{pos}: REF {ref}, the corpus has {here}." in str(caught.value)


def test_mismatches_are_skipped_where_asked(toy_corpus, recipe):
    rows = [*shifted(toy_corpus, 0), ("chr2", 10, *("AC" if toy_corpus.dna["chr2"][9] != 0 else "CA"))]
    plan = check_variants(recipe(rows, on_mismatch="skip"))
    assert plan.variants.num_rows == 40
    assert plan.excluded == {"reference_mismatch": 1}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"vcf": "nowhere.vcf"}, GenomeError, "does not exist"),
        ({"model": "nowhere"}, CheckpointError, "no TF-binding model"),
        ({"corpus": "nowhere"}, CorpusError, "no corpus at"),
        ({"targets": ["CTFC"]}, RecipeError, "does not predict 'CTFC'. Did you mean CTCF"),
        ({"targets": []}, RecipeError, "targets is empty"),
        ({"targets": ["CTCF", "CTCF"]}, RecipeError, "named twice"),
        ({"cell_types": ["livr"]}, RecipeError, "no states of 'livr'. Did you mean liver"),
    ],
)
def test_bad_settings_are_refused(recipe, changes, error, message):
    with pytest.raises(error, match=message):
        check_variants(recipe(**changes))


def test_nothing_left_is_refused(toy_corpus, recipe):
    for rows, message in [
        ([("chr9", 5, "A", "C")], "none of its contigs"),
        ([("chr1", 5, "A", "<DEL>")], "no allele that is a sequence: 1 symbolic"),
        ([("chr1", 505, "A", "C")], "no variant of .* is left to predict: 1 reference_unknown"),
    ]:
        with pytest.raises(EpilmError, match=message):
            check_variants(recipe(rows))


@pytest.mark.ray
def test_two_workers_and_a_resumed_run_write_what_one_process_writes(ray_local, tmp_path, recipe):
    lines: list[str] = []
    result = run_variants(recipe(num_workers=2), progress=lines.append)
    assert any("14 alleles x 2 cell type(s) x 2 factor(s)" in line for line in lines)
    folder = tmp_path / "run"
    rows, alone = pd.read_parquet(folder / "variants"), predict(recipe(), tmp_path / "alone")
    pd.testing.assert_frame_equal(rows, alone.reset_index(drop=True))
    table = (folder / "variants.tsv.gz").read_bytes()
    written = gzip.decompress(table).decode().splitlines()
    assert written[0].split("\t")[:5] == ["chrom", "pos", "id", "ref", "alt"]
    assert len(written) == 1 + len(rows) == 1 + result["num_rows"]
    assert written[1].split("\t")[:8] == [str(value) for value in rows.iloc[0][:8]]
    most = rows[rows["target"] == "CTCF"]["max_log_odds_change"].abs().max()
    assert abs(result["strongest"]["CTCF"][0]["max_log_odds_change"]) == pytest.approx(most, rel=1e-4)
    description = (folder / "variants.json").read_text()
    assert [file["rows"] for file in json.loads(description)["files"]] == [
        part.rows for part in check_variants(recipe()).parts
    ]
    # a kill: a part is missing, another is half there, and the table is not
    parts = sorted((folder / "variants").iterdir())
    assert len(parts) > 3
    parts[0].unlink()
    parts[1].write_bytes(parts[1].read_bytes()[:100])
    for name in ("variants.tsv.gz", "variants.json", "result.json"):
        (folder / name).unlink()
    (folder / "variants.tsv.gz.x.tmp").write_text("half")
    again = run_variants(recipe(), on_existing="resume")
    assert again["parts_kept"] == len(parts) - 2
    assert (folder / "variants.json").read_text() == description
    assert (folder / "variants.tsv.gz").read_bytes() == table
    assert not list(folder.glob("*.tmp"))
