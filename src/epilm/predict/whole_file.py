"""Files of any size that appear whole or not at all, also where a library insists on writing to a path."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from epilm.errors import StorageError
from epilm.storage import Location


@contextmanager
def whole_file(target: Location, *, at_most_bytes: int = 0) -> Iterator[Path]:
    """A local path to write to; it becomes ``target`` when the block ends, and is deleted where it fails.

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
