"""ENCODE-DREAM label files: read by blocks, written, read again."""

from __future__ import annotations

import gzip
import lzma

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epilm.errors import GenomeError, RecipeError
from epilm.labels import dream
from epilm.labels.codes import AMBIGUOUS, BOUND, EXCLUDED, UNMEASURED
from epilm.labels.dream import read_dream, read_dream_header
from epilm.labels.dream_write import write_dream
from epilm.labels.grid import BinGrid
from epilm.labels.label_set import LabelSet
from epilm.labels.load import load_labels
from epilm.labels.recipe import DreamLabels
from epilm.labels.runs import Runs
from epilm.storage import Location

HEADER = "chr\tstart\tstop\tA549\tK562\n"
ROWS = "chr2\t600\t800\tU\tB\nchr2\t650\t850\tA\tB\nchr2\t700\t900\tA\tU\nchr2\t800\t1000\tB\tU\nchr1\t0\t200\tU\tB\n"


def write(folder, text, name="TF.tsv"):
    packers = {"gz": gzip.compress, "xz": lzma.compress}
    path = folder / name
    path.write_bytes(packers.get(name.rsplit(".", 1)[-1], bytes)(text.encode()))
    return str(path)


def bins_of(rows, runs):
    contig, start, count = rows.rows(runs, 50)
    return [(rows.contigs[c], s, n) for c, s, n in zip(contig.tolist(), start.tolist(), count.tolist(), strict=True)]


@pytest.mark.parametrize("name", ["TF.tsv", "TF.tsv.gz", "TF.tsv.xz"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_literal_file(tmp_path, name, ends):
    path = write(tmp_path, (HEADER + ROWS).replace("\n", ends), name)
    assert read_dream_header(path) == ("A549", "K562")
    rows = read_dream(path, cell_types=("A549", "K562"), bin_bp=200, step_bp=50)
    assert bins_of(rows, rows.listed) == [("chr2", 600, 3), ("chr2", 800, 1), ("chr1", 0, 1)]
    assert bins_of(rows, rows.bound["A549"]) == [("chr2", 800, 1)]
    assert bins_of(rows, rows.ambiguous["A549"]) == [("chr2", 650, 2)]
    assert bins_of(rows, rows.bound["K562"]) == [("chr2", 600, 2), ("chr1", 0, 1)]
    only = read_dream(path, cell_types=("K562",), bin_bp=200, step_bp=50)
    assert (only.bound, only.listed) == ({"K562": rows.bound["K562"]}, rows.listed)


def test_blocks_do_not_show(tmp_path, monkeypatch, rng):
    starts = np.sort(rng.choice(5000, 3000, replace=False)) * 50
    letters = rng.choice(list("UUUAB"), (3000, 2))
    chroms = np.sort(rng.integers(1, 4, 3000))
    text = "".join(f"chr{c}\t{s}\t{s + 200}\t{a}\t{b}\n" for c, s, (a, b) in zip(chroms, starts, letters, strict=True))
    path = write(tmp_path, HEADER + text, "TF.tsv.gz")
    whole = read_dream(path, cell_types=("A549", "K562"), bin_bp=200, step_bp=50)
    monkeypatch.setattr(dream, "BLOCK_BYTES", 500)
    assert read_dream(path, cell_types=("A549", "K562"), bin_bp=200, step_bp=50) == whole
    for column, cell in enumerate(("A549", "K562")):
        for letter, runs in (("B", whole.bound[cell]), ("A", whole.ambiguous[cell])):
            keep = letters[:, column] == letter
            wanted = {(f"chr{c}", int(s)) for c, s in zip(chroms[keep], starts[keep], strict=True)}
            found = {(c, s + 50 * i) for c, s, n in bins_of(whole, runs) for i in range(n)}
            assert found == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("chr1\t0\t200\tU\n", "not an ENCODE-DREAM label file: its first line"),
        ("chr\tstart\tstop\n", "not an ENCODE-DREAM label file"),
        ("chr\tstart\tstop\tK562\tK562\n", "names a cell type twice"),
        (HEADER, "no rows below its header"),
        (HEADER + ROWS + "chr2\t900\t1100\tU\n", "malformed row .*Expected 5 columns, got 4"),
        (HEADER + ROWS + "chr2\tx\t1100\tU\tU\n", "malformed row .*invalid value 'x'"),
        (HEADER + ROWS + "chr2\t900\t1100\tU\tUU\n", "malformed row"),
        (HEADER + ROWS + "chr2\t900\t1100\tU\t\n", "malformed row"),
        (
            HEADER + ROWS + "chr2\t900\t1100\tU\tN\n",
            r"label of K562 at row 6 \(chr2:900-1100\) is b'N'. Allowed: U, A, B",
        ),
        (HEADER + ROWS + "chr2\t900\t1000\tU\tU\n", r"row 6 \(chr2:900-1000\) is not a bin of bin_bp=200"),
        (HEADER + ROWS + "chr2\t925\t1125\tU\tU\n", "starts at a multiple of step_bp=50"),
        (HEADER + ROWS + "chr2\t-50\t150\tU\tU\n", "is not a bin"),
        (HEADER + ROWS + "chr2\t650\t850\tU\tU\n", "lists 1 of its 6 bins twice"),
    ],
)
def test_malformed_files(tmp_path, text, message):
    path = write(tmp_path, text)

    def read():
        return read_dream(path, cell_types=read_dream_header(path), bin_bp=200, step_bp=50)

    with pytest.raises(GenomeError, match=message):
        read()


def test_damaged_files(tmp_path, rng):
    lines = "".join(f"chr1\t{i * 50}\t{i * 50 + 200}\t{c}\tU\n" for i, c in enumerate(rng.choice(list("UAB"), 4000)))
    for name in ("TF.tsv.gz", "TF.tsv.xz"):
        path = tmp_path / name
        whole = write(tmp_path, HEADER + lines, name)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(GenomeError, match="truncated or damaged"):
            read_dream(whole, cell_types=("A549",), bin_bp=200, step_bp=50)
    (tmp_path / "x.tsv.gz").write_bytes(b"\x1f\x8b" + b"junk" * 9)
    with pytest.raises(GenomeError, match="truncated or damaged"):
        read_dream_header(str(tmp_path / "x.tsv.gz"))


def masks(n):
    return st.lists(st.booleans(), min_size=n, max_size=n).map(Runs.from_mask)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.data())
def test_written_and_read_again(tmp_path, make_manifest, data):
    spans = {"chr1": (0, 900), "tiny": (0, 40), "chr2": (130, 1040)}
    manifest = make_manifest(spans)
    grid = BinGrid.of(manifest)
    n = grid.num_bins
    excluded = data.draw(masks(n))
    pairs = [("a", "TF"), ("b", "TF"), ("b", "other")]
    labels = LabelSet.build(
        grid,
        ["a", "b"],
        ["TF", "other"],
        bound={pair: data.draw(masks(n)) for pair in pairs},
        ambiguous={pair: data.draw(masks(n)) for pair in pairs},
        excluded=excluded,
    )
    paths = {target: Location(str(tmp_path / f"{target}.tsv.gz")) for target in labels.targets}
    rows = {target: write_dream(path, labels, target) for target, path in paths.items()}
    assert set(rows.values()) == {n - excluded.size}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["TF.tsv.gz", "other.tsv.gz"]
    files = {target: str(path) for target, path in paths.items()}
    if not all(any(labels.bound[pair] for pair in pairs if pair[1] == target) for target in labels.targets):
        return  # a target that is bound nowhere is refused; see test_labels_load
    again = load_labels(DreamLabels(files=files), manifest)
    assert again.fingerprint() == labels.fingerprint()
    first = gzip.decompress((tmp_path / "TF.tsv.gz").read_bytes()).decode().split("\n")
    assert first[0] == "chr\tstart\tstop\ta\tb"
    dense = [labels.dense(contig, cell, "TF") for contig in spans for cell in ("a", "b")]
    listed = sum(int((codes != EXCLUDED).sum()) for codes in dense[::2])
    assert len(first) == listed + 2


def test_labels_of_different_bins_do_not_fit_one_file(tmp_path):
    grid = BinGrid.of_spans([("c", 0, 500)], 200, 50)
    some = Runs.of(np.array([0]), np.array([2]))
    labels = LabelSet.build(
        grid,
        ["a", "b"],
        ["TF"],
        bound={("a", "TF"): some, ("b", "TF"): some},
        ambiguous={},
        excluded=Runs.empty(),
        unlabelled={("b", "TF"): some},
    )
    with pytest.raises(RecipeError, match=r"TF in b has no label at 2 bins .* write_tsv=false"):
        write_dream(Location(str(tmp_path / "TF.tsv.gz")), labels, "TF")
    assert not list(tmp_path.iterdir())


def test_several_files_of_a_factor(tmp_path, make_manifest):
    train = write(
        tmp_path, "chr\tstart\tstop\ta\tb\n1\t0\t200\tB\tU\n1\t50\t250\tA\tB\n1\t150\t350\tU\tU\n", "train.tsv"
    )
    test = write(tmp_path, "chr\tstart\tstop\tb\tc\n2\t0\t200\tB\tU\n2\t50\t250\tU\tA\nX\t0\t200\tB\tB\n", "test.tsv")
    manifest = make_manifest({"chr1": (0, 400), "chr2": (0, 300)}, ["c", "b", "a"])
    told: list[str] = []
    labels = load_labels(DreamLabels(files={"TF": (train, test)}), manifest, progress=told.append)
    assert labels.cell_types == ("c", "b", "a")  # the corpus' order
    dense = {cell: [labels.dense(c, cell, "TF").tolist() for c in ("chr1", "chr2")] for cell in "abc"}
    assert dense == {
        "a": [[BOUND, AMBIGUOUS, EXCLUDED, 0, EXCLUDED], [UNMEASURED, UNMEASURED, EXCLUDED]],
        "b": [[0, BOUND, EXCLUDED, 0, EXCLUDED], [BOUND, 0, EXCLUDED]],
        "c": [[UNMEASURED, UNMEASURED, EXCLUDED, UNMEASURED, EXCLUDED], [0, AMBIGUOUS, EXCLUDED]],
    }
    assert any("its contigs X are not in the corpus" in line for line in told)
    assert any("leave out 3 of 8 bins" in line for line in told)
