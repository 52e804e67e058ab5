"""Language models of histone words: transformers' GPT-2 and RoBERTa at any size, from random weights.

Lines are longer than a small model's context (GeneGPT-2: 32 to 128 tokens of about 200), so they are read in windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, RobertaConfig, RobertaForMaskedLM


@dataclass(frozen=True)
class LanguageModelSpec:
    """What a histone language model is built from."""

    kind: Literal["gpt2", "roberta"]
    vocab_size: int
    pad_id: int
    mask_id: int
    end_id: int
    hidden: int
    layers: int
    heads: int
    context: int
    dropout: float


def build_language_model(spec: LanguageModelSpec) -> nn.Module:
    """``GPT2LMHeadModel`` or ``RobertaForMaskedLM`` with random weights of torch's global generator."""
    if spec.kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=spec.vocab_size,
                n_positions=spec.context,
                n_embd=spec.hidden,
                n_layer=spec.layers,
                n_head=spec.heads,
                resid_pdrop=spec.dropout,
                embd_pdrop=spec.dropout,
                attn_pdrop=0.0,  # dropout of attention costs the fused kernel
                bos_token_id=spec.end_id,
                eos_token_id=spec.end_id,
                # no padding id: it would ask for a mask, which padding behind the tokens of a causal model does not need
                use_cache=False,
            )
        )
    return RobertaForMaskedLM(
        RobertaConfig(
            vocab_size=spec.vocab_size,
            max_position_embeddings=spec.context + spec.pad_id + 1,  # RoBERTa's positions begin behind its padding id
            hidden_size=spec.hidden,
            num_hidden_layers=spec.layers,
            num_attention_heads=spec.heads,
            intermediate_size=4 * spec.hidden,
            hidden_dropout_prob=spec.dropout,
            attention_probs_dropout_prob=0.0,
            type_vocab_size=1,
            bos_token_id=spec.end_id,
            eos_token_id=spec.end_id,
            pad_token_id=spec.pad_id,
        )
    )


def hidden_states(model: Any, ids: Tensor, lengths: Tensor) -> Tensor:
    """Last hidden states of windows: [n, C] token ids and [n] lengths -> [n, C, hidden]; those of padding mean nothing."""
    if isinstance(model, GPT2LMHeadModel):
        # padding lies behind the tokens, which by the causal mask never see it
        return model.transformer(input_ids=ids).last_hidden_state
    # a window without tokens still needs a place to look at, or its softmax is over nothing
    attended = torch.arange(ids.shape[1], device=ids.device)[None] < lengths.clamp(min=1)[:, None]
    return model.roberta(input_ids=ids, attention_mask=attended.long()).last_hidden_state


def token_logits(model: Any, hidden: Tensor) -> Tensor:
    """Scores of the vocabulary at hidden states: [..., hidden] -> [..., vocab]."""
    return model.lm_head(hidden)


class LanguageModelScores(nn.Module):
    """A language model as it is trained: the output layer runs at the scored tokens alone."""

    def __init__(self, spec: LanguageModelSpec) -> None:
        super().__init__()
        self.model = build_language_model(spec)

    def forward(self, ids: Tensor, lengths: Tensor, scored: Tensor) -> Tensor:
        """[n, C] token ids, [n] lengths and [n, C] bool -> [scored tokens, vocab]."""
        return token_logits(self.model, hidden_states(self.model, ids, lengths)[scored])


def input_embedding(model: Any) -> Tensor:
    """Rows of the input embedding: [vocab, hidden]."""
    return model.get_input_embeddings().weight


def read_lines(model: Any, ids: Tensor, lengths: Tensor, *, context: int, overlap: int = 0, pad_id: int) -> Tensor:
    """Hidden states of whole lines, read in windows: [n, L] ids and [n] lengths -> [n, L, hidden].

    Windows of ``context`` tokens begin every ``context - overlap``; in all but the first the leading ``overlap`` tokens are
    context alone, and their states are those of the window before.
    """
    num, length = ids.shape
    stride = context - overlap
    windows = 1 if length <= context else 1 + -(-(length - context) // stride)
    if windows == 1:
        return hidden_states(model, ids, lengths)
    padded = torch.full((num, (windows - 1) * stride + context), pad_id, dtype=ids.dtype, device=ids.device)
    padded[:, :length] = ids
    cut = padded.unfold(1, context, stride)  # [n, windows, context]
    starts = torch.arange(windows, device=ids.device) * stride
    left = (lengths[:, None] - starts[None]).clamp(0, context)
    hidden = hidden_states(model, cut.reshape(-1, context), left.reshape(-1)).reshape(num, windows, context, -1)
    rest = hidden[:, 1:, overlap:].reshape(num, (windows - 1) * stride, -1)
    return torch.cat([hidden[:, 0], rest], dim=1)[:, :length]
