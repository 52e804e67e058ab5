"""K-mer tokenizer of EBERT and DBERT: DNA text to ids, and epigenome states to ids.

Exported models carry this file, so it imports numpy, torch and transformers alone; ids equal those of ``epilm.tokens``.
"""

import os
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizer

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
UNK, NUM_SPECIAL = 1, 5
STATE_PAD, STATE_UNK, NUM_STATE_SPECIAL = 0, 2, 3
BASE_N, INVALID, NO_STATE = 4, 255, 255

# Byte -> base code: A0 C1 G2 T3 in either case, N and the other IUPAC letters 4, anything else invalid.
_CODES = np.full(256, INVALID, dtype=np.uint8)
for _letters, _code in [("A", 0), ("C", 1), ("G", 2), ("T", 3), *[(letter, BASE_N) for letter in "NRYSWKMBDHV"]]:
    _CODES[[ord(_letters), ord(_letters.lower())]] = _code

VOCAB_FILES_NAMES = {"vocab_file": "vocab.txt"}


class KmerTokenizer(PreTrainedTokenizer):
    """DNA to ``[CLS] k-mers [SEP]``.

    ``tokenizer(["ACGT..."], padding=True, return_tensors="pt")`` gives ``input_ids`` and ``attention_mask``. Lower case
    is read as upper case; a k-mer with N (or another ambiguity letter) is ``[UNK]``; the bases behind the last whole
    k-mer are unused.

    Args:
        vocab_file: as saved; it fixes k, and must be the vocabulary of its k.
        k, stride: bases of a k-mer, and from one token to the next (default: k).
        state_names, bin_bp: alphabet and bin size of the states, for :meth:`encode_states`; empty for a DBERT.

    Raises:
        ValueError: k out of 1..8, or a vocabulary that is not that of k; on use: letters that are no bases, and
            sequences shorter than k.
    """

    vocab_files_names = VOCAB_FILES_NAMES
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(self, vocab_file=None, k=None, stride=None, state_names=None, bin_bp=200, **kwargs):
        words = _read_vocab(vocab_file) if vocab_file else None
        if k is None:
            k = 7 if words is None else len(words[-1])
        if not 1 <= k <= 8:
            raise ValueError(f"k={k} is out of range: k-mers of 1 to 8 bases are supported. Set k to 6 or 7.")
        self.k, self.stride = k, k if stride is None else stride
        if self.stride < 1:
            raise ValueError(f"stride={stride} is out of range: it must be at least 1.")
        self.state_names, self.bin_bp = list(state_names or []), bin_bp
        self._words = SPECIAL_TOKENS + kmer_words(k)
        if words is not None and words != self._words:
            raise ValueError(
                f"{vocab_file} is not the vocabulary of k={k}: {len(words)} words, expected the special tokens and the "
                f"{4**k} k-mers in the order A, C, G, T. Copy it from the model's folder again."
            )
        self._ids = {word: i for i, word in enumerate(self._words)}
        for name, token in zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL_TOKENS, strict=True):
            kwargs.setdefault(f"{name}_token", token)
        kwargs.setdefault("special_tokens_pattern", "cls_sep")
        super().__init__(k=k, stride=self.stride, state_names=self.state_names, bin_bp=bin_bp, **kwargs)

    @property
    def vocab_size(self):
        return len(self._words)

    def get_vocab(self):
        return {**self._ids, **self.added_tokens_encoder}

    def kmer_ids(self, sequence):
        """Ids of one sequence without CLS and SEP: list of int."""
        codes = _encode_bases(sequence)
        if len(codes) < self.k:
            raise ValueError(f"a sequence of {len(codes)} bases has no {self.k}-mer. Give at least {self.k} bases.")
        end = (len(codes) - self.k) // self.stride * self.stride + 1
        value = np.zeros((end - 1) // self.stride + 1, dtype=np.int64)
        unknown = np.zeros(len(value), dtype=bool)
        for i in range(self.k):
            base = codes[i : i + end : self.stride]
            value = value * 4 + base
            unknown |= base == BASE_N
        return np.where(unknown, UNK, value + NUM_SPECIAL).tolist()

    def _encode_plus(self, text, text_pair=None, is_split_into_words=False, **kwargs):
        # Sequences go in as ids, vectorised; only text with special tokens in it ("ACG[MASK]...") needs the slow path.
        if not is_split_into_words:
            text, text_pair = self._to_ids(text), self._to_ids(text_pair)
        return super()._encode_plus(text, text_pair, is_split_into_words=is_split_into_words, **kwargs)

    def _to_ids(self, text) -> Any:
        if isinstance(text, str):
            return text if "[" in text else self.kmer_ids(text)
        if isinstance(text, (list, tuple)) and text and all(isinstance(item, str) for item in text):
            return [self._to_ids(item) for item in text]
        return text

    def _tokenize(self, text, **kwargs):
        return [self._words[i] for i in self.kmer_ids(text)] if len(text) >= self.k else []

    def _convert_token_to_id(self, token):
        return self._ids.get(token, UNK)

    def _convert_id_to_token(self, index):
        return self._words[index]

    def save_vocabulary(self, save_directory, filename_prefix=None):
        name = (filename_prefix + "-" if filename_prefix else "") + VOCAB_FILES_NAMES["vocab_file"]
        path = os.path.join(save_directory, name)
        with open(path, "w", encoding="ascii") as file:
            file.write("\n".join(self._words) + "\n")
        return (path,)

    def encode_states(self, bins, phase_bp=0, *, length_bp, add_special_tokens=True):
        """State ids that go with the ``input_ids`` of windows of ``length_bp`` bases, as ``model(..., state_ids=...)``.

        Each token takes the most frequent state among its bases; ties take the state at its centre base (index k // 2).

        Args:
            bins: ``[B, num_bins]`` or ``[num_bins]``; states as names or indices, None, -1 or 255 = no data. The first
                bin holds the window's first base.
            phase_bp: int or ``[B]``, bases between the start of the first bin and the window's first base.

        Returns:
            int64 tensor ``[B, L]``, PAD at CLS and SEP.

        Raises:
            ValueError: unknown states, no alphabet (a DBERT), or bins that do not cover the window.
        """
        states_BN = np.atleast_2d(_state_indices(bins, self.state_names))
        phase_B = np.broadcast_to(np.asarray(phase_bp, dtype=np.int64), len(states_BN))
        first_L = np.arange((length_bp - self.k) // self.stride + 1) * self.stride
        if int(phase_B.max(initial=0)) + length_bp > states_BN.shape[1] * self.bin_bp:
            raise ValueError(
                f"{states_BN.shape[1]} bins of {self.bin_bp} bp do not cover {length_bp} bp from base "
                f"{int(phase_B.max(initial=0))} of the first bin on. Give more bins."
            )
        base_BLk = phase_B[:, None, None] + first_L[None, :, None] + np.arange(self.k)
        state_BLk = np.take_along_axis(states_BN[:, None, :], base_BLk // self.bin_bp, axis=2)
        count_BLk = (state_BLk[..., :, None] == state_BLk[..., None, :]).sum(-1)
        most_BL1 = count_BLk.max(-1, keepdims=True)
        winner_BL1 = np.take_along_axis(state_BLk, count_BLk.argmax(-1)[..., None], axis=2)
        tied_BL = ((count_BLk == most_BL1) & (state_BLk != winner_BL1)).any(-1)
        state_BL = np.where(tied_BL, state_BLk[..., self.k // 2], winner_BL1[..., 0])
        ids_BL = np.where(state_BL == NO_STATE, STATE_UNK, state_BL + NUM_STATE_SPECIAL)
        if add_special_tokens:
            ids_BL = np.pad(ids_BL, ((0, 0), (1, 1)), constant_values=STATE_PAD)
        return torch.from_numpy(ids_BL)


def kmer_words(k):
    """All k-mers in the order of their ids: A, C, G, T, the last base fastest."""
    words = [""]
    for _ in range(k):
        words = [word + base for word in words for base in "ACGT"]
    return words


def _read_vocab(path):
    with open(path, encoding="utf-8") as file:
        words = file.read().split("\n")
    return words[:-1] if words[-1] == "" else words


def _encode_bases(sequence):
    text = np.frombuffer(sequence.encode("utf-8"), dtype=np.uint8)
    codes = _CODES[text]
    wrong = np.flatnonzero(codes == INVALID)
    if len(wrong):
        raise ValueError(
            f"{chr(text[wrong[0]])!r} at position {wrong[0]} is not a base. Allowed: A, C, G, T, N and IUPAC letters, in "
            "either case, without spaces (give DNA, not k-mers)."
        )
    return codes


def _state_indices(bins, names):
    """Indices (int64, 255 = no data) from indices or names."""
    if not names:
        raise ValueError("this tokenizer has no states (a model of DNA alone): give the model input_ids alone.")
    if isinstance(bins, torch.Tensor):
        bins = bins.cpu().numpy()
    given = np.asarray(bins, dtype=object)
    index = {name: i for i, name in enumerate(names)} | {None: NO_STATE, -1: NO_STATE, NO_STATE: NO_STATE}
    index |= {i: i for i in range(len(names))}
    unknown = [value for value in dict.fromkeys(given.ravel().tolist()) if value not in index]
    if unknown:
        raise ValueError(f"unknown state {unknown[0]!r}. Allowed: {', '.join(names)}, 0 to {len(names) - 1}, None.")
    return np.array([index[value] for value in given.ravel().tolist()], dtype=np.int64).reshape(given.shape)


__all__ = ["KmerTokenizer"]
