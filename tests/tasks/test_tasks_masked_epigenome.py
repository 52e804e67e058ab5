"""Masked pre-training: mask and label agree, a sample is its position's alone, sums are what they say."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from epilm.errors import CorpusError, RecipeError
from epilm.masking.contract import Moment
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.models.provenance import read_provenance
from epilm.storage import Location
from epilm.tasks.masked_epigenome import MaskedEpigenomeTask
from epilm.tasks.protocol import Prepared

IGNORE, CLS, SEP, MASK = -100, 2, 3, 4
STATE_PAD, STATE_MASK, STATE_UNK = 0, 1, 2
K = 3
START = Moment(step=0, steps=10, state={})
SIZE = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "dropout": 0.0}


def batch_of(task: MaskedEpigenomeTask, positions) -> dict[str, torch.Tensor]:
    return task.collate(task.train_source().read(np.asarray(positions)))


def slow_kmers(dna: np.ndarray) -> list[int]:
    """Ids of 3-mers side by side; 1 where there is an N."""
    triples = [dna[i : i + K] for i in range(0, len(dna) - K + 1, K)]
    return [1 if (t == 4).any() else 5 + 16 * int(t[0]) + 4 * int(t[1]) + int(t[2]) for t in triples]


def slow_states(per_base: np.ndarray) -> list[int]:
    """State id of each 3-mer: that of its middle base (bins are longer than a k-mer)."""
    return [2 if s == 255 else 3 + int(s) for s in per_base[1::K][: len(per_base) // K]]


def test_collated_rows_are_bytes(task_corpus) -> None:
    task = task_corpus.task()
    batch = batch_of(task, [3, 4])
    assert {name: (tuple(t.shape), t.dtype) for name, t in batch.items()} == {
        "position": ((2,), torch.int64),
        "phase": ((2,), torch.int32),
        "dna": ((2, 90), torch.uint8),
        "states": ((2, 6), torch.uint8),
    }


def test_mask_and_label_agree(task_corpus) -> None:
    """Shown and scored against the genome itself, through the order."""
    task = task_corpus.task()
    positions = np.arange(200)
    prepared = task.prepare(batch_of(task, positions), START)
    inputs = prepared.inputs
    located = task.train_source().order.locate(positions)
    shown_as = {"mask": 0, "kept": 0}
    for i, (locus, cell) in enumerate(zip(located.locus, located.cell, strict=True)):
        truth = torch.tensor([CLS, *slow_kmers(task_corpus.dna_of("train", locus)), SEP])
        scored = inputs["dna_labels"][i] != IGNORE
        assert torch.equal(inputs["dna_labels"][i][scored], truth[scored])
        assert torch.equal(inputs["input_ids"][i][~scored], truth[~scored])
        assert not scored[[0, -1]].any()
        assert (truth[scored] >= 5).all(), "an unknown k-mer is never asked for"
        shown = inputs["input_ids"][i][scored]
        shown_as["mask"] += int((shown == MASK).sum())
        shown_as["kept"] += int((shown == truth[scored]).sum())
        states = torch.tensor([STATE_PAD, *slow_states(task_corpus.state_of("train", locus, cell)), STATE_PAD])
        labels, shown_states = inputs["state_labels"][i], inputs["state_ids"][i]
        asked = torch.nonzero(labels != IGNORE)[:, 0].tolist()
        assert len(asked) <= 1
        hidden = shown_states == STATE_MASK
        assert torch.equal(shown_states[~hidden], states[~hidden])
        if asked:
            assert scored[asked[0]], "the state is asked for where the k-mer is"
            assert labels[asked[0]] == states[asked[0]] >= 3
            first, last = max(1, asked[0] - 3), min(len(states) - 2, asked[0] + 3)
            assert hidden[first : last + 1].all(), "a flank of 10 bp is three 3-mers"
        else:
            assert not hidden.any()
    num_scored = int((inputs["dna_labels"] != IGNORE).sum())
    assert int(prepared.counts["dna"]) == num_scored
    assert int(prepared.counts["state"]) == int((inputs["state_labels"] != IGNORE).sum()) > 150
    assert 0.11 < num_scored / (200 * 30) < 0.19
    assert 0.72 < shown_as["mask"] / num_scored < 0.88
    assert 0.06 < shown_as["kept"] / num_scored < 0.15
    assert (prepared.num_rows, prepared.num_tokens) == (200, 200 * 32)


def test_copied_state_is_the_nearest_visible_one(task_corpus) -> None:
    task = task_corpus.task()
    positions = np.arange(300)
    inputs = task.prepare(batch_of(task, positions), START).inputs
    copied = iter(inputs["copied_states"].tolist())
    num = 0
    for shown, labels in zip(inputs["state_ids"].tolist(), inputs["state_labels"].tolist(), strict=True):
        asked = [i for i, label in enumerate(labels) if label != IGNORE]
        if not asked:
            continue
        visible = [i for i, state in enumerate(shown) if state >= 3]
        nearest = min(visible, key=lambda i: (abs(i - asked[0]), i))
        assert next(copied) == shown[nearest]
        num += 1
    assert next(copied, None) is None
    assert num > 200


def test_a_sample_is_prepared_by_its_position_alone(task_corpus) -> None:
    """In any batch, on any worker, in any order."""
    task = task_corpus.task(reverse_complement=True)
    whole = task.prepare(batch_of(task, np.arange(40)), START).inputs
    chosen = np.array([33, 2, 17])
    part = task.prepare(batch_of(task, chosen), START).inputs
    for name in ("input_ids", "dna_labels", "state_ids", "state_labels"):
        assert torch.equal(part[name], whole[name][chosen]), name


def test_seeds_and_evaluation_have_masks_of_their_own(task_corpus) -> None:
    task, other = task_corpus.task(seed=5), task_corpus.task(seed=6)
    batch = batch_of(task, np.arange(20))
    masks = [
        prepared.inputs["dna_labels"] != IGNORE
        for prepared in (
            task.prepare(batch, START),
            other.prepare(batch, START),
            task.prepare(batch, None),
        )
    ]
    assert not torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert torch.equal(masks[2], other.prepare(batch, None).inputs["dna_labels"] != IGNORE)


def test_an_evaluation_hides_every_kmer_that_it_scores(task_corpus) -> None:
    """In training one in ten is shown unchanged; scored at the end, copying it would pass for a prediction."""
    task = task_corpus.task()
    batch = batch_of(task, range(100))
    for moment, all_hidden in [(None, True), (START, False)]:
        inputs = task.prepare(batch, moment).inputs
        scored = inputs["dna_labels"] != IGNORE
        assert bool((inputs["input_ids"][scored] == MASK).all()) is all_hidden


def test_a_locus_seen_again_is_masked_anew(task_corpus) -> None:
    task = task_corpus.task()
    order = task.train_source().order
    locus = order.locate(np.arange(2 * order.num_loci)).locus
    again = int(np.flatnonzero(locus == locus[0])[1])
    labels = task.prepare(batch_of(task, [0, again]), START).inputs["dna_labels"]
    assert not torch.equal(labels[0] == IGNORE, labels[1] == IGNORE)


def test_reverse_complement_shows_half_of_the_samples_from_the_other_strand(task_corpus) -> None:
    task = task_corpus.task(reverse_complement=True, dna_mask={"rate": 0.05})
    positions = np.arange(200)
    batch = batch_of(task, positions)
    inputs = task.prepare(batch, START).inputs
    located = task.train_source().order.locate(positions)
    num_turned = 0
    for i, (locus, cell) in enumerate(zip(located.locus, located.cell, strict=True)):
        dna, per_base = task_corpus.dna_of("train", locus), task_corpus.state_of("train", locus, cell)
        turned = np.where(dna[::-1] == 4, 4, 3 - dna[::-1])
        strands = [(slow_kmers(dna), slow_states(per_base)), (slow_kmers(turned), slow_states(per_base[::-1]))]
        fits = []
        for kmers, states in strands:
            seen = inputs["dna_labels"][i][1:-1] == IGNORE
            visible = inputs["state_ids"][i][1:-1] != STATE_MASK
            fits.append(
                torch.equal(inputs["input_ids"][i][1:-1][seen], torch.tensor(kmers)[seen])
                and torch.equal(inputs["state_ids"][i][1:-1][visible], torch.tensor(states)[visible])
            )
        assert any(fits), "neither strand"
        num_turned += fits[1]
    assert 70 < num_turned < 130
    evaluated = task.prepare(batch, None).inputs
    plain = task_corpus.task(dna_mask={"rate": 0.05}).prepare(batch, None).inputs
    assert all(torch.equal(evaluated[name], plain[name]) for name in plain), "evaluation reads the forward strand"


def test_sums_are_those_of_the_full_head_read_slowly(task_corpus) -> None:
    task = task_corpus.task()
    torch.manual_seed(0)
    model = task.build_model().eval()
    prepared = task.prepare(batch_of(task, np.arange(30)), START)
    with torch.no_grad():
        sums = task.sums(model, prepared)
        inputs = {k: v for k, v in prepared.inputs.items() if k in ("input_ids", "state_ids")}
        every = {
            "dna": model(**inputs, dna_labels=prepared.inputs["input_ids"]).dna_logits.view(30, 32, -1),
            "state": model(**inputs, state_labels=prepared.inputs["state_ids"]).state_logits.view(30, 32, -1),
        }
    for name in ("dna", "state"):
        loss, hits = 0.0, 0
        for row, at in torch.nonzero(prepared.inputs[f"{name}_labels"] != IGNORE).tolist():
            label = int(prepared.inputs[f"{name}_labels"][row, at])
            loss -= float(F.log_softmax(every[name][row, at], dim=-1)[label])
            hits += int(every[name][row, at].argmax()) == label
        assert float(sums[f"{name}_loss"]) == pytest.approx(loss, rel=1e-4)
        assert int(sums[f"{name}_accuracy"]) == hits
    labels = prepared.inputs["state_labels"]
    copied = prepared.inputs["copied_states"]
    assert int(sums["copy_state_accuracy"]) == int((labels[labels != IGNORE] == copied).sum())
    in_evaluations = {name for name in task.sum_counts if "base" in name}
    assert set(sums) == set(task.sum_counts) - in_evaluations


def test_loss_is_weighted_by_alpha(task_corpus) -> None:
    assert task_corpus.task(alpha=0.3).loss_weights == {"dna_loss": 0.3, "state_loss": 0.7}
    dbert = task_corpus.task(model={**SIZE, "kind": "dbert"})
    assert dbert.loss_weights == {"dna_loss": 1.0}
    assert "state_loss" not in dbert.sum_counts


def test_dbert_is_shown_no_states(task_corpus) -> None:
    task = task_corpus.task(model={**SIZE, "kind": "dbert"})
    prepared = task.prepare(batch_of(task, np.arange(4)), START)
    assert set(prepared.inputs) == {"input_ids", "dna_labels"}
    assert set(prepared.counts) == {"dna", "kmers"}
    in_evaluations = {name for name in task.sum_counts if "base" in name}
    assert set(task.sums(task.build_model(), prepared)) == set(task.sum_counts) - in_evaluations
    assert task.describe()["trained_cell_types"] == []


def test_perplexity_is_the_exponential_of_the_loss(task_corpus) -> None:
    task = task_corpus.task()
    sums = dict.fromkeys(task.sum_counts, 4.0) | {"dna_loss": 20.0}
    metrics = task.summarise(sums, {"dna": 10.0, "state": 8.0, "base": 5.0})
    assert metrics["dna_perplexity"] == pytest.approx(np.exp(2.0))
    assert metrics["majority_state_perplexity"] == pytest.approx(np.exp(0.5))
    assert metrics["state_accuracy"] == 0.5


def test_a_task_travels_and_is_the_same(task_corpus) -> None:
    task = task_corpus.task()
    batch = batch_of(task, np.arange(6))
    expected = task.prepare(batch, START)
    copy: MaskedEpigenomeTask = pickle.loads(pickle.dumps(task))
    found: Prepared = copy.prepare(batch, START)
    assert all(torch.equal(found.inputs[name], expected.inputs[name]) for name in expected.inputs)
    assert copy.data_fingerprint() == task.data_fingerprint() == task_corpus.manifest.fingerprint()


def test_saved_model_is_the_one_given(task_corpus, tmp_path) -> None:
    task = task_corpus.task()
    torch.manual_seed(3)
    model = task.build_model()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    task.save_model(tmp_path, state, step=12, recipe_fingerprint="abc")
    loaded = EbertForPreTraining.from_pretrained(tmp_path)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in state.items())
    known = read_provenance(Location(str(tmp_path)))
    assert (known.step, known.seed, known.recipe_fingerprint) == (12, 5, "abc")
    assert known.trained_contigs == ("chr1",)
    assert known.trained_cell_types == ("liver", "lung")


def test_bad_input_is_refused_before_anything_starts(task_corpus, tmp_path) -> None:
    task_corpus.task().check()
    with pytest.raises(CorpusError, match=r"no corpus at .*none: it does not exist"):
        task_corpus.task(corpus=str(tmp_path / "none")).check()
    with pytest.raises(RecipeError, match="a window of 7 bp has no 8-mer"):
        _with(task_corpus.task(tokens={"k": 8}), window_bp=7).check()
    with pytest.raises(CorpusError, match="no training window"):
        _with(task_corpus.task(), files=task_corpus.manifest.select("windows", "held_out")).check()
    every_cell = tuple(task_corpus.manifest.cell_types)
    with pytest.raises(
        RecipeError, match=r"kind=ebert needs states.*all of its cell types are held out.*Use kind=dbert"
    ):
        _with(task_corpus.task(), held_out_cell_types=every_cell).check()
    with pytest.raises(RecipeError, match="it has no states"):
        _with(task_corpus.task(), cell_types=(), held_out_cell_types=()).check()


def _with(task: MaskedEpigenomeTask, **changes: object) -> MaskedEpigenomeTask:
    task.__dict__["manifest"] = task.manifest.model_copy(update=changes)
    return task
