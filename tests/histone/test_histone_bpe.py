"""The BPE of histone words: places of tokens, padding, repeatability, and the published vocabulary."""

from __future__ import annotations

import gzip
import pickle
from collections import Counter

import numpy as np
import pytest
from tokenizers import Tokenizer

from epilm.errors import RecipeError
from epilm.histone.bpe import END, MASK, PAD, WordTokenizer
from epilm.histone.config import WordsConfig
from epilm.histone.words import to_lines

NUM_BINS = 12


def words(seed: int, num: int = 60, bins: int = NUM_BINS, marks: int = 5) -> list[str]:
    """Lines with few common words and many rare ones."""
    levels = np.random.default_rng(seed).choice(3, (num, bins, marks), p=[0.8, 0.15, 0.05])
    return to_lines(levels.astype(np.uint8))


@pytest.fixture(scope="module")
def tokenizer() -> WordTokenizer:
    return WordTokenizer.train(words(1), WordsConfig(vocab_size=300))


def test_each_bin_has_its_word_and_no_token_has_two(tokenizer):
    lines = words(2)  # with words that the training did not see
    encoded = tokenizer.encode(lines, NUM_BINS)
    library = Tokenizer.from_str(tokenizer.to_json())
    assert encoded.lengths.max() > encoded.lengths.min() >= NUM_BINS  # ragged, and words of several tokens
    for line, ids, bins, length in zip(lines, encoded.ids, encoded.bins, encoded.lengths, strict=True):
        assert (np.diff(bins[:length]) >= 0).all()
        found = [library.decode(ids[bins == bin_].tolist()) for bin_ in range(NUM_BINS)]
        assert [text.strip() for text in found] == line.split()
        assert all(" " not in library.decode([token])[1:] for token in ids[:length].tolist())
        assert (ids[length:] == tokenizer.pad_id).all()
        assert (bins[length:] == -1).all()


def test_types_and_widths(tokenizer):
    lines = words(3)
    encoded = tokenizer.encode(lines, NUM_BINS)
    assert (encoded.ids.dtype, encoded.bins.dtype, encoded.lengths.dtype) == (np.int32, np.int16, np.int32)
    assert encoded.ids.shape == encoded.bins.shape == (len(lines), encoded.lengths.max())
    assert encoded.ids.max() < tokenizer.vocab_size == 300
    empty = tokenizer.encode([], NUM_BINS)
    assert empty.ids.shape == empty.bins.shape == (0, 0)


def test_a_line_is_encoded_alike_in_any_company(tokenizer):
    lines = words(4, num=1100)  # more than the library gets at a time
    together = tokenizer.encode(lines, NUM_BINS)
    for row in (0, 1023, 1024, 1099):
        alone = tokenizer.encode([lines[row]], NUM_BINS)
        length = together.lengths[row]
        assert alone.lengths.tolist() == [length]
        np.testing.assert_array_equal(alone.ids[0], together.ids[row, :length])
        np.testing.assert_array_equal(alone.bins[0], together.bins[row, :length])


def test_training_is_repeatable_in_any_order_of_the_lines(tokenizer):
    again = WordTokenizer.train(words(1)[::-1], WordsConfig(vocab_size=300))
    assert again.to_json() == tokenizer.to_json()


def test_min_frequency_and_vocab_size_bind():
    lines = words(1)
    sizes = [WordTokenizer.train(lines, WordsConfig(min_frequency=least)).vocab_size for least in (1, 2, 20)]
    assert 1000 > sizes[0] > sizes[1] > sizes[2] > 259


def test_json_and_pickle_bring_it_back(tokenizer):
    lines = words(5)
    expected = tokenizer.encode(lines, NUM_BINS)
    for other in (WordTokenizer.from_json(tokenizer.to_json()), pickle.loads(pickle.dumps(tokenizer))):
        encoded = other.encode(lines, NUM_BINS)
        np.testing.assert_array_equal(encoded.ids, expected.ids)
        np.testing.assert_array_equal(encoded.bins, expected.bins)
        assert (other.vocab_size, other.end_id, other.pad_id, other.mask_id) == (300, 0, 1, 2)


def test_special_tokens_come_first_in_their_order():
    lines = words(1)
    both = WordTokenizer.train(lines, WordsConfig(), (PAD, END))
    assert (both.pad_id, both.end_id) == (0, 1)
    with pytest.raises(AssertionError, match=MASK):
        _ = both.mask_id
    assert WordTokenizer.train(lines, WordsConfig(), (END,)).pad_id == 0  # the end's


def test_first_tokens_cut_and_pad():
    tokenizer = WordTokenizer.train(words(1), WordsConfig(), (END,))
    lines = words(6, num=1030)
    plain = tokenizer.encode(lines, NUM_BINS)
    library = Tokenizer.from_str(tokenizer.to_json())
    got = tokenizer.first_tokens(lines, NUM_BINS + 10)
    assert got.dtype == np.int32
    assert got.shape == (1030, NUM_BINS + 10)
    for line, row in zip(lines, got, strict=True):
        ids = library.encode(f"{line} <mask>").ids
        expected = (ids + [tokenizer.end_id] * got.shape[1])[: got.shape[1]]
        assert row.tolist() == expected
    short = tokenizer.first_tokens(lines, NUM_BINS, ending="")
    np.testing.assert_array_equal(short, plain.ids[:, :NUM_BINS])
    assert tokenizer.first_tokens([], 5).shape == (0, 5)


def test_lines_of_another_number_of_words_are_refused(tokenizer):
    lines = words(7, num=5)
    lines[3] += " lllll"
    with pytest.raises(RecipeError, match="line 3 has 13 words and 12 bins were expected"):
        tokenizer.encode(lines, NUM_BINS)
    with pytest.raises(RecipeError, match="line 0 has 0 words"):
        tokenizer.encode(["", *lines], NUM_BINS)


def test_what_cannot_be_learned_is_refused():
    with pytest.raises(RecipeError, match="at least 259"):
        WordTokenizer.train(words(1), WordsConfig(vocab_size=258))
    assert WordTokenizer.train(words(1), WordsConfig(vocab_size=259)).vocab_size == 259
    with pytest.raises(RecipeError, match="without a word"):
        WordTokenizer.train(["", " "], WordsConfig())


@pytest.mark.real_data
def test_published_vocabulary_and_number_of_tokens(shared_data):
    """752 tokens learned where 1,000 were asked for, and 207 tokens a line (GeneGPT-2, sections 6.1 and 6.5)."""
    lines = (
        gzip.decompress((shared_data / "genegpt2_words" / "trainValidCorpus.txt.gz").read_bytes()).decode().splitlines()
    )
    one = WordTokenizer.train(lines, WordsConfig(vocab_size=1000, min_frequency=2), (END,))
    assert one.vocab_size == 752
    assert WordTokenizer.train(lines, WordsConfig()).vocab_size == 754
    encoded = one.encode(lines, 200)
    assert Counter(encoded.lengths.tolist()) == {200: 753, 201: 46, 202: 1}
    tokens = one.first_tokens(lines, 210)
    np.testing.assert_array_equal((tokens != one.pad_id).sum(axis=1), encoded.lengths + 7)
    ending = [one.first_tokens([""], 7).tolist()[0]]
    np.testing.assert_array_equal(tokens[encoded.lengths == 200, 200:207], ending * 753)
