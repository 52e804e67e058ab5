"""A few genes with words, for the tasks on genes."""

import numpy as np

from epilm.histone.bpe import WordTokenizer
from epilm.histone.config import WordsConfig
from epilm.histone.pairs import PairedGenes
from epilm.histone.words import LINES, fit_cuts, lines_of
from epilm.tasks.gene_table import GeneTable, write_gene_table

BINS, MARKS = 12, 3


def toy_pairs(num: int = 30, seed: int = 0) -> PairedGenes:
    """A third each of train, validation and test."""
    generator = np.random.default_rng(seed)
    first, second = (generator.poisson(1.2, (num, BINS, MARKS)).astype(np.float32) for _ in range(2))
    expression = np.stack([first.sum((1, 2)), second.sum((1, 2))], axis=1).astype(np.float64)
    return PairedGenes(
        genes=np.array([f"G{i:03d}" for i in range(num)]),
        split=np.repeat(["train", "validation", "test"], num // 3),
        marks=("a", "b", "c"),
        cells=("A", "B"),
        first=first,
        second=second,
        expression=expression,
        target=np.log(expression[:, 0] + 1) - np.log(expression[:, 1] + 1),
        left_out={},
    )


def toy_table(folder, num: int = 30, seed: int = 0) -> tuple[GeneTable, WordTokenizer]:
    pairs, config = toy_pairs(num, seed), WordsConfig(vocab_size=300)
    text = lines_of(pairs.first, pairs.second, fit_cuts(config, pairs.first, pairs.second))
    tokenizer = WordTokenizer.train([line for name in LINES for line in text[name]], config)
    lines = {name: tokenizer.encode(text[name], BINS) for name in LINES}
    return write_gene_table(folder / "genes.parquet", pairs, lines), tokenizer
