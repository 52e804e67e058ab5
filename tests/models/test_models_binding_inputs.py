"""What a binding model reads of a window equals what one reads base by base, on either strand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from toy_binding import make_binding, make_config, make_windows, slow_inputs, turned

from epilm.errors import RecipeError
from epilm.models.binding_inputs import BindingWindows, binding_inputs, pool_tokens, reverse_signals


@pytest.mark.parametrize("stride", [1, 3, 4])
@pytest.mark.parametrize(("k", "signal_bp"), [(3, 5), (7, 2), (7, 1), (1, 3), (8, 20), (2, 1)])
def test_tokens_states_and_tracks_equal_those_read_base_by_base(k, stride, signal_bp):
    encoder, config = make_config(k=k, stride=stride), make_binding(signal_bp=signal_bp)
    windows = make_windows(12, config=config)
    reverse = torch.arange(12) % 2 == 0
    inputs = binding_inputs(windows, encoder=encoder, config=config, reverse=reverse)
    for row in range(12):
        ids, states, tracks = slow_inputs(windows, row, encoder, config, reverse=bool(reverse[row]))
        assert inputs["input_ids"][row].tolist() == ids
        assert inputs["state_ids"][row].tolist() == states
        torch.testing.assert_close(inputs["track_values"][row], torch.tensor(tracks), rtol=1e-6, atol=1e-6)
    assert (inputs["track_values"][..., 1] == -1).any()


def test_pooling_on_a_literal_case():
    signal = torch.tensor([[4.0, torch.nan, 1.0, torch.nan]])  # bins of 4 bases; tokens of 6 bases from 0, 2, 4, 6, 10
    start = torch.tensor([[0, 2, 4, 6, 10]])
    pooled = {pool: pool_tokens(signal, start, pool, signal_bp=4, k=6)[0].tolist() for pool in ("max", "min", "mean")}
    assert pooled["max"] == [4.0, 4.0, 1.0, 1.0, 1.0]
    assert pooled["min"] == [4.0, 4.0, 1.0, 1.0, 1.0]
    assert pool_tokens(signal, torch.tensor([[4, 12]]), "max", signal_bp=4, k=4).isnan().all()
    full = torch.tensor([[4.0, 2.0, 1.0, 8.0]])
    # 6 bases from the 3rd on: two of bin 0, four of bin 1
    assert pool_tokens(full, torch.tensor([[2]]), "mean", signal_bp=4, k=6).item() == pytest.approx((2 * 4 + 4 * 2) / 6)
    assert pool_tokens(full, torch.tensor([[3]]), "min", signal_bp=4, k=6).item() == 1.0
    assert pool_tokens(full, torch.tensor([[2]]), "max", signal_bp=4, k=6).item() == 4.0


def test_the_other_strand_is_what_a_genome_of_the_other_strand_gives_and_twice_is_the_first():
    encoder, config, windows = make_config(), make_binding(), make_windows()
    every = torch.ones(6, dtype=torch.bool)
    settings = {"encoder": encoder, "config": config}
    forward, backward = binding_inputs(windows, **settings), binding_inputs(windows, reverse=every, **settings)
    other = turned(windows, config.input_bp)
    there, again = binding_inputs(other, **settings), binding_inputs(other, reverse=every, **settings)
    for name, value in forward.items():
        assert not torch.equal(value, backward[name])
        assert torch.equal(backward[name], there[name])
        assert torch.equal(again[name], value)
    geometry = {"signal_bp": 5, "length_bp": 60, "rows": every}
    signals, phase = reverse_signals(windows.signals, windows.signal_phase, **geometry)
    signals, phase = reverse_signals(signals, phase, **geometry)
    assert torch.equal(phase, windows.signal_phase)
    torch.testing.assert_close(signals, windows.signals, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("changes", "binding", "names"),
    [
        ({"state_names": None}, {"tracks": {}}, ["input_ids"]),
        ({}, {"tracks": {}}, ["input_ids", "state_ids"]),
        ({}, {}, ["input_ids", "state_ids", "track_values"]),
        ({"state_names": None}, {}, ["input_ids", "track_values"]),
    ],
)
def test_a_model_reads_what_it_is_made_for_and_leaves_the_rest(changes, binding, names):
    encoder, config, windows = make_config(**changes), make_binding(**binding), make_windows()
    inputs = binding_inputs(windows, encoder=encoder, config=config)
    assert list(inputs) == names
    bare = BindingWindows(
        windows.dna,
        windows.bins if "state_ids" in names else None,
        windows.phase if "state_ids" in names else None,
        windows.signals if "track_values" in names else None,
        windows.signal_phase if "track_values" in names else None,
    )
    for name, value in binding_inputs(bare.to("cpu"), encoder=encoder, config=config).items():
        assert torch.equal(value, inputs[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bins": None}, "reads 3 states, but the windows have none"),
        ({"phase": None}, "reads 3 states, but the windows have none"),
        ({"signals": None}, "reads the tracks dnase, unique, gc, but the windows have no signals"),
        ({"signals": torch.zeros(6, 2, 15)}, r"have 2 signals of 15 bins; the model reads 3 \(dnase, unique, gc"),
        ({"signals": torch.zeros(6, 3, 11)}, "have 3 signals of 11 bins.* whose bins of 5 bp cover 60 bp"),
        ({"dna": torch.zeros(6, 59, dtype=torch.uint8)}, "have 59 bases, the model reads 60"),
    ],
)
def test_windows_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        binding_inputs(replace(make_windows(), **changes), encoder=make_config(), config=make_binding())
