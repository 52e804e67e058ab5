"""FLOPs against the literal figures of BERT-base and a count by torch."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from epilm.models.configuration_ebert import EbertConfig
from epilm.models.flops import encoder_weights, train_flops_per_sequence
from epilm.models.modeling_ebert import EbertForPreTraining


def test_bert_base():
    config = EbertConfig(k=7, num_states=0)
    assert encoder_weights(config) == 84_934_656
    per_token = train_flops_per_sequence(config, 150, 0.15 * 150, 0) / 150
    assert per_token == pytest.approx(538e6, rel=0.001)


@pytest.mark.parametrize("combine", ["sum", "concat"])
def test_torch_counts_the_same(combine):
    config = EbertConfig(
        k=3, state_names=["a", "b", "c"], combine=combine, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager",
    )  # fmt: skip
    model = EbertForPreTraining(config)
    ids = torch.randint(5, 69, (2, 24), generator=torch.Generator().manual_seed(0))
    dna_labels, state_labels = torch.full((2, 24), -100), torch.full((2, 24), -100)
    dna_labels[:, 3:9], state_labels[:, 5] = 7, 4
    with FlopCounterMode(display=False) as counter:
        output = model(ids, state_ids=torch.full((2, 24), 4), dna_labels=dna_labels, state_labels=state_labels)
        (output.dna_logits.sum() + output.state_logits.sum()).backward()
    assert counter.get_total_flops() == 2 * train_flops_per_sequence(config, 24, 6, 1)
