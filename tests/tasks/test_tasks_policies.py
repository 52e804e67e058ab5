"""Masking policies in the task: what training hides, what is logged of it, and one evaluation for all of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from epilm.errors import CorpusError, RecipeError
from epilm.masking.contract import Moment
from epilm.models.modeling_ebert import EbertForPreTraining

IGNORE, CLS, SEP, MASK, PAD = -100, 2, 3, 4, 0
START = Moment(step=0, steps=10, state={})
DBERT = {"kind": "dbert", "hidden_size": 16, "num_layers": 1, "num_heads": 2, "dropout": 0.0}


class EveryThird:
    """A policy of a user's own."""

    def __init__(self, rate: float, scores, first: int = 0) -> None:
        self.first = first

    def check(self, *, num_tokens: int, num_kmers: int, k: int, stride: int) -> None:
        if num_tokens < 10:
            raise RecipeError("too short")

    def initial_state(self):
        return {}

    def observe(self, state, *, step, perplexity):
        return dict(state)

    def mask(self, batch, moment):
        return (torch.arange(batch.ids.shape[1]) % 3 == self.first)[None, :] & (batch.ids >= 5)

    def describe(self, moment):
        return {}


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> str:
    """Scores of the 3-mers in the order of their codes: AAA is the best."""
    path = tmp_path_factory.mktemp("scores") / "scores.parquet"
    words = ["".join("ACGT"[code >> s & 3] for s in (4, 2, 0)) for code in range(64)]
    pq.write_table(pa.table({"kmer": words, "count": [1000] * 64, "npmi": np.linspace(2, 1, 64)}), path)
    return str(path)


def batch_of(task, positions) -> dict[str, torch.Tensor]:
    return task.collate(task.train_source().read(np.asarray(positions)))


def policy_task(task_corpus, table: str, policy: str, stride: int = 1, **changes):
    scored = {"table": table} if policy not in ("uniform", "span") else {}
    return task_corpus.task(
        model=DBERT, tokens={"k": 3, "stride": stride}, dna_mask={"policy": policy, "rate": 0.2, **scored}, **changes
    )


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("policy", ["uniform", "span", "genemask", "global", "cm-step", "cm-gems"])
def test_every_policy_trains_and_reports_what_it_masks(task_corpus, table, policy: str, stride: int) -> None:
    task = policy_task(task_corpus, table, policy, stride)
    task.check()
    moment = Moment(step=0, steps=10, state=task.initial_state())
    prepared = task.prepare(batch_of(task, np.arange(300)), moment)
    labels, shown = prepared.inputs["dna_labels"], prepared.inputs["input_ids"]
    scored = labels != IGNORE
    assert not scored[:, [0, -1]].any()
    real = int(prepared.counts["kmers"])
    assert real == int(((labels >= 5) | (shown >= 5) | ((shown == MASK) & scored)).sum())
    metrics = task.summarise({"dna_loss": 1.0}, {n: float(c) for n, c in prepared.counts.items()})
    assert metrics["mask_rate"] == int(scored.sum()) / real == pytest.approx(0.2, abs=0.03)
    if policy not in ("uniform", "span"):
        top = torch.arange(5, 5 + 6)  # a tenth of 64
        whole = torch.where(scored, labels, shown)
        is_top = torch.isin(whole, top) & ((whole >= 5) & (scored | (shown >= 5)))
        assert metrics["top_npmi_masked"] == pytest.approx(int((is_top & scored).sum()) / int(is_top.sum()))
    sums = task.sums(task.build_model(), prepared)
    assert "base_loss" not in sums, "isolated bases are asked in evaluations alone"
    assert float(sums["dna_loss"].detach()) > 0


def test_global_masks_the_top_kmers_first(task_corpus, table) -> None:
    shares = {}
    for policy in ("span", "global"):
        task = task_corpus.task(
            model=DBERT, tokens={"k": 3, "stride": 1}, dna_mask={"policy": policy, "rate": 0.2, "table": table}
        )
        prepared = task.prepare(batch_of(task, np.arange(100)), START)
        counts = {n: float(c) for n, c in prepared.counts.items()}
        shares[policy] = task.summarise({}, counts)["top_npmi_masked"]
    assert shares["span"] == pytest.approx(0.2, abs=0.05)
    assert shares["global"] > 2 * shares["span"]


def test_one_evaluation_for_all_policies(task_corpus, table) -> None:
    """A policy must not win by hiding easier k-mers."""
    asked = []
    for policy in ("uniform", "span", "genemask", "global", "cm-gems"):
        task = policy_task(task_corpus, table, policy, lengths={"min_kmers": 10})
        prepared = task.prepare(batch_of(task, np.arange(50)), None)
        asked.append(prepared.inputs)
        assert "attention_mask" not in prepared.inputs, "evaluations show whole windows"
        assert set(prepared.counts) == {"dna", "base"}
    for other in asked[1:]:
        assert all(torch.equal(asked[0][name], other[name]) for name in asked[0])


@pytest.mark.parametrize(("k", "stride"), [(3, 1), (3, 3), (5, 1)])
def test_base_loss_is_that_of_the_four_candidates(task_corpus, k: int, stride: int) -> None:
    """Against a loop over the hidden bases that looks at the genome."""
    task = task_corpus.task(model=DBERT, tokens={"k": k, "stride": stride})
    model = task.build_model().eval()
    table = task.train_source().read(np.arange(20))
    prepared = task.prepare(task.collate(table), None)
    with torch.no_grad():
        sums = {name: float(value) for name, value in task.sums(model, prepared).items()}
    assert isinstance(model, EbertForPreTraining)
    with torch.no_grad():
        logits = model(prepared.inputs["input_ids"]).dna_logits.log_softmax(-1)
    offsets = iter(prepared.inputs["base_offsets"].tolist())
    labels, loss, hits, num = prepared.inputs["dna_labels"], 0.0, 0, 0
    dna = [np.frombuffer(row, np.uint8) for row in table.column("dna").to_pylist()]
    for row, column in (labels != IGNORE).nonzero().tolist():
        offset = next(offsets)
        if offset < 0:
            continue
        start = (column - 1) * stride
        kmer = dna[row][start : start + k].astype(int)
        scores = []
        for base in range(4):
            kmer_with = [base if i == offset else b for i, b in enumerate(kmer)]
            scores.append(float(logits[row, column, 5 + sum(b * 4 ** (k - 1 - i) for i, b in enumerate(kmer_with))]))
        true = int(kmer[offset])
        loss += float(torch.logsumexp(torch.tensor(scores), 0)) - scores[true]
        hits += int(np.argmax(scores) == true)
        num += 1
    assert next(offsets, None) is None
    assert num == int(prepared.counts["base"]) > 20
    assert sums["base_loss"] == pytest.approx(loss, rel=1e-4)
    assert int(sums["base_accuracy"]) == hits


def test_varied_lengths(task_corpus) -> None:
    """A cut sample is the beginning of the whole one, then SEP, then padding that nobody attends to."""
    settings = {"tokens": {"k": 3}, "model": {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "dropout": 0.0}}
    task = task_corpus.task(lengths={"full_share": 0.3, "min_kmers": 5}, **settings)
    positions = np.arange(200)
    prepared, whole = (t.prepare(batch_of(t, positions), START) for t in (task, task_corpus.task(**settings)))
    ids, attention = prepared.inputs["input_ids"], prepared.inputs["attention_mask"]
    num = attention.sum(1) - 2
    assert (int(num.min()), int(num.max())) == (5, 30)
    assert (num == 30).float().mean().item() == pytest.approx(0.3, abs=0.1)
    assert prepared.num_tokens == int(attention.sum())
    unmasked = whole.inputs["dna_labels"] == IGNORE
    for row in range(200):
        n = int(num[row])
        assert attention[row].tolist() == [1] * (n + 2) + [0] * (30 - n)
        assert (ids[row, 0], ids[row, n + 1]) == (CLS, SEP)
        assert (ids[row, n + 2 :] == PAD).all()
        assert (prepared.inputs["dna_labels"][row, n + 1 :] == IGNORE).all()
        assert (prepared.inputs["state_ids"][row, n + 1 :] == 0).all()
        assert (prepared.inputs["state_labels"][row, n + 1 :] == IGNORE).all()
        same = unmasked[row, 1 : n + 1]
        assert torch.equal(ids[row, 1 : n + 1][same], whole.inputs["input_ids"][row, 1 : n + 1][same])


def test_padding_is_not_seen(task_corpus) -> None:
    task = task_corpus.task(model=DBERT, lengths={"full_share": 0.0, "min_kmers": 5})
    model = task.build_model().eval()
    prepared = task.prepare(batch_of(task, np.arange(20)), START)
    inputs = {n: v for n, v in prepared.inputs.items() if n != "base_offsets"}
    behind = (inputs["attention_mask"] == 0) & (torch.rand(inputs["input_ids"].shape) < 0.5)
    other = {**inputs, "input_ids": torch.where(behind, 17, inputs["input_ids"])}
    assert behind.any()
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).dna_logits, model(**other).dna_logits)


def test_a_policy_of_ones_own(task_corpus) -> None:
    name = f"{__name__}:EveryThird"
    task = task_corpus.task(model=DBERT, dna_mask={"policy": name, "options": {"first": 1}})
    task.check()
    labels = task.prepare(batch_of(task, np.arange(5)), START).inputs["dna_labels"]
    masked = (labels != IGNORE)[:, 1:-1]
    assert masked[:, 1::3].float().mean() > 0.95  # all but those with an N
    assert not masked[:, 0::3].any()


def test_bad_input_is_refused_before_anything_starts(task_corpus, table) -> None:
    with pytest.raises(CorpusError, match=r"no NPMI of 4-mers; it has those of k = 3"):
        task_corpus.task(model=DBERT, tokens={"k": 4}, dna_mask={"policy": "global", "table": table}).check()
    with pytest.raises(RecipeError, match="a window has 30 k-mers"):
        task_corpus.task(model=DBERT, lengths={"min_kmers": 31}).check()
    with pytest.raises(RecipeError, match="does not hold out"):
        task_corpus.task(model=DBERT, evaluation={"test_contigs": ["chr1"]}).check()
    for rate in (0, 0.6):
        with pytest.raises(ValueError, match="rate"):
            task_corpus.task(dna_mask={"rate": rate})


def test_the_table_is_part_of_the_data(task_corpus, table, tmp_path) -> None:
    plain = task_corpus.task(model=DBERT).data_fingerprint()
    scored = policy_task(task_corpus, table, "global").data_fingerprint()
    changed = pq.read_table(table).to_pydict()
    changed["npmi"][0] = 0.5
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table(changed), other)
    assert len({plain, scored, policy_task(task_corpus, str(other), "global").data_fingerprint()}) == 3
    moved = tmp_path / "moved.parquet"
    pq.write_table(pq.read_table(table), moved)
    assert policy_task(task_corpus, str(moved), "global").data_fingerprint() == scored
