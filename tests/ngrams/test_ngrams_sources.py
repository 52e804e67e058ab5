"""What is counted: contigs chosen and left out, held-out parts of a corpus, and chunks that tile all of it."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from slow_ngrams import LETTERS, slow_counts

from epilm.config import parse_recipe
from epilm.errors import CorpusError, GenomeError, RecipeError
from epilm.ngrams.recipe import GenomeSource, NpmiRecipe
from epilm.ngrams.sources import Region, open_source, plan_tasks
from epilm.ngrams.workers import count_chunks

TEXT = {"chr1": "ACGTNACGGTNNAACCA" * 5, "chr2": "TTTTGCAAC" * 7, "chrX": "ACN", "tiny": "G"}


class InMemory:
    """A reader of literal sequences."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.codes = {name: np.array([LETTERS.index(c) for c in text], np.uint8) for name, text in texts.items()}

    def fetch(self, contig: str, start_bp: int, end_bp: int) -> np.ndarray:
        assert 0 <= start_bp <= end_bp <= len(self.codes[contig])
        return self.codes[contig][start_bp:end_bp]


def genome(tmp_path: Path, **settings: Any) -> GenomeSource:
    path = tmp_path / "toy.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in TEXT.items()))
    return GenomeSource(kind="genome", path=str(path), **settings)


def test_all_contigs_are_counted_where_none_is_named(tmp_path: Path) -> None:
    plan = open_source(genome(tmp_path))
    assert plan.contigs == tuple(TEXT)
    assert plan.left_out == ()
    assert plan.length_bp == sum(map(len, TEXT.values()))


def test_contigs_are_chosen_and_left_out_under_any_name(tmp_path: Path) -> None:
    plan = open_source(genome(tmp_path, exclude_contigs=["2", "tiny"]))
    assert plan.contigs == ("chr1", "chrX")
    assert plan.left_out == ("chr2", "tiny")
    plan = open_source(genome(tmp_path, contigs=["2", "chr1"], exclude_contigs=["chr2"]))
    assert plan.contigs == ("chr1",)
    assert plan.left_out == ("chr2", "chrX", "tiny")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"contigs": ["chr7"]}, "source.contigs: contig 'chr7' is not in the genome"),
        ({"exclude_contigs": ["chrXI"]}, "source.exclude_contigs: contig 'chrXI' is not in the genome.*chr1, chr2"),
        ({"exclude_contigs": ["2", "chr2"]}, "two of 2, chr2 mean one contig"),
        ({"contigs": ["chr1"], "exclude_contigs": ["1"]}, "leaves no contig to count of chr1"),
    ],
)
def test_wrong_contigs_are_refused(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(CorpusError, match=said):
        open_source(genome(tmp_path, **settings))


def test_a_missing_genome_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GenomeError, match="does not exist"):
        open_source(GenomeSource(kind="genome", path=str(tmp_path / "no.fa")))


def test_fingerprints_are_of_the_content(tmp_path: Path) -> None:
    source = genome(tmp_path)
    before = open_source(source).fingerprints()
    assert open_source(source).fingerprints() == before
    Path(source.paths[0]).write_text(">chr1\nACGT\n")
    assert open_source(source).fingerprints() != before


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    chunk_bp=st.integers(1, 70),
    max_n=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_tasks_tile_every_region_and_counts_do_not_depend_on_them(
    lengths: list[int], chunk_bp: int, max_n: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    texts = {f"c{i}": "".join(generator.choice(list("ACGTACGTN"), length)) for i, length in enumerate(lengths)}
    regions = [Region(name, len(text) // 5, len(text)) for name, text in texts.items()]
    tasks = plan_tasks(regions, chunk_bp)
    chunks = [chunk for task in tasks for chunk in task]
    tiled = [(c.contig, base) for c in chunks for base in range(c.start_bp, c.end_bp)]
    assert tiled == [(r.contig, base) for r in regions for base in range(r.start_bp, r.end_bp)]
    assert all(sum(c.end_bp - c.start_bp for c in task) <= chunk_bp for task in tasks)
    total = sum(np.concatenate(count_chunks(InMemory(texts), task, max_n)) for task in tasks)
    expected = slow_counts([texts[r.contig][r.start_bp :] for r in regions], max_n)
    assert total.tolist() == [count for of_n in expected for count in of_n]


def test_many_short_contigs_share_a_task() -> None:
    regions = [Region(f"scaffold{i}", 0, 100) for i in range(1_000)]
    assert [len(task) for task in plan_tasks(regions, 25_000)] == [250] * 4
    assert plan_tasks([], 25_000) == []


def test_a_reader_is_opened_anew_in_another_process(tmp_path: Path) -> None:
    plan = open_source(genome(tmp_path))
    copy = pickle.loads(pickle.dumps(plan.reader))
    assert np.array_equal(copy.fetch("chr2", 0, 9), plan.reader.fetch("chr2", 0, 9))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": {"kind": "genome", "path": "x.fa", "max_n": 9}}, "less than or equal to 8"),
        ({"source": {"kind": "genome", "path": "x.fa", "max_n": 2}}, "greater than or equal to 3"),
        ({"source": {"kind": "genome", "path": "x.fa", "contigs": ["a"], "exclude_contigs": ["a"]}}, "both name a"),
        ({"source": {"kind": "table", "path": "x.csv", "max_n": 6}}, "Extra inputs"),
        ({"listed_n": [7]}, "listed_n=7 has no NPMI here: allowed are 3 to 6"),
        ({"listed_n": [2]}, "listed_n=2 has no NPMI here"),
    ],
)
def test_recipes_that_make_no_sense(change: dict[str, Any], said: str) -> None:
    raw = {"name": "x", "source": {"kind": "genome", "path": "x.fa"}} | change
    with pytest.raises(ValidationError, match=said):
        NpmiRecipe.model_validate(raw)


def test_identity_is_without_how_the_counting_is_spread() -> None:
    def identity(**settings: Any) -> dict[str, Any]:
        raw = {"name": "x", "source": {"kind": "genome", "path": "x.fa", **settings}}
        return NpmiRecipe.model_validate(raw).identity()

    assert identity(chunk_bp=5_000, num_workers=3) == identity()
    assert identity(max_n=5) != identity()


def test_a_mistyped_setting_of_a_source_is_named() -> None:
    raw = {"name": "x", "source": {"kind": "genome", "path": "x.fa", "exclude_contig": ["chr1"]}}
    with pytest.raises(RecipeError, match=r"unknown setting\. Did you mean 'exclude_contigs'"):
        parse_recipe(NpmiRecipe, raw)
