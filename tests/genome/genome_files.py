"""Small genome files for the tests, written the plain way."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pyBigWig

BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
LETTERS = "ACGTN"


def random_letters(seed: int, length_bp: int, letters: str = "ACGT") -> str:
    generator = np.random.default_rng(seed)
    return "".join(np.array(list(letters))[generator.integers(0, len(letters), length_bp)])


def expected_codes(text: str) -> list[int]:
    """One letter at a time: the obvious way."""
    return [LETTERS.find({"U": "T"}.get(c, c)) if c in "ACGTU" else 4 for c in text.upper()]


def fasta(sequences: dict[str, str], *, line_bp: int = 60, newline: str = "\n", last_newline: bool = True) -> bytes:
    lines = []
    for header, text in sequences.items():
        lines.append(f">{header}")
        lines += [text[i : i + line_bp] for i in range(0, len(text), line_bp)]
    return (newline.join(lines) + (newline if last_newline else "")).encode()


def bgzip(data: bytes, block: int = 100) -> bytes:
    """Independent gzip members with the BC field, as bgzip writes them (its blocks have 65,280 bytes)."""
    out = b""
    for at in range(0, len(data), block):
        part = data[at : at + block]
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = deflate.compress(part) + deflate.flush()
        head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", len(body) + 25)
        out += head + body + struct.pack("<II", zlib.crc32(part), len(part))
    return out + BGZIP_END


def two_bit(sequences: dict[str, str], *, order: str = "<", version: int = 0) -> bytes:
    """Lower case becomes a mask block, N an N block; the layout is UCSC's."""
    index_bytes = sum(1 + len(name) + (8 if version else 4) for name in sequences)
    index, records = b"", b""
    for name, text in sequences.items():
        offset = 16 + index_bytes + len(records)
        index += bytes([len(name)]) + name.encode() + struct.pack(f"{order}{'Q' if version else 'I'}", offset)
        blocks = b""
        for test in (lambda c: c in "Nn", str.islower):
            flags = [False, *(test(c) for c in text), False]
            starts = [i for i in range(len(text)) if flags[i + 1] and not flags[i]]
            ends = [i + 1 for i in range(len(text)) if flags[i + 1] and not flags[i + 2]]
            sizes = [e - s for s, e in zip(starts, ends, strict=True)]
            blocks += struct.pack(f"{order}I{2 * len(starts)}I", len(starts), *starts, *sizes)
        codes = ["TCAG".find(c) if c in "TCAG" else 0 for c in text.upper()]
        codes += [0] * (-len(codes) % 4)
        packed = bytes(
            codes[i] << 6 | codes[i + 1] << 4 | codes[i + 2] << 2 | codes[i + 3] for i in range(0, len(codes), 4)
        )
        records += struct.pack(f"{order}I", len(text)) + blocks + struct.pack(f"{order}I", 0) + packed
    return struct.pack(f"{order}4I", 0x1A412743, version, len(sequences), 0) + index + records


def write_bigwig(
    path: Path, lengths: dict[str, int], entries: list[tuple[str, int, int, float]], *, zooms: int = 10
) -> str:
    track = pyBigWig.open(str(path), "w")
    track.addHeader(list(lengths.items()), maxZooms=zooms)
    if entries:
        chroms, starts, ends, values = (list(column) for column in zip(*entries, strict=True))
        track.addEntries(chroms, starts, ends=ends, values=[float(value) for value in values])
    track.close()
    return str(path)


def write_dense_bigwig(path: Path, values: dict[str, np.ndarray]) -> str:
    """A value for every base; NaN is left out."""
    entries = [
        (name, i, i + 1, float(value))
        for name, track in values.items()
        for i, value in enumerate(track)
        if value == value
    ]
    return write_bigwig(path, {name: len(track) for name, track in values.items()}, entries)


def big_bed(lengths: dict[str, int], entries: list[tuple[str, int, int, str]], *, magic: int = 0x8789F2EB) -> bytes:
    """One uncompressed block a contig; ``entries`` are (contig, start, end, rest of the line), ordered by start."""
    key_bytes = max(map(len, lengths))
    tree = struct.pack("<4I2Q", 0x78CA8C91, max(len(lengths), 1), key_bytes, 8, len(lengths), 0)
    tree += struct.pack("<2BH", 1, 0, len(lengths))
    for i, (name, length_bp) in enumerate(lengths.items()):
        tree += name.encode().ljust(key_bytes, b"\0") + struct.pack("<2I", i, length_bp)
    data_at = 64 + len(tree)
    data, leaves = struct.pack("<Q", len(entries)), []
    for i, name in enumerate(lengths):
        mine = [entry for entry in entries if entry[0] == name]
        if mine:
            block = b"".join(struct.pack("<3I", i, s, e) + rest.encode() + b"\0" for _, s, e, rest in mine)
            leaves.append(struct.pack("<4I2Q", i, mine[0][1], i, mine[-1][2], data_at + len(data), len(block)))
            data += block
    last = max(len(lengths) - 1, 0)
    index_at = data_at + len(data)
    index = struct.pack(
        "<2IQ4IQ2I", 0x2468ACE0, max(len(leaves), 1), len(leaves), 0, 0, last, 1 << 30, index_at, 512, 0
    )
    index += struct.pack("<2BH", 1, 0, len(leaves)) + b"".join(leaves)
    head = struct.pack("<I2H3Q2H2QIQ", magic, 4, 0, 64, data_at, index_at, 4, 4, 0, 0, 0, 0)
    return head + tree + data + index


def write_text(path: Path, text: str | bytes) -> str:
    """Compressed where the name ends in ``.gz``."""
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return str(path)
