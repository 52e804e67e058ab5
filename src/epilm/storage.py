"""Local folders and buckets (``s3://``, ``gs://``, ``file://``) behind one small class, through ``pyarrow.fs``."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs as pafs

from epilm.errors import StorageError


@dataclass(frozen=True)
class Location:
    """A file or folder at a local path or URI. Picklable; the file system is opened where it is used.

    ``Location("runs") / "demo"`` joins; ``str(location)`` is the absolute path or the URI.
    """

    uri: str

    def __post_init__(self) -> None:
        uri = str(self.uri)
        if uri.startswith("file://"):
            uri = uri.removeprefix("file://")
        if "://" not in uri:
            uri = str(Path(uri).expanduser().absolute())
        object.__setattr__(self, "uri", uri.rstrip("/") or "/")

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> Location:
        return Location(f"{self.uri}/{name}")

    @property
    def is_local(self) -> bool:
        return "://" not in self.uri

    @property
    def name(self) -> str:
        return self.uri.rsplit("/", 1)[-1]

    @cached_property
    def _resolved(self) -> tuple[pafs.FileSystem, str]:
        if self.is_local:
            return pafs.LocalFileSystem(), self.uri
        try:
            return pafs.FileSystem.from_uri(self.uri)
        except (pa.ArrowInvalid, OSError) as error:
            raise StorageError(
                f"cannot open {self.uri}: {error}. Allowed: a local path, s3://, gs:// or file://."
            ) from error

    def __getstate__(self) -> dict[str, str]:
        return {"uri": self.uri}

    def __setstate__(self, state: dict[str, str]) -> None:
        object.__setattr__(self, "uri", state["uri"])

    @property
    def fs(self) -> pafs.FileSystem:
        return self._resolved[0]

    @property
    def path(self) -> str:
        """The path as the file system names it (no scheme)."""
        return self._resolved[1]

    def exists(self) -> bool:
        return self._info().type != pafs.FileType.NotFound

    def is_dir(self) -> bool:
        return self._info().type == pafs.FileType.Directory

    def size(self) -> int:
        return int(self._info().size or 0)

    def _info(self) -> pafs.FileInfo:
        with self._told("look at", "Is it yours to read, and can its server be reached?"):
            return self.fs.get_file_info(self.path)

    @contextmanager
    def _told(self, verb: str, mend: str) -> Iterator[None]:
        """A refusal of the file system (no permission, no such bucket, no network) as the user's error."""
        try:
            yield
        except OSError as error:
            raise StorageError(f"cannot {verb} {self}: {error}. {mend}") from error

    def children(self) -> list[str]:
        """Names directly inside a folder, sorted; empty where the folder is absent."""
        selector = pafs.FileSelector(self.path, allow_not_found=True)
        with self._told("list", "Is it yours to read, and can its server be reached?"):
            return sorted(info.base_name for info in self.fs.get_file_info(selector))

    def mkdir(self) -> Location:
        try:
            self.fs.create_dir(self.path, recursive=True)
        except OSError as error:
            raise StorageError(
                f"cannot create the folder {self}: {error}. Choose a storage you can write to."
            ) from error
        return self

    def read_bytes(self) -> bytes:
        with self.fs.open_input_stream(self.path, compression=None) as stream:
            return stream.read()

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def read_json(self) -> Any:
        return json.loads(self.read_text())

    def write_bytes(self, data: bytes) -> None:
        """Write whole or not at all: readers never see half a file."""
        try:
            if self.is_local:
                temporary = f"{self.path}.{uuid.uuid4().hex[:8]}.tmp"
                try:
                    with self.fs.open_output_stream(temporary, compression=None) as stream:
                        stream.write(data)
                    self.fs.move(temporary, self.path)
                except BaseException:
                    Path(temporary).unlink(missing_ok=True)
                    raise
            else:  # an object store shows an object only when it is complete
                with self.fs.open_output_stream(self.path, compression=None) as stream:
                    stream.write(data)
        except OSError as error:
            raise StorageError(f"cannot write {self}: {error}. Is the disk full or read-only?") from error

    def write_text(self, text: str) -> None:
        self.write_bytes(text.encode())

    def write_json(self, value: Any) -> None:
        self.write_text(json.dumps(value, indent=2, sort_keys=False) + "\n")

    def append_text(self, text: str) -> None:
        """Append to a local file; on an object store, which cannot append, rewrite it."""
        if self.is_local:
            try:
                with open(self.path, "a") as stream:
                    stream.write(text)
            except OSError as error:
                raise StorageError(f"cannot write {self}: {error}. Is the disk full or read-only?") from error
        else:
            self.write_text((self.read_text() if self.exists() else "") + text)

    def delete(self) -> None:
        """Delete a file or a whole folder; nothing happens where it is absent."""
        info = self._info()
        with self._told("delete", "Is it yours to write?"):
            if info.type == pafs.FileType.Directory:
                self.fs.delete_dir(self.path)
            elif info.type == pafs.FileType.File:
                self.fs.delete_file(self.path)

    def sha256(self) -> str:
        digest = hashlib.sha256()
        with self.fs.open_input_stream(self.path, compression=None) as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
        return digest.hexdigest()

    def check_writable(self) -> None:
        """Write and delete a probe file, so that a long run does not fail at its end."""
        self.mkdir()
        probe = self / f".epilm-probe-{uuid.uuid4().hex[:8]}"
        try:
            probe.write_bytes(b"probe")
            probe.delete()
        except (StorageError, OSError) as error:
            raise StorageError(f"storage {self} is not writable: {error}") from error


@contextmanager
def whole_file(target: Location, *, at_most_bytes: int = 0) -> Iterator[Path]:
    """A local path to write a file of any size to; it becomes ``target`` when the block ends, and is deleted where it fails.

    For a local target it lies beside it, for a URI in the temporary folder, from where it is copied.

    Args:
        at_most_bytes: what the file may need; refused beforehand where the disk has less.

    Raises:
        StorageError: the place cannot be written, or is too small.
    """
    try:
        if target.is_local:
            folder = Path(target.path).parent
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{target.name}.{uuid.uuid4().hex[:8]}.tmp"
            try:
                _check_room(folder, target, at_most_bytes)
                yield path
                path.rename(target.path)
            finally:
                path.unlink(missing_ok=True)
        else:
            with tempfile.TemporaryDirectory(prefix="epilm-file-") as temporary:
                _check_room(Path(temporary), target, at_most_bytes)
                path = Path(temporary) / target.name
                yield path
                _upload(path, target)
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error}. Is the disk full or read-only?") from error


def _check_room(folder: Path, target: Location, at_most_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if at_most_bytes > free:
        raise StorageError(
            f"cannot write {target}: it may need {at_most_bytes / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free in {folder}. "
            "Make room and go on with --resume."
        )


def _upload(path: Path, target: Location) -> None:
    """An object store shows an object only when it is complete."""
    with path.open("rb") as source, target.fs.open_output_stream(target.path, compression=None) as sink:
        shutil.copyfileobj(source, sink, 1 << 22)
