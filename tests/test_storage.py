"""Locations: local paths and URIs behave alike, writes are whole, a storage that cannot be written is refused."""

import os
import pickle
import shutil

import pytest

from epilm.errors import StorageError
from epilm.storage import Location, whole_file


@pytest.fixture(params=["path", "file://"])
def folder(request, tmp_path):
    return Location(f"file://{tmp_path}" if request.param == "file://" else str(tmp_path))


def test_write_read_list_delete(folder):
    file = folder / "a" / "b.json"
    (folder / "a").mkdir()
    file.write_json({"x": 1})
    assert file.exists()
    assert file.read_json() == {"x": 1}
    assert (folder / "a").children() == ["b.json"]
    assert file.size() == len(file.read_bytes())
    (folder / "a").delete()
    assert not file.exists()
    (folder / "a").delete()  # absent already


def test_append(folder):
    file = folder / "log"
    file.append_text("a\n")
    file.append_text("b\n")
    assert file.read_text() == "a\nb\n"


def test_locations_travel_and_compare(folder):
    assert pickle.loads(pickle.dumps(folder)) == folder
    assert str(folder / "x") == f"{folder}/x"
    assert (folder / "x").name == "x"


def test_relative_paths_become_absolute():
    assert Location("runs").path == f"{os.getcwd()}/runs"


def test_unknown_schemes_are_refused():
    with pytest.raises(StorageError, match="Allowed: a local path"):
        Location("nonsense://x/y").exists()


def test_a_failed_write_leaves_the_old_content(folder):
    file = folder / "f"
    file.write_text("old")
    (folder / "sub").mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        (folder / "sub").write_bytes(b"new")  # a folder is in the way
    assert file.read_text() == "old"
    assert [name for name in folder.children() if name.endswith(".tmp")] == []


def test_a_full_disk_is_told_as_such():
    with pytest.raises(StorageError, match="disk full"):
        Location("/dev/full").append_text("x")


def test_a_storage_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StorageError, match="Choose a storage you can write to"):
        Location(str(tmp_path / "file" / "runs")).check_writable()
    Location(str(tmp_path / "runs")).check_writable()
    assert os.listdir(tmp_path / "runs") == []


def test_a_folder_that_may_not_be_looked_into_is_told_as_such():
    with pytest.raises(StorageError, match=r"cannot look at .* Is it yours to read"):
        Location("/" + "x" * 300).exists()  # the file system refuses it, as it does without permission
    with pytest.raises(StorageError, match=r"cannot delete /proc/version: .* Is it yours to write"):
        Location("/proc/version").delete()


def write(target: Location, data: bytes, **settings: int) -> None:
    """``killed`` leaves half of its file."""
    with whole_file(target, **settings) as path:
        path.write_bytes(data)
        if data == b"killed":
            raise RuntimeError("killed")


@pytest.mark.parametrize("local", [True, False])
def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch, local):
    monkeypatch.setattr(Location, "is_local", local)  # a bucket is another file system under the same calls
    target = Location(str(tmp_path / "x.bw"))
    with pytest.raises(RuntimeError, match="killed"):
        write(target, b"killed")
    assert list(tmp_path.iterdir()) == []
    write(target, b"whole")
    assert [(child.name, child.read_bytes()) for child in tmp_path.iterdir()] == [("x.bw", b"whole")]


def test_a_disk_that_is_too_small_is_told_before_a_byte_is_written(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=10_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: free)
    with pytest.raises(StorageError, match=r"x\.bw: it may need 16 MB, 10 MB are free"):
        write(Location(str(tmp_path)) / "x.bw", b"whole", at_most_bytes=16_000_000)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"cannot write .*/file/x\.bw"):
        write(Location(str(tmp_path)) / "file/x.bw", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
