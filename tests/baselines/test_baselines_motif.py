"""Learned motifs: the parts against slow counterparts, and the planted motif found again."""

from __future__ import annotations

import numpy as np
import pytest

from epilm.baselines.learn_motif import (
    base_frequencies,
    best_words,
    consensus,
    dyad_text,
    enriched_dyads,
    information,
    learn_motif,
    refine,
    seed_matrix,
    trim,
)
from epilm.baselines.pwm import write_meme
from epilm.baselines.recipe import LearnMotifConfig
from epilm.genome.dna import decode_dna, encode_dna, reverse_complement
from epilm.genome.motifs import Motif, read_motifs

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


def turned(text: str) -> str:
    return text.translate(COMPLEMENT)[::-1]


def planted(word: str, *, num: int = 150, length_bp: int = 120, seed: int = 0, share: float = 0.9) -> np.ndarray:
    """Random rows, most of them with the word on either strand; its dots are left as they are."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 4, (num, length_bp), dtype=np.uint8)
    for row in rows[: int(share * num)]:
        text = word if rng.random() < 0.5 else turned(word.replace(".", "N")).replace("N", ".")
        at = rng.integers(0, length_bp - len(word))
        fixed = np.array([letter != "." for letter in text])
        row[at : at + len(word)][fixed] = encode_dna(text)[fixed]
    return rows


def background_rows(num: int = 600, length_bp: int = 120) -> np.ndarray:
    return np.random.default_rng(99).integers(0, 4, (num, length_bp), dtype=np.uint8)


def least_share(frequencies: np.ndarray, word: str) -> float:
    """Frequency of the word's least certain fixed base, at the place and on the strand where that is greatest."""
    best = 0.0
    for text in (word.replace(".", "N"), turned(word.replace(".", "N"))):
        codes = encode_dna(text)
        fixed = np.flatnonzero(codes < 4)
        for at in range(len(frequencies) - len(text) + 1):
            best = max(best, float(frequencies[at + fixed, codes[fixed]].min()))
    return best


@pytest.mark.parametrize("word", ["TTACCCGG", "ATCAC.....ACGA"])
def test_the_planted_motif_is_learned(word):
    found = learn_motif("TF", planted(word), background_rows(), LearnMotifConfig(max_gap_bp=6, num_seeds=4))
    assert least_share(found.motif.frequencies, word) > 0.9
    assert found.motif.width < len(word) + 4
    assert found.training_auprc > 0.75
    assert found.num_bound == 150


def test_learning_is_deterministic_and_does_not_see_the_order_of_the_rows():
    bound, unbound = planted("TTACCCGG"), background_rows()
    config = LearnMotifConfig(max_gap_bp=2, num_seeds=2)
    first, again = (learn_motif("TF", bound, unbound, config) for _ in range(2))
    assert np.array_equal(first.motif.frequencies, again.motif.frequencies)
    shuffled = learn_motif("TF", bound[::-1], unbound[::-1], config)
    assert np.allclose(first.motif.frequencies, shuffled.motif.frequencies, atol=1e-6)


def test_the_strongest_dyad_is_the_planted_one_and_its_score_that_of_plain_counting():
    bound, unbound = planted("CGT...TGA", num=80), background_rows(200)
    bound[3, 10:20] = 4
    (dyad, gap), *_ = enriched_dyads(bound, unbound, max_gap_bp=5, number=3)
    assert gap == 3
    assert dyad_text(dyad, gap) in ("CGT...TGA", "TCA...ACG")

    def held(rows, text):
        left, right, width = text[:3], text[-3:], len(text)
        letters = [decode_dna(row) for row in rows]
        strands = [(left, right), (turned(right), turned(left))]
        return sum(
            any(
                t[i : i + 3] == a and t[i + width - 3 : i + width] == b
                for i in range(len(t) - width + 1)
                for a, b in strands
            )
            for t in letters
        )

    def z_score(text):
        share = (held(unbound, text) + 1) / (len(unbound) + 2)
        mean = len(bound) * share
        return (held(bound, text) - mean) / np.sqrt(mean * (1 - share))

    ranked = enriched_dyads(bound, unbound, max_gap_bp=5, number=40)
    scores = [z_score(dyad_text(*found)) for found in ranked]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] > 0


def test_best_words_are_those_of_a_slow_search():
    rng = np.random.default_rng(5)
    dna = rng.integers(0, 5, (30, 25), dtype=np.uint8)
    dna[7] = 4
    matrix = rng.normal(size=(6, 4)).astype(np.float32)
    words, site, likelihood = best_words(dna, matrix)
    for row in range(30):
        candidates = []
        for start in range(20):
            word = dna[row, start : start + 6]
            for strand in (word, reverse_complement(word[None])[0]):
                known = (word < 4).all()
                score = sum(float(matrix[i, base]) for i, base in enumerate(strand)) if known else -np.inf
                candidates.append((score, start, tuple(strand.tolist())))
        best = max(candidates)
        assert likelihood[row] == pytest.approx(np.mean([2.0**score for score, _, _ in candidates]), rel=1e-4)
        if np.isfinite(best[0]):
            assert (site[row], tuple(words[row].tolist())) == best[1:]
    assert likelihood[7] == 0


def test_a_site_that_several_bins_share_counts_once():
    dna = planted("TTACCCGG", num=60, share=1.0)
    start = seed_matrix(0b110000010101, 0, np.full(4, 0.25), flank_bp=1)  # TAACCC is near enough
    uniform = np.full(4, 0.25)
    once, _ = refine("TF", start, dna, np.arange(60) * 1000, uniform, max_rounds=3)
    thrice, _ = refine(
        "TF", start, np.repeat(dna, 3, axis=0), np.repeat(np.arange(60) * 1000, 3), uniform, max_rounds=3
    )
    assert np.allclose(once.frequencies, thrice.frequencies)
    assert thrice.num_sites == pytest.approx(once.num_sites)


def test_background_is_the_same_for_both_strands():
    found = base_frequencies(encode_dna("AAAC" * 50 + "N" * 9)[None])
    assert found == pytest.approx([150 / 400, 50 / 400, 50 / 400, 150 / 400], abs=5e-3)
    assert found[0] == found[3]
    assert base_frequencies(np.full((2, 5), 4, np.uint8)) == pytest.approx([0.25] * 4)


def test_trim_cuts_dull_ends_alone_and_keeps_six():
    sharp, dull = [0.97, 0.01, 0.01, 0.01], [0.25] * 4
    motif = Motif("TF", "TF", np.array([dull, dull, *[sharp] * 3, dull, *[sharp] * 4, dull]), 50.0)
    uniform = np.full(4, 0.25)
    assert consensus(trim(motif, uniform, min_information=0.3)) == "AAAaAAAA"
    flat = Motif("TF", "TF", np.full((10, 4), 0.25), 50.0)
    assert trim(flat, uniform, min_information=0.3).width == 6
    assert information(motif.frequencies, uniform)[0] == 0
    certain = np.array([[1.0, 0, 0, 0]])
    assert information(certain, uniform)[0] == 2


def test_motifs_are_written_as_meme(tmp_path):
    rng = np.random.default_rng(3)
    motifs = {name: Motif(name, name, rng.dirichlet(np.ones(4), 7), 31.0) for name in ("Reb1", "Abf1")}
    (tmp_path / "motifs.meme").write_text(write_meme(motifs, dict.fromkeys(motifs, np.full(4, 0.25))))
    read = {motif.name: motif for motif in read_motifs(tmp_path / "motifs.meme")}
    assert list(read) == ["Reb1", "Abf1"]
    for name, motif in motifs.items():
        assert read[name].frequencies == pytest.approx(motif.frequencies, abs=2e-6)
        assert read[name].num_sites == 31
