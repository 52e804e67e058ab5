"""Byte-level BPE of histone words (GeneGPT-2, section 6.1): lines to token ids, and the bin of every token.

The words are cut apart before the merges, so that a token is a word or a part of one and lies in one bin (the paper's
example "m m" is none that this BPE can learn). The space before a word belongs to it; the first word of a line, which has
none, has tokens of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from tokenizers import ByteLevelBPETokenizer, Encoding, Tokenizer

from epilm.errors import RecipeError
from epilm.histone.config import WordsConfig

END, PAD, MASK = "<|endoftext|>", "<pad>", "<mask>"

PUBLISHED_ENDING = f" {MASK}"
"""End of the published lines: seven tokens (one a byte) for a tokenizer to which ``<mask>`` is no special token."""

MOST_BINS = 32_767
"""Of a line: numbers of bins are 16-bit integers."""
_NUM_BYTES = 256
_BATCH = 1024
"""Lines at a time: the library's encodings take far more memory than their ids."""


@dataclass(frozen=True)
class EncodedLines:
    """n lines as tokens; L is the length of the longest."""

    ids: np.ndarray
    """int32 [n, L], the padding's id behind the end."""
    bins: np.ndarray
    """int16 [n, L], the bin of each token, rising along a line; -1 for padding."""
    lengths: np.ndarray
    """int32 [n], tokens of each line."""

    def cut(self, rows: slice) -> EncodedLines:
        """Some of the lines."""
        return EncodedLines(self.ids[rows], self.bins[rows], self.lengths[rows])

    def widened(self, width: int, pad_id: int) -> EncodedLines:
        """The same lines with padding up to ``width`` tokens, where they are narrower."""
        grow = ((0, 0), (0, max(0, width - self.ids.shape[1])))
        return EncodedLines(
            ids=np.pad(self.ids, grow, constant_values=pad_id),
            bins=np.pad(self.bins, grow, constant_values=-1),
            lengths=self.lengths,
        )


class WordTokenizer:
    """A trained byte-level BPE; picklable."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def train(
        cls, lines: Sequence[str], config: WordsConfig, specials: tuple[str, ...] = (END, PAD, MASK)
    ) -> WordTokenizer:
        """Learns merges from lines; the same lines, in any order, give the same tokenizer.

        Args:
            specials: tokens outside of the words; their ids come first, in this order.

        Raises:
            RecipeError: ``config.vocab_size`` has no room for the bytes and the special tokens, or no line has a word.
        """
        if config.vocab_size < (least := _NUM_BYTES + len(specials)):
            raise RecipeError(
                f"words.vocab_size={config.vocab_size} has no room for {_NUM_BYTES} bytes and {len(specials)} special tokens. "
                f"Give at least {least}."
            )
        if not any(line.strip() for line in lines):
            raise RecipeError(f"words: {len(lines)} lines without a word teach no tokens. Give training genes.")
        trained = ByteLevelBPETokenizer()
        trained.train_from_iterator(
            lines,
            vocab_size=config.vocab_size,
            min_frequency=config.min_frequency,
            show_progress=False,
            special_tokens=list(specials),
        )
        return cls.from_json(trained.to_str())

    @classmethod
    def from_json(cls, text: str) -> WordTokenizer:
        """From :meth:`to_json`, or any ``tokenizer.json`` of a byte-level BPE."""
        return cls(Tokenizer.from_str(text))

    def to_json(self) -> str:
        """The library's own ``tokenizer.json``, which transformers reads as well."""
        return self._tokenizer.to_str()

    @property
    def vocab_size(self) -> int:
        """Tokens that there are, special ones included: V of an embedding."""
        return self._tokenizer.get_vocab_size()

    @property
    def end_id(self) -> int:
        return self._id(END)

    @property
    def mask_id(self) -> int:
        return self._id(MASK)

    @property
    def pad_id(self) -> int:
        """Id of the padding; the end's for a tokenizer without one (GPT-2's habit)."""
        return self._id(END if self._tokenizer.token_to_id(PAD) is None else PAD)

    def encode(self, lines: Sequence[str], num_bins: int) -> EncodedLines:
        """Tokens of lines of exactly ``num_bins`` words each.

        Raises:
            RecipeError: a line has more or fewer words.
        """
        assert num_bins <= MOST_BINS
        ids: list[np.ndarray] = [np.zeros(0, np.int32)]
        bins: list[np.ndarray] = [np.zeros(0, np.int32)]
        lengths: list[int] = []
        for batch in self._batches(lines):
            lengths += [len(encoding) for encoding in batch]
            ids.append(_flat((encoding.ids for encoding in batch), np.int32))
            bins.append(_flat((encoding.word_ids for encoding in batch), np.int32))
        sizes = np.asarray(lengths, np.int32)
        flat_bins = np.concatenate(bins)
        _check_words(flat_bins, sizes, num_bins)
        real = np.arange(sizes.max(initial=0)) < sizes[:, None]
        return EncodedLines(
            ids=_padded(np.concatenate(ids), real, np.int32(self.pad_id)),
            bins=_padded(flat_bins, real, np.int16(-1)),
            lengths=sizes,
        )

    def first_tokens(self, lines: Sequence[str], num: int, ending: str = PUBLISHED_ENDING) -> np.ndarray:
        """The first tokens of lines with an ending behind each -> int32 [n, num]; padding behind shorter ones.

        The published features are those of the first 207: most lines have a token a bin and seven in the ending.
        """
        result = np.full((len(lines), num), self.pad_id, np.int32)
        row = 0
        for batch in self._batches([line + ending for line in lines]):
            heads = [encoding.ids[:num] for encoding in batch]
            real = np.arange(num) < np.array([len(head) for head in heads])[:, None]
            result[row : row + len(batch)][real] = _flat(heads, np.int32)
            row += len(batch)
        return result

    def _batches(self, lines: Sequence[str]) -> Iterator[list[Encoding]]:
        for start in range(0, len(lines), _BATCH):
            yield self._tokenizer.encode_batch(list(lines[start : start + _BATCH]), add_special_tokens=False)

    def _id(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        assert found is not None, f"the tokenizer has no {token}"
        return found


def _flat(lists, dtype) -> np.ndarray:
    return np.fromiter(chain.from_iterable(lists), dtype)


def _padded(flat: np.ndarray, real: np.ndarray, filler: np.generic) -> np.ndarray:
    result = np.full(real.shape, filler)
    result[real] = flat
    return result


def _check_words(bins: np.ndarray, lengths: np.ndarray, num_bins: int) -> None:
    """Words are numbered from 0 without gaps, so that the last token's number says how many there are."""
    ends = np.cumsum(lengths)
    words = np.zeros(lengths.size, np.int64)
    words[lengths > 0] = bins[ends[lengths > 0] - 1].astype(np.int64) + 1
    wrong = np.flatnonzero(words != num_bins)
    if wrong.size:
        raise RecipeError(
            f"line {wrong[0]} has {words[wrong[0]]} words and {num_bins} bins were expected ({wrong.size} such lines). "
            "A line is a word a bin, with one space between."
        )
