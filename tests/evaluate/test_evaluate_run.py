"""``epilm evaluate`` over Ray against the same figures from scikit-learn, one data set at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import evaluation_scenes as scenes
import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from epilm.config import parse_recipe
from epilm.errors import CorpusError
from epilm.evaluate.dream import NUM_FOLDS, RANKED_METRICS, dream_ranks, folds_of, second_best
from epilm.evaluate.ranking import METRICS, binding_metrics, count_ranks
from epilm.evaluate.recipe import EvaluateRecipe
from epilm.evaluate.run import run_evaluate
from epilm.labels.codes import BOUND, UNBOUND
from epilm.labels.label_set import LabelSet
from epilm.labels.load import load_labels

PAIRS = [("HepG2", "CTCF"), ("HepG2", "MAX"), ("K562", "CTCF")]
CONTIGS = ("chr2", "chr3")

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_local")]


class Scene:
    """A toy corpus with labels, two folders of predictions and a submission file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = scenes.write_corpus(folder / "corpus")
        self.settings = scenes.write_peaks(folder)
        self.raw: dict[str, Any] = {
            "name": "scored",
            "storage": str(folder / "runs"),
            "corpus": str(folder / "corpus"),
            "labels": self.settings,
            "bootstrap": {"num": 60, "block_bp": 5_000},
            "bins_per_task": 600,
            "baseline": "poor",
        }
        self.labels: LabelSet = load_labels(self.recipe({"x": "y"}).labels, manifest)
        self.scores = {"good": self._scores(1.5, 0), "poor": self._scores(0.4, 1)}
        hepg2 = PAIRS[0]
        self.scores["good"][hepg2][self.labels.grid.contig("chr2").offset + np.arange(5, 45)] = np.nan
        self.scores["file"] = {hepg2: self.scores["poor"][hepg2].copy()}
        self.scores["file"][hepg2][::7] = np.nan

    def recipe(self, submissions: dict[str, Any], **changes: Any) -> EvaluateRecipe:
        return parse_recipe(EvaluateRecipe, {**self.raw, "submissions": submissions, "baseline": None, **changes})

    def _scores(self, strength: float, seed: int) -> dict[tuple[str, str], np.ndarray]:
        rng = np.random.default_rng(seed)
        grid = self.labels.grid
        found = {}
        for pair in PAIRS:
            bound = self.labels.bound[pair].mask(0, grid.num_bins)
            logit = np.round(rng.normal(size=grid.num_bins) + strength * bound, 1)  # many ties
            found[pair] = (1 / (1 + np.exp(-logit))).astype(np.float32)
        return found

    def truth(self, pair: tuple[str, str], name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Scores, labels and numbers of the scored bins, and how many had no score; contig by contig from codes."""
        grid, scores, codes, bins = self.labels.grid, [], [], []
        for contig in CONTIGS:
            first, last = grid.range_of(contig)
            scores.append(self.scores[name][pair][first:last])
            codes.append(self.labels.dense(contig, *pair))
            bins.append(np.arange(first, last))
        score, code, number = map(np.concatenate, (scores, codes, bins))
        kept = (code == BOUND) | (code == UNBOUND)
        return np.nan_to_num(score[kept]), code[kept] == BOUND, number[kept], int(np.isnan(score[kept]).sum())


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(tmp_path_factory.mktemp("evaluate"))


@pytest.fixture(scope="module")
def submissions(scene: Scene) -> dict[str, Any]:
    """Settings of the three: two folders, whose parts do not end where tasks do, and a file of one data set."""
    grid = scene.labels.grid
    given: dict[str, Any] = {
        name: scenes.write_scores(scene.folder / name, grid, scene.scores[name]) for name in ("good", "poor")
    }
    path = scenes.write_submission(scene.folder / "L.CTCF.HepG2.tab.gz", grid, scene.scores["file"]["HepG2", "CTCF"])
    return given | {"file": {"dream": {"HepG2": {"CTCF": path}}}}


@pytest.fixture(scope="module")
def result(scene: Scene, submissions: dict[str, Any], ray_local: None) -> dict[str, Any]:
    messages: list[str] = []
    found = run_evaluate(scene.recipe(submissions, baseline="poor"), progress=messages.append)
    assert any("AUPRC" in message for message in messages)
    assert any("file: what its model was trained on is not known" in message for message in messages)
    return found


def of(result: dict[str, Any], pair: tuple[str, str]) -> dict[str, Any]:
    return next(d for d in result["data_sets"] if (d["cell_type"], d["target"]) == pair)


@pytest.mark.parametrize("pair", PAIRS)
def test_figures_are_those_of_all_bins_at_once(scene: Scene, result: dict[str, Any], pair: tuple[str, str]) -> None:
    data_set = of(result, pair)
    for name in ("good", "poor"):
        scores, labels, _, missing = scene.truth(pair, name)
        entry = data_set["submissions"][name]
        assert entry["missing_bins"] == missing
        assert entry["metrics"]["auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
        assert entry["metrics"]["average_precision"] == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
        expected = binding_metrics(count_ranks(scores, labels))
        assert {name: expected[name] for name in METRICS} == pytest.approx(entry["metrics"], abs=1e-12)
        assert (data_set["num_positives"], data_set["num_negatives"]) == (labels.sum(), (~labels).sum())
        for metric, (low, high) in entry["intervals"].items():
            assert low <= high, metric
        assert entry["intervals"]["auroc"][0] < entry["metrics"]["auroc"] < entry["intervals"]["auroc"][1]
    assert of(result, PAIRS[0])["submissions"]["good"]["missing_bins"] > 0


def test_a_file_scores_what_a_folder_of_the_same_scores_does(scene: Scene, result: dict[str, Any]) -> None:
    scores, labels, _, missing = scene.truth(PAIRS[0], "file")
    entry = of(result, PAIRS[0])["submissions"]["file"]
    assert entry["missing_bins"] == missing > 0
    assert entry["metrics"]["auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert "file" not in of(result, PAIRS[1])["submissions"]
    assert not (scene.folder / "runs" / "scored" / "submissions").exists()


def test_official_ranks_are_those_of_ten_samples(scene: Scene, result: dict[str, Any]) -> None:
    values = np.empty((NUM_FOLDS, 3, 4))
    for j, name in enumerate(("good", "poor", "file")):
        scores, labels, number, _ = scene.truth(PAIRS[0], name)
        fold = folds_of(number, 0)
        fold[labels] = folds_of(np.arange(labels.sum()), 0)
        for sample in range(NUM_FOLDS):
            kept = fold != sample
            metrics = binding_metrics(count_ranks(scores[kept], labels[kept]))
            values[sample, j] = [metrics[metric] for metric in RANKED_METRICS]
    expected = second_best(dream_ranks(values))
    entries = of(result, PAIRS[0])["submissions"]
    assert [entries[name]["dream_rank"] for name in ("good", "poor", "file")] == expected.tolist()
    standing = result["overall"]["dream"]
    assert standing["good"]["rank"] == 1
    assert standing["file"]["score"] == pytest.approx((0.5 + 0.5 + standing_share(dream_ranks(values)[:, 2])) / 3)


def standing_share(ranks: np.ndarray) -> float:
    return float(np.minimum(0.5, ranks / 4).mean())


def test_differences_are_to_the_baseline(result: dict[str, Any]) -> None:
    entries = of(result, PAIRS[2])["submissions"]
    gain = entries["good"]["differences"]["auprc"]
    assert gain["value"] == pytest.approx(entries["good"]["metrics"]["auprc"] - entries["poor"]["metrics"]["auprc"])
    assert gain["low"] < gain["value"] < gain["high"]
    assert entries["poor"]["differences"] == {}


def test_the_base_rate_stands_in_every_table(result: dict[str, Any]) -> None:
    for data_set in result["data_sets"]:
        entry = data_set["submissions"]["base_rate"]
        rate = data_set["num_positives"] / (data_set["num_positives"] + data_set["num_negatives"])
        assert entry["metrics"]["auprc"] == pytest.approx(rate, abs=1e-12)
        assert entry["metrics"]["auroc"] == 0.5
        assert entry["intervals"]["auprc"][0] < rate < entry["intervals"]["auprc"][1]
        names = [row["name"] for row in data_set["leaderboard"]]
        assert names.index("good") < names.index("base_rate")


def test_published_figures_stand_beside_but_are_not_called_comparable(result: dict[str, Any]) -> None:
    """No data set of the toy is in the paper's table; a name that is, on another assembly, would be told apart."""
    assert result["medians"]["published"] == {}
    assert all(row["kind"] != "published" for d in result["data_sets"] for row in d["leaderboard"])


def test_what_is_written_is_what_is_returned(scene: Scene, result: dict[str, Any]) -> None:
    folder = scene.folder / "runs" / "scored"
    assert json.loads((folder / "result.json").read_text()) == result
    table = pq.read_table(folder / "scores.parquet").to_pandas()
    assert len(table) == (4 + 3 + 3) * len(METRICS)
    row = table.query("cell_type == 'K562' and submission == 'good' and metric == 'auprc'").iloc[0]
    assert row["value"] == of(result, PAIRS[2])["submissions"]["good"]["metrics"]["auprc"]
    assert row["difference_low"] == of(result, PAIRS[2])["submissions"]["good"]["differences"]["auprc"]["low"]


def test_resamples_hold_what_intervals_are_made_of(scene: Scene, result: dict[str, Any]) -> None:
    table = pq.read_table(scene.folder / "runs" / "scored" / "resamples.parquet").to_pandas()
    data_set = of(result, PAIRS[2])
    drawn = table.query("cell_type == 'K562' and target == 'CTCF'").pivot(
        index="resample", columns="submission", values="auprc"
    )
    assert list(drawn.index) == list(range(result["bootstrap"]["num"]))
    good = data_set["submissions"]["good"]
    assert good["intervals"]["auprc"] == pytest.approx(np.quantile(drawn["good"].dropna(), [0.025, 0.975]))
    gain = (drawn["good"] - drawn["poor"]).dropna()
    found = good["differences"]["auprc"]
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(gain, [0.025, 0.975]))


def test_tasks_and_a_second_run_do_not_change_a_figure(
    scene: Scene, submissions: dict[str, Any], result: dict[str, Any]
) -> None:
    again = run_evaluate(scene.recipe(submissions, baseline="poor", name="again", bins_per_task=100_000))
    for key in ("data_sets", "overall", "medians"):
        assert again[key] == result[key]


def test_without_ranks_and_intervals_only_the_figures_are_given(scene: Scene, submissions: dict[str, Any]) -> None:
    changes = {"name": "bare", "dream_rank": False, "bootstrap": {"num": 0}, "cell_types": ["K562"]}
    bare = run_evaluate(scene.recipe({"good": submissions["good"]}, **changes))
    assert bare["overall"]["dream"] is None
    entry = bare["data_sets"][0]["submissions"]["good"]
    assert entry["intervals"] == {}
    scores, labels, _, _ = scene.truth(PAIRS[2], "good")
    assert entry["metrics"]["auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


def test_a_damaged_part_is_told_as_the_users_error(scene: Scene) -> None:
    place = scenes.write_scores(scene.folder / "damaged", scene.labels.grid, scene.scores["good"])
    (Path(place) / "chr3-0.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(CorpusError, match=r"chr3-0.parquet cannot be read"):
        run_evaluate(scene.recipe({"damaged": place}, name="damaged"))
    assert not (scene.folder / "runs" / "damaged" / "result.json").exists()
