"""The task of fine-tuning against slow references: what a sample is, what is scored, what is refused."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from binding_corpus import BIN_BP, CELLS, LENGTHS, PEAKS, SIGNAL_BP, STATES, write_binding_corpus
from pydantic import ValidationError
from sklearn.metrics import average_precision_score, roc_auc_score

from epilm.errors import CorpusError, EpilmError, RecipeError
from epilm.labels.codes import BOUND, UNBOUND, UNMEASURED
from epilm.masking.contract import Moment
from epilm.models.modeling_ebert import EbertForPreTraining
from epilm.tasks.binding_recipe import SplitConfig
from epilm.tasks.save_model import save_model
from epilm.tasks.tf_binding import VALIDATION
from epilm.tokens.vocab import NUM_SPECIAL, STATE_UNK

FLANK_BP, K = 100, 3
TRAINING = Moment(0, 10, {})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_binding_corpus(tmp_path_factory.mktemp("binding"))


@pytest.fixture
def task(corpus):
    made = corpus.task(reverse_complement=False)
    made.check()
    return made


def places(table, task):
    """(contig, first base of the bin, cell type) of every row."""
    contig, start = task.labels.grid.locate(table.column("bin").to_numpy())
    cells = [task.labels.cell_types[cell] for cell in table.column("cell").to_numpy()]
    return list(zip(task.labels.grid.names[contig], start.tolist(), cells, strict=True))


def label_of(target, chrom, start, cell):
    if cell not in PEAKS[target]:
        return UNMEASURED
    overlaps = [min(start + 200, at + 200) - max(start, at) for name, at in PEAKS[target][cell] if name == chrom]
    return BOUND if max(overlaps, default=0) >= 101 else UNBOUND


def base(values, at):
    return int(values[at]) if 0 <= at < len(values) else None


def test_samples_are_what_the_corpus_holds(task, corpus):
    """Base by base: k-mers, states and pooled signals of the sample's own cell type, past the ends of contigs too."""
    table = task.train_source().read(np.arange(60))
    prepared = task.prepare(task.collate(table), TRAINING)
    inputs = prepared.inputs
    assert prepared.num_rows == 60
    tokens = (400 - K) // K + 1
    for row, (chrom, start, cell) in enumerate(places(table, task)):
        first = start - FLANK_BP
        for token in range(0, tokens, 7):
            at = [first + token * K + i for i in range(K)]
            bases = [base(corpus.dna[chrom], a) for a in at]
            expected = 1 if None in bases else NUM_SPECIAL + 16 * bases[0] + 4 * bases[1] + bases[2]
            assert inputs["input_ids"][row, token + 1] == expected
            own = corpus.states[chrom][CELLS.index(cell)]
            states = [base(own, a // BIN_BP) if 0 <= a < LENGTHS[chrom] + BIN_BP else None for a in at]
            middle = states[1]
            if len(set(states)) == 1:
                assert inputs["state_ids"][row, token + 1] == (STATE_UNK if middle is None else 3 + middle)
            for channel, (index, pool, missing) in enumerate([(CELLS.index(cell), max, 0.0), (3, min, -1.0)]):
                track = corpus.signals[chrom][index]
                values = [track[a // SIGNAL_BP] for a in at if 0 <= a // SIGNAL_BP < len(track)]
                values = [float(v) for v in values if not np.isnan(v)]
                found = inputs["track_values"][row, token, channel].item()
                assert found == pytest.approx(pool(values) if values else missing)


def test_labels_follow_the_peaks_and_only_measured_ones_are_scored(task):
    table = task.train_source().read(np.arange(200))
    prepared = task.prepare(task.collate(table), TRAINING)
    scored = 0
    for row, place in enumerate(places(table, task)):
        for column, target in enumerate(task.labels.targets):
            label = label_of(target, *place)
            assert prepared.inputs["scored"][row, column] == (label != UNMEASURED)
            assert prepared.inputs["bound"][row, column] == (label == BOUND)
            scored += label != UNMEASURED
    assert prepared.counts["labels"] == scored


def test_a_cell_type_that_is_held_out_needs_no_states(corpus, tmp_path):
    path = tmp_path / "A.spleen.bed"
    path.write_text("chr1\t3000\t3200\n")
    labels = corpus.config().labels.model_dump()
    labels["files"]["A"]["spleen"] = str(path)
    task = corpus.task(labels=labels, split={"validation_contigs": ["chr2"], "held_out_cell_types": ["spleen"]})
    task.check()
    found, expected = task.train_source().read(np.arange(40)), corpus.task().train_source().read(np.arange(40))
    assert places(found, task) == places(expected, corpus.task())
    assert found.column("states") == expected.column("states")
    assert found.column("signals") == expected.column("signals")


def test_an_epoch_has_all_positives_of_the_training_contigs(task):
    table = task.train_source().read(np.arange(task.sampler.epoch_size))
    shown = places(table, task)
    positives = {p for p in shown if any(label_of(t, *p) == BOUND for t in PEAKS)}
    expected = {
        (chrom, start, cell)
        for chrom in ("chr1", "chr3")
        for start in range(0, LENGTHS[chrom] - 199, 50)
        for cell in CELLS
        if any(label_of(t, chrom, start, cell) == BOUND for t in PEAKS)
    }
    assert positives == expected
    assert len(shown) == len(set(shown)) == 11 * len(expected)


def test_half_of_the_samples_are_read_from_the_other_strand(corpus):
    task, plain = corpus.task(reverse_complement=True), corpus.task(reverse_complement=False)
    batch = task.collate(task.train_source().read(np.arange(400)))
    turned = task.prepare(batch, TRAINING).inputs["input_ids"] != plain.prepare(batch, TRAINING).inputs["input_ids"]
    assert 0.4 < turned.any(1).float().mean().item() < 0.6
    later = {name: value[200:] for name, value in batch.items()}  # a choice is a sample's own, whatever the batch
    assert torch.equal(
        task.prepare(later, TRAINING).inputs["input_ids"], task.prepare(batch, TRAINING).inputs["input_ids"][200:]
    )


def model_inputs(task, table):
    inputs = task.prepare(task.collate(table), TRAINING).inputs
    return {name: value for name, value in inputs.items() if name not in ("bound", "scored")}


def evaluate(task, model, rows):
    """Metrics in batches of ``rows``, as the loop adds them up."""
    samples = task.eval_sets(final=False)[VALIDATION]
    sums, counts = {}, {}
    for first in range(0, samples.num_samples, rows):
        indices = np.arange(first, min(first + rows, samples.num_samples))
        prepared = task.prepare(task.collate(samples.read(indices)), None)
        for totals, values in ((sums, task.sums(model, prepared)), (counts, prepared.counts)):
            for name, value in values.items():
                totals[name] = totals.get(name, 0) + value.double()
    return task.summarise({n: v.tolist() for n, v in sums.items()}, {n: v.item() for n, v in counts.items()})


def test_validation_metrics_are_those_of_all_bins(task):
    """Against scikit-learn on every bin of the validation contig, one by one."""
    torch.manual_seed(0)
    model = task.build_model().eval()
    with torch.no_grad():
        found = evaluate(task, model, rows=33)
        samples = task.eval_sets(final=False)[VALIDATION]
        table = samples.read(np.arange(samples.num_samples))
        logits = model(
            **{
                k: v
                for k, v in task.prepare(task.collate(table), TRAINING).inputs.items()
                if k not in ("bound", "scored")
            }
        )
    every = {(chrom, s, c) for chrom in ("chr2",) for s in range(0, LENGTHS[chrom] - 199, 50) for c in CELLS}
    assert set(places(table, task)) == every
    per_target = []
    for column, target in enumerate(task.labels.targets):
        labels = np.array([label_of(target, *place) for place in places(table, task)])
        kept = labels != UNMEASURED
        truth, score = labels[kept] == BOUND, logits[:, column].double().numpy()[kept]
        per_target.append((roc_auc_score(truth, score), average_precision_score(truth, score), truth.mean()))
    auroc, precision, rate = np.mean(per_target, axis=0)
    assert found["auroc"] == pytest.approx(auroc, abs=2e-3)  # scores within .002 of a logit are ties
    assert found["average_precision"] == pytest.approx(precision, abs=5e-3)
    assert found["base_rate_auprc"] == pytest.approx(rate)


def test_fewer_validation_bins_are_weighted_up(corpus):
    task = corpus.task(evaluation={"max_positives": 5, "max_negatives": 40})
    samples = task.eval_sets(final=False)[VALIDATION]
    assert samples.num_samples == 45
    weight = samples.read(np.arange(45)).column("weight").to_numpy()
    assert weight[:5] == pytest.approx(samples.positives.size / 5)
    assert weight[5:] == pytest.approx(samples.others.size / 40)


def test_both_strands_give_a_window_and_its_reverse_complement_one_score(corpus):
    encoder = {
        "model": {"kind": "dbert", "hidden_size": 16, "num_layers": 1, "num_heads": 2, "dropout": 0.0},
        "tokens": {"k": 3},
    }
    both, one = (corpus.task(both_strands=b, tracks={}, encoder=encoder) for b in (True, False))
    torch.manual_seed(1)
    model = both.build_model().eval()
    samples = both.eval_sets(final=False)[VALIDATION]
    batch = both.collate(samples.read(np.arange(20)))
    dna = batch["dna"]
    turned = batch | {"dna": torch.where(dna < 4, 3 - dna, dna).flip(1)}

    def loss(task, rows):
        with torch.no_grad():
            return task.sums(model, task.prepare(rows, None))["binding_loss"].item()

    assert both.prepare(batch, None).inputs["input_ids"].shape[0] == 40
    assert loss(both, batch) == pytest.approx(loss(both, turned), abs=1e-5)
    assert loss(one, batch) != pytest.approx(loss(one, turned), abs=1e-5)


def test_the_first_predictions_are_the_rate_of_positives(task):
    torch.manual_seed(0)
    model = task.build_model().eval()
    inputs = model_inputs(task, task.train_source().read(np.arange(50)))
    assert model(**inputs).sigmoid().mean().item() == pytest.approx(1 / 11, abs=0.02)


def test_training_stops_when_validation_stops_to_gain(corpus):
    task = corpus.task(early_stop={"patience": 2, "min_gain": 0.01})
    state, ends = task.initial_state(), []
    for step, auprc in enumerate([0.2, 0.3, 0.305, 0.25, 0.9], start=1):
        state = task.observe(state, step=step, evaluations={VALIDATION: {"auprc": auprc}})
        ends.append(task.finished(state))
        if ends[-1]:
            break
    assert ends == [False, False, False, True]
    assert state["best_auprc"] == 0.3
    assert task.observe(state, step=9, evaluations={}) == state
    never = corpus.task(early_stop=None)
    assert not never.finished({**state, "without_gain": 99})


def test_parts_of_a_contig_are_kept_apart_by_the_length_of_the_input(corpus):
    task = corpus.task(split={"train_contigs": ["chr1"], "validation_contigs": ["chr1:4000-6000"]})
    contig, start = task.labels.grid.locate(task.split.train_bins.indices())
    assert set(task.labels.grid.names[contig]) == {"chr1"}
    inputs = {(s - FLANK_BP, s + 200 + FLANK_BP) for s in start.tolist()}
    assert all(end <= 4000 or first >= 6000 for first, end in inputs)
    assert {s for s in range(0, 8801, 50) if s + 300 <= 4000 or s - 100 >= 6000} == set(start.tolist())
    assert task.split.trained_regions == ((("chr1", 0, 4000)), ("chr1", 6000, 9100))


def test_accessible_negatives_are_drawn_as_asked(corpus):
    task = corpus.task(sampling={"accessible": {"states": ["open"]}, "accessible_share": 0.25})
    table = task.train_source().read(np.arange(task.sampler.epoch_size))

    def is_open(chrom, start, cell):
        own = corpus.states[chrom][CELLS.index(cell)]
        return any(own[a // BIN_BP] == STATES.index("open") for a in range(start, start + 200))

    negatives = [p for p in places(table, task) if all(label_of(t, *p) != BOUND for t in PEAKS)]
    share = np.mean([is_open(*p) for p in negatives])
    assert share == pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"split": {"validation_contigs": ["chr9"]}}, RecipeError, "'chr9' is neither a contig of the corpus"),
        (
            {"split": {"validation_contigs": ["chr2"], "test_contigs": ["chr2:0-900"]}},
            RecipeError,
            "share .* bins on chr2",
        ),
        ({"split": {"validation_contigs": ["chr1", "chr2", "chr3"]}}, RecipeError, "no bin is left to train on"),
        ({"split": {"validation_contigs": ["chr2"], "train_contigs": ["chr2"]}}, RecipeError, "both name chr2"),
        (
            {"split": {"validation_contigs": ["chr2"], "cell_types": ["liver", "lunk"]}},
            RecipeError,
            "Did you mean 'lung'",
        ),
        ({"split": {"validation_contigs": ["chr3"]}}, RecipeError, "A binds nowhere on the validation contigs"),
        ({"targets": ["C"]}, CorpusError, "'C'"),
        ({"tracks": {"x": {"signal": "DNAse.{cell_type}"}}}, RecipeError, "Did you mean 'DNase.liver'"),
        (
            {"tracks": {"x": {"signal": "DNase.liver"}}},
            RecipeError,
            "was measured in liver, and would be read for lung",
        ),
        ({"input_bp": 201}, EpilmError, "even"),
        ({"sampling": {"accessible": {"states": ["opne"]}}}, RecipeError, "Did you mean 'open'"),
        ({"encoder": {"pretrained": "nowhere"}}, EpilmError, "nowhere"),
        (
            {"split": {"validation_contigs": ["chr2:900000-990000"]}},
            RecipeError,
            "not one bin of 200 bp lies in chr2:900000",
        ),
        ({"sampling": {"negatives_per_positive": 0.001}}, RecipeError, "is no negative"),
        ({"sampling": {"max_positives": 1}}, RecipeError, "among the 1 positives .* is none of"),
        ({"evaluation": {"max_positives": 1}}, RecipeError, "task.evaluation.max_positives leaves is none of"),
    ],
)
def test_what_does_not_fit_is_refused(corpus, changes, kind, message):
    with pytest.raises(kind, match=message):
        corpus.task(**changes).check()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validation_contigs": ["chr2", "chr2"]}, "names one twice"),
        ({"validation_contigs": ["chr2"], "cell_types": []}, "cell_types is empty"),
    ],
)
def test_lists_of_a_split_are_sets_with_members(settings, message):
    with pytest.raises(ValidationError, match=message):
        SplitConfig.model_validate(settings)


def test_dropout_of_a_new_encoder_is_said_once(corpus):
    model = {"model": {"hidden_size": 16, "num_layers": 1, "num_heads": 2}, "dropout": 0.3}
    with pytest.raises(ValidationError, match="set them there"):
        corpus.config(encoder=model)


def test_states_are_not_read_from_a_corpus_of_dna_alone(corpus, monkeypatch):
    task = corpus.task(tracks={})
    bare = task.manifest.model_copy(update={"state_names": (), "cell_types": ()})
    monkeypatch.setitem(task.__dict__, "manifest", bare)
    with pytest.raises(RecipeError, match=r"kind=ebert reads states, but the corpus .* is DNA alone"):
        task.check()


def test_cell_types_in_which_no_asked_factor_was_measured_are_left_out(corpus):
    assert corpus.task(targets=["B"]).split.train_cell_types == ("liver", "brain")


def test_another_encoder_is_another_run(corpus):
    settings = corpus.config().encoder.model_dump()
    wider = settings | {"tokens": {"k": 3, "stride": 2}}
    assert corpus.task().data_fingerprint() == corpus.task(seed=9).data_fingerprint()
    assert corpus.task().data_fingerprint() != corpus.task(encoder=wider).data_fingerprint()


def test_bins_in_gaps_are_not_scored(task):
    batch = task.collate(task.train_source().read(np.arange(8)))
    batch["dna"][0, 100:300] = 4
    batch["dna"][1, 100:299] = 4
    scored = task.prepare(batch, TRAINING).inputs["scored"]
    assert not scored[0].any()
    assert scored[1].any()


def test_a_diverged_model_has_no_metrics(task):
    torch.manual_seed(0)
    model = task.build_model().eval()
    with torch.no_grad():
        model.head.out.bias.fill_(float("nan"))
        found = evaluate(task, model, rows=50)
    assert np.isnan(found["auprc"])
    assert np.isnan(task.score({VALIDATION: found}))


def test_a_missing_file_of_contigs_is_found_first(corpus, tmp_path):
    folder = shutil.copytree(corpus.folder, tmp_path / "copy")
    (folder / "corpus" / "contigs" / "chr3.parquet").unlink()
    with pytest.raises(CorpusError, match=r"chr3\.parquet is missing"):
        dataclasses.replace(corpus, folder=folder).task().check()


def test_the_pretrained_encoder_must_fit_the_corpus(corpus, tmp_path):
    task = corpus.task()
    state = EbertForPreTraining(task.encoder).state_dict()
    manifest = task.manifest.model_copy(update={"assembly": "toy2"})
    save_model(tmp_path, task.encoder, state, manifest, step=1, seed=0, recipe_fingerprint="r", initial=None)
    with pytest.raises(EpilmError, match="trained on assembly 'toy2'"):
        corpus.task(encoder={"pretrained": str(tmp_path)}).check()
