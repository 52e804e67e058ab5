"""2bit against py2bit and the letters it was written from."""

from __future__ import annotations

import pickle
from pathlib import Path

import py2bit
import pytest
from genome_files import expected_codes, random_letters, two_bit
from hypothesis import given, settings
from hypothesis import strategies as st

from epilm.errors import GenomeError
from epilm.genome.sequence import open_sequence

SEQUENCES = {
    "chrI": "NNNNNacgtACGTNNGTaNNN",
    "chrII": random_letters(2, 1003, "ACGTacgt"),
    "chrM": "A",
    "gaps": "N" * 9,
}


@pytest.mark.parametrize(("order", "version"), [("<", 0), (">", 0), ("<", 1)])
def test_every_stretch(tmp_path: Path, order: str, version: int) -> None:
    path = tmp_path / "x.2bit"
    path.write_bytes(two_bit(SEQUENCES, order=order, version=version))
    source = pickle.loads(pickle.dumps(open_sequence(path)))
    assert {name: contig.length_bp for name, contig in source.contigs.items()} == {
        name: len(text) for name, text in SEQUENCES.items()
    }
    for name, text in SEQUENCES.items():
        codes = expected_codes(text)
        stops = range(len(text) + 1) if len(text) < 50 else (0, 1, 2, 3, 500, 501, 502, 503, 1001, 1002, 1003)
        for start in stops:
            for end in stops:
                if start <= end:
                    assert source.fetch(name, start, end).tolist() == codes[start:end], (name, start, end)


@settings(max_examples=50, deadline=None)
@given(st.text("ACGTNacgtn", min_size=1, max_size=80))
def test_against_py2bit(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("2bit") / "x.2bit"
    path.write_bytes(two_bit({"c": text}))
    peer = py2bit.open(str(path))
    assert open_sequence(path).fetch("c", 0, len(text)).tolist() == expected_codes(peer.sequence("c"))
    peer.close()


def test_a_stretch_longer_than_one_pass(tmp_path: Path) -> None:
    text = random_letters(5, 1000) * 400
    path = tmp_path / "x.2bit"
    path.write_bytes(two_bit({"c": text}))
    assert open_sequence(path).fetch("c", 3, 399_998).tolist() == (expected_codes(text[:1000]) * 400)[3:399_998]


def test_truncated_anywhere(tmp_path: Path) -> None:
    data, path = two_bit(SEQUENCES), tmp_path / "x.2bit"
    for size in [*range(1, 16), *range(16, len(data), 7), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(GenomeError, match=r"x\.2bit .*(truncated|content is)"):
            open_sequence(path)


def test_damaged(tmp_path: Path) -> None:
    path = tmp_path / "x.2bit"
    path.write_bytes(two_bit({"c": "NNACGTNN"}).replace(b"\x06\0\0\0", b"\xff\0\0\0"))
    with pytest.raises(GenomeError, match="runs of N overlap or leave the sequence"):
        open_sequence(path)
    path.write_bytes(two_bit(SEQUENCES, version=1).replace(b"\x01\0\0\0", b"\x07\0\0\0", 1))
    with pytest.raises(GenomeError, match="version 7"):
        open_sequence(path)


def test_a_name_that_promises_something_else(tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_bytes(two_bit(SEQUENCES))
    with pytest.raises(GenomeError, match=r"x\.fa is named like a text file, but its content is 2bit"):
        open_sequence(path)
    path = tmp_path / "y.2bit"
    path.write_bytes(b">a\nACGT\n")
    with pytest.raises(GenomeError, match=r"y\.2bit is named like a 2bit file, but its content is text"):
        open_sequence(path)
