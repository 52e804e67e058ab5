"""Freed memory goes back to the system."""

import subprocess
import sys

SCRIPT = """
import numpy as np, pyarrow as pa
from epilm.memory import give_back

def resident_mb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) / 1024

before = resident_mb()
kept, pieces = [], []
for number in range(60_000):  # what is kept lies between what is freed
    (kept if number % 8 == 0 else pieces).append(bytes(2_000))
full = resident_mb()
del pieces
table = pa.table({str(n): pa.array(np.ones(400)) for n in range(5_000)})
del table
freed = resident_mb()
give_back()
print(before, full, freed, resident_mb())
"""


def test_what_was_freed_in_pieces_is_given_back():
    shown = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True).stdout
    before, full, freed, after = map(float, shown.split())
    assert full - before > 80
    assert freed - before > 0.8 * (full - before), "nothing to give back: the test shows nothing"
    assert after - before < 0.6 * (freed - before)
