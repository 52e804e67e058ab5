"""The k-mer order of published vocabularies (DNABERT: A, T, C, G) against ours (A, C, G, T).

An order is an index array ``rows``, int64 ``[5 + 4**k]``: ``rows[our id] = their id``. A table with one row a word of theirs
becomes ours as ``table[rows]``; their ids become ours by the inverse, ``inverse(rows)[ids]``.
"""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np

from epilm.errors import CheckpointError
from epilm.storage import Location
from epilm.tokens.vocab import NUM_SPECIAL, SPECIAL_TOKENS, dna_vocab_size

PUBLISHED_BASES = "ATCG"
"""Order of the bases in DNABERT's ``vocab.txt`` (Ji et al. 2021), behind the same five special tokens as ours."""

_OUR_BASES = "ACGT"
_CODES = np.full(256, 255, dtype=np.uint8)
_CODES[[ord(base) for base in _OUR_BASES]] = range(4)


def published_rows(k: int) -> np.ndarray:
    """``rows`` of the published order: the published id of each of our ids. Specials keep theirs.

    Raises:
        RecipeError: k not in 1..8.
    """
    size = dna_vocab_size(k)
    code = np.arange(size - NUM_SPECIAL)
    theirs = np.array([PUBLISHED_BASES.index(base) for base in _OUR_BASES])
    value = np.zeros_like(code)
    for place in 4 ** np.arange(k):  # digit by digit, base 4
        value += theirs[code // place % 4] * place
    return np.concatenate([np.arange(NUM_SPECIAL), value + NUM_SPECIAL])


def inverse(rows: np.ndarray) -> np.ndarray:
    """Our id of each of their ids."""
    ours = np.empty_like(rows)
    ours[rows] = np.arange(len(rows))
    return ours


def published_words(k: int) -> list[str]:
    """The published vocabulary in its order: the special tokens and the ``4**k`` k-mers, the last base fastest."""
    return [*SPECIAL_TOKENS, *map("".join, product(PUBLISHED_BASES, repeat=k))]


def read_vocab_rows(path: Location, k: int) -> np.ndarray:
    """``rows`` of a ``vocab.txt`` (one word a line), whatever its order.

    Raises:
        CheckpointError: not the five special tokens and every k-mer once.
    """
    try:
        words = path.read_text().split()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not a text of one word a line: {error}.") from error
    return vocab_rows(words, k, source=str(path))


def vocab_rows(words: list[str], k: int, *, source: str) -> np.ndarray:
    """``rows`` of a vocabulary given as its words; ``source`` is for messages.

    Raises:
        CheckpointError: not the five special tokens and every k-mer once.
    """
    mend = f"The vocabulary of k={k} is {', '.join(SPECIAL_TOKENS)} and the {4**k:,} k-mers, each once, in any order."
    if len(words) != dna_vocab_size(k):
        raise CheckpointError(f"{source} has {len(words):,} words, not {dna_vocab_size(k):,}. {mend}")
    twice = [word for word, count in Counter(words).items() if count > 1]
    if twice:
        raise CheckpointError(f"{source} names {', '.join(twice[:3])} more than once. {mend}")
    place = {word: i for i, word in enumerate(words)}
    absent = [word for word in SPECIAL_TOKENS if word not in place]
    if absent:
        raise CheckpointError(f"{source} lacks {', '.join(absent)}. {mend}")
    specials = np.array([place[word] for word in SPECIAL_TOKENS])
    theirs = np.delete(np.arange(len(words)), specials)
    kmers = [words[i] for i in theirs]
    stray = next((word for word in kmers if len(word) != k or not set(word) <= set(_OUR_BASES)), None)
    if stray is not None:
        raise CheckpointError(f"{source} has {stray!r}, which is no k-mer of {k} bases. {mend}")
    code = _CODES[np.frombuffer("".join(kmers).encode(), np.uint8)].reshape(-1, k) @ 4 ** np.arange(k)[::-1]
    rows = np.empty(len(words), np.int64)
    rows[:NUM_SPECIAL], rows[code + NUM_SPECIAL] = specials, theirs
    return rows
