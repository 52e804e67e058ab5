"""Labels of a corpus from every kind of source, and all that may not fit."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from epilm.config import parse_recipe
from epilm.errors import CorpusError, EpilmError, GenomeError, RecipeError
from epilm.labels.codes import EXCLUDED
from epilm.labels.load import load_labels, open_labels
from epilm.labels.recipe import LabelsRecipe

SPANS = {"chrI": (0, 3000), "chrII": (0, 2000)}


def config_of(**raw):
    return parse_recipe(LabelsRecipe, {"name": "x", "corpus": "c", "labels": raw}).labels


def bed(folder, name, rows):
    path = folder / name
    path.write_text("".join(f"{chrom}\t{start}\t{end}\n" for chrom, start, end in rows))
    return str(path)


@pytest.fixture
def folder(tmp_path):
    bed(tmp_path, "strong.bed", [("chr1", 400, 700), ("chr1", 650, 760), ("chr2", 1500, 1720), ("chr7", 5, 900)])
    bed(tmp_path, "weak.bed", [("chr1", 300, 701), ("chr2", 20, 60), ("chr2", 1990, 2000)])
    bed(tmp_path, "other.bed", [("1", 2000, 2300), ("2", 10, 300)])
    bed(tmp_path, "black.bed", [("chrII", 1600, 1601), ("chrXVI", 0, 99)])
    return tmp_path


def assert_as_reference(labels, reference, contig, cell, target, *args, **rule):
    assert labels.dense(contig, cell, target).tolist() == reference(SPANS[contig], *args, **rule)[1]


def test_peak_files(folder, make_manifest, reference):
    files = {
        "REB1": {"yeast": {"conservative": str(folder / "strong.bed"), "relaxed": str(folder / "weak.bed")}},
        "ABF1": {"yeast": str(folder / "other.bed"), "mutant": str(folder / "strong.bed")},
    }
    told: list[str] = []
    config = config_of(kind="peaks", files=files, blacklist=str(folder / "black.bed"))
    labels = load_labels(config, make_manifest(SPANS), progress=told.append)
    assert (labels.cell_types, labels.targets) == (("yeast", "mutant"), ("REB1", "ABF1"))
    black = [(1600, 1601)]
    one, two = [(400, 700), (650, 760)], [(1500, 1720)]
    assert_as_reference(labels, reference, "chrI", "yeast", "REB1", one, [(300, 701)])
    assert_as_reference(labels, reference, "chrII", "yeast", "REB1", two, [(20, 60), (1990, 2000)], black)
    assert_as_reference(labels, reference, "chrI", "mutant", "ABF1", one)
    assert_as_reference(labels, reference, "chrII", "mutant", "ABF1", two, (), black)
    assert_as_reference(labels, reference, "chrI", "yeast", "ABF1", [(2000, 2300)])
    assert not labels.measured("mutant", "REB1")
    assert any("of 4, 1 are on contigs that the corpus lacks" in line for line in told)
    assert any("black.bed excludes 4 of 94 bins" in line for line in told)
    assert labels.excluded.size == 4
    few = load_labels(config.model_copy(update={"targets": ("ABF1",)}), make_manifest(SPANS))
    assert few.fingerprint() == labels.restrict(targets=["ABF1"]).fingerprint()


def test_tables_say_the_same_as_files(folder, make_manifest):
    rows = []
    for name, which in (("strong.bed", "conservative"), ("weak.bed", "relaxed")):
        lines = (folder / name).read_text().splitlines()
        rows += [f"yeast\tREB1\t{which}\t{line}" for line in lines] + [f"mut\tREB1\t{which}\t{lines[0]}"]
    rows.append("mut\tMAYBE\trelaxed\tchr1\t50\t90")
    (folder / "table.tsv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    both = {"conservative": str(folder / "strong.bed"), "relaxed": str(folder / "weak.bed")}
    manifest = make_manifest(SPANS, ["mutant", "yeast"])
    table = config_of(
        kind="peak_table", path=str(folder / "table.tsv.gz"), targets=["REB1"], cell_types={"mut": "mutant"}
    )  # fmt: skip
    labels = load_labels(table, manifest)
    files = load_labels(config_of(kind="peaks", files={"REB1": {"yeast": both}}), manifest)
    assert labels.cell_types == ("mutant", "yeast")
    assert labels.restrict(["yeast"]).fingerprint() == files.fingerprint()
    # relaxed peaks alone: measured, bound nowhere; refused as the only cell type of the factor
    with pytest.raises(CorpusError, match=r"no bin of .* is bound by MAYBE: .* targets: \[REB1\]"):
        load_labels(table.model_copy(update={"targets": None}), manifest)


def test_one_base_peaks_are_resized(folder, make_manifest, reference):
    exo = bed(folder, "exo.bed", [("chr1", 500, 501), ("chr1", 10, 11), ("chr2", 1999, 2000)])
    with pytest.raises(RecipeError, match=r"longest peak has 1 bp, less than min_overlap_bp=101.*Set resize_bp"):
        load_labels(config_of(kind="peaks", files={"CBF1": {"y": exo}}), make_manifest(SPANS))
    labels = load_labels(config_of(kind="peaks", files={"CBF1": {"y": exo}}, resize_bp=200), make_manifest(SPANS))
    assert_as_reference(labels, reference, "chrI", "y", "CBF1", [(400, 600), (-90, 110)])
    assert_as_reference(labels, reference, "chrII", "y", "CBF1", [(1899, 2099)])
    # bins of 100 bp, and a piece of a contig that a resized peak outside of it reaches into
    spans = {"chrI": (520, 900)}
    small = {"bin_bp": 100, "step_bp": 20, "min_overlap_bp": 51}
    labels = load_labels(
        config_of(kind="peaks", files={"CBF1": {"y": exo}}, resize_bp=200, **small), make_manifest(spans)
    )
    assert labels.dense("chrI", "y", "CBF1").tolist() == reference(spans["chrI"], [(400, 600)], **small)[1]
    assert labels.bound["y", "CBF1"].size == 2  # 520-620 and 540-640


def test_a_folder_of_nothing_but_the_blacklist(folder, make_manifest):
    (folder / "all.bed").write_text("chr1\t0\t3000\nchr2\t0\t2000\n")
    config = config_of(
        kind="peaks", files={"REB1": {"y": str(folder / "strong.bed")}}, blacklist=str(folder / "all.bed")
    )
    with pytest.raises(CorpusError, match="is bound by REB1"):
        load_labels(config, make_manifest(SPANS))
    (folder / "most.bed").write_text("chr1\t0\t3000\n")
    labels = load_labels(config.model_copy(update={"blacklist": str(folder / "most.bed")}), make_manifest(SPANS))
    assert (labels.dense("chrI", "y", "REB1") == EXCLUDED).all()


PEAKS = {"kind": "peaks", "files": {"REB1": {"yeast": "strong.bed"}}}


@pytest.mark.parametrize(
    ("changes", "spans", "kind", "message"),
    [
        ({"targets": ["REB2"]}, SPANS, CorpusError, r"no labels of 'REB2'. Did you mean 'REB1'\?"),
        ({"cell_types": {"YEAST": "y"}}, SPANS, CorpusError, "no labels of cell type 'YEAST'.*Allowed: yeast"),
        ({"cell_types": {"yeast": None}}, SPANS, CorpusError, "leaves out every cell type that REB1"),
        ({"cell_types": {"yeast": "liver"}}, SPANS, CorpusError, "no states of cell type 'liver'.*Allowed: yeast, h1"),
        ({"files": {"REB1": {"yeast": "none.bed"}}}, SPANS, GenomeError, "none.bed does not exist"),
        ({"files": {"REB1": {"yeast": "empty.bed"}}}, SPANS, GenomeError, "empty.bed is empty"),
        ({"blacklist": "none.bed"}, SPANS, GenomeError, "none.bed does not exist"),
        ({"cell_types": {"yeast": "h1", "H1": "h1"}}, SPANS, RecipeError, "gives 'h1' to two cell types"),
        ({"files": {"A": {"yeast": "strong.bed", "H1": "other.bed"}}, "cell_types": {"H1": "yeast"}}, SPANS, CorpusError,
         "'yeast' and 'H1' of the labels both mean 'yeast'"),
        ({}, {**SPANS, "chrIII": (0, 900)}, CorpusError, "no peak on chrIII of the corpus.*missing_contigs: no_peaks"),
        ({}, {**SPANS, "chrII": (0, 1400)}, GenomeError, "chrII:1500-1720 lies past the end of chrII.*outside: leave_out"),
        ({}, {"plasmid": (0, 900)}, GenomeError, "none of its contigs"),
        ({}, {"chrI": (0, 300), "chrII": (0, 150)}, GenomeError, "lies past the end"),
        ({}, {"chrI": (1000, 1300), "chrII": (1, 900)}, CorpusError, "is bound by REB1: nothing could be learned"),
        ({}, {"chrI": (0, 100)}, RecipeError, "no contig holds a bin of bin_bp=200"),
        ({"min_overlap_bp": 201}, SPANS, RecipeError, "exceeds bin_bp=200: nothing could be bound. Try 101"),
        ({"resize_bp": 100}, SPANS, RecipeError, "resize_bp=100 is less than min_overlap_bp=101"),
        ({"targets": []}, SPANS, RecipeError, "must name one factor or more"),
        ({"files": {"REB1": {}}}, SPANS, RecipeError, "files.REB1 names no cell type"),
        ({"path": "x"}, SPANS, RecipeError, "unknown setting"),
    ],
)  # fmt: skip
def test_what_does_not_fit(folder, monkeypatch, make_manifest, changes, spans, kind, message):
    monkeypatch.chdir(folder)
    (folder / "empty.bed").write_text("")

    def load():
        return load_labels(config_of(**(PEAKS | changes)), make_manifest(spans, ["yeast", "h1"]))

    with pytest.raises(kind, match=message):
        load()


def test_what_is_allowed_when_said(folder, monkeypatch, make_manifest):
    monkeypatch.chdir(folder)
    spans = {**SPANS, "chrII": (0, 1400), "chrIII": (0, 900)}
    config = config_of(**PEAKS, missing_contigs="no_peaks", outside="leave_out")
    labels = load_labels(config, make_manifest(spans, ["yeast"]))
    assert not labels.dense("chrIII", "yeast", "REB1").any()
    assert labels.dense("chrI", "yeast", "REB1").any()


DREAM = "chr\tstart\tstop\tyeast\nchr1\t0\t200\tB\nchr1\t{0}\t{1}\tU\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"T": [(2850, 3050)]}, r"chrI:2850-3050 lies past the end of chrI, which has 3,000 bp"),
        ({"T": [(2800, 3000), (50, 250)]}, "labels 1 bins of yeast that a file before it has labelled"),
    ],
)
def test_label_files_that_do_not_fit(tmp_path, make_manifest, files, message):
    given = {}
    for target, last in files.items():
        given[target] = [str(tmp_path / f"{target}{i}.tsv") for i in range(len(last))]
        for path, place in zip(given[target], last, strict=True):
            with open(path, "w") as stream:
                stream.write(DREAM.format(*place))
    config = config_of(kind="dream", files=given)
    with pytest.raises(EpilmError, match=message):
        load_labels(config, make_manifest(SPANS))


def test_label_files_beside_the_corpus(tmp_path, make_manifest):
    (tmp_path / "t.tsv").write_text(DREAM.format(50, 250))
    config = config_of(kind="dream", files={"T": str(tmp_path / "t.tsv")})
    with pytest.raises(CorpusError, match="no bin in what the corpus toy holds: chrI:1000-3000"):
        load_labels(config, make_manifest({"chrI": (1000, 3000)}))
    # only the names were read so far
    assert open_labels(config, make_manifest({"chrI": (1000, 3000)})).names.targets == ("T",)
    with pytest.raises(GenomeError, match="none of its contigs"):
        load_labels(config, make_manifest({"chrV": (0, 3000)}))
    with pytest.raises(GenomeError, match="is not a bin of bin_bp=100"):
        load_labels(config.model_copy(update={"bin_bp": 100}), make_manifest(SPANS))


def test_codes_are_random_access_into_dense(folder, monkeypatch, make_manifest, rng):
    monkeypatch.chdir(folder)
    files = {
        "A": {"x": "strong.bed", "y": "other.bed"},
        "B": {"y": {"conservative": "other.bed", "relaxed": "weak.bed"}},
    }
    labels = load_labels(config_of(kind="peaks", files=files), make_manifest(SPANS))
    dense = np.stack(
        [
            [np.concatenate([labels.dense(c, cell, t) for c in SPANS]) for t in labels.targets]
            for cell in labels.cell_types
        ]
    )
    bins, cells = rng.integers(0, labels.grid.num_bins, 500), rng.integers(0, 2, 500)
    assert (labels.codes(bins, cells) == dense[cells, :, bins]).all()
