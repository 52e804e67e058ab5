"""What is known of a factor at a bin: one byte a (bin, cell type, factor)."""

from __future__ import annotations

UNBOUND = 0
"""Measured, and no peak: a negative (U)."""
AMBIGUOUS = 1
"""Touches a relaxed peak but is not bound (A): neither a positive nor a negative."""
BOUND = 2
"""Overlaps a conservative peak by half or more: a positive (B)."""
UNMEASURED = 3
"""The factor was not measured in the cell type, or the label file leaves the bin out for this pair."""
EXCLUDED = 4
"""Blacklisted, or no source says anything of the bin for any pair."""

LETTERS = {UNBOUND: "U", AMBIGUOUS: "A", BOUND: "B"}
"""The letters of ENCODE-DREAM label files; the other two codes cannot be written there."""
