"""What a model is evaluated on: windows and cell types that it has not been trained on, always the same."""

from __future__ import annotations

import numpy as np

from epilm.corpus.manifest import CorpusManifest
from epilm.storage import Location
from epilm.tasks.eval_sets import window_eval_sets


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
