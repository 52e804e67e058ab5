"""The two vocabularies: ids of k-mers and of epigenome states, and their special ids.

DNA: ``[PAD] [UNK] [CLS] [SEP] [MASK]``, then the ``4**k`` k-mers in the order of A, C, G, T.
States: ``[PAD] [MASK] [UNK]`` (UNK = no data), then the states in the order of the corpus.
"""

from __future__ import annotations

from epilm.errors import RecipeError

PAD, UNK, CLS, SEP, MASK = range(5)
NUM_SPECIAL = 5
"""First k-mer id."""
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

STATE_PAD, STATE_MASK, STATE_UNK = range(3)
NUM_STATE_SPECIAL = 3
"""Id of state 0."""

IGNORE = -100
"""Label of a position that is not scored (PyTorch's ``ignore_index``)."""

MAX_K = 8
BASE_N = 4
NO_STATE = 255


def check_kmers(k: int, stride: int, length_bp: int | None = None) -> None:
    """Refuse a k, a stride or a window that gives no token.

    Raises:
        RecipeError: k not in 1..8, stride < 1, or a window shorter than k.
    """
    if not 1 <= k <= MAX_K:
        raise RecipeError(f"k={k} is out of range: k-mers of 1 to {MAX_K} bases are supported. Set k to 6 or 7.")
    if stride < 1:
        raise RecipeError(
            f"stride={stride} is out of range: it must be at least 1 (1 = overlapping, k = side by side)."
        )
    if length_bp is not None and length_bp < k:
        raise RecipeError(f"a window of {length_bp} bp has no {k}-mer: give windows of at least {k} bp or a smaller k.")


def dna_vocab_size(k: int) -> int:
    """Number of DNA ids: the specials and all ``4**k`` k-mers (16,389 for k = 7)."""
    check_kmers(k, 1)
    return NUM_SPECIAL + 4**k


def state_vocab_size(num_states: int) -> int:
    """Number of state ids: the specials and the states; 0 for a corpus without states."""
    return NUM_STATE_SPECIAL + num_states if num_states else 0


def num_tokens(length_bp: int, k: int, stride: int) -> int:
    """Tokens of a window: ``floor((length_bp - k) / stride) + 1``; the bases behind the last whole k-mer are unused."""
    check_kmers(k, stride, length_bp)
    return (length_bp - k) // stride + 1
