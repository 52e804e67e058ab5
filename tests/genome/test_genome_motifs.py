"""Motif files and the scan, against one word at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from genome_files import write_text

from epilm.errors import GenomeError
from epilm.genome import motifs
from epilm.genome.dna import encode_dna
from epilm.genome.motifs import best_scores, find_motif, read_motifs, reverse_matrix, scan, window_max

MEME = """MEME version 4

ALPHABET= ACGT

strands: + -

Background letter frequencies
A 0.25 C 0.25 G 0.25 T 0.25

MOTIF MA0001.1 ONE

letter-probability matrix: alength= 4 w= 3 nsites= 10 E= 0
  0.5  0.5  0.0  0.0
  1.0  0.0  0.0  0.0
  0.1  0.2  0.3  0.4
-------------------
URL http://example.org

MOTIF SECOND
letter-probability matrix: alength= 4 w= 1
 0 0 1e0 0
"""
JASPAR = """>MA0001.1 ONE
A  [ 5 10  1 ]
C  [ 5  0  2 ]
G  [ 0  0  3 ]
T  [ 0  0  4 ]

>SECOND
0
0
7
0
"""
TRANSFAC = """AC MA0001.1
XX
ID ONE
XX
P0      A      C      G      T
01      5      5      0      0      M
02     10      0      0      0      A
03      1      2      3      4      N
XX
//
ID SECOND
P0 A C G T
1 0 0 7 0
//
"""


@pytest.mark.parametrize("text", [MEME, JASPAR, TRANSFAC], ids=["meme", "jaspar", "transfac"])
def test_three_formats_hold_one_matrix(tmp_path, text):
    one, second = read_motifs(write_text(tmp_path / "m.txt", text))
    assert (one.name, one.label, second.name, second.label) == ("MA0001.1", "ONE", "SECOND", "SECOND")
    np.testing.assert_allclose(one.frequencies, [[0.5, 0.5, 0, 0], [1, 0, 0, 0], [0.1, 0.2, 0.3, 0.4]])
    assert one.num_sites == 10
    assert (second.width, second.frequencies.tolist()) == (1, [[0, 0, 1, 0]])


def test_log_odds_by_hand(tmp_path):
    one = read_motifs(write_text(tmp_path / "m.txt", JASPAR))[0]
    background = np.array([0.4, 0.1, 0.2, 0.3])
    expected = [[math.log2((count + 2 * b) / 12 / b) for count, b in zip(row, background, strict=True)]
                for row in ([5, 5, 0, 0], [10, 0, 0, 0], [1, 2, 3, 4])]  # fmt: skip
    np.testing.assert_allclose(one.log_odds(background=background, pseudo_sites=2), expected, rtol=1e-6)
    assert np.isfinite(one.log_odds()).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t1\t2\n", "is no motif file"),
        ("MEME version 5\n", "holds no motif"),
        (MEME.replace("w= 3", "w= 4"), "3 rows, but says w=4"),
        (MEME.replace("ALPHABET= ACGT", "ALPHABET= ACDEFGHIKLMNPQRSTVWY"), "alphabet"),
        (MEME.replace("0.1  0.2  0.3  0.4", "0.1  0.2  0.3"), "four values"),
        (JASPAR.replace("T  [ 0  0  4 ]", "T  [ 0  0 ]"), "equal length"),
        (JASPAR.replace("T  [", "A  ["), "row A twice"),
        (JASPAR.replace("A  [ 5", "A  [ -5"), "negative"),
        (JASPAR.replace("A  [ 5", "A  [ five"), "'five' where a number"),
        (JASPAR.replace(">SECOND", ">MA0001.1"), "'MA0001.1' twice"),
        (TRANSFAC.replace("ID SECOND\n", ""), "no name"),
    ],
)
def test_bad_motif_files_are_refused(tmp_path, text, message):
    with pytest.raises(GenomeError, match=message):
        read_motifs(write_text(tmp_path / "m.txt", text))


def test_a_motif_is_found_by_either_name(tmp_path):
    found = read_motifs(write_text(tmp_path / "m.txt", JASPAR))
    assert find_motif(found, "MA0001.1", source="m").label == "ONE"
    assert find_motif(found, "one", source="m").name == "MA0001.1"
    with pytest.raises(GenomeError, match=r"m: no motif is named 'CTCF'. Allowed.*MA0001.1 \(ONE\), SECOND"):
        find_motif(found, "CTCF", source="m")


def slow_scan(codes: np.ndarray, matrix: np.ndarray, both: bool) -> list[float]:
    width, result = len(matrix), []
    for i in range(len(codes) - width + 1):
        word = codes[i : i + width]
        if (word == 4).any():
            result.append(-math.inf)
            continue
        strands = [word] + ([3 - word[::-1]] if both else [])
        result.append(max(sum(float(matrix[j, base]) for j, base in enumerate(strand)) for strand in strands))
    return result


@pytest.mark.parametrize("width", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("both", [True, False])
def test_scan_equals_one_word_at_a_time(monkeypatch, width, both):
    monkeypatch.setattr(motifs, "_BLOCK", 128)
    rng = np.random.default_rng(width)
    codes = rng.integers(0, 4, (7, 60), dtype=np.uint8)
    codes[rng.random(codes.shape) < 0.03] = 4
    matrix = rng.normal(size=(width, 4)).astype(np.float32)
    expected = np.array([slow_scan(row, matrix, both) for row in codes])
    np.testing.assert_allclose(scan(codes, matrix, both_strands=both), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        scan(codes.reshape(-1), matrix)[:54], slow_scan(codes.reshape(-1), matrix, True)[:54], atol=1e-5
    )
    best = np.where(np.isinf(expected.max(1)), np.nan, expected.max(1))
    np.testing.assert_allclose(best_scores(codes, matrix, both_strands=both), best, atol=1e-5)


def test_both_strands_do_not_care_which_is_read():
    rng = np.random.default_rng(1)
    matrix, codes = rng.normal(size=(6, 4)).astype(np.float32), rng.integers(0, 4, 80, dtype=np.uint8)
    np.testing.assert_allclose(scan(3 - codes[::-1], matrix)[::-1], scan(codes, matrix), atol=1e-5)
    np.testing.assert_array_equal(reverse_matrix(reverse_matrix(matrix)), matrix)
    assert scan(codes[:5], matrix).shape == (0,)
    assert np.isnan(best_scores(codes[None, :5], matrix)).all()


@pytest.mark.parametrize("num_words", [1, 2, 3, 7, 8, 9, 40])
def test_window_max_equals_slices(num_words):
    rng = np.random.default_rng(num_words)
    scores = rng.normal(size=40).astype(np.float32)
    scores[3:14] = -np.inf
    first = rng.permutation(40 - num_words + 1)
    expected = [scores[i : i + num_words].max() for i in first]
    expected = [math.nan if math.isinf(value) else value for value in expected]
    np.testing.assert_array_equal(window_max(scores, first, num_words), np.array(expected, np.float32))


def test_a_site_is_found_where_it_was_put():
    matrix = read_one("GATTACA")
    codes = encode_dna("CCCCC" + "TGTAATC" + "CCCCCCCNNCC")  # the other strand
    scores = scan(codes, matrix)
    assert int(scores.argmax()) == 5
    assert int(scan(codes, matrix, both_strands=False).argmax()) != 5


def read_one(word: str) -> np.ndarray:
    frequencies = np.eye(4)[encode_dna(word)]
    return motifs.Motif("m", "m", frequencies, num_sites=100).log_odds()
