"""States from segment BED, IDEAS tables, bigBed and lines: one toy segmentation in every format, and bad files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from genome_files import big_bed, write_text
from pydantic import TypeAdapter, ValidationError

from epilm.errors import GenomeError
from epilm.genome.contigs import Contig
from epilm.genome.states import NO_STATE, StatesConfig, StateSource, open_states
from epilm.genome.states.source import natural_key

# two contigs, the second with a last bin of 50 bp; chr2 is without states from 400 to 600
REFERENCE = {"chr1": Contig("chr1", 1000), "chr2": Contig("chr2", 1050)}
SEGMENTS = {
    "A": [("chr1", 0, 400, "E2"), ("chr1", 400, 1000, "E10"), ("chr2", 0, 400, "E1"), ("chr2", 600, 1050, "E2")],
    "B": [("chr1", 0, 1000, "E1"), ("chr2", 0, 200, "E10"), ("chr2", 200, 400, "E2"), ("chr2", 600, 1050, "E1")],
}
NAMES = ("E1", "E2", "E10")
N = NO_STATE
BINS = {
    "chr1": [[1, 1, 2, 2, 2], [0, 0, 0, 0, 0]],
    "chr2": [[0, 0, N, 1, 1, 1], [2, 1, N, 0, 0, 0]],
}


def open_(config: dict[str, Any], reference: dict[str, Contig] = REFERENCE, **options: Any) -> StateSource:
    parsed = TypeAdapter(StatesConfig).validate_python(config)
    return open_states(parsed, reference=reference, train_contigs=(), **{"bin_bp": 200, **options})


def check(source: StateSource, names: tuple[str, ...] = NAMES) -> None:
    """The toy segmentation, also after a journey to a worker, and in stretches and other bins."""
    for state in (source, pickle.loads(pickle.dumps(source))):
        assert state.cell_types == ("A", "B")
        assert state.state_names == names
        for contig, expected in BINS.items():
            end = REFERENCE[contig].end_bp
            bins = state.read(contig, 0, end, 200)
            assert bins.dtype == np.uint8
            assert bins.tolist() == expected
            assert state.read(contig, 400, 800, 200).tolist() == [row[2:4] for row in expected]
            fine = state.read(contig, 0, end, 50)
            np.testing.assert_array_equal(fine, np.repeat(expected, 4, axis=1)[:, : fine.shape[1]])


def bed(cell: str, extra: str = "", strip: str = "", order: int = 1) -> str:
    return "".join(
        f"{c.removeprefix(strip)}\t{s}\t{e}\t{label}{extra.format(s=s, e=e)}\n"
        for c, s, e, label in SEGMENTS[cell][::order]
    )


@pytest.mark.parametrize("suffix", [".bed", ".bed.gz"])
@pytest.mark.parametrize(
    ("head", "extra", "strip", "order"),
    [
        ("", "", "", 1),
        ("", "", "chr", 1),
        ("", "", "", -1),
        ("track name=A\n", "\t0\t.\t{s}\t{e}\t255,0,0", "", 1),
        ('browser position chr1\n#x\ntrack name="A" itemRgb="On"\n', "\t0\t.\t{s}\t{e}\t255,0,0", "chr", -1),
        ("", "\t255,255,0", "", 1),
    ],
    ids=["four columns", "no chr", "any order", "dense", "dense, any order", "five columns"],
)
def test_segments(tmp_path: Path, suffix: str, head: str, extra: str, strip: str, order: int) -> None:
    files = {cell: write_text(tmp_path / f"{cell}{suffix}", head + bed(cell, extra, strip, order)) for cell in SEGMENTS}
    source = open_({"kind": "segments", "files": files}, required=list(REFERENCE))
    check(source)
    assert source.source_paths == tuple(files.values())
    expected = {name.removeprefix(strip): name for name in REFERENCE}
    assert all(names == expected for names in source.contig_names.values())


def table(order: int = 1, separator: str = " ") -> str:
    """IDEAS: windows of 200 bp, two of them missing, the last cut; the last column is no cell."""
    lines = []
    for contig, (a, b) in BINS.items():
        for i, states in enumerate(zip(a, b, strict=True)):
            if N not in states:
                end = min(200 * i + 200, REFERENCE[contig].end_bp)
                numbers = [NAMES[state][1:] for state in states]
                lines.append(separator.join([f"R{i}", contig, str(200 * i), str(end), *numbers, str(7 + i)]))
    return "\n".join([separator.join(["#ID", "CHR", "POSst", "POSed", "A", "B", "PosClass"]), *lines[::order], ""])


IDEAS_NAMES = ("1", "2", "10")


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_ideas(tmp_path: Path, order: int, separator: str) -> None:
    path = write_text(tmp_path / "x.state.gz", table(order, separator))
    check(open_({"kind": "ideas", "path": path}), IDEAS_NAMES)
    swapped = open_({"kind": "ideas", "path": path, "cell_types": ["B", "A"]})
    assert swapped.cell_types == ("B", "A")
    assert swapped.read("chr1", 0, 1000, 200).tolist() == BINS["chr1"][::-1]


def test_ideas_of_one_file_a_contig(tmp_path: Path) -> None:
    head, *lines = table().splitlines(keepends=True)
    paths = [
        write_text(tmp_path / f"{contig}.state", head + "".join(line for line in lines if f" {contig} " in line))
        for contig in ("chr2", "chr1")
    ]
    check(open_({"kind": "ideas", "path": paths}, required=["chr1", "chr2"]), IDEAS_NAMES)
    with pytest.raises(GenomeError, match=r"the states of A .* do not cover chr1\. Add the files of these contigs"):
        open_({"kind": "ideas", "path": paths[:1]}, required=["chr1", "chr2"])
    other = write_text(tmp_path / "o.state", head.replace(" B ", " C ") + lines[0])
    with pytest.raises(GenomeError, match=r"o\.state has the cells A, C, but .* has A, B\. Name the cells"):
        open_({"kind": "ideas", "path": [*paths, other]})


def test_ideas_windows_that_are_missing_are_without_state(tmp_path: Path) -> None:
    text = "#ID CHR POSst POSed A PosClass\nR1 chr1 0 200 1 0\nR2 chr1 600 800 1 0\n"
    source = open_({"kind": "ideas", "path": write_text(tmp_path / "x.state", text)})
    assert source.read("chr1", 0, 1000, 200).tolist() == [[0, N, N, 0, N]]


def test_ideas_windows_off_the_grid_keep_their_place(tmp_path: Path) -> None:
    text = "#ID CHR POSst POSed A PosClass\nR1 chr1 0 200 1 0\nR2 chr1 150 350 2 0\nR3 chr1 350 550 3 0\n"
    source = open_({"kind": "ideas", "path": write_text(tmp_path / "x.state", text)})
    assert source.read("chr1", 0, 600, 50).tolist() == [[0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, N]]
    assert source.notes == (
        f"{tmp_path}/x.state: 1 windows overlap the next by less than a window; the later one was kept whole.",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1 0 200 1 2\n", "is not an IDEAS .state table: its header is .*expected '#ID CHR POSst POSed CELL"),
        ("#ID CHR POSst POSed A PosClass\nR chr1 0 200 E1 0\n", "is not a IDEAS .state file"),
        ("#ID CHR POSst POSed A B PosClass\nR chr1 0 200 1\n", "rows have fewer columns than the header's 7"),
        ("#ID CHR POSst POSed A A PosClass\nR chr1 0 200 1 1 0\n", "a cell type is named twice"),
        ("#ID CHR POSst POSed A PosClass\nR chr1 0 200 1 0\nR chr1 0 200 2 0\n", "1 segments overlap the next"),
        ("#ID CHR POSst POSed A PosClass\nR chr1 200 200 1 0\n", "chr1:200-200 is not an interval"),
        ("#ID CHR POSst POSed A PosClass\n", "nothing but|no lines of data"),
    ],
)
def test_ideas_tables_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GenomeError, match=message):
        open_({"kind": "ideas", "path": write_text(tmp_path / "x.state", text)})


def test_an_unknown_cell_of_ideas(tmp_path: Path) -> None:
    with pytest.raises(GenomeError, match=r"no cell type 'Z'; it has A, B\."):
        open_({"kind": "ideas", "path": write_text(tmp_path / "x.state", table()), "cell_types": ["Z"]})


@pytest.mark.parametrize("extra", ["", "\t0\t.\t0\t9\t255,0,0"], ids=["name", "nine columns"])
def test_bigbed(tmp_path: Path, extra: str) -> None:
    files = {}
    for cell, segments in SEGMENTS.items():
        path = tmp_path / f"{cell}.bb"
        path.write_bytes(big_bed({"chr1": 1000, "chr2": 1050, "chrX": 9}, [(*s[:3], s[3] + extra) for s in segments]))
        files[cell] = str(path)
    check(open_({"kind": "bigbed", "files": files}))


def test_bigbed_that_cannot_serve(tmp_path: Path) -> None:
    def states(data: bytes) -> None:
        (tmp_path / "x.bb").write_bytes(data)
        open_({"kind": "bigbed", "files": {"A": str(tmp_path / "x.bb")}})

    whole = big_bed({"chr1": 1000}, [("chr1", 0, 400, "E1")])
    states(whole)
    for data, message in [
        (big_bed({"chr1": 1000}, [("chr1", 0, 400, "")]), "has no name column"),
        (big_bed({"chr1": 1000}, []), "has no entries"),
        (big_bed({"chr1": 999}, [("chr1", 0, 400, "E1")]), "contig chr1 has 999 bp, but chr1 .* 1,000 bp"),
        (big_bed({"chr7": 1000}, [("chr7", 0, 400, "E1")]), r"none of its contigs \(chr7\)"),
        (big_bed({"chr1": 1000}, [("chr1", 0, 400, "E1"), ("chr1", 0, 400, "E2")]), "1 segments overlap the next"),
        (whole[:80], "x.bb is truncated"),
        (b"chr1\t0\t400\tE1\n", "named like a bigBed file, but its content is text"),
        (big_bed({"chr1": 9}, [], magic=0x888FFC26), "named like a bigBed file, but its content is bigWig"),
    ]:
        with pytest.raises(GenomeError, match=message):
            states(data)


def lines_of(cell: str, contig: str) -> str:
    return "".join(f"{NAMES[state] if state != N else '.'}\n" for state in BINS[contig]["AB".index(cell)])


def test_lines(tmp_path: Path) -> None:
    """The header of ChromHMM, a name with a blank, and files without a header; the last line is a cut bin."""
    files: dict[str, Any] = {
        "A": [
            write_text(tmp_path / f"A_{c}_statebyline.txt.gz", f"cell A\t{c}\nMaxState E\n{lines_of('A', c)}")
            for c in BINS
        ],
        "B": {
            "1": write_text(tmp_path / "B_1.txt", lines_of("B", "chr1")),
            "chr2": write_text(tmp_path / "B_2.txt", f"B 2\nmaxstate E\n{lines_of('B', 'chr2')}".rstrip("\n")),
        },
    }
    source = open_({"kind": "lines", "files": files}, required=["chr1", "chr2"])
    assert source.state_names == (".", *NAMES)
    for contig, expected in BINS.items():
        bins = source.read(contig, 0, REFERENCE[contig].end_bp, 200)
        assert bins.tolist() == [[0 if state == N else state + 1 for state in row] for row in expected]
    files["B"].pop("chr2")
    with pytest.raises(GenomeError, match=r"the states of B .* do not cover chr2"):
        open_({"kind": "lines", "files": files}, required=["chr1", "chr2"])


def test_lines_of_another_bin(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x.txt", "A\tchr1\nMaxState E\n1\n2\n")
    source = open_({"kind": "lines", "files": {"A": path}, "bin_bp": 500}, bin_bp=100)
    assert source.read("chr1", 0, 1000, 100).tolist() == [[0] * 5 + [1] * 5]


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("E1\nE2\n", None, r"does not name its contig: its first line is b'E1'.*files: \{CELL: \{CONTIG: PATH\}\}"),
        ("A\tchr2\nMaxState E\nE1\n", "chr1", "is of contig 'chr2' by its header, but was given as 'chr1'"),
        ("A\tchr1\nMaxState E\nE1\n\nE2\n", None, "row 2 of the states is b''; one state is expected on every line"),
        ("A\tchr1\nMaxState E\nE1\nE2 0.9\n", None, r"row 2 of the states is b'E2 0\.9'"),
        ("chr1\t0\t200\tE1\nchr1\t200\t400\tE2\n", "chr1", "row 1 .*Segments with coordinates are kind: segments"),
        ("A\tchr1\nMaxState E\n" + "E1\n" * 6, None, r"a segment reaches chr1:1,200, but the contig has 1,000 bp"),
        ("A\tchr9\nMaxState E\nE1\n", None, r"none of its contigs \(chr9\) is in the sequence"),
        ("A\tchr1\nMaxState E\n", None, "nothing but|no lines of data|expected on every line"),
    ],
)
def test_lines_that_are_none(tmp_path: Path, text: str, given: str | None, message: str) -> None:
    path = write_text(tmp_path / "x.txt", text)
    with pytest.raises(GenomeError, match=message):
        open_({"kind": "lines", "files": {"A": {given: path} if given else path}})


def segment_states(tmp_path: Path, text: str, **options: Any) -> StateSource:
    path = write_text(tmp_path / "A.bed", text)
    names = {"state_names": options.pop("state_names")} if "state_names" in options else {}
    return open_({"kind": "segments", "files": {"A": path}, **names}, **options)


def test_a_fixed_alphabet_sets_the_order_and_refuses_what_it_lacks(tmp_path: Path) -> None:
    text = "chr1\t0\t400\tquies\nchr1\t400\t800\ttss\n"
    source = segment_states(tmp_path, text, state_names=["tss", "enh", "quies"])
    assert source.state_names == ("tss", "enh", "quies")
    assert source.read("chr1", 0, 800, 400).tolist() == [[2, 0]]
    with pytest.raises(GenomeError, match=r"A\.bed: unknown state 'tss' .*Allowed by state_names: quies, enh\. Add it"):
        segment_states(tmp_path, text, state_names=["quies", "enh"])


def test_states_are_in_natural_order_and_at_most_254(tmp_path: Path) -> None:
    labels = ["18_Quiescent/low_signal", "2_Weak_TSS", "E10", "E9", "1_TssA", "Het"]
    assert sorted(labels, key=natural_key) == ["1_TssA", "2_Weak_TSS", "18_Quiescent/low_signal", "E9", "E10", "Het"]
    rows = [f"chr1\t{i}\t{i + 1}\tE{i}\n" for i in range(255)]
    assert segment_states(tmp_path, "".join(rows[:254])).read("chr1", 0, 254, 1)[0].tolist() == list(range(254))
    with pytest.raises(GenomeError, match=r"255 different states \(E0, E1, E2, \.\.\.\), at most 254.*column 4"):
        segment_states(tmp_path, "".join(rows))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t0\t400\tE1\nchr1\t399\t800\tE2\n", r"1 segments overlap the next, the first at chr1:0-400 and 399-800"),
        ("chr1\t0\t800\tE1\nchr1\t100\t200\tE2\nchr1\t900\t950\tE2\n", "overlap the next, the first at chr1:0-800"),
        ("chr1\t400\t400\tE1\n", "chr1:400-400 is not an interval; start must be >= 0 and below end"),
        ("chr1\t-5\t400\tE1\n", "chr1:-5-400 is not an interval"),
        ("chr1\t0\t1200\tE1\n", r"a segment reaches chr1:1,200, but the contig has 1,000 bp.*one assembly"),
        ("chr1\t0\t400\n", "has 3 columns; the state label is expected in column 4"),
        ("chr7\t0\t400\tE1\n", r"none of its contigs \(chr7\)"),
        ("chr1\tx\t400\tE1\n", "is not a segment BED"),
        ("chr1\t0\t400\tE1\n1\t400\t800\tE1\n", "contigs 'chr1' and '1' both mean 'chr1'"),
    ],
)
def test_segments_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GenomeError, match=message):
        segment_states(tmp_path, text)


def test_a_last_bin_padded_past_the_end_is_taken_at_any_bin(tmp_path: Path) -> None:
    text = "chr2\t0\t800\tE1\nchr2\t800\t1000\tE3\nchr2\t1000\t1200\tE2\n"  # 200-bp bins on a contig of 1,050 bp
    for bin_bp in (25, 200):
        source = segment_states(tmp_path, text, bin_bp=bin_bp)
        assert source.read("chr2", 1000, 1050, bin_bp)[0].tolist() == [1] * -(-50 // bin_bp)


def test_contigs_without_states_are_empty_unless_required(tmp_path: Path) -> None:
    source = segment_states(tmp_path, "chr1\t0\t400\tE1\n")
    assert source.read("chr2", 0, 1050, 200).tolist() == [[N] * 6]
    with pytest.raises(GenomeError, match="do not cover chr2"):
        segment_states(tmp_path, "chr1\t0\t400\tE1\n", required=["chr2"])
    with pytest.raises(GenomeError, match=r"contig 'chr3' is not in the sequence, which has chr1, chr2"):
        segment_states(tmp_path, "chr1\t0\t400\tE1\n", required=["chr3"])


def test_a_piece_of_a_contig_is_read_in_its_own_coordinates(tmp_path: Path) -> None:
    reference = {"22": Contig("22", None, 20_000_100, 20_001_000)}
    source = segment_states(tmp_path, "chr22\t0\t20000400\tE1\nchr22\t20000400\t51304566\tE2\n", reference=reference)
    assert source.read("22", 20_000_000, 20_001_000, 200).tolist() == [[0, 0, 1, 1, 1]]


def test_a_stretch_off_the_grid_is_refused(tmp_path: Path) -> None:
    source = segment_states(tmp_path, "chr1\t0\t400\tE1\n")
    for start, end, bin_bp in ((100, 400, 200), (-200, 0, 200), (400, 200, 200), (0, 200, 0)):
        with pytest.raises(GenomeError, match="the start must be a multiple of the bin size"):
            source.read("chr1", start, end, bin_bp)


@pytest.mark.parametrize("name", ["A.bed.gz", "A.state.gz"])
def test_truncated_states(tmp_path: Path, name: str) -> None:
    path = Path(write_text(tmp_path / name, bed("A") if "bed" in name else table()))
    path.write_bytes(path.read_bytes()[:-9])
    config = {"kind": "segments", "files": {"A": str(path)}} if "bed" in name else {"kind": "ideas", "path": str(path)}
    with pytest.raises(GenomeError, match=rf"{name} is truncated or damaged"):
        open_(config)


def test_settings_that_contradict_themselves() -> None:
    for config in (
        {"kind": "segments", "files": {}},
        {"kind": "segments", "files": {"A": "x"}, "state_names": ["a", "a"]},
        {"kind": "segments", "files": {"A": "x"}, "state_names": []},
        {"kind": "lines", "files": {"A": "x"}, "bin_bp": 0},
        {"kind": "chromhmm", "files": {"A": "x"}},
    ):
        with pytest.raises(ValidationError):
            TypeAdapter(StatesConfig).validate_python(config)
