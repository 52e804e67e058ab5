"""A storage that cannot be written or is full stops a build with its name, and loses nothing that was finished."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from epilm.corpus.build import build_corpus
from epilm.corpus.check import check_corpus, checked_layout
from epilm.corpus.meter import Meter
from epilm.corpus.shards import Record, WriteContigs
from epilm.corpus.tasks import run_tasks
from epilm.corpus.validate import validate_corpus
from epilm.errors import CorpusError, GenomeError, RunExistsError, StorageError


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    """Writes past this size fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_shard_that_does_not_fit_is_not_left_in_part(toy, tmp_path: Path) -> None:
    layout = checked_layout(toy.recipe(storage=str(tmp_path)))
    for kind in ("contigs", "tables"):
        (layout.folder / ".build" / kind).mkdir()
    with file_size_limit(500), pytest.raises(StorageError, match=r"cannot write .*part-00000\.parquet.*full"):
        WriteContigs(layout)(0)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert WriteContigs(layout)(0)["rows"] == 24


def test_a_disk_that_is_too_small_is_told_before_a_byte_is_written(toy, tmp_path: Path, monkeypatch) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: free)
    with pytest.raises(StorageError, match=r"needs about .* GB, of which .* GB only while it runs; 0\.00 GB are free"):
        check_corpus(toy.recipe(storage=str(tmp_path / "new")))
    assert not (tmp_path / "new").exists()


@pytest.mark.ray
def test_a_storage_that_is_no_folder(toy, ray_local, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="cannot create the folder"):
        build_corpus(toy.recipe(storage=str(tmp_path / "file")))
    with pytest.raises(StorageError, match="cannot open nowhere://x/toy"):
        build_corpus(toy.recipe(storage="nowhere://x"))


@pytest.mark.ray
def test_a_recipe_without_windows_overwrites_nothing(toy, toy_corpus, corpus_copy) -> None:
    corpus = corpus_copy()
    recipe = toy.recipe(storage=str(Path(corpus.path).parent), name=corpus.name, held_out_contigs=["tiny"])
    with pytest.raises(CorpusError, match="no held-out window is left"):
        build_corpus(recipe, on_existing="overwrite")
    assert validate_corpus(corpus).fingerprint == toy_corpus.manifest.fingerprint()


@pytest.mark.ray
def test_a_build_stopped_by_its_storage_goes_on_where_it_was(toy, toy_corpus, ray_local, tmp_path: Path) -> None:
    recipe = toy.recipe(storage=str(tmp_path))
    folder = tmp_path / "toy"
    (folder / "windows").mkdir(parents=True)
    (folder / "windows" / "train").write_text("in the way")
    with pytest.raises(RunExistsError, match="is not a run folder"):
        build_corpus(recipe, on_existing="overwrite")
    with pytest.raises(StorageError, match=r"windows/train.*(create|write)|(create|write).*windows/train"):
        build_corpus(recipe, on_existing="resume")
    chunks = {path: path.stat().st_mtime_ns for path in (folder / "contigs").rglob("*.parquet")}
    assert len(chunks) == 4
    (folder / "windows" / "train").unlink()
    assert build_corpus(recipe, on_existing="resume") == toy_corpus.manifest
    assert {path: path.stat().st_mtime_ns for path in chunks} == chunks
    validate_corpus(str(folder))


@dataclass(frozen=True)
class Failing:
    """Task 3 meets an error."""

    error: str

    def __call__(self, index: int) -> Record:
        if index == 3 and self.error == "full":
            os.write(os.open("/dev/full", os.O_WRONLY), b"x")
        if index == 3:
            raise {"genome": GenomeError, "corpus": CorpusError}[self.error]("contig 'x' is short. Mend it.")
        return {"index": index}


@pytest.fixture
def travelling() -> Iterator[None]:
    """Workers do not import this module; its class travels whole."""
    import sys

    from ray import cloudpickle

    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ("genome", GenomeError, r"^contig 'x' is short\. Mend it\.$"),
        ("corpus", CorpusError, r"^contig 'x' is short"),
        ("full", StorageError, "could not read or write a file: .*No space left on device"),
    ],
)
def test_errors_of_tasks_are_those_of_the_driver(ray_local, travelling, error, kind, message) -> None:
    with pytest.raises(kind, match=message):
        run_tasks(Failing(error), [1] * 6, "work", lambda line: None)


def test_progress_tells_amount_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    lines: list[str] = []
    meter = Meter("contigs", "Mb", 60, lines.append)
    for seconds in (1, 5, 1, 5):
        now[0] += seconds
        meter.add(15)
    assert lines == ["contigs: 30/60 Mb, 5 Mb/s, 6 s left", "contigs: 60/60 Mb, 5 Mb/s"]
