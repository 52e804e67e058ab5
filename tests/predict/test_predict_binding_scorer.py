"""Windows of bins as they lie in the corpus, and one probability a bin however it is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_signals import (
    BIN_BP,
    CELLS,
    INPUT_BP,
    SIGNAL_BP,
    SIGNALS,
    SPANS,
    STATE_BP,
    STEP_BP,
    SignalCorpus,
)

from epilm.errors import CheckpointError, CorpusError, RecipeError
from epilm.models.binding_folder import read_binding_info
from epilm.models.binding_inputs import binding_inputs
from epilm.predict.binding_scorer import BindingScorer, check_binding_corpus, choose_binding_cells
from epilm.storage import Location

FLANK = (INPUT_BP - BIN_BP) // 2


def place(path: object) -> Location:
    return Location(str(path))


@pytest.fixture(scope="module")
def scorer(plus_folder, signal_corpus) -> BindingScorer:
    return BindingScorer(place(plus_folder), place(signal_corpus.folder), batch_size=4)


def base_by_base(corpus: SignalCorpus, chrom: str, bin_start: int, cell: str) -> tuple[list, list, list]:
    """(base, state, (DNase, mappability)) of each base of a bin's input; N, 255 and NaN outside of the contig."""
    first, end = SPANS[chrom][0] // STATE_BP * STATE_BP, SPANS[chrom][1]
    end_bins = -(-end // STATE_BP) * STATE_BP  # a contig's last bin is a whole one
    rows = [SIGNALS.index(f"DNase.{cell}"), SIGNALS.index("mappability")]
    bases, states, values = [], [], []
    for at in range(bin_start - FLANK, bin_start - FLANK + INPUT_BP):
        bases.append(int(corpus.dna[chrom][at]) if first <= at < end else 4)
        inside = first <= at < end_bins
        states.append(int(corpus.states[chrom][CELLS.index(cell), at // STATE_BP]) if inside else 255)
        inside = inside and at // SIGNAL_BP < corpus.signals[chrom].shape[1]
        values.append([float(corpus.signals[chrom][row, at // SIGNAL_BP]) if inside else float("nan") for row in rows])
    return bases, states, values


@pytest.mark.parametrize("chrom", ["chrA", "chrP", "chrN"])
def test_windows_hold_what_lies_round_the_bin_and_nothing_outside_the_contig(scorer, signal_corpus, chrom):
    begin, end = SPANS[chrom]
    starts = np.array([end - BIN_BP, begin // 10 * 10 + 10, 395, begin + 7, 370, 100])[: 6 if begin == 0 else 4]
    cells = np.array([0, 1, 0, 1, 1, 0])[: len(starts)]
    windows = scorer.windows(np.array([chrom] * len(starts), object), starts, cells)
    base = torch.arange(INPUT_BP)
    for row, (start, cell) in enumerate(zip(starts.tolist(), cells.tolist(), strict=True)):
        bases, states, values = base_by_base(signal_corpus, chrom, start, CELLS[cell])
        assert windows.dna[row].tolist() == bases
        assert windows.bins[row, (windows.phase[row] + base) // STATE_BP].tolist() == states
        found = windows.signals[row][:, (windows.signal_phase[row] + base) // SIGNAL_BP]
        np.testing.assert_array_equal(found.T.numpy(), np.array(values, np.float32))


@pytest.mark.parametrize("chrom", ["chrA", "chrP"])
def test_a_stretch_has_the_windows_of_its_bins(scorer, chrom):
    begin, end = SPANS[chrom]
    first = -(-begin // STEP_BP) * STEP_BP
    num = (end - BIN_BP - first) // STEP_BP + 1
    stretch = scorer.stretch(chrom, first, num, STEP_BP, [1, 0])
    rows = torch.tensor([0, 1, 17, num - 2, num - 1]).repeat(2)
    cells = torch.arange(2).repeat_interleave(5)
    one = scorer.windows(np.array([chrom] * 10, object), first + rows.numpy() * STEP_BP, 1 - cells.numpy())
    for name in ("dna", "bins", "phase", "signals", "signal_phase"):
        ours, theirs = getattr(stretch.windows(rows, cells), name), getattr(one, name)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


def test_which_bins_have_a_known_base(scorer, signal_corpus):
    known = scorer.stretch("chrN", 0, 87, STEP_BP, [0]).known(87)
    dna = signal_corpus.dna["chrN"]
    assert known.tolist() == [bool((dna[at : at + BIN_BP] < 4).any()) for at in range(0, 861, STEP_BP)]
    assert not known.all()


def test_batches_change_probabilities_by_rounding_alone(scorer):
    starts = np.arange(0, 900, 70)
    windows = scorer.windows(np.array(["chrA"] * len(starts), object), starts, np.arange(len(starts)) % 2)
    found = scorer.probabilities(windows)
    assert (found.shape, found.dtype) == ((13, 3), np.float32)
    for row, start in enumerate(starts):
        one = scorer.windows(np.array(["chrA"], object), np.array([start]), np.array([row % 2]))
        np.testing.assert_allclose(scorer.probabilities(one)[0], found[row], atol=1e-6)
    assert np.ptp(found, axis=0).min() > 0.01
    assert scorer.probabilities(scorer.windows(np.array([], object), np.array([]), np.array([]))).shape == (0, 3)


def test_both_strands_is_the_mean_of_the_two(scorer, plus_folder, signal_corpus):
    both = BindingScorer(place(plus_folder), place(signal_corpus.folder), both_strands=True)
    one = (np.array(["chrA"] * 2, object), np.array([200, 700]), np.array([0, 1]))
    windows = scorer.windows(*one)
    settings = {
        "encoder": scorer.model.config,
        "config": scorer.model.binding,
        "reverse": torch.ones(2, dtype=torch.bool),
    }
    with torch.inference_mode():
        turned = scorer.model(**binding_inputs(windows, **settings)).sigmoid().numpy()
    forward, mean = scorer.probabilities(windows), both.probabilities(windows)
    np.testing.assert_allclose(mean, (forward + turned) / 2, atol=1e-6)
    assert np.abs(turned - forward).max() > 0.01


def test_bfloat16_is_close_to_float32(scorer, plus_folder, signal_corpus):
    rough = BindingScorer(place(plus_folder), place(signal_corpus.folder), dtype="bfloat16", batch_size=16)
    starts = np.arange(0, 600, 50)
    windows = scorer.windows(np.array(["chrA"] * 12, object), starts, np.zeros(12, np.int64))
    found, fine = rough.probabilities(windows), scorer.probabilities(windows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, fine, atol=0.1)
    assert np.corrcoef(found[:, 0], fine[:, 0])[0, 1] > 0.98


def test_a_model_of_dna_alone_reads_no_cell_type(dna_folder, signal_corpus):
    scorer = BindingScorer(place(dna_folder), place(signal_corpus.folder))
    windows = scorer.windows(np.array(["chrA"], object), np.array([100]), np.array([2]))
    assert windows.bins is None
    assert windows.signals is None
    assert scorer.probabilities(windows).shape == (1, 3)


def test_what_a_cell_type_lacks_is_named(scorer, signal_corpus, make_binding_model):
    brain = (np.array(["chrA"], object), np.array([100]), np.array([2]))
    with pytest.raises(CorpusError, match=r"track 'dnase' .* signal 'DNase.brain' for cell type brain, .* lacks"):
        scorer.windows(*brain)
    ebert = BindingScorer(
        place(make_binding_model(tracks=False)), place(signal_corpus.folder), cell_types=("brain", "skin")
    )
    assert ebert.windows(brain[0], brain[1], np.array([0])).bins is not None
    with pytest.raises(CorpusError, match="has no states of cell type 'skin'"):
        ebert.windows(brain[0], brain[1], np.array([1]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"assembly": "hg19"}, "assembly 'toy1', the corpus .* is 'hg19'"),
        ({"signal_bp": 10}, "signals of 5 bp a bin, the corpus .* has 10 bp"),
        ({"signals": ()}, "reads the tracks dnase, mappability, but the corpus .* keeps no signals"),
        ({"bin_bp": 40}, "bins of 20 bp, the corpus .* has 40 bp"),
    ],
)
def test_a_corpus_that_does_not_fit(plus_folder, signal_corpus, changes, message):
    info, manifest = read_binding_info(place(plus_folder)), signal_corpus.manifest.model_copy(update=changes)
    with pytest.raises(CheckpointError, match=message):
        check_binding_corpus(info, manifest, corpus="there")


@pytest.mark.parametrize(
    ("folder", "wanted", "expected"),
    [
        ("plus_folder", ("lung", "liver"), ("lung", "liver")),
        ("dna_folder", None, ("",)),
        ("dna_folder", ("K562", "skin"), ("K562", "skin")),
    ],
)
def test_cell_types_are_chosen(request, signal_corpus, folder, wanted, expected):
    info = read_binding_info(place(request.getfixturevalue(folder)))
    assert choose_binding_cells(wanted, info, signal_corpus.manifest, corpus="there") == expected


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        (None, CorpusError, "'DNase.brain' for cell type brain"),
        (("livr",), RecipeError, "no states of 'livr'. Did you mean liver"),
        (("liver", "liver"), RecipeError, "'liver' is named twice"),
        ((), RecipeError, "cell_types is empty"),
    ],
)
def test_cell_types_that_are_refused(plus_folder, signal_corpus, wanted, error, message):
    info = read_binding_info(place(plus_folder))
    with pytest.raises(error, match=message):
        choose_binding_cells(wanted, info, signal_corpus.manifest, corpus="there")
