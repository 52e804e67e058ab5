"""CM-GEMS through kills and on another number of workers: the switch, and every loss, as in the uninterrupted run.

Two runs of one recipe. One is left alone. The other's worker is killed before, at and after the switch: twice it is
restarted by Ray, at last the run is resumed on two workers.
"""

from __future__ import annotations

import killed_task
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from killed_task import Kill, KilledTask
from ray import cloudpickle

from epilm.errors import EpilmError, RecipeError
from epilm.runs import Run, read_metrics
from epilm.storage import Location
from epilm.tasks.masked_epigenome import MaskedEpigenomeTask
from epilm.tasks.recipe import MaskedEpigenomeConfig
from epilm.train.checkpoint import read_meta
from epilm.train.launch import CHECKPOINTS_FOLDER, fit
from epilm.train.pretrain import check_curriculum
from epilm.train.recipe import TrainConfig

cloudpickle.register_pickle_by_value(killed_task)  # Ray's workers do not have this folder on their path

STEPS, BATCH, EVERY, SWITCH, K = 20, 12, 4, 12, 4


def task_config(corpus: Location, table: str, **cm_gems) -> MaskedEpigenomeConfig:
    return MaskedEpigenomeConfig.model_validate(
        {
            "corpus": str(corpus),
            "model": {"kind": "dbert", "hidden_size": 32, "num_layers": 2, "num_heads": 2, "dropout": 0.1},
            "tokens": {"k": K},
            "lengths": {"min_kmers": 20},
            # no drop of the perplexity is large enough, and two evaluations in a row must find that
            "dna_mask": {
                "policy": "cm-gems",
                "table": table,
                "cm_gems": {"threshold": 1e9, "window_steps": EVERY, "patience": 2, **cm_gems},
            },
            "evaluation": {"max_windows": 20},
        }
    )


def train_config(**changes) -> TrainConfig:
    return TrainConfig.model_validate(
        {
            "steps": STEPS,
            "global_batch": BATCH,
            "num_workers": 1,
            "exact_workers": [1, 2],
            "threads_per_worker": 1,
            "optimizer": {"lr": 3e-3, "warmup_steps": 2},
            "eval_every_steps": EVERY,
            "checkpoint_every_steps": EVERY,
            "max_failures": 2,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> str:
    """Scores of all 4-mers, in an order that has nothing to do with their codes."""
    path = tmp_path_factory.mktemp("scores") / "scores.parquet"
    order = np.random.default_rng(0).permutation(4**K)
    words = ["".join("ACGT"[code >> s & 3] for s in (6, 4, 2, 0)) for code in range(4**K)]
    npmi = 2.0 - order / 4**K
    pq.write_table(pa.table({"kmer": words, "count": np.full(4**K, 1000), "npmi": npmi, "rank": order + 1}), path)
    return str(path)


@pytest.fixture(scope="module")
def left_alone(tiny_corpus, table, tmp_path_factory):
    run = Run(Location(str(tmp_path_factory.mktemp("alone"))), resumed=False)
    checkpoint, _ = fit(MaskedEpigenomeTask(task_config(tiny_corpus, table), 5), train_config(), run, "recipe")
    return run, checkpoint


@pytest.fixture(scope="module")
def killed(tiny_corpus, table, tmp_path_factory):
    run = Run(Location(str(tmp_path_factory.mktemp("killed"))), resumed=False)
    folder = (run.folder / CHECKPOINTS_FOLDER).path
    kills = tuple(Kill(step, checkpoint, folder) for step, checkpoint in [(10, 8), (SWITCH, SWITCH), (17, 16)])
    task = KilledTask(task_config(tiny_corpus, table), 5, kills=kills)
    with pytest.raises(EpilmError, match="go on with --resume"):  # the third death is one too many
        fit(task, train_config(), run, "recipe")
    lines: list[str] = []
    checkpoint, _ = fit(task, train_config(num_workers=2), run, "recipe", progress=lines.append)
    assert any("from the checkpoint at step 16" in line for line in lines), lines
    return run, checkpoint


def records(run: Run, kind: str) -> list[dict]:
    return [r for r in read_metrics(run.folder) if r["kind"] == kind]


def column(run: Run, name: str) -> np.ndarray:
    assert [r["step"] for r in records(run, "train")] == list(range(1, STEPS + 1))
    return np.array([r[name] for r in records(run, "train")])


@pytest.mark.training
def test_the_switch_comes_where_the_rule_says_through_any_kill(left_alone, killed) -> None:
    """The first evaluation has none before it; those at 8 and 12 find too small a drop: patience 2 is reached at 12."""
    for run, _ in (left_alone, killed):
        assert [(r["step"], r["switched"]) for r in records(run, "event")] == [(SWITCH, 1.0)]
        assert column(run, "switched").tolist() == [0.0] * SWITCH + [1.0] * (STEPS - SWITCH)


@pytest.mark.training
def test_every_loss_is_that_of_the_run_left_alone(left_alone, killed) -> None:
    names = ("loss", "grad_norm", "mask_rate", "top_npmi_masked")
    one_worker = slice(0, 16)
    for name in names:
        expected, found = column(left_alone[0], name), column(killed[0], name)
        assert np.abs(found[one_worker] - expected[one_worker]).max() == 0.0, name
        np.testing.assert_allclose(found, expected, rtol=2e-5, err_msg=name)
    assert column(left_alone[0], "samples_digest").tolist() == column(killed[0], "samples_digest").tolist()
    assert set(column(killed[0], "num_workers")) == {1, 2}


@pytest.mark.training
def test_what_the_policy_masks_is_logged_and_changes_with_the_switch(left_alone) -> None:
    """Global PMI hides the k-mers of the highest NPMI; GeneMask only leans to them."""
    top = column(left_alone[0], "top_npmi_masked")
    assert top[SWITCH:].min() > 1.5 * top[:SWITCH].max()
    assert 0.08 < column(left_alone[0], "mask_rate").mean() < 0.22


@pytest.mark.training
def test_the_state_is_in_the_checkpoint(left_alone, killed) -> None:
    states = []
    for _, checkpoint in (left_alone, killed):
        with checkpoint.as_directory() as folder:
            states.append(read_meta(folder).task_state)
    assert states[0]["switched_at"] == states[1]["switched_at"] == SWITCH


@pytest.mark.ray
def test_a_curriculum_that_cannot_move_on_is_refused(tiny_corpus, table) -> None:
    task = MaskedEpigenomeTask(task_config(tiny_corpus, table), 0)
    check_curriculum(task, train_config())
    for changes in ({"eval_every_steps": None}, {"eval_every_steps": 10}, {"eval_every_steps": 20}):
        with pytest.raises(RecipeError, match=r"can never move on.*eval_every_steps"):
            check_curriculum(task, train_config(**changes))
    far = MaskedEpigenomeTask(task_config(tiny_corpus, table, window_steps=500), 0)
    with pytest.raises(RecipeError, match="can never move on"):
        check_curriculum(far, train_config())
