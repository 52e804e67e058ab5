"""Features of all genes for one row of the table: computed in a task, from the genes and a language model's weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from epilm.expression.features import (
    Features,
    contextual_features,
    level_features,
    static_features,
    token_features,
)
from epilm.expression.recipe import ContextualArm, LevelsArm, StaticArm, TokensArm
from epilm.histone.bpe import EncodedLines
from epilm.histone.words import INPUT_LINES
from epilm.models.histone_lm import LanguageModelSpec, build_language_model, input_embedding, read_lines
from epilm.storage import Location
from epilm.tasks.expression_model import load_language_model
from epilm.tasks.expression_recipe import Inputs
from epilm.tasks.gene_table import Genes

_GENES_AT_ONCE = 128


@dataclass(frozen=True)
class TrainedLanguage:
    """A language model's weights and what builds it."""

    spec: LanguageModelSpec
    folder: Location

    def load(self) -> Any:
        model = build_language_model(self.spec)
        load_language_model(model, self.folder)
        return model.eval()


@dataclass(frozen=True)
class FeatureMaker:
    """Genes -> the features of an arm.

    Args:
        language: of arms on embeddings.
    """

    arm: TokensArm | LevelsArm | StaticArm | ContextualArm
    marks: tuple[str, ...]
    language: TrainedLanguage | None = None

    @property
    def antisymmetric(self) -> bool:
        return self.arm.antisymmetric

    def make(self, genes: Genes, inputs: Inputs) -> Features:
        """Features of n genes, a row a gene in their order."""
        arm = self.arm
        if isinstance(arm, LevelsArm):
            return level_features(genes.first, genes.second, self.marks, inputs, arm.segments)
        if isinstance(arm, TokensArm):
            return token_features(genes.lines, inputs)
        assert self.language is not None
        model = self.language.load()
        if isinstance(arm, StaticArm):
            embedding = input_embedding(model).detach().numpy()
            return static_features(genes.lines, embedding, inputs, genes.num_bins, arm.segments)
        return self._contextual(arm, model, self.language.spec, genes, inputs)

    def width(self, genes: Genes, inputs: Inputs) -> int:
        """Number of features that :meth:`make` gives a gene."""
        arm, names = self.arm, INPUT_LINES[inputs]
        tokens = sum(genes.lines[name].ids.shape[1] for name in names)
        if isinstance(arm, TokensArm):
            return tokens
        places = len(names) * (arm.segments or genes.num_bins)
        if isinstance(arm, LevelsArm):
            return places * len(self.marks)
        assert self.language is not None
        if isinstance(arm, StaticArm) and arm.segments is None:
            places = tokens
        elif isinstance(arm, ContextualArm) and arm.pooling != "bins":
            places = len(names)
        return places * self.language.spec.hidden

    def _contextual(
        self, arm: ContextualArm, model: Any, spec: LanguageModelSpec, genes: Genes, inputs: Inputs
    ) -> Features:
        """Some genes at a time: the states of all tokens would take far more room than what is pooled of them."""
        num, values, names = len(genes.genes), np.empty((0, 0), np.float32), ()
        for begin in range(0, num, _GENES_AT_ONCE):
            chosen = slice(begin, begin + _GENES_AT_ONCE)
            lines = {name: genes.lines[name].cut(chosen) for name in INPUT_LINES[inputs]}
            hidden = {name: line_states(model, spec, line) for name, line in lines.items()}
            part = contextual_features(hidden, lines, inputs, genes.num_bins, arm.pooling, arm.segments)
            if not begin:
                values, names = np.empty((num, part.values.shape[1]), np.float32), part.names
            values[chosen] = part.values
        return Features(values, names)


@torch.no_grad()
def line_states(model: Any, spec: LanguageModelSpec, lines: EncodedLines) -> np.ndarray:
    """Last hidden states of all tokens, each with at least half a context before it where the line has that -> float32
    [n, L, hidden]."""
    return read_lines(
        model,
        torch.from_numpy(lines.ids.astype(np.int64)),
        torch.from_numpy(lines.lengths.astype(np.int64)),
        context=spec.context,
        overlap=spec.context // 2,
        pad_id=spec.pad_id,
    ).numpy()
