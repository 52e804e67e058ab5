"""Hidden states of an interval, one base and one window at a time: what the vectorised code is compared with."""

from __future__ import annotations

import numpy as np
import torch

COMPLEMENT = {0: 3, 1: 2, 2: 1, 3: 0, 4: 4}


def bases_and_states(corpus, chrom, start, end, strand, cell):
    """The interval's bases and their states, one at a time, in reading order.

    A contig's last bin is a whole one, though its bases end inside it: a state has the resolution of a bin.
    """
    dna, states = corpus.dna[chrom], corpus.states[chrom]
    bin_bp = corpus.manifest.bin_bp
    bases, labels = [], []
    for position in range(start, end):
        bases.append(int(dna[position]) if 0 <= position < len(dna) else 4)
        labels.append(int(states[cell, position // bin_bp]) if 0 <= position // bin_bp < states.shape[1] else 255)
    if strand == "-":
        bases, labels = [COMPLEMENT[base] for base in bases[::-1]], labels[::-1]
    return bases, labels


def tokens_of(bases, labels, k, stride):
    """(k-mer ids, state ids) by the definitions of the vocabulary."""
    dna_ids, state_ids = [], []
    for first in range(0, len(bases) - k + 1, stride):
        kmer = bases[first : first + k]
        code = sum(base * 4 ** (k - 1 - i) for i, base in enumerate(kmer))
        dna_ids.append(1 if 4 in kmer else 5 + code)
        votes = labels[first : first + k]
        most = max(votes.count(label) for label in votes)
        winners = {label for label in votes if votes.count(label) == most}
        label = winners.pop() if len(winners) == 1 else votes[k // 2]
        state_ids.append(2 if label == 255 else 3 + label)
    return dna_ids, state_ids


def reference(loaded, corpus, interval, cell):
    """Hidden states (and CLS) of an interval, window by window with a batch of one; known[i] = token i has no N."""
    layout = loaded.layout
    bases, labels = bases_and_states(corpus, *interval, cell)
    dna_ids, state_ids = tokens_of(bases, labels, layout.k, layout.stride)
    size, hidden, cls = layout.max_tokens, [], None
    for first in range(0, len(dna_ids), size):
        begin = max(0, min(first, len(dna_ids) - size))  # the last window of a long interval is moved back
        window = slice(begin, min(begin + size, len(dna_ids)))
        inputs = {"input_ids": torch.tensor([[2, *dna_ids[window], 3]])}
        if layout.num_states:
            inputs["state_ids"] = torch.tensor([[0, *state_ids[window], 0]])
        with torch.inference_mode():
            output = loaded.model(**inputs).last_hidden_state[0].numpy()
        cls = output[0]
        hidden.append(output[1:-1][first - begin :])
    return np.concatenate(hidden), cls, np.array(dna_ids) != 1
