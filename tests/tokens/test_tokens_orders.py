"""The published k-mer order against ours: literal ids, every k, any vocab.txt by its names."""

import numpy as np
import pytest
import torch

from epilm.errors import CheckpointError
from epilm.storage import Location
from epilm.tokens.kmers import tokenize_kmers
from epilm.tokens.orders import inverse, published_rows, published_words, read_vocab_rows, vocab_rows
from epilm.tokens.vocab import SPECIAL_TOKENS

PUBLISHED_3 = "[PAD] [UNK] [CLS] [SEP] [MASK] AAA AAT AAC AAG ATA ATT ATC ATG ACA ACT ACC ACG AGA AGT AGC AGG TAA"
"""Head of DNABERT's vocab.txt of k = 3."""


def our_words(k: int) -> list[str]:
    """By hand: base-4 digits of the code, most significant first."""
    kmers = ["".join("ACGT"[code // 4**place % 4] for place in reversed(range(k))) for code in range(4**k)]
    return [*SPECIAL_TOKENS, *kmers]


def test_the_published_vocabulary_begins_as_published():
    assert " ".join(published_words(3)).startswith(PUBLISHED_3)
    assert published_words(3)[-3:] == ["GGT", "GGC", "GGG"]
    assert published_words(1)[5:] == ["A", "T", "C", "G"]


@pytest.mark.parametrize("k", range(1, 8))
def test_each_word_keeps_its_name(k):
    rows, theirs, ours = published_rows(k), published_words(k), our_words(k)
    assert [theirs[row] for row in rows] == ours
    assert [ours[i] for i in inverse(rows)] == theirs
    assert np.array_equal(rows[inverse(rows)], np.arange(len(rows)))


def test_ids_of_a_sequence_in_both_orders():
    ids = tokenize_kmers(torch.tensor([[0, 1, 2, 3, 4, 3, 3, 0]], dtype=torch.uint8), k=2, stride=1)[0]  # ACGTNTTA
    words = published_words(2)
    assert [words[i] for i in published_rows(2)[ids]] == ["AC", "CG", "GT", "[UNK]", "[UNK]", "TT", "TA"]


def test_a_vocabulary_in_the_published_order_gives_the_published_rows(tmp_path):
    for text in ("\n".join(published_words(4)), "\r\n".join(published_words(4)) + "\r\n"):
        (tmp_path / "vocab.txt").write_bytes(text.encode())
        assert np.array_equal(read_vocab_rows(Location(str(tmp_path / "vocab.txt")), 4), published_rows(4))


def test_any_order_is_mapped_by_its_names():
    rng = np.random.default_rng(0)
    words = [our_words(3)[i] for i in rng.permutation(69)]
    assert words[:5] != list(SPECIAL_TOKENS)
    assert [words[row] for row in vocab_rows(words, 3, source="vocab.txt")] == our_words(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda words: words[:-1], "vocab.txt has 68 words, not 69"),
        (lambda words: [*words[:-1], "AAA"], "names AAA more than once"),
        (lambda words: [*words[:-1], "AAN"], "has 'AAN', which is no k-mer of 3 bases"),
        (lambda words: [*words[:-1], "AC"], "has 'AC', which is no k-mer of 3 bases"),
        (lambda words: [*words[:-1], "ggg"], "has 'ggg'"),
        (lambda words: ["<pad>", *words[1:]], r"lacks \[PAD\]"),
    ],
)
def test_what_is_not_the_vocabulary_is_refused(change, message):
    with pytest.raises(CheckpointError, match=message):
        vocab_rows(change(published_words(3)), 3, source="vocab.txt")


def test_a_binary_file_is_refused(tmp_path):
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match="not a text of one word a line"):
        read_vocab_rows(Location(str(tmp_path / "vocab.txt")), 3)
