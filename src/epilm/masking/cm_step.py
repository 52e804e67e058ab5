"""CM-STEP (Roy et al. 2024): the share of samples masked by Global PMI rises in equal steps over the run."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from epilm.masking.contract import MaskInput, Moment, Stateless
from epilm.masking.curriculum import TwoPolicies
from epilm.masking.draws import SHARE
from epilm.masking.hashing import uniform


def global_share(*, step: int, steps: int, stages: int) -> float:
    """Share of samples for Global PMI at ``step`` of ``steps``: 0 in the first stage, ``(stages - 1)/stages`` in the last."""
    return min(stages * step // max(steps, 1), stages - 1) / stages


@dataclass(frozen=True)
class CmStepPolicy(Stateless):
    """Which samples are Global PMI's is drawn for each sample by itself."""

    policies: TwoPolicies
    stages: int

    def check(self, *, num_tokens: int, num_kmers: int, k: int, stride: int) -> None:
        self.policies.check(num_tokens=num_tokens, num_kmers=num_kmers, k=k, stride=stride)

    def mask(self, batch: MaskInput, moment: Moment) -> Tensor:
        draw = uniform(batch.seed, SHARE, batch.position, 1)[:, 0]
        return self.policies.mask_by(draw < self._share(moment), batch, moment)

    def describe(self, moment: Moment) -> dict[str, float]:
        return {"global_share": self._share(moment)}

    def _share(self, moment: Moment) -> float:
        return global_share(step=moment.step, steps=moment.steps, stages=self.stages)
