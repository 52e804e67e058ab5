"""Binding motifs: matrices from MEME, JASPAR and TRANSFAC text, their log-odds, and a scan of both strands. Vectorised."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from epilm.errors import GenomeError
from epilm.genome import files
from epilm.genome.dna import BASE_N

_GROUP = 4
"""Columns looked up at a time: their score is one entry of a table of 5**4 words (four bases and N)."""
_LETTERS = 5
_BLOCK = 1 << 18  # bases; the passes below stay in the cache
_MATRIX = re.compile(r"letter-probability matrix:(?P<settings>[^\n]*)\n(?P<rows>(?:[ \t]*[+.\d][^\n]*(?:\n|$))+)")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class Motif:
    """A position frequency matrix."""

    name: str
    """Identifier, e.g. ``MA0139.1``."""
    label: str
    """Second name, e.g. ``CTCF``; the identifier where the file has none."""
    frequencies: np.ndarray
    """float64 [width, 4], columns A C G T, rows sum to 1."""
    num_sites: float
    """Sites that the matrix was counted from; 20 where the file does not say."""

    @property
    def width(self) -> int:
        return len(self.frequencies)

    def log_odds(self, *, background: np.ndarray | None = None, pseudo_sites: float = 1.0) -> np.ndarray:
        """log2(frequency / background) in bits -> float32 [width, 4].

        Args:
            background: frequencies of A C G T; uniform where None.
            pseudo_sites: sites of pure background added to the motif's own, so that no score is infinite.
        """
        base = np.full(4, 0.25) if background is None else np.asarray(background, np.float64)
        smooth = (self.frequencies * self.num_sites + base * pseudo_sites) / (self.num_sites + pseudo_sites)
        return np.log2(smooth / base).astype(np.float32)


def read_motifs(path: str | Path) -> list[Motif]:
    """All motifs of a file in MEME's minimal format, JASPAR's (with or without brackets) or TRANSFAC's, told apart by content.

    Raises:
        GenomeError: unreadable, none of the formats, a matrix that is ragged, negative or not of DNA, or one name twice.
    """
    text = files.read_text(path).decode("utf-8", "replace")
    if re.search(r"^MEME version", text, re.MULTILINE):
        motifs = _read_meme(text, path)
    elif re.search(r"^P[O0]\s+A\s+C\s+G\s+T", text, re.MULTILINE):
        motifs = _read_transfac(text, path)
    elif text.lstrip().startswith(">"):
        motifs = _read_jaspar(text, path)
    else:
        raise GenomeError(
            f"{path} is no motif file: it begins with {text.lstrip()[:40]!r}. Allowed: MEME (`MEME version 4`), JASPAR "
            "(`>NAME` and four rows) and TRANSFAC (`P0 A C G T`)."
        )
    if not motifs:
        raise GenomeError(f"{path} holds no motif. Get it again.")
    names = [motif.name for motif in motifs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise GenomeError(f"{path} names the motif {twice!r} twice. Keep one matrix for each name.")
    return motifs


def find_motif(motifs: list[Motif], name: str, *, source: str) -> Motif:
    """The motif of this identifier or, where one alone has it, of this second name (any case).

    Raises:
        GenomeError: none or several.
    """
    found = [motif for motif in motifs if motif.name == name]
    found = found or [motif for motif in motifs if name.lower() in (motif.name.lower(), motif.label.lower())]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{motif.name} ({motif.label})" for motif in (found or motifs)[:8])
    what = f"{len(found)} motifs are" if found else "no motif is"
    raise GenomeError(f"{source}: {what} named {name!r}. Allowed, by identifier: {listed}.")


def reverse_matrix(matrix: np.ndarray) -> np.ndarray:
    """The matrix of the other strand: [width, 4] read from its end with A and T, C and G exchanged. An involution."""
    return matrix[::-1, ::-1]


def scan(codes: np.ndarray, log_odds: np.ndarray, *, both_strands: bool = True) -> np.ndarray:
    """Score of every word of a sequence, the better of both strands -> float32 [..., length - width + 1].

    Args:
        codes: uint8 [..., length], A0 C1 G2 T3 N4.
        log_odds: [width, 4].

    A word with an N is ``-inf``; a sequence shorter than the motif has no words.
    """
    width, length = len(log_odds), codes.shape[-1]
    num_words = max(length - width + 1, 0)
    out = np.empty((*codes.shape[:-1], num_words), np.float32)
    if not num_words:
        return out
    strands = [log_odds, reverse_matrix(log_odds)] if both_strands else [log_odds]
    tables = [_group_tables(matrix) for matrix in strands]
    rows = codes.reshape(-1, length)
    flat = out.reshape(-1, num_words)
    step_rows = max(1, _BLOCK // length)
    step_words = max(1, _BLOCK // min(step_rows, max(len(rows), 1)))
    for row in range(0, len(rows), step_rows):
        for first in range(0, num_words, step_words):
            last = min(first + step_words, num_words)
            block = np.minimum(rows[row : row + step_rows, first : last + width - 1], BASE_N)
            flat[row : row + step_rows, first:last] = _score_words(block, tables, width)
    return out


def window_max(scores: np.ndarray, first: np.ndarray, num_words: int) -> np.ndarray:
    """Greatest of ``num_words`` neighbouring scores from each index on -> float32 [n]; NaN where all of them are ``-inf``.

    By doubling: log2(num_words) passes over the scores, however much the windows overlap.

    Args:
        scores: float32 [m] as from :func:`scan`.
        first: int64 [n], each window wholly inside the scores.
    """
    assert num_words >= 1
    covered, best = 1, scores
    while 2 * covered <= num_words:
        best = np.maximum(best[:-covered], best[covered:])
        covered *= 2
    first = np.asarray(first, np.int64)
    found = np.maximum(best[first], best[first + num_words - covered])
    return np.where(np.isneginf(found), np.float32(np.nan), found)


def best_scores(codes: np.ndarray, log_odds: np.ndarray, *, both_strands: bool = True) -> np.ndarray:
    """Greatest score of each window's words -> float32 [n]; NaN where no word is free of N.

    Args:
        codes: uint8 [n, length].
    """
    scores = scan(codes, log_odds, both_strands=both_strands)
    found = scores.max(axis=-1, initial=-np.inf)
    return np.where(np.isneginf(found), np.float32(np.nan), found)


def _group_tables(matrix: np.ndarray) -> list[np.ndarray]:
    """Scores float32 [5**width of the group] of each group of columns, first base most significant; ``-inf`` with an N."""
    wide = np.concatenate([matrix, np.full((len(matrix), 1), -np.inf)], axis=1).astype(np.float32)
    tables = []
    for first in range(0, len(matrix), _GROUP):
        table = np.zeros(1, np.float32)
        for column in wide[first : first + _GROUP]:
            table = (table[:, None] + column[None]).reshape(-1)
        tables.append(table)
    return tables


def _score_words(codes: np.ndarray, strands: list[list[np.ndarray]], width: int) -> np.ndarray:
    """Better strand's score of every word of ``codes`` [rows, n] -> [rows, n - width + 1]."""
    num_words = codes.shape[1] - width + 1
    totals: list[np.ndarray | None] = [None] * len(strands)
    for group, first in enumerate(range(0, width, _GROUP)):
        size = min(_GROUP, width - first)
        word = np.zeros((len(codes), num_words), np.uint16)
        for place in range(first, first + size):
            word *= np.uint16(_LETTERS)
            word += codes[:, place : place + num_words]
        for strand, tables in enumerate(strands):
            part = tables[group][word]
            total = totals[strand]
            totals[strand] = part if total is None else np.add(total, part, out=total)
    first_total, *others = [total for total in totals if total is not None]
    for other in others:
        first_total = np.maximum(first_total, other, out=first_total)
    return first_total


def _read_meme(text: str, path: str | Path) -> list[Motif]:
    alphabet = re.search(r"^ALPHABET\s*=?\s*(\S+)", text, re.MULTILINE)
    if alphabet and alphabet[1].strip('"').upper() not in ("ACGT", "DNA"):
        raise GenomeError(f"{path} is of the alphabet {alphabet[1]!r}; motifs of DNA (ACGT) are needed.")
    motifs = []
    for block in re.split(r"^MOTIF\b", text, flags=re.MULTILINE)[1:]:
        line, _, _ = block.partition("\n")
        name, label = _names(line, path)
        found = _MATRIX.search(block)
        if found is None:
            raise GenomeError(f"{path}: motif {name!r} has no letter-probability matrix. Get the file again.")
        rows = [_numbers(row, name, path) for row in found["rows"].splitlines() if row.strip()]
        width = re.search(r"\bw\s*=\s*(\d+)", found["settings"])
        if width is not None and int(width[1]) != len(rows):
            raise GenomeError(
                f"{path}: motif {name!r} has {len(rows)} rows, but says w={width[1]}. Get the file again."
            )
        sites = re.search(r"\bnsites\s*=\s*([\d.]+)", found["settings"])
        motifs.append(_motif(name, label, rows, path, num_sites=float(sites[1]) if sites else None))
    return motifs


def _read_jaspar(text: str, path: str | Path) -> list[Motif]:
    """``>MA0139.1 CTCF`` and four rows, in the order A C G T or with their letter (``A [ 87 167 ]``)."""
    motifs = []
    for block in re.split(r"^>", text, flags=re.MULTILINE)[1:]:
        head, _, body = block.partition("\n")
        name, label = _names(head, path)
        rows: dict[str, list[float]] = {}
        for line in filter(str.strip, body.splitlines()):
            letter = line.strip()[0].upper()
            key = letter if letter in "ACGT" else "ACGT"[len(rows) % 4]
            if key in rows:
                raise GenomeError(f"{path}: motif {name!r} has the row {key} twice; four rows are expected.")
            rows[key] = _numbers(line.strip().lstrip("ACGTacgt"), name, path)
        if sorted(rows) != list("ACGT") or len({len(row) for row in rows.values()}) != 1:
            raise GenomeError(
                f"{path}: motif {name!r} is not four rows (A, C, G, T) of equal length. Get the file again."
            )
        motifs.append(_motif(name, label, list(zip(*(rows[key] for key in "ACGT"), strict=True)), path))
    return motifs


def _read_transfac(text: str, path: str | Path) -> list[Motif]:
    motifs = []
    for block in re.split(r"^//[^\n]*$", text, flags=re.MULTILINE):
        if not re.search(r"^P[O0]\s", block, re.MULTILINE):
            continue
        fields = {key: re.search(rf"^{key}\s+(\S+)", block, re.MULTILINE) for key in ("AC", "ID", "NA")}
        known = [match[1] for match in fields.values() if match]
        if not known:
            raise GenomeError(f"{path}: a matrix has neither AC nor ID nor NA, so no name. Give it one.")
        rows = [_numbers(line, known[0], path)[:4] for line in re.findall(r"^\d+\s+(.+)$", block, re.MULTILINE)]
        motifs.append(_motif(known[0], known[-1], rows, path))
    return motifs


def _names(line: str, path: str | Path) -> tuple[str, str]:
    parts = line.split()
    if not parts:
        raise GenomeError(f"{path}: a motif has no name. Give it one.")
    return parts[0], parts[1] if len(parts) > 1 else parts[0]


def _numbers(text: str, name: str, path: str | Path) -> list[float]:
    values = [part for part in re.split(r"[\s,\[\]|]+", text.strip()) if part]
    bad = next((part for part in values if not _NUMBER.fullmatch(part) and part not in "ACGTNRYKMSWBDHV"), None)
    if bad is not None:
        raise GenomeError(f"{path}: motif {name!r} holds {bad!r} where a number is expected.")
    return [float(part) for part in values if _NUMBER.fullmatch(part)]


def _motif(name: str, label: str, rows: list, path: str | Path, num_sites: float | None = None) -> Motif:
    """A motif from counts or probabilities [width][4]; counts tell the number of sites."""
    if not rows or any(len(row) != 4 for row in rows):
        raise GenomeError(f"{path}: motif {name!r} needs four values (A, C, G, T) at each of its positions.")
    matrix = np.array(rows, np.float64)
    totals = matrix.sum(axis=1)
    if (matrix < 0).any() or (totals <= 0).any():
        raise GenomeError(
            f"{path}: motif {name!r} has a negative value or a position without any. Give a matrix of counts."
        )
    if num_sites is None:
        num_sites = 20.0 if totals.max() < 1.5 else float(np.median(totals))
    return Motif(name=name, label=label, frequencies=matrix / totals[:, None], num_sites=num_sites)
