"""Floating-point operations of a training step, for model FLOPs utilisation (MFU).

Counted as in PaLM (Chowdhery et al. 2022, appendix B): 6 per weight and token for the matrix products (2 forward, 4
backward) and 12 L S H per token for attention; recomputation (gradient checkpointing), embeddings look-up, norms,
softmax and the optimizer do not count. The heads count at the scored positions only, since only there do they run.
"""

from __future__ import annotations

from epilm.models.configuration_ebert import EbertConfig


def encoder_weights(config: EbertConfig) -> int:
    """Weights of the encoder's matrix products (84.93 M for BERT-base), biases and norms left out."""
    per_layer = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    projection = 2 * config.hidden_size**2 if config.num_states and config.combine == "concat" else 0
    return config.num_hidden_layers * per_layer + projection


def train_flops_per_sequence(config: EbertConfig, seq_len: float, scored_dna: float, scored_state: float) -> float:
    """FLOPs of forward and backward for one sequence.

    Args:
        seq_len: (mean) tokens of the input, CLS and SEP counted.
        scored_dna, scored_state: (mean) scored positions of a sequence; the state counts 0 for a DBERT.
    """
    hidden = config.hidden_size
    per_token = 6 * encoder_weights(config) + 12 * config.num_hidden_layers * seq_len * hidden
    dna_head = 6 * (hidden**2 + hidden * config.dna_vocab_size)
    state_head = 6 * (hidden**2 + hidden * config.state_vocab_size) if config.num_states else 0
    return float(seq_len * per_token + scored_dna * dna_head + scored_state * state_head)
