"""Language models of histone words: windows, padding, and transformers' own folders."""

import itertools

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from epilm.models.histone_lm import (
    LanguageModelScores,
    LanguageModelSpec,
    build_language_model,
    hidden_states,
    read_lines,
)
from epilm.models.line_regressor import LineRegressor

VOCAB, CONTEXT = 40, 8


def spec(kind: str, **changes) -> LanguageModelSpec:
    settings = {"vocab_size": VOCAB, "pad_id": 1, "mask_id": 2, "end_id": 0, "hidden": 16, "layers": 2, "heads": 2}
    return LanguageModelSpec(kind=kind, **(settings | {"context": CONTEXT, "dropout": 0.0} | changes))


def model_of(kind: str):
    torch.manual_seed(0)
    return build_language_model(spec(kind)).eval()


def lines(num: int, length: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(3, VOCAB, (num, length)))


@pytest.mark.parametrize("kind", ["gpt2", "roberta"])
@pytest.mark.parametrize("overlap", [0, 4, 7])
@pytest.mark.parametrize("length", [1, 8, 9, 12, 29])
def test_windows_are_read_one_by_one(kind, overlap, length):
    model, ids = model_of(kind), lines(3, length)
    sizes = torch.tensor([length, max(1, length - 3), 1])
    ids = torch.where(torch.arange(length) < sizes[:, None], ids, 1)
    got = read_lines(model, ids, sizes, context=CONTEXT, overlap=overlap, pad_id=1)
    assert got.shape == (3, length, 16)
    stride = CONTEXT - overlap
    for row, size in enumerate(sizes.tolist()):
        for token in range(size):
            window = 0 if token < CONTEXT else (token - CONTEXT) // stride + 1  # the first that holds it
            begin = window * stride
            piece = ids[row : row + 1, begin : min(begin + CONTEXT, size)]
            alone = hidden_states(model, piece, torch.tensor([piece.shape[1]]))[0, token - begin]
            torch.testing.assert_close(got[row, token], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "roberta"])
def test_padding_changes_nothing(kind):
    model, ids = model_of(kind), lines(2, 6)
    sizes = torch.tensor([4, 4])
    other = ids.clone()
    ids[:, 4:], other[:, 4:] = 1, 1
    longer = torch.cat([other, torch.ones(2, 2, dtype=torch.long)], 1)
    a, b = hidden_states(model, ids, sizes), hidden_states(model, longer, sizes)
    torch.testing.assert_close(a[:, :4], b[:, :4], atol=1e-6, rtol=1e-5)


def test_gpt2_looks_back_alone_and_roberta_both_ways():
    for kind, sees_ahead in (("gpt2", False), ("roberta", True)):
        model, ids = model_of(kind), lines(1, 6)
        changed = ids.clone()
        changed[0, 5] = (ids[0, 5] - 2) % (VOCAB - 3) + 3
        full = torch.tensor([6])
        a, b = hidden_states(model, ids, full)[0, 2], hidden_states(model, changed, full)[0, 2]
        assert torch.allclose(a, b) != sees_ahead


@pytest.mark.parametrize(("kind", "cls"), [("gpt2", AutoModelForCausalLM), ("roberta", AutoModelForMaskedLM)])
def test_a_saved_model_loads_in_plain_transformers(kind, cls, tmp_path):
    model, ids = model_of(kind), lines(2, CONTEXT)
    model.save_pretrained(tmp_path)
    loaded = cls.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(loaded(ids).logits, model(ids).logits)


def test_logits_are_those_of_the_scored_tokens():
    scores = LanguageModelScores(spec("gpt2")).eval()
    ids, scored = lines(2, CONTEXT), torch.zeros(2, CONTEXT, dtype=torch.bool)
    scored[0, 3] = scored[1, 6] = True
    got = scores(ids, torch.tensor([CONTEXT, CONTEXT]), scored)
    torch.testing.assert_close(got, scores.model(ids).logits[scored])


@pytest.mark.parametrize("segments", [1, 3, 7])
def test_segments_are_means_of_their_tokens(segments):
    torch.manual_seed(0)
    num_bins, length = 7, 9
    model = LineRegressor(
        spec("gpt2", context=16), orders=[[0, 1]], num_bins=num_bins, segments=segments, head_hidden=8, head_dropout=0.0
    ).eval()
    ids = torch.stack([lines(3, length), lines(3, length)], 1)
    bins = torch.tensor([0, 0, 1, 2, 3, 4, 5, 6, -1]).expand(3, 2, length).clone()
    ids[:, :, -1] = 1
    sizes = torch.full((3, 2), 8)
    hidden = read_lines(model.language_model, ids.reshape(6, length), sizes.reshape(6), context=16, pad_id=1)
    edges = [i * num_bins // segments for i in range(segments + 1)]
    pooled = torch.stack(
        [
            torch.stack(
                [row[[t for t in range(8) if a <= bins[0, 0, t] < b]].mean(0) for a, b in itertools.pairwise(edges)]
            )
            for row in hidden
        ]
    )
    expected = model.head(pooled.reshape(3, -1)).squeeze(-1)
    torch.testing.assert_close(model(ids, bins, sizes), expected, atol=1e-5, rtol=1e-4)
    ids[:, :, -1] = 5  # what padding holds is not seen
    torch.testing.assert_close(model(ids, bins, sizes), expected, atol=1e-5, rtol=1e-4)


def test_two_orders_of_lines_give_a_number_that_changes_its_sign():
    torch.manual_seed(0)
    model = LineRegressor(
        spec("gpt2", context=16),
        orders=[[0, 1, 2], [1, 0, 3]],
        num_bins=7,
        segments=3,
        head_hidden=8,
        head_dropout=0.0,
    ).eval()
    ids = torch.randint(2, 20, (3, 4, 7))
    bins, sizes = torch.arange(7).expand(3, 4, 7).contiguous(), torch.full((3, 4), 7)
    given, exchanged = model(ids, bins, sizes), model(ids[:, [1, 0, 3, 2]], bins, sizes)
    assert given.abs().min() > 1e-4
    torch.testing.assert_close(exchanged, -given, atol=0, rtol=0)
    one_order = LineRegressor(
        spec("gpt2", context=16), orders=[[0, 1, 2]], num_bins=7, segments=3, head_hidden=8, head_dropout=0.0
    ).eval()
    one_order.load_state_dict(model.state_dict())
    places, lengths = bins[:, :3].contiguous(), sizes[:, :3]
    halves = one_order(ids[:, :3], places, lengths) - one_order(ids[:, [1, 0, 3]], places, lengths)
    torch.testing.assert_close(given, halves / 2)
