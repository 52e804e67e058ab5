"""DNA as bytes: A0 C1 G2 T3 N4. Pure and vectorised."""

from __future__ import annotations

import numpy as np

from epilm.errors import GenomeError

BASE_N = 4
_LETTERS = np.frombuffer(b"ACGTN", np.uint8)
_COMPLEMENT = np.array([3, 2, 1, 0, 4], np.uint8)
_AMBIGUOUS = np.zeros(256, bool)
_AMBIGUOUS[np.frombuffer(b"NRYKMSWBDHVXnrykmswbdhvx-.*?", np.uint8)] = True
_BLOCK = 1 << 17  # bytes; the passes below stay in the L2 cache


def encode_dna(text: str | bytes) -> np.ndarray:
    """Letters to codes uint8 [len(text)]; any case, U is T, every other letter is N (4)."""
    raw = np.frombuffer(text.encode("latin-1", "replace") if isinstance(text, str) else text, np.uint8)
    out = np.empty(raw.size, np.uint8)
    encode_into(raw, out, source=None)
    return out


def encode_into(letters: np.ndarray, out: np.ndarray, source: str | None) -> None:
    """Letters uint8 to codes uint8 of the same shape, block by block.

    Arithmetic instead of a look-up: ``(c >> 1) ^ (c >> 2)`` ends in 0 1 2 3 for A C G T of either case, which numpy does
    32 bytes at a time, where ``take`` first widens every index to 64 bits.

    Raises:
        GenomeError: ``source`` is given and a letter is none of IUPAC's nucleotides.
    """
    rows = len(letters)
    step = max(1, _BLOCK // max(1, letters[0].size)) if rows else 1
    for begin in range(0, rows, step):
        block = np.ascontiguousarray(letters[begin : begin + step])
        upper = block & 0xDF
        known = ((upper & 0xFE) == 0x54) | (upper == 0x41) | (upper == 0x43) | (upper == 0x47)
        code = block >> 1
        code ^= block >> 2
        code &= 3
        if not known.all():
            np.copyto(code, BASE_N, where=~known)
            known |= upper == 0x4E  # N, by far the commonest of the rest
            if source is not None and not known.all():
                _refuse_foreign(block[~known], source)
        out[begin : begin + step] = code


def _refuse_foreign(letters: np.ndarray, source: str) -> None:
    foreign = letters[~_AMBIGUOUS[letters]]
    if foreign.size:
        shown = bytes(np.unique(foreign)).decode("latin-1")
        raise GenomeError(
            f"{source} is not a DNA file: its sequence holds {shown!r}. Allowed: A C G T U N and IUPAC's ambiguity codes."
        )


def decode_dna(codes: np.ndarray) -> str:
    """Codes back to letters ``ACGTN``."""
    return _LETTERS[codes].tobytes().decode()


def reverse_complement(codes: np.ndarray) -> np.ndarray:
    """The other strand, 5' to 3', along the last axis; N stays N."""
    return _COMPLEMENT[codes[..., ::-1]]
