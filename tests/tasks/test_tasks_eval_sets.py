"""What a model is evaluated on: windows and cell types that it has not been trained on, always the same."""

from __future__ import annotations

import numpy as np
import pytest

from epilm.corpus.manifest import CorpusManifest
from epilm.errors import RecipeError
from epilm.storage import Location
from epilm.tasks.eval_sets import check_test_contigs, window_eval_sets
from epilm.tasks.recipe import EvalConfig


def sets_of(task_corpus, manifest: CorpusManifest | None = None, *, uses_states=True, max_windows=1000, eval_seed=0):
    return window_eval_sets(
        Location(str(task_corpus.folder)),
        manifest or task_corpus.manifest,
        uses_states=uses_states,
        max_windows=max_windows,
        eval_seed=eval_seed,
    )


def test_three_sets_each_with_its_windows_and_cells(task_corpus) -> None:
    sets = sets_of(task_corpus)
    expected = {
        "held_out_contigs": ("held_out", {0, 1}),
        "held_out_cell_types": ("train", {2}),
        "held_out_both": ("held_out", {2}),
    }
    assert set(sets) == set(expected)
    for name, (split, cells) in expected.items():
        found = sets[name].read(np.arange(sets[name].num_samples))
        assert found.num_rows == len(task_corpus.windows[split])
        assert found.column("locus").to_pylist() == list(range(found.num_rows))
        assert set(found.column("cell").to_pylist()) == cells
        for row in found.to_pylist():
            chrom, start = task_corpus.windows[split][row["locus"]]
            states = task_corpus.states[chrom][row["cell"]][start // 20 :][:6]
            assert row["dna"] == task_corpus.dna_of(split, row["locus"]).tobytes()
            assert row["states"] == states.tobytes()
            assert row["phase"] == start % 20


def test_sets_that_a_corpus_allows(task_corpus) -> None:
    assert set(sets_of(task_corpus, uses_states=False)) == {"held_out_contigs"}
    all_cells = task_corpus.manifest.model_copy(update={"held_out_cell_types": ()})
    assert set(sets_of(task_corpus, all_cells)) == {"held_out_contigs"}
    train_files = tuple(f for f in task_corpus.manifest.files if f.split == "train")
    no_contig = task_corpus.manifest.model_copy(update={"files": train_files})
    assert set(sets_of(task_corpus, no_contig)) == {"held_out_cell_types"}


def test_any_part_of_a_set_is_what_the_whole_has_there(task_corpus) -> None:
    """So its figures depend neither on the batch nor on the number of workers."""
    chosen = np.array([20, 3, 3, 11])
    for samples in sets_of(task_corpus).values():
        whole = samples.read(np.arange(samples.num_samples))
        assert samples.read(chosen).equals(whole.take(chosen))


def test_limit_takes_the_first_windows(task_corpus) -> None:
    small, whole = sets_of(task_corpus, max_windows=7)["held_out_contigs"], sets_of(task_corpus)["held_out_contigs"]
    assert small.num_samples == 7
    assert small.read(np.arange(7)).equals(whole.read(np.arange(7)))


def test_the_seed_draws_the_cells(task_corpus) -> None:
    cells = [
        sets_of(task_corpus, eval_seed=seed)["held_out_contigs"].read(np.arange(29)).column("cell").to_pylist()
        for seed in (0, 0, 1)
    ]
    assert cells[0] == cells[1] != cells[2]
    assert 5 < sum(cells[0]) < 24


@pytest.fixture(scope="module")
def all_held_out(task_corpus) -> CorpusManifest:
    """The toy corpus with both of its contigs held out."""
    held_out = {"split": "held_out"}
    return task_corpus.manifest.model_copy(
        update={
            "contigs": tuple(c.model_copy(update=held_out) for c in task_corpus.manifest.contigs),
            "files": tuple(f.model_copy(update=held_out) for f in task_corpus.manifest.files),
        }
    )


def test_contigs_of_the_test_are_read_only_when_it_is_asked_for(task_corpus, all_held_out) -> None:
    folder = Location(str(task_corpus.folder))
    settings = {"uses_states": True, "max_windows": 1000, "eval_seed": 0, "test_contigs": ("chr2",)}
    hidden = window_eval_sets(folder, all_held_out, **settings)
    shown = window_eval_sets(folder, all_held_out, **settings, test=True)
    assert "test_contigs" not in hidden
    expected = {"held_out_contigs": "train", "held_out_both": "train", "test_contigs": "held_out"}
    for name, split in expected.items():
        for sets in [hidden, shown] if name in hidden else [shown]:
            found = sets[name].read(np.arange(sets[name].num_samples))
            wanted = {task_corpus.dna_of(split, i).tobytes() for i in range(len(task_corpus.windows[split]))}
            assert set(found.column("dna").to_pylist()) == wanted, name
    few = window_eval_sets(folder, all_held_out, **{**settings, "max_windows": 9}, test=True)["test_contigs"]
    assert few.num_samples == 9
    assert few.read(np.arange(9)).equals(shown["test_contigs"].read(np.arange(9)))


def test_the_test_leaves_contigs_for_validation(all_held_out) -> None:
    check_test_contigs(EvalConfig(test_contigs=("chr2",)), all_held_out)
    with pytest.raises(RecipeError, match=r"names chrX, .* Held out: chr1, chr2"):
        check_test_contigs(EvalConfig(test_contigs=("chr2", "chrX")), all_held_out)
    with pytest.raises(RecipeError, match="none is left for validation"):
        check_test_contigs(EvalConfig(test_contigs=("chr2", "chr1")), all_held_out)
    with pytest.raises(ValueError, match="test needs test_contigs"):
        EvalConfig(test=True)
