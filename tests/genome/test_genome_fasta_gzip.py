"""gzip and bgzip FASTA, by contig; whole, cut, and cut between two blocks."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from genome_files import bgzip, expected_codes, fasta, random_letters

from epilm.errors import GenomeError
from epilm.genome import fasta_gzip
from epilm.genome.sequence import open_sequence

SEQUENCES = {f"chr{i} x>y": random_letters(i, n, "ACGTacgtN") for i, n in enumerate((500, 3, 60, 977), start=1)}
COMPRESS = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "two members": lambda data: gzip.compress(data[:333]) + gzip.compress(data[333:]),
    "padded": lambda data: gzip.compress(data) + bytes(64),
    "bgzip of 7": lambda data: bgzip(data, 7),
    "bgzip of 100": lambda data: bgzip(data, 100),
}


@pytest.mark.parametrize("how", COMPRESS)
@pytest.mark.parametrize("read_bytes", [1, 13, 1 << 20])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_contig_is_the_same_as_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, read_bytes: int, newline: str
) -> None:
    """Whatever the blocks of the file and of the reading: headers fall on every border between two."""
    monkeypatch.setattr(fasta_gzip, "_READ_BYTES", read_bytes)
    monkeypatch.setattr(fasta_gzip, "CACHE_BYTES", 600)  # not all of the genome
    path = tmp_path / "x.fa.gz"
    path.write_bytes(COMPRESS[how](fasta(SEQUENCES, newline=newline)))
    for source in (open_sequence(path), pickle.loads(pickle.dumps(open_sequence(path)))):
        assert [c.length_bp for c in source.contigs.values()] == [500, 3, 60, 977]
        for name, text in reversed(list(zip(source.contigs, SEQUENCES.values(), strict=True))):
            assert source.fetch(name, 0, len(text)).tolist() == expected_codes(text)
            assert source.fetch(name, len(text) // 3, len(text) // 2).tolist() == expected_codes(
                text[len(text) // 3 : len(text) // 2]
            )


def test_a_leading_blank_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.fa.gz"
    path.write_bytes(gzip.compress(b"\n\n>a\nACG\n\n>b\nTT"))
    source = open_sequence(path)
    assert source.fetch("a", 0, 3).tolist() == [0, 1, 2]
    assert source.fetch("b", 0, 2).tolist() == [3, 3]


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_truncated_gzip(tmp_path: Path, kept: float) -> None:
    data = gzip.compress(fasta({"chr1": random_letters(1, 20_000)}))
    path = tmp_path / "x.fa.gz"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(GenomeError, match=r"x\.fa\.gz is truncated or damaged: .*Get it again.*gzip -t"):
        open_sequence(path)


def test_bgzip_cut_between_two_blocks(tmp_path: Path) -> None:
    data = bgzip(fasta(SEQUENCES), 100)
    path = tmp_path / "x.fa.gz"
    path.write_bytes(data[:-28])
    with pytest.raises(GenomeError, match="closing block of bgzip is missing"):
        open_sequence(path)


def test_damaged_gzip(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(fasta({"chr1": random_letters(1, 20_000)})))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "x.fa.gz"
    path.write_bytes(data)
    with pytest.raises(GenomeError, match="truncated or damaged"):
        open_sequence(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [(gzip.compress(b"chr1\t1\t2\n"), "not a FASTA file"), (gzip.compress(b"x\n>a\nAC\n"), "not a FASTA file")],
)
def test_gzip_of_something_else(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.fa.gz"
    path.write_bytes(data)
    with pytest.raises(GenomeError, match=message):
        open_sequence(path)


def test_what_is_decompressed_is_kept_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.fa.gz"
    path.write_bytes(gzip.compress(fasta(SEQUENCES)))
    source = fasta_gzip.GzipFasta(path)
    opened: list[int] = []
    records = fasta_gzip._records
    monkeypatch.setattr(fasta_gzip, "_records", lambda *args: opened.append(1) or records(*args))
    for index in range(4):
        source.fetch(index, 0, 3)
    assert not opened
    assert np.array_equal(source.fetch(1, 0, 3), expected_codes(SEQUENCES["chr2 x>y"]))
