"""Letters to codes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epilm.errors import GenomeError
from epilm.genome.dna import decode_dna, encode_dna, encode_into, reverse_complement


def test_every_byte_has_its_code() -> None:
    expected = np.full(256, 4, np.uint8)
    for letters, code in (("Aa", 0), ("Cc", 1), ("Gg", 2), ("TtUu", 3)):
        expected[[ord(letter) for letter in letters]] = code
    np.testing.assert_array_equal(encode_dna(bytes(range(256))), expected)


def test_text_and_bytes_are_one() -> None:
    assert encode_dna("acgtnACGTNRYK\N{GREEK SMALL LETTER ALPHA}").tolist() == [
        0,
        1,
        2,
        3,
        4,
        0,
        1,
        2,
        3,
        4,
        4,
        4,
        4,
        4,
    ]
    assert encode_dna(b"GATTACA").tolist() == encode_dna("GATTACA").tolist() == [2, 0, 3, 3, 0, 1, 0]
    assert encode_dna("").shape == (0,)
    assert encode_dna("A").dtype == np.uint8


@settings(max_examples=60, deadline=None)
@given(st.text("ACGTN", max_size=300))
def test_decoding_returns_the_text(text: str) -> None:
    assert decode_dna(encode_dna(text)) == text
    assert decode_dna(encode_dna(text.lower())) == text


@settings(max_examples=60, deadline=None)
@given(st.text("ACGTN", max_size=300))
def test_reverse_complement_is_the_other_strand_and_an_involution(text: str) -> None:
    codes = encode_dna(text)
    assert decode_dna(reverse_complement(codes)) == text.translate(str.maketrans("ACGTN", "TGCAN"))[::-1]
    np.testing.assert_array_equal(reverse_complement(reverse_complement(codes)), codes)


def test_reverse_complement_of_a_batch_is_along_the_last_axis() -> None:
    assert reverse_complement(np.array([[0, 1, 4], [2, 2, 3]], np.uint8)).tolist() == [[4, 2, 3], [0, 1, 1]]


def test_blocks_longer_than_one_pass_are_the_same() -> None:
    raw = np.tile(np.frombuffer(b"ACGTNacgtn", np.uint8), 40_000)
    out = np.empty_like(raw)
    encode_into(raw, out, source="x.fa")
    np.testing.assert_array_equal(out, np.tile([0, 1, 2, 3, 4], 80_000))
    rows = np.empty((8000, 50), np.uint8)
    encode_into(raw.reshape(8000, 50), rows, source=None)
    np.testing.assert_array_equal(rows.ravel(), out)


def test_letters_that_are_no_dna_are_refused_where_a_source_is_given() -> None:
    raw = np.frombuffer(b"MEEPQSDPSVNO", np.uint8)
    with pytest.raises(GenomeError, match=r"p\.fa is not a DNA file: its sequence holds 'EOPQ'\. Allowed: A C G T U N"):
        encode_into(raw, np.empty_like(raw), source="p.fa")
    iupac = np.frombuffer(b"NRYKMSWBDHVXnrykmswbdhvx-.*", np.uint8)
    out = np.empty_like(iupac)
    encode_into(iupac, out, source="p.fa")
    assert set(out.tolist()) == {4}
