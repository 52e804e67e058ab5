"""One case in a process of its own: threads, precision, process groups and Ray stay out of the others' way.

``python -m epilm.bench CASE FOLDER SEED SIZE PAIRS`` (``__main__.py``) writes ``FOLDER/result.json``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import cast

from epilm.bench.measure import BenchResult, Case, Workbench
from epilm.errors import EpilmError

RESULT_FILE = "result.json"
TAIL_LINES = 15
LIMIT_S = 1200


def run_isolated(case: Case, bench: Workbench, *, pairs: int | None) -> BenchResult:
    """Run ``case`` in a fresh interpreter and return what it measured.

    Raises:
        EpilmError: the process failed (the message ends with the last lines that it wrote) or took longer than ``LIMIT_S``.
    """
    arguments = [case.name, str(bench.folder), str(bench.seed), str(bench.size), str(pairs or 0)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "epilm.bench", *arguments],
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "RAY_TRAIN_ENABLE_STATE_TRACKING": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EpilmError(
            f"bench {case.name} did not finish in {LIMIT_S} s. Is the machine overloaded? "
            f"Run it alone: epilm bench {case.name}."
        ) from error
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-TAIL_LINES:])
        raise EpilmError(f"bench {case.name} failed in its own process (exit {done.returncode}):\n{tail}")
    return cast(BenchResult, json.loads((bench.folder / RESULT_FILE).read_text()))
