"""EBERT and DBERT on transformers' BERT encoder (EBERT: joint DNA and epigenome-state masked language modelling).

Exported models carry this file, so it imports only torch, transformers and the configuration beside it.
Shapes: B = sequences, L = tokens with CLS and SEP, H = hidden size, V = DNA ids, S = state ids, n = scored positions.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import BertModel, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils.generic import ModelOutput

from .configuration_ebert import EbertConfig

IGNORE = -100


@dataclass
class EbertForPreTrainingOutput(ModelOutput):
    """Scores before the softmax.

    Where labels were given, ``dna_logits`` and ``state_logits`` are ``[n, V]`` and ``[n, S]`` at the positions whose
    label is not -100, in row-major order; else ``[B, L, V]`` and ``[B, L, S]``. A DBERT has no ``state_logits``.
    """

    dna_logits: torch.FloatTensor | None = None
    state_logits: torch.FloatTensor | None = None
    last_hidden_state: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


class EbertPreTrainedModel(PreTrainedModel):
    """Initialisation (normal, std ``initializer_range``; biases 0) and loading are those of transformers."""

    config_class = EbertConfig
    base_model_prefix = "ebert"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["BertEmbeddings", "BertLayer"]


class EbertModel(EbertPreTrainedModel):
    """The encoder: DNA + state + position embeddings, then BERT layers."""

    _keys_to_ignore_on_load_unexpected = [r"^(dna|state)_head\."]  # of a pre-trained model; no report of them

    def __init__(self, config):
        super().__init__(config)
        self.encoder = BertModel(config, add_pooling_layer=False)
        if config.num_states:
            self.state_embeddings = nn.Embedding(config.state_vocab_size, config.hidden_size, padding_idx=0)
            if config.combine == "concat":
                self.combine = nn.Linear(2 * config.hidden_size, config.hidden_size)
        self.post_init()

    def get_input_embeddings(self):
        return self.encoder.embeddings.word_embeddings

    def set_input_embeddings(self, value):
        self.encoder.set_input_embeddings(value)

    def forward(self, input_ids, state_ids=None, attention_mask=None, **kwargs):
        """Hidden states of a batch.

        Args:
            input_ids: int64 ``[B, L]`` k-mer ids with CLS and SEP.
            state_ids: int64 ``[B, L]`` state ids (PAD at CLS and SEP; UNK where there is no data); None for a DBERT.
            attention_mask: ``[B, L]``, 1 = real, 0 = padding; None where nothing is padded, which is fastest.
            kwargs: ``output_hidden_states``, ``output_attentions``.

        Returns:
            ``BaseModelOutput`` with ``last_hidden_state`` ``[B, L, H]``.

        Raises:
            ValueError: states for a DBERT or none for an EBERT; an input longer than the positions.
        """
        self._check(input_ids, state_ids)
        embeds_BLH = self.get_input_embeddings()(input_ids)
        if state_ids is not None:
            states_BLH = self.state_embeddings(state_ids)
            if self.config.combine == "concat":
                embeds_BLH = self.combine(torch.cat([embeds_BLH, states_BLH], dim=-1))
            else:
                embeds_BLH = embeds_BLH + states_BLH
        return_dict = kwargs.pop("return_dict", True)
        encoded = self.encoder(inputs_embeds=embeds_BLH, attention_mask=attention_mask, **kwargs)
        output = BaseModelOutput(
            last_hidden_state=encoded.last_hidden_state,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return output if return_dict in (True, None) else output.to_tuple()

    def _check(self, input_ids, state_ids):
        if state_ids is None and self.config.num_states:
            raise ValueError(
                f"this EBERT reads DNA and states ({self.config.num_states} of them), but state_ids is None. "
                "Give state_ids of the shape of input_ids; id 2 says that a token has no data."
            )
        if state_ids is not None and not self.config.num_states:
            raise ValueError("this DBERT reads DNA alone (num_states=0), but state_ids were given. Leave them out.")
        if input_ids.shape[1] > self.config.max_position_embeddings:
            raise ValueError(
                f"the input has {input_ids.shape[1]} tokens, the model at most {self.config.max_position_embeddings} "
                "(max_position_embeddings). Cut the sequences into shorter ones."
            )


class EbertHead(nn.Module):
    """Dense, activation, LayerNorm, decoder: scores of every id from hidden states ``[..., H]``."""

    def __init__(self, config, vocab_size):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, vocab_size)

    def forward(self, hidden):
        return self.decoder(self.LayerNorm(self.activation(self.dense(hidden))))


class EbertForPreTraining(EbertPreTrainedModel):
    """The encoder with a DNA head (its decoder tied to the DNA embedding) and, for EBERT, a state head.

    The heads run at the scored positions only, and no loss is formed: it is normalised over all workers, by the caller.
    """

    _tied_weights_keys = {"dna_head.decoder.weight": "ebert.encoder.embeddings.word_embeddings.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.ebert = EbertModel(config)
        self.dna_head = EbertHead(config, config.dna_vocab_size)
        self.state_head = EbertHead(config, config.state_vocab_size) if config.num_states else None
        self.post_init()

    def get_output_embeddings(self):
        return self.dna_head.decoder

    def set_output_embeddings(self, new_embeddings):
        self.dna_head.decoder = new_embeddings

    def forward(self, input_ids, state_ids=None, attention_mask=None, dna_labels=None, state_labels=None, **kwargs):
        """Scores of the masked k-mers and states.

        Args:
            input_ids, state_ids, attention_mask: as for :class:`EbertModel`.
            dna_labels, state_labels: int64 ``[B, L]``, -100 where nothing is scored. None scores every position.

        Returns:
            :class:`EbertForPreTrainingOutput`; compare ``dna_logits`` with ``dna_labels[dna_labels != -100]``.
        """
        # Before the encoder: on a GPU `nonzero` waits for all queued work, and now the queue is short.
        scored_dna, scored_state = _scored(dna_labels), _scored(state_labels)
        return_dict = kwargs.pop("return_dict", True)
        encoded = self.ebert(input_ids, state_ids=state_ids, attention_mask=attention_mask, **kwargs)
        hidden_BLH = encoded.last_hidden_state
        output = EbertForPreTrainingOutput(
            dna_logits=self.dna_head(_at(hidden_BLH, scored_dna)),
            state_logits=None if self.state_head is None else self.state_head(_at(hidden_BLH, scored_state)),
            last_hidden_state=hidden_BLH,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
        return output if return_dict in (True, None) else output.to_tuple()


def _scored(labels):
    """Flat indices [n] of the scored positions."""
    return None if labels is None else (labels.reshape(-1) != IGNORE).nonzero()[:, 0]


def _at(hidden_BLH, index):
    return hidden_BLH if index is None else hidden_BLH.flatten(0, 1).index_select(0, index)


__all__ = ["EbertForPreTraining", "EbertForPreTrainingOutput", "EbertModel", "EbertPreTrainedModel"]
