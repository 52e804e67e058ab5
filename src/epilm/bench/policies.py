"""Masking policies against the row-by-row loops of the published programs.

Those programs go over a batch a row at a time in Python and gather the masked positions in sets. What makes them slow is
the tokenizer: it is asked for the ids of its special tokens anew at every token (DNABERT's ``get_special_tokens_mask``:
half of the span loop), and, to rank a k-mer, it decodes the token to its text, which is looked up in a dictionary
(GeneMask for each span, Global PMI for every position).

The peers here are written from the papers' descriptions and go about it in the same way. The ids of SEP and CLS are two
look-ups in a dictionary a token (:class:`SpecialIds`; today's transformers takes several times as long to tell them, which
would flatter us), and tokens are decoded by transformers' BERT tokenizer in Python, special tokens skipped. On one core of
a Zen 4 the released programs of DNABERT and GeneMask mask 1.8 and 0.54 thousand rows a second and a transcription of Global
PMI's 0.075; the peers here mask more: the ratios are no larger than those to the released programs. The peers take the rank
of the k-mer itself (the programs decode the position number, at the same cost) and hide as many k-mers as ours. They are
given the random draws, and do 80/10/10 for a whole batch at once; ours draw all their numbers within the timing. Both sides
must mask and show the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from epilm.bench.masks import one_thread
from epilm.bench.measure import Case, Duel, Workbench
from epilm.masking.contract import MaskInput, Moment
from epilm.masking.draws import CENTRES, ROUNDING, TIES, short_words, words
from epilm.masking.hashing import uniform
from epilm.masking.hide import hide
from epilm.masking.policy import build_policy
from epilm.masking.rates import genemask_thresholds, span_thresholds
from epilm.masking.recipe import DnaMaskConfig
from epilm.models.tokenization_ebert import SPECIAL_TOKENS, kmer_words
from epilm.ngrams.table import KmerScores
from epilm.tokens.kmers import tokenize_kmers
from epilm.tokens.vocab import IGNORE, MASK, NUM_SPECIAL, dna_vocab_size

K, LENGTH, RATE = 6, 510, 0.15
VOCAB_SIZE = dna_vocab_size(K)
SPAN = (-2, -1, 1, 2, 3)
"""A centre's neighbours, in the order in which GeneMask prefers equal ranks."""
CHOICE, RANDOM = 12, 13
BATCH_ROWS = 512

RankOf = Callable[[int], int]
"""Rank of a token, 1 = highest NPMI."""
MaskRow = Callable[[int, list[int], Tensor], set[int]]
"""(row, its tokens, which of them are no special) -> masked positions."""


def random_scores(seed: int) -> KmerScores:
    rank = np.random.default_rng(seed).permutation(4**K).astype(np.int32) + 1
    return KmerScores(K, np.full(4**K, 1000), 1.0 / rank, rank, "random")


def duel(bench: Workbench, policy: str, num_theirs: int, peer: Callable[[MaskInput, RankOf], MaskRow]) -> Duel:
    """``policy`` with 80/10/10 over rows of 510 overlapping 6-mers; the peer does the first ``num_theirs`` rows."""
    num_ours, num_theirs = bench.scaled(4_096, 64), bench.scaled(num_theirs, 8)
    dna = np.random.default_rng(bench.seed).integers(0, 4, (num_ours, LENGTH + K - 1), dtype=np.uint8)
    ids, position, scores = (
        tokenize_kmers(torch.from_numpy(dna), k=K, stride=1),
        torch.arange(num_ours),
        random_scores(0),
    )
    config = DnaMaskConfig(policy=policy, rate=RATE, table=None if policy == "span" else "random")
    built, start = build_policy(config, scores=scores), Moment(0, 1, {})
    first = MaskInput(ids[:num_theirs], ids[:num_theirs], position[:num_theirs], bench.seed, K, 1)
    tokenizer = published_tokenizer(bench.folder)
    special = SpecialIds(tokenizer.get_vocab())
    mask_row = peer(first, look_up(tokenizer, scores))
    choice, drawn = (uniform(bench.seed, stream, first.position, LENGTH) for stream in (CHOICE, RANDOM))

    def batch(rows: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        mask = built.mask(MaskInput(rows, rows, at, bench.seed, K, 1), start)
        streams = {"choice_stream": CHOICE, "random_stream": RANDOM}
        return hide(rows, mask, seed=bench.seed, position=at, vocab_size=VOCAB_SIZE, **streams)

    def ours() -> list[tuple[Tensor, Tensor]]:
        return [batch(rows, at) for rows, at in zip(ids.split(BATCH_ROWS), position.split(BATCH_ROWS), strict=True)]

    def theirs() -> tuple[Tensor, Tensor]:
        mask = torch.zeros(first.ids.shape, dtype=torch.bool)
        for row, tokens in enumerate(first.ids.tolist()):
            real = [token not in (special.sep, special.cls) for token in tokens]
            mask[row, list(mask_row(row, tokens, torch.tensor(real)))] = True
        return shown_batch(first.ids, mask, choice, drawn)

    def compare(mine: list[tuple[Tensor, Tensor]], other: tuple[Tensor, Tensor]) -> str:
        same = all(torch.equal(torch.cat([p[i] for p in mine])[:num_theirs], other[i]) for i in range(2))
        return "" if same else "masked tokens, or what is shown in their place"

    return Duel(ours, theirs, num_ours, num_theirs, compare, lambda: f"rows of {LENGTH} tokens", close=one_thread())


class SpecialIds:
    """Ids of special tokens that are looked up by their words, each time they are asked for."""

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self._ids, self._added = vocabulary, dict[str, int]()

    @property
    def sep(self) -> int:
        return self._look_up("[SEP]")

    @property
    def cls(self) -> int:
        return self._look_up("[CLS]")

    def _look_up(self, word: str) -> int:
        if word in self._added:
            return self._added[word]
        return self._ids.get(word, self._ids["[UNK]"])


def shown_batch(ids: Tensor, mask: Tensor, choice: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """80/10/10 of a batch by draws for every token, as the programs do it: inputs and labels, int64 ``[B, L]``."""
    random_kmer = (drawn * (VOCAB_SIZE - NUM_SPECIAL)).to(torch.int64) + NUM_SPECIAL
    shown = torch.where(choice < 0.8, MASK, torch.where(choice < 0.8 + 0.1, random_kmer, ids))
    return torch.where(mask, shown, ids), torch.where(mask, ids, IGNORE)


def published_tokenizer(folder: Path) -> BertTokenizerLegacy:
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, *kmer_words(K)]))
    return BertTokenizerLegacy(str(folder / "vocab.txt"), do_lower_case=False)


def look_up(tokenizer: BertTokenizerLegacy, scores: KmerScores) -> RankOf:
    """Rank of a token, by way of its text."""
    ranks = dict(zip(kmer_words(K), scores.rank.tolist(), strict=True))
    return lambda token: ranks.get(str(tokenizer.decode([token], skip_special_tokens=True)), len(ranks) + 1)


def spans_of(centres: Sequence[int], end: int) -> set[int]:
    masked = set(centres)
    for centre in centres:
        for offset in SPAN:
            if 0 <= centre + offset <= end:
                masked.add(centre + offset)
    return masked


def span_row(batch: MaskInput, rank_of: RankOf) -> MaskRow:
    """DNABERT: every centre masks its neighbours."""
    below = int(span_thresholds(RATE, None, K, 1, LENGTH).array[LENGTH])
    centres = words(batch.seed, CENTRES, batch.position, LENGTH) < below

    def mask_row(row: int, tokens: list[int], real: Tensor) -> set[int]:
        return spans_of(torch.where(centres[row] & real)[0].tolist(), int(torch.where(real)[0][-1]))

    return mask_row


def genemask_row(batch: MaskInput, rank_of: RankOf) -> MaskRow:
    """GeneMask: the best of each centre's span; the better half of the centres masks all about its best."""
    below = int(genemask_thresholds(RATE, None, K, 1, LENGTH).array[LENGTH])
    draws = words(batch.seed, CENTRES, batch.position, LENGTH)
    ties = (draws >> 8).tolist()

    def mask_row(row: int, tokens: list[int], real: Tensor) -> set[int]:
        centres, end = torch.where((draws[row] < below) & real)[0].tolist(), int(torch.where(real)[0][-1])
        best = []
        for centre in centres:
            candidates = [centre, *(centre + offset for offset in SPAN if 0 <= centre + offset <= end)]
            ranks = [rank_of(tokens[at]) for at in candidates]
            at = ranks.index(min(ranks))
            best.append((ranks[at], ties[row][centre], candidates[at]))
        half = (len(best) + 1) // 2
        masked = spans_of(centres, end)
        for _, _, at in sorted(best)[: half if half >= 5 else len(best)]:
            masked.update(range(max(at - K + 1, 0), min(at + K - 1, end) + 1))
        return masked

    return mask_row


def global_row(batch: MaskInput, rank_of: RankOf) -> MaskRow:
    """Global PMI: rank every position, and hide from the best on until the rate is reached."""
    ties = (short_words(batch.seed, TIES, batch.position, LENGTH) & (2**14 - 1)).tolist()
    u_last = uniform(batch.seed, ROUNDING, batch.position, 1)[:, 0].tolist()

    def mask_row(row: int, tokens: list[int], real: Tensor) -> set[int]:
        end, target = int(torch.where(real)[0][-1]), RATE * int(real.sum())
        order = sorted((rank_of(token), ties[row][at], at) for at, token in enumerate(tokens) if real[at])
        masked: set[int] = set()
        for _, _, at in order:
            more = masked.union(range(max(at - K + 1, 0), min(at + K - 1, end) + 1))
            if len(more) >= target:
                return more if u_last[row] < (target - len(masked)) / (len(more) - len(masked)) else masked
            masked = more
        return masked

    return mask_row


CASES = (
    Case(
        name="span_mask",
        about="span masking to a rate of 15 %, with 80/10/10",
        peer="DNABERT's row-by-row loop in Python",
        unit="krows/s",
        target=25,
        build=lambda bench: duel(bench, "span", 512, span_row),
        scale=1e3,
    ),
    Case(
        name="genemask",
        about="GeneMask to a rate of 15 %, with 80/10/10",
        peer="a row-by-row loop in Python that decodes the spans' k-mers",
        unit="krows/s",
        target=45,
        build=lambda bench: duel(bench, "genemask", 256, genemask_row),
        scale=1e3,
    ),
    Case(
        name="global_pmi_mask",
        about="Global PMI masking to a rate of 15 %, with 80/10/10",
        peer="a row-by-row loop in Python that decodes every k-mer",
        unit="krows/s",
        target=500,
        build=lambda bench: duel(bench, "global", 64, global_row),
        scale=1e3,
    ),
)
