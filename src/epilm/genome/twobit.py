"""UCSC ``.2bit`` to base codes, by py2bit; whole stretches at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import py2bit

from epilm.errors import GenomeError
from epilm.genome.contigs import Contig
from epilm.genome.dna import encode_into


class TwoBit:
    """A ``.2bit`` file; picklable (each process opens it anew)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: Any = None
        self._names: list[str] = []
        self._names = list(self._open().chroms())
        self.contigs = [Contig(name, length, 0, length) for name, length in self._open().chroms().items()]

    def fetch(self, index: int, start: int, end: int) -> np.ndarray:
        out = np.empty(end - start, np.uint8)
        if end > start:  # py2bit reads (0, 0) as the whole contig
            text = self._open().sequence(self._names[index], start, end)
            encode_into(np.frombuffer(text.encode("ascii"), np.uint8), out, str(self.path))
        return out

    def _open(self) -> Any:
        if self._handle is None:
            try:
                self._handle = py2bit.open(str(self.path))
            except (RuntimeError, OSError) as error:
                raise GenomeError(f"{self.path} cannot be read as .2bit: {error}. Get it again.") from error
            if self._handle is None:
                raise GenomeError(f"{self.path} cannot be read as .2bit: it is truncated or damaged. Get it again.")
        return self._handle

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}
