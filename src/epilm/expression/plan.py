"""What a study of differential expression will do: genes, words and trainings, checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from epilm.config import fingerprint
from epilm.errors import RecipeError
from epilm.expression.recipe import (
    ContextualArm,
    DeepDiffArm,
    EndToEndArm,
    ExpressionRecipe,
    LanguageModel,
    StaticArm,
    TokensArm,
)
from epilm.expression.segments import segment_edges
from epilm.histone.bpe import END, MOST_BINS, EncodedLines, WordTokenizer
from epilm.histone.config import SPLITS
from epilm.histone.load import load_pairs
from epilm.histone.pairs import PairedGenes, fingerprint_of
from epilm.histone.words import EXCHANGED, INPUT_LINES, LINES, Cuts, fit_cuts, lines_of
from epilm.models.histone_lm import LanguageModelSpec
from epilm.regress import boost
from epilm.tasks.expression_recipe import Inputs, LanguageModelShape
from epilm.train.recipe import drop_placement
from epilm.train.resources import check_resources

_LEAST_GENES = 3
"""Of each split: with fewer a correlation means nothing."""


@dataclass(frozen=True)
class RowKey:
    """One row of the table: an arm with one of its inputs."""

    arm: str
    inputs: Inputs


@dataclass(frozen=True)
class ExpressionPlan:
    """The genes of a recipe as words, and the rows that follow from its arms."""

    recipe: ExpressionRecipe
    pairs: PairedGenes

    @cached_property
    def cuts(self) -> Cuts:
        """Where levels begin; quantiles look at training genes alone."""
        train = self.pairs.rows("train")
        return fit_cuts(self.recipe.words, self.pairs.first[train], self.pairs.second[train])

    @cached_property
    def text(self) -> dict[str, list[str]]:
        """``LINES`` -> a line a gene."""
        return lines_of(self.pairs.first, self.pairs.second, self.cuts)

    @cached_property
    def tokenizer(self) -> WordTokenizer:
        """Learnt from the training genes' lines of both cell types and of their difference."""
        train = self.pairs.rows("train")
        lines = [self.text[name][row] for name in INPUT_LINES["raw"] for row in train]
        return WordTokenizer.train(lines, self.recipe.words)

    @cached_property
    def lines(self) -> dict[str, EncodedLines]:
        lines = {name: self.tokenizer.encode(self.text[name], self.pairs.num_bins) for name in LINES}
        # lines that take each other's place are of one width, so that features have the same columns in both orders
        width = {name: max(lines[of].ids.shape[1] for of in (name, EXCHANGED[name])) for name in LINES}
        return {name: line.widened(width[name], self.tokenizer.pad_id) for name, line in lines.items()}

    @cached_property
    def published_tokenizer(self) -> WordTokenizer:
        """As the paper's: one special token, learnt from both cell types' lines of train and validation genes."""
        rows = np.concatenate([self.pairs.rows("train"), self.pairs.rows("validation")])
        corpus = [self.text[name][row] for name in ("first", "second") for row in rows]
        return WordTokenizer.train(corpus, self.recipe.words, specials=(END,))

    @cached_property
    def published_lines(self) -> dict[str, EncodedLines]:
        """The first tokens of every line with its ending."""
        assert self.recipe.published is not None
        num = self.recipe.published.num_tokens
        ids = {name: self.published_tokenizer.first_tokens(self.text[name], num) for name in LINES}
        place = np.broadcast_to(np.arange(num, dtype=np.int16), (len(self.pairs.genes), num))
        lengths = np.full(len(self.pairs.genes), num, np.int32)
        return {name: EncodedLines(ids[name], place, lengths) for name in LINES}

    @cached_property
    def data_fingerprint(self) -> str:
        return fingerprint_of(self.pairs)

    @property
    def notes(self) -> list[str]:
        """What a user wants to know before anything starts."""
        pairs = self.pairs
        counts = ", ".join(f"{number:,} {split}" for split, number in pairs.num_genes.items())
        lines = [f"{counts} genes with {len(pairs.marks)} marks in {pairs.num_bins} bins: {', '.join(pairs.marks)}"]
        lines += [f"left out {number:,}: {reason}" for reason, number in pairs.left_out.items() if number]
        lines.append(f"{self.tokenizer.vocab_size} tokens learnt from the training genes' words")
        return lines

    @property
    def keys(self) -> Iterator[RowKey]:
        """Rows of the table, in its order."""
        for name, arm in self.recipe.arms.items():
            for inputs in arm.inputs:
                yield RowKey(name, inputs)

    @property
    def used_models(self) -> list[str]:
        """Language models that an arm reads."""
        arms = self.recipe.arms.values()
        named = {
            arm.model
            for arm in arms
            if isinstance(arm, StaticArm | ContextualArm) or (isinstance(arm, EndToEndArm) and arm.pretrained)
        }
        return [name for name in self.recipe.models if name in named]

    def seeds_of(self, arm_name: str) -> tuple[int, ...]:
        """Seeds of an arm: one where nothing in it is random."""
        arm = self.recipe.arms[arm_name]
        is_fixed = getattr(arm, "regressor", "boost") != "boost" and not isinstance(arm, StaticArm | ContextualArm)
        return self.recipe.seeds[:1] if is_fixed else self.recipe.seeds

    def spec(self, shape: LanguageModelShape, tokenizer: WordTokenizer) -> LanguageModelSpec:
        return LanguageModelSpec(
            kind=shape.kind,
            vocab_size=tokenizer.vocab_size,
            pad_id=tokenizer.pad_id,
            mask_id=tokenizer.mask_id if shape.kind == "roberta" else -1,
            end_id=tokenizer.end_id,
            hidden=shape.hidden,
            layers=shape.layers,
            heads=shape.heads,
            context=shape.context,
            dropout=shape.dropout,
        )

    def identity(self, trained: LanguageModel | EndToEndArm | DeepDiffArm, *parts: object) -> str:
        """Fingerprint of a training: the genes and the settings that decide its numbers."""
        settings = trained.model_dump(mode="json")
        drop_placement(settings["train"])
        words = self.recipe.words.model_dump(mode="json")
        return fingerprint([self.data_fingerprint, words, settings, *map(str, parts)])


def check_expression(recipe: ExpressionRecipe) -> ExpressionPlan:
    """Read the genes and refuse bad input before anything starts.

    Raises:
        EpilmError: files that are absent, do not join or are no counts; settings that do not fit them; a machine that
            cannot hold the trainings.
    """
    pairs = load_pairs(recipe.data, recipe.expression, recipe.pair, recipe.marks)
    for split in SPLITS:
        rows = pairs.rows(split)
        if len(rows) < _LEAST_GENES:
            raise RecipeError(
                f"{split} has {len(rows)} gene(s) in both cell types; at least {_LEAST_GENES} are needed."
            )
        if np.ptp(pairs.target[rows]) == 0:
            raise RecipeError(
                f"the target is {pairs.target[rows[0]]:g} for all {len(rows)} genes of {split}: no correlation is defined. "
                "Compare other cell types (pair), or check the expression files."
            )
    plan = ExpressionPlan(recipe, pairs)
    check_arms(plan)
    return plan


def check_arms(plan: ExpressionPlan) -> None:
    recipe, num_bins = plan.recipe, plan.pairs.num_bins
    if num_bins > MOST_BINS:
        raise RecipeError(f"the genes have {num_bins:,} bins; allowed are up to {MOST_BINS:,}. Give wider bins.")
    _check_words(plan)
    for name, arm in recipe.arms.items():
        in_head = isinstance(arm, EndToEndArm)
        segments = arm.head.segments if in_head else getattr(arm, "segments", None)
        segment_edges(num_bins, segments, setting=f"arms.{name}{'.head' if in_head else ''}.segments")
        if isinstance(arm, TokensArm) and arm.regressor != "boost":
            raise RecipeError(
                f"arms.{name}: token ids have no order that {arm.regressor} could use. Use regressor: boost."
            )
        if isinstance(arm, EndToEndArm | DeepDiffArm):
            check_resources(arm.train, recipe.ray)
    for name in plan.used_models:
        check_resources(recipe.models[name].train, recipe.ray)
    if recipe.published is not None:
        check_resources(recipe.published.model.train, recipe.ray)
    fewest = min(len(plan.pairs.rows(split)) for split in ("train", "validation"))
    if any(getattr(arm, "regressor", None) == "boost" for arm in recipe.arms.values()):
        boost.check_resources(recipe.boost, recipe.ray)
    if recipe.boost.num_actors > fewest:
        raise RecipeError(
            f"boost.num_actors={recipe.boost.num_actors}, but a split has {fewest} genes. Give at most {fewest}."
        )
    segment_edges(num_bins, recipe.importance_segments, setting="importance_segments")
    if recipe.published is not None and recipe.words.levels is not None:
        raise RecipeError(
            "published: the paper's protocol has fixed thresholds. Use words.thresholds, or published: null."
        )
    assert plan.tokenizer.vocab_size  # a vocabulary without room is refused here


def _check_words(plan: ExpressionPlan) -> None:
    """One word in all training genes says nothing."""
    words: set[str] = set()
    for row in plan.pairs.rows("train"):
        for name in ("first", "second"):
            words.update(plan.text[name][row].split())
        if len(words) > 1:
            return
    cuts = np.unique(plan.cuts.cells).tolist()
    raise RecipeError(
        f"every bin of the {len(plan.pairs.rows('train'))} training genes has the same word, {words.pop()!r}: levels begin at "
        f"{', '.join(f'{cut:g}' for cut in cuts)}, and the marks go from {plan.pairs.first.min():g} to "
        f"{plan.pairs.first.max():g}. Set words.thresholds between them."
    )
