"""The encoder's configuration from a recipe's sizes and a corpus."""

from __future__ import annotations

from epilm.corpus.manifest import CorpusManifest
from epilm.models.configuration_ebert import EbertConfig
from epilm.tasks.recipe import ModelConfig, TokensConfig
from epilm.tokens.vocab import dna_vocab_size, num_tokens


def encoder_config(model: ModelConfig, tokens: TokensConfig, manifest: CorpusManifest, *, input_bp: int) -> EbertConfig:
    """Sizes of a new encoder for inputs of ``input_bp`` bases; a DBERT has no states."""
    uses_states = model.kind == "ebert"
    return EbertConfig(
        dna_vocab_size=dna_vocab_size(tokens.k),
        num_states=len(manifest.state_names) if uses_states else 0,
        state_names=list(manifest.state_names) if uses_states else [],
        hidden_size=model.hidden_size,
        num_hidden_layers=model.num_layers,
        num_attention_heads=model.num_heads,
        intermediate_size=model.feed_forward or 4 * model.hidden_size,
        max_position_embeddings=num_tokens(input_bp, tokens.k, tokens.step_bp) + 2,
        hidden_dropout_prob=model.dropout,
        attention_probs_dropout_prob=model.dropout if model.attention_dropout is None else model.attention_dropout,
        combine=model.combine,
        k=tokens.k,
        stride=tokens.step_bp,
        bin_bp=manifest.bin_bp,
    )
