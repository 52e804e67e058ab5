"""The regression task: the stream of genes, standardised targets, r from moments, early stopping, saved weights."""

import math
import pickle

import numpy as np
import pytest
import torch

from epilm.errors import RecipeError
from epilm.evaluate.metrics import pearson
from epilm.masking.contract import Moment
from epilm.models.histone_lm import LanguageModelSpec, build_language_model
from epilm.storage import Location
from epilm.tasks.expression_model import DeepDiffModel, EndToEndModel
from epilm.tasks.expression_recipe import DeepDiffShape, EndToEndHead
from epilm.tasks.expression_regression import (
    ExpressionTask,
    load_regressor,
    pearson_of_moments,
    predict_genes,
    standardise,
)
from toy_genes import BINS, MARKS, toy_table

SHAPE = {"bin_hidden": 3, "mark_hidden": 2}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return toy_table(Location(str(tmp_path_factory.mktemp("genes"))))


def deepdiff(toy, inputs="raw_c", seed=0, patience=2, **shape) -> ExpressionTask:
    return ExpressionTask(toy[0], DeepDiffModel(DeepDiffShape(**(SHAPE | shape)), inputs, MARKS), seed, patience)


def end_to_end(toy, inputs="raw", pretrained=None, antisymmetric=False) -> ExpressionTask:
    tokenizer = toy[1]
    spec = LanguageModelSpec("gpt2", tokenizer.vocab_size, tokenizer.pad_id, 2, 0, 8, 1, 2, 6, 0.0)
    model = EndToEndModel(
        spec, EndToEndHead(segments=3, hidden=4, dropout=0.0), inputs, BINS, pretrained, antisymmetric
    )
    return ExpressionTask(toy[0], model, 0, None)


def test_every_pass_shows_every_training_gene_once(toy):
    source = deepdiff(toy).train_source()
    genes = source.read(np.arange(30)).column("gene").to_numpy()
    for first in (0, 10, 20):
        assert sorted(genes[first : first + 10]) == list(range(10))
    assert genes[:10].tolist() != genes[10:20].tolist()
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(source)).read(np.arange(25, 3, -1)).column("gene"), genes[25:3:-1]
    )
    assert genes.tolist() != deepdiff(toy, seed=1).train_source().read(np.arange(30)).column("gene").to_pylist()


def test_the_target_is_standardised_by_training_genes(toy):
    task, genes = deepdiff(toy), toy[0].genes
    batch = task.collate(task.eval_sets(final=True)["validation"].read(np.arange(10)))
    train, validation = genes.rows("train"), genes.rows("validation")
    expected = (genes.target[validation] - genes.target[train].mean()) / genes.target[train].std()
    np.testing.assert_allclose(batch["truth"][:, 0], expected)
    assert standardise(np.ones((4, 2)))[1].tolist() == [1, 1]


@pytest.mark.parametrize("make", [deepdiff, end_to_end])
def test_r_of_an_evaluation_is_pearsons(toy, make):
    task = make(toy)
    torch.manual_seed(0)
    model = task.build_model().eval()
    with torch.no_grad():
        parts = []
        for rows in (np.arange(4), np.arange(4, 10)):  # two batches: sums add up
            ready = task.prepare(task.collate(task.eval_sets(final=True)["validation"].read(rows)), None)
            parts.append((task.sums(model, ready), ready))
    sums = {name: sum(part[0][name] for part in parts).tolist() for name in parts[0][0]}
    metrics = task.summarise(sums, {"genes": 10.0})
    out = torch.cat(
        [
            model(
                **{
                    k: v.float() if v.is_floating_point() else v
                    for k, v in part[1].inputs.items()
                    if k not in ("truth", "evaluate")
                }
            )
            for part in parts
        ]
    )
    truth = torch.cat([part[1].inputs["truth"][:, 0] for part in parts])
    assert metrics["pearson"] == pytest.approx(float(pearson(out.detach().numpy(), truth.numpy())), abs=1e-5)
    assert metrics["squared_error"] == pytest.approx(float(((out.detach() - truth) ** 2).mean()), rel=1e-5)


def test_r_of_a_constant_is_undefined():
    assert math.isnan(pearson_of_moments(np.array([3.0, 6.0, 0.0, 12.0, 2.0, 0.0])))
    x, y = np.random.default_rng(0).normal(size=(2, 50))
    moments = np.array([50, x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])
    assert pearson_of_moments(moments) == pytest.approx(float(pearson(x, y)), abs=1e-12)


def test_training_stops_when_r_does_not_rise(toy):
    task, state = deepdiff(toy, patience=2), {"best": None, "since": 0}
    seen = []
    for r in (0.1, math.nan, 0.3, 0.3, 0.2):
        state = task.observe(state, step=0, evaluations={"validation": {"pearson": r}})
        seen.append((state["best"], task.finished(state)))
    assert seen == [(0.1, False), (0.1, False), (0.3, False), (0.3, False), (0.3, True)]
    assert task.score({"validation": {"pearson": 0.3}}) == 0.3
    assert math.isnan(task.score({}))


def test_auxiliary_heads_weigh_what_is_asked(toy):
    task = deepdiff(toy, "raw", aux=True, aux_weight=0.25)
    torch.manual_seed(0)
    model = task.build_model()
    ready = task.prepare(task.collate(task.train_source().read(np.arange(6))), Moment(0, 1, {}))
    sums = task.sums(model, ready)
    assert task.loss_weights == {"squared_error": 1.0, "aux_squared_error": 0.25}
    out = model(ready.inputs["first"], ready.inputs["second"]).detach()
    expected = ((out[:, 1:] - ready.inputs["truth"][:, 1:]) ** 2).sum()
    assert float(sums["aux_squared_error"].detach()) == pytest.approx(float(expected), rel=1e-5)
    genes = toy[0].genes
    logs = np.log2(genes.expression[genes.rows("train")] + 1)
    np.testing.assert_allclose(task.scale[0, 1:], logs.mean(0))


@pytest.mark.parametrize("make", [deepdiff, end_to_end])
def test_saved_weights_predict_all_genes_in_order(toy, make, tmp_path):
    task, genes = make(toy), toy[0].genes
    torch.manual_seed(1)
    model = task.build_model().eval()
    task.save_model(tmp_path, dict(model.state_dict()), step=3, recipe_fingerprint="x")
    folder = Location(str(tmp_path))
    got = predict_genes(task.model, folder, genes, batch=7)
    assert got.shape == (30,)
    module, mean, sd = load_regressor(task.model, folder)
    one = task.model.features(genes, np.array([17]))
    assert got[17] == pytest.approx(float(module(**one).detach().reshape(-1)[0]) * sd + mean, abs=1e-5)
    assert mean == pytest.approx(genes.target[genes.rows("train")].mean())


def test_a_head_begins_with_the_language_models_weights(toy, tmp_path):
    task = end_to_end(toy)
    torch.manual_seed(5)
    language = build_language_model(task.model.spec)
    language.save_pretrained(tmp_path)
    torch.manual_seed(6)
    started = end_to_end(toy, pretrained=Location(str(tmp_path))).build_model()
    for name, value in language.state_dict().items():
        torch.testing.assert_close(started.language_model.state_dict()[name], value)


@pytest.mark.parametrize("make", [deepdiff, end_to_end])
def test_a_step_lowers_the_loss(toy, make):
    task = make(toy)
    torch.manual_seed(0)
    model = task.build_model()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-2)
    batch, losses = task.collate(task.train_source().read(np.arange(10))), []
    for _ in range(60):
        sums = task.sums(model, task.prepare(batch, Moment(0, 1, {})))
        optimizer.zero_grad()
        sums["squared_error"].backward()
        optimizer.step()
        losses.append(float(sums["squared_error"].detach()))
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("inputs", ["raw_d", "raw_c", "raw"])
@pytest.mark.parametrize("kind", ["deepdiff", "end_to_end"])
def test_an_antisymmetric_model_changes_its_sign_with_the_cell_types(toy, kind, inputs, tmp_path):
    if kind == "deepdiff":
        model = DeepDiffModel(DeepDiffShape(**SHAPE), inputs, MARKS, antisymmetric=True)
        task = ExpressionTask(toy[0], model, 0, None)
    else:
        task = end_to_end(toy, inputs, antisymmetric=True)
    genes = toy[0].genes
    train = genes.target[genes.rows("train")]
    assert task.scale[:, 0].tolist() == [0, pytest.approx(np.sqrt((train**2).mean()))]
    torch.manual_seed(2)
    weights = {name: 10 * value for name, value in task.build_model().state_dict().items()}  # far from 0
    task.save_model(tmp_path, weights, step=1, recipe_fingerprint="x")
    given = predict_genes(task.model, Location(str(tmp_path)), genes, batch=7)
    exchanged = predict_genes(task.model, Location(str(tmp_path)), genes.exchanged(), batch=7)
    assert np.abs(given).max() > 1e-3
    np.testing.assert_allclose(exchanged, -given, atol=1e-6)


def test_exchanged_genes_are_those_of_the_other_order(toy):
    genes = toy[0].genes
    other = genes.exchanged()
    np.testing.assert_array_equal(other.first, genes.second)
    np.testing.assert_array_equal(other.expression[:, 0], genes.expression[:, 1])
    expected = np.log(other.expression[:, 0] + 1) - np.log(other.expression[:, 1] + 1)
    np.testing.assert_allclose(other.target, expected)
    assert other.lines["difference"] is genes.lines["reversed"]
    assert other.exchanged().lines == genes.lines


def test_too_few_genes_are_refused(tmp_path):
    table, _ = toy_table(Location(str(tmp_path)), num=3)
    task = ExpressionTask(table, DeepDiffModel(DeepDiffShape(), "raw", MARKS), 0, None)
    with pytest.raises(RecipeError, match="train has 1 gene"):
        task.check()
