"""From the recipe to a masking policy: the built-in ones by name, a user's own class by ``package.module:Class``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from epilm.masking.contract import MaskInput, MaskPolicy, Moment
from epilm.masking.recipe import DnaMaskConfig

if TYPE_CHECKING:
    from epilm.ngrams.table import KmerScores

__all__ = ["MaskInput", "MaskPolicy", "Moment"]
