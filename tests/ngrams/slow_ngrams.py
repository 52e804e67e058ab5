"""The obvious ways, a letter and a word at a time."""

from __future__ import annotations

import itertools
import math
from collections import Counter

LETTERS = "ACGTN"


def words(n: int) -> list[str]:
    return ["".join(letters) for letters in itertools.product("ACGT", repeat=n)]


def slow_counts(sequences: list[str], max_n: int) -> list[list[int]]:
    """Counts of every n-gram of n = 1 .. max_n, by code; a word with an N is none."""
    result = []
    for n in range(1, max_n + 1):
        counter = Counter(s[i : i + n] for s in sequences for i in range(len(s) - n + 1))
        result.append([counter[word] for word in words(n)])
    return result


def cuts(word: str, longest: int) -> list[list[str]]:
    """Every segmentation of a word into pieces of at most ``longest`` letters."""
    if not word:
        return [[]]
    return [[word[:i], *rest] for i in range(1, min(longest, len(word)) + 1) for rest in cuts(word[i:], longest)]


def slow_pmi(word: str, counts: list[list[int]], total: float, longest: int) -> float:
    """min over the segmentations of ln p(word) - sum of ln p(piece)."""

    def log_p(piece: str) -> float:
        code = words(len(piece)).index(piece)
        count = counts[len(piece) - 1][code]
        return math.log(count / total) if count else -math.inf

    return min(log_p(word) - sum(map(log_p, cut)) for cut in cuts(word, longest))


def reverse_complement(text: str) -> str:
    return text[::-1].translate(str.maketrans("ACGT", "TGCA"))
