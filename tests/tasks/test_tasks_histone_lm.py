"""The language task: which crops are seen, what is predicted, and that neither depends on anything but the seed."""

import pickle

import numpy as np
import pytest
import torch

from epilm.corpus.source import fixed_bytes
from epilm.histone.words import LINES
from epilm.masking.contract import Moment
from epilm.models.histone_lm import LanguageModelSpec
from epilm.storage import Location
from epilm.tasks.histone_lm import HistoneLanguageTask
from toy_genes import BINS, toy_table

CONTEXT = 5


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_table(Location(str(tmp_path_factory.mktemp("genes"))))


def task_of(toy, kind="gpt2", seed=0, **changes) -> HistoneLanguageTask:
    table, tokenizer = toy
    spec = LanguageModelSpec(
        kind, tokenizer.vocab_size, tokenizer.pad_id, tokenizer.mask_id, tokenizer.end_id, 16, 1, 2, CONTEXT, 0.1
    )
    settings = {"lines": LINES, "splits": ("train",), "mask_rate": 0.15, "tokenizer_json": tokenizer.to_json()}
    return HistoneLanguageTask(table=table, spec=spec, seed=seed, **(settings | changes))


def ids_of(table) -> np.ndarray:
    return fixed_bytes(table.column("ids")).copy().view("<i4")


def test_crops_are_stretches_of_training_lines(toy):
    source = task_of(toy).train_source()
    assert source.samples_per_pass == 4 * 10
    genes = toy[0].genes
    rows = source.read(np.arange(120))
    whole = {
        (line, gene): genes.lines[name].ids[row, : genes.lines[name].lengths[row]]
        for line, name in enumerate(LINES)
        for gene, row in enumerate(genes.rows("train"))
    }
    begins = set()
    for line, begin, length, ids in zip(
        rows.column("line").to_pylist(),
        rows.column("begin").to_pylist(),
        rows.column("length").to_pylist(),
        ids_of(rows),
        strict=True,
    ):
        tokens = whole[divmod(line, 10)]
        np.testing.assert_array_equal(ids[:length], tokens[begin : begin + length])
        assert length == min(CONTEXT, len(tokens))
        assert (ids[length:] == source.pad_id).all()
        begins.add(begin)
    assert len(begins) > 3, "crops begin everywhere, not at one place"
    for first in (0, 40, 80):  # every pass shows every line once
        assert sorted(rows.column("line").to_pylist()[first : first + 40]) == list(range(40))


def test_positions_alone_decide(toy):
    source = task_of(toy).train_source()
    whole = source.read(np.arange(40))
    again = pickle.loads(pickle.dumps(source)).read(np.arange(40)[::-1])
    np.testing.assert_array_equal(ids_of(whole), ids_of(again)[::-1])
    other = task_of(toy, seed=1).train_source().read(np.arange(40))
    assert (ids_of(whole) != ids_of(other)).any()


def test_validation_covers_every_token_once(toy):
    task = task_of(toy)
    windows = task.eval_sets(final=True)["validation"]
    rows = windows.read(np.arange(windows.num_samples))
    genes = toy[0].genes
    tokens = sum(int(genes.lines[name].lengths[genes.rows("validation")].sum()) for name in LINES)
    assert sum(rows.column("length").to_pylist()) == tokens
    keys = list(zip(rows.column("line").to_pylist(), rows.column("begin").to_pylist(), strict=True))
    assert len(set(keys)) == len(keys)


def test_gpt2_predicts_the_next_token(toy):
    task = task_of(toy)
    batch = task.collate(task.train_source().read(np.arange(8)))
    ready = task.prepare(batch, Moment(0, 10, {}))
    labels, ids = ready.inputs["labels"], batch["ids"]
    for row, size in enumerate(batch["length"].tolist()):
        assert labels[row, : size - 1].tolist() == ids[row, 1:size].tolist()
        assert (labels[row, size - 1 :] == -100).all()
    assert int(ready.counts["tokens"]) == int((batch["length"] - 1).sum())


def test_roberta_hides_what_it_predicts_and_evaluations_stay_the_same(toy):
    task = task_of(toy, "roberta", mask_rate=0.5)
    batch = task.collate(task.train_source().read(np.arange(300)))
    ready = task.prepare(batch, Moment(0, 10, {}))
    chosen = ready.inputs["labels"] != -100
    inside = torch.arange(CONTEXT) < batch["length"][:, None]
    assert not (chosen & ~inside).any()
    assert abs(float(chosen.sum() / inside.sum()) - 0.5) < 0.05
    assert (ready.inputs["labels"][chosen] == batch["ids"][chosen]).all()
    assert (ready.inputs["ids"][~chosen] == batch["ids"][~chosen]).all()
    masked = ready.inputs["ids"][chosen] == task.spec.mask_id
    assert abs(float(masked.float().mean()) - 0.8) < 0.05
    again = task.prepare({k: v[100:200] for k, v in batch.items()}, Moment(7, 10, {}))
    torch.testing.assert_close(again.inputs["ids"], ready.inputs["ids"][100:200])
    evaluated = task.prepare(batch, None)
    assert (evaluated.inputs["ids"] != ready.inputs["ids"]).any(), "an evaluation draws its own masks"


@pytest.mark.parametrize("kind", ["gpt2", "roberta"])
def test_the_loss_of_a_new_model_is_that_of_a_guess(toy, kind):
    task = task_of(toy, kind)
    torch.manual_seed(0)
    model = task.build_model().eval()
    ready = task.prepare(task.collate(task.train_source().read(np.arange(60))), Moment(0, 10, {}))
    sums = task.sums(model, ready)
    loss = float(sums["token_loss"].detach() / ready.counts["tokens"])
    assert abs(loss - np.log(task.spec.vocab_size)) < 0.3
    sums["token_loss"].backward()


@pytest.mark.parametrize("kind", ["gpt2", "roberta"])
def test_a_saved_model_has_the_weights_and_the_tokenizer(toy, kind, tmp_path):
    from transformers import AutoModel

    task = task_of(toy, kind)
    model = task.build_model()
    task.save_model(tmp_path, dict(model.state_dict()), step=1, recipe_fingerprint="x")
    loaded = AutoModel.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.get_input_embeddings().weight, model.model.get_input_embeddings().weight)
    assert (tmp_path / "tokenizer.json").read_text() == toy[1].to_json()


def test_lines_of_a_gene_have_a_token_a_bin_or_more(toy):
    for line in toy[0].genes.lines.values():
        assert (line.lengths >= BINS).all()
