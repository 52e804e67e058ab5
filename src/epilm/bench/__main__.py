"""The process of one isolated case; see :mod:`epilm.bench.isolate`. Users call ``epilm bench``."""

import json
import sys
from pathlib import Path

from epilm.bench.isolate import RESULT_FILE
from epilm.bench.measure import Workbench, run_case
from epilm.bench.registry import CASES


def main(arguments: list[str]) -> None:
    name, folder, seed, size, pairs = arguments
    bench = Workbench(folder=Path(folder), seed=int(seed), size=float(size))
    result = run_case(CASES[name], bench, pairs=int(pairs) or None)
    (bench.folder / RESULT_FILE).write_text(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
