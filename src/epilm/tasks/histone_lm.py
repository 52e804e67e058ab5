"""Language modelling of histone words: the next token (GPT-2) or masked ones (RoBERTa); GeneGPT-2, section 5.3.

A sample is a line (a gene in one of the study's kinds of lines) cut to the model's context at a random place; which line
and where follows from the seed and the position alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from epilm.corpus.source import as_fixed_bytes, fixed_bytes
from epilm.errors import RecipeError
from epilm.hashing import hash_u64, permute
from epilm.masking.contract import Moment
from epilm.masking.hashing import uniform
from epilm.models.histone_lm import LanguageModelScores, LanguageModelSpec
from epilm.tasks.gene_table import GeneTable
from epilm.tasks.protocol import EvalSet, Prepared, mean_metrics

VALIDATION = "validation"
_ORDER, _PLACE, _MASKED, _HOW, _WHICH = 61, 62, 63, 64, 65
_IGNORED = -100


@dataclass(frozen=True)
class LineSource:
    """Crops of lines at positions."""

    table: GeneTable
    splits: tuple[str, ...]
    lines: tuple[str, ...]
    context: int
    pad_id: int
    seed: int

    @cached_property
    def rows(self) -> np.ndarray:
        """Genes whose lines are read."""
        return np.concatenate([self.table.genes.rows(split) for split in self.splits])

    @property
    def samples_per_pass(self) -> int:
        return len(self.rows) * len(self.lines)

    @property
    def in_memory(self) -> bool:
        return True

    @property
    def row_bytes(self) -> int:
        return 4 * self.context + 20

    def read(self, positions: np.ndarray) -> pa.Table:
        """Columns position, line (which of all lines), begin, length, ids (int32 x context)."""
        total = self.samples_per_pass
        passes, slot = np.divmod(np.asarray(positions, np.int64), total)
        line = np.empty_like(slot)
        for number in np.unique(passes):
            chosen = passes == number
            line[chosen] = permute(slot[chosen], total, self.seed, _ORDER, int(number))
        room = np.maximum(self._lengths[line] - self.context, 0) + 1
        begin = (hash_u64(self.seed, _PLACE, positions) % room.astype(np.uint64)).astype(np.int64)
        return self.cut(np.asarray(positions, np.int64), line, begin)

    def cut(self, positions: np.ndarray, line: np.ndarray, begin: np.ndarray) -> pa.Table:
        """Crops of given lines at given tokens."""
        place = begin[:, None] + np.arange(self.context)
        length = np.clip(self._lengths[line] - begin, 0, self.context)
        inside = np.arange(self.context) < length[:, None]
        ids = np.where(inside, self._ids[line[:, None], np.minimum(place, self._ids.shape[1] - 1)], self.pad_id)
        return pa.table(
            {
                "position": pa.array(positions),
                "line": pa.array(line),
                "begin": pa.array(begin),
                "length": pa.array(length.astype(np.int32)),
                "ids": as_fixed_bytes(ids.astype("<i4").view(np.uint8).reshape(len(ids), -1)),
            }
        )

    @cached_property
    def _ids(self) -> np.ndarray:
        lines = [self.table.genes.lines[name].ids[self.rows] for name in self.lines]
        width = max(part.shape[1] for part in lines)
        return np.concatenate(
            [np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=self.pad_id) for part in lines]
        )

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.concatenate([self.table.genes.lines[name].lengths[self.rows] for name in self.lines]).astype(np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    def all_windows(self) -> tuple[np.ndarray, np.ndarray]:
        """(line, begin) of the windows that cover every line once."""
        counts = np.maximum(-(-self._lengths // self.context), 1)
        line = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(line)) - np.repeat(np.cumsum(counts) - counts, counts)
        return line, number * self.context


@dataclass(frozen=True)
class LineWindows:
    """Every token of a split's lines once, in windows."""

    source: LineSource

    @cached_property
    def _windows(self) -> tuple[np.ndarray, np.ndarray]:
        return self.source.all_windows()

    @property
    def num_samples(self) -> int:
        return len(self._windows[0])

    def read(self, indices: np.ndarray) -> pa.Table:
        line, begin = self._windows
        return self.source.cut(np.asarray(indices, np.int64), line[indices], begin[indices])


@dataclass(frozen=True)
class HistoneLanguageTask:
    """The task of a histone language model.

    Args:
        lines, splits: what it learns; the lines of validation genes are what it is evaluated on.
        mask_rate: RoBERTa's share of predicted tokens.
    """

    table: GeneTable
    spec: LanguageModelSpec
    lines: tuple[str, ...]
    splits: tuple[str, ...]
    mask_rate: float
    seed: int
    tokenizer_json: str

    @property
    def sum_counts(self) -> Mapping[str, str]:
        return {"token_loss": "tokens", "token_accuracy": "tokens"}

    @property
    def loss_weights(self) -> Mapping[str, float]:
        return {"token_loss": 1.0}

    def check(self) -> None:
        if self.train_source().samples_per_pass == 0:
            raise RecipeError(f"no gene of {', '.join(self.splits)} to learn the language of.")

    def data_fingerprint(self) -> str:
        return self.table.fingerprint

    def train_source(self) -> LineSource:
        return self._source(self.splits)

    def _source(self, splits: tuple[str, ...]) -> LineSource:
        return LineSource(self.table, splits, self.lines, self.spec.context, self.spec.pad_id, self.seed)

    def eval_sets(self, *, final: bool) -> Mapping[str, EvalSet]:
        return {VALIDATION: LineWindows(self._source(("validation",)))}

    # the last weights are the result
    def initial_state(self) -> dict[str, Any]:
        return {}

    def observe(
        self, state: Mapping[str, Any], *, step: int, evaluations: Mapping[str, Mapping[str, float]]
    ) -> dict[str, Any]:
        return {}

    def moment_metrics(self, moment: Moment) -> dict[str, float]:
        return {}

    def finished(self, state: Mapping[str, Any]) -> bool:
        return False

    def score(self, evaluations: Mapping[str, Mapping[str, float]]) -> float | None:
        return None

    def rate_factor(self, parameter: str) -> float:
        return 1.0

    def build_model(self) -> nn.Module:
        return LanguageModelScores(self.spec)

    def collate(self, table: pa.Table) -> dict[str, Tensor]:
        ids = fixed_bytes(table.column("ids")).copy().view("<i4")
        return {
            "position": torch.from_numpy(table.column("position").to_numpy().copy()),
            "ids": torch.from_numpy(ids.astype(np.int64)),
            "length": torch.from_numpy(table.column("length").to_numpy().astype(np.int64)),
        }

    def prepare(self, batch: dict[str, Tensor], moment: Moment | None) -> Prepared:
        ids, length = batch["ids"], batch["length"]
        inside = torch.arange(ids.shape[1], device=ids.device)[None] < length[:, None]
        if self.spec.kind == "gpt2":
            labels = torch.full_like(ids, _IGNORED)
            labels[:, :-1] = torch.where(inside[:, 1:], ids[:, 1:], _IGNORED)
            inputs = ids
        else:
            inputs, labels = self._masked(ids, inside, batch["position"], evaluation=moment is None)
        return Prepared(
            {"ids": inputs, "length": length, "labels": labels},
            {"tokens": (labels != _IGNORED).sum()},
            len(ids),
            int(ids.numel()),
        )

    def _masked(self, ids: Tensor, inside: Tensor, position: Tensor, *, evaluation: bool) -> tuple[Tensor, Tensor]:
        """Of the predicted tokens 8 in 10 are masked, 1 is a random token and 1 stays (Devlin et al. 2019; RoBERTa: anew at
        every pass)."""
        seed, width = self.seed ^ (0x5EED if evaluation else 0), ids.shape[1]
        chosen = (uniform(seed, _MASKED, position, width) < self.mask_rate) & inside
        how = uniform(seed, _HOW, position, width)
        specials = max(self.spec.pad_id, self.spec.mask_id, self.spec.end_id) + 1  # they come first, and are no words
        other = specials + (uniform(seed, _WHICH, position, width) * (self.spec.vocab_size - specials)).long()
        inputs = torch.where(chosen & (how < 0.8), self.spec.mask_id, ids)
        inputs = torch.where(chosen & (how >= 0.8) & (how < 0.9), other, inputs)
        return inputs, torch.where(chosen, ids, _IGNORED)

    def sums(self, model: nn.Module, prepared: Prepared) -> dict[str, Tensor]:
        labels = prepared.inputs["labels"]
        scored = labels != _IGNORED
        logits = model(prepared.inputs["ids"], prepared.inputs["length"], scored).float()
        return {
            "token_loss": F.cross_entropy(logits, labels[scored], reduction="sum"),
            "token_accuracy": (logits.argmax(-1) == labels[scored]).sum().float(),
        }

    def summarise(self, sums: Mapping[str, Any], counts: Mapping[str, float]) -> dict[str, float]:
        return mean_metrics(sums, counts, self.sum_counts)

    def flops_per_row(self) -> float:
        spec = self.spec
        per_token = 6 * 12 * spec.layers * spec.hidden**2 + 12 * spec.layers * spec.context * spec.hidden
        return float(spec.context * (per_token + 6 * spec.hidden * spec.vocab_size))

    def tokens_per_row(self) -> int:
        return self.spec.context

    def describe(self) -> dict[str, object]:
        return {"lines": list(self.lines), "splits": list(self.splits), "vocabulary": self.spec.vocab_size}

    def save_model(self, folder: Path, state: dict[str, Tensor], *, step: int, recipe_fingerprint: str) -> None:
        """A folder that plain transformers loads, with the tokenizer as ``tokenizer.json``."""
        trained = LanguageModelScores(self.spec)
        missing = trained.load_state_dict(state, strict=False)
        assert not missing.unexpected_keys, missing
        assert all("lm_head" in name for name in missing.missing_keys), missing  # tied to the embedding
        model: Any = trained.model
        model.tie_weights()
        model.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(self.tokenizer_json)
