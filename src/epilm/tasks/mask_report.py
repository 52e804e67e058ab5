"""What a policy really masks, counted in every training batch: its rate, and its share of the top-NPMI k-mers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from epilm.masking.draws import DeviceArray
from epilm.ngrams.table import KmerScores
from epilm.tokens.vocab import NUM_SPECIAL

TOP_SHARE = 0.1
"""The tenth of the scored k-mers with the highest NPMI is the top."""


@dataclass(frozen=True)
class MaskReport:
    """Counter of masked tokens; ``scores`` None where the run knows no NPMI."""

    scores: KmerScores | None

    @cached_property
    def _is_top(self) -> DeviceArray:
        """bool [5 + 4**k] by token id."""
        assert self.scores is not None
        scored = np.isfinite(self.scores.npmi)
        top = scored & (self.scores.rank <= TOP_SHARE * scored.sum())
        return DeviceArray(np.concatenate([np.zeros(NUM_SPECIAL, dtype=bool), top]))

    def count(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Scalars by name: k-mers of the batch, and how many of the top ones there are and are masked."""
        counts = {"kmers": (ids >= NUM_SPECIAL).sum()}
        if self.scores is not None:
            top = self._is_top.on(ids.device)[ids]
            counts |= {"top_kmers": top.sum(), "masked_top": (top & mask).sum()}
        return counts


def mask_metrics(counts: Mapping[str, float]) -> dict[str, float]:
    """Shares from the counts of a step: ``mask_rate`` of all k-mers; ``top_npmi_masked`` of the top ones;
    ``masked_that_are_top`` of the masked ones. None of them for an evaluation, which has no such counts."""
    if "kmers" not in counts:
        return {}
    shares = {"mask_rate": _share(counts["dna"], counts["kmers"])}
    if "top_kmers" in counts:
        shares["top_npmi_masked"] = _share(counts["masked_top"], counts["top_kmers"])
        shares["masked_that_are_top"] = _share(counts["masked_top"], counts["dna"])
    return shares


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
