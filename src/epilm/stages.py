"""The stages that a recipe describes: what each is called, what it teaches, and where its code lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Loaded = tuple[type, Callable[..., Any], Callable[[Any], Any] | None]
"""(recipe class, run function, check that needs no worker)."""


@dataclass(frozen=True)
class Stage:
    """A stage that a recipe describes. Imports happen when it is chosen, so that ``--help`` is instant."""

    summary: str
    teaches: str
    load: Callable[[], Loaded]
    uses_ray: bool = True
    others: Mapping[str, Callable[[], Loaded]] = field(default_factory=dict)
    """Further kinds of recipe that the stage runs, by name."""
    kind_of: Callable[[Mapping[str, Any]], str | None] = lambda raw: None
    """Which of ``others`` a raw recipe is; None: the one of ``load``."""

    def load_for(self, raw: Mapping[str, Any]) -> Loaded:
        """What runs a raw recipe."""
        kind = self.kind_of(raw)
        return (self.load if kind is None else self.others[kind])()


def _simulate() -> Loaded:
    from epilm.simulate.epigenome import simulate
    from epilm.simulate.recipe import SimulateRecipe

    return SimulateRecipe, simulate, None


def _corpus() -> Loaded:
    from epilm.corpus.build import build_corpus
    from epilm.corpus.check import check_corpus
    from epilm.corpus.recipe import CorpusRecipe

    return CorpusRecipe, build_corpus, check_corpus


def _npmi() -> Loaded:
    from epilm.ngrams.recipe import NpmiRecipe
    from epilm.ngrams.run import check_npmi, run_npmi

    return NpmiRecipe, run_npmi, check_npmi


def _pretrain() -> Loaded:
    from epilm.train.pretrain import check_pretrain, pretrain
    from epilm.train.recipe import PretrainRecipe

    return PretrainRecipe, pretrain, check_pretrain


def _tune() -> Loaded:
    from epilm.tune.check import check_tune
    from epilm.tune.recipe import TuneRecipe
    from epilm.tune.sweep import run_tune

    return TuneRecipe, run_tune, check_tune


def _tune_expression() -> Loaded:
    from epilm.expression.tune import check_tune_expression, run_tune_expression
    from epilm.expression.tune_recipe import TuneExpressionRecipe

    return TuneExpressionRecipe, run_tune_expression, check_tune_expression


def _kind_of_tune(raw: Mapping[str, Any]) -> str | None:
    """By the base, which is a mapping or the path of one; by the row where the base cannot be read."""
    from epilm.tune.recipe import read_base

    try:
        base = read_base(raw.get("base"), "base")
    except ValueError:
        base = None
    keys = set(base) if isinstance(base, Mapping) else set()
    is_expression = keys & {"data", "expression", "pair"} if keys else "row" in raw
    return "expression" if is_expression and "task" not in keys else None


def _eval_masking() -> Loaded:
    from epilm.tune.check import check_compare
    from epilm.tune.compare import run_compare
    from epilm.tune.recipe import CompareRecipe

    return CompareRecipe, run_compare, check_compare


def _embed() -> Loaded:
    from epilm.predict.embed import run_embed
    from epilm.predict.plan import check_embed
    from epilm.predict.recipe import EmbedRecipe

    return EmbedRecipe, run_embed, check_embed


def _regress() -> Loaded:
    from epilm.regress.prepare import check_regress
    from epilm.regress.recipe import RegressRecipe
    from epilm.regress.run import run_regress

    return RegressRecipe, run_regress, check_regress


def _labels() -> Loaded:
    from epilm.labels.recipe import LabelsRecipe
    from epilm.labels.run import check_labels, run_labels

    return LabelsRecipe, run_labels, check_labels


def _finetune() -> Loaded:
    from epilm.train.finetune import check_finetune, finetune
    from epilm.train.recipe import FinetuneRecipe

    return FinetuneRecipe, finetune, check_finetune


def _predict() -> Loaded:
    from epilm.predict.genome import run_predict
    from epilm.predict.genome_plan import check_predict
    from epilm.predict.genome_recipe import PredictRecipe

    return PredictRecipe, run_predict, check_predict


def _variants() -> Loaded:
    from epilm.predict.variants import run_variants
    from epilm.predict.variants_plan import check_variants
    from epilm.predict.variants_recipe import VariantsRecipe

    return VariantsRecipe, run_variants, check_variants


def _mutagenesis() -> Loaded:
    from epilm.predict.mutagenesis import run_mutagenesis
    from epilm.predict.mutagenesis_plan import check_mutagenesis
    from epilm.predict.mutagenesis_recipe import MutagenesisRecipe

    return MutagenesisRecipe, run_mutagenesis, check_mutagenesis


def _baseline() -> Loaded:
    from epilm.baselines.recipe import BaselineRecipe
    from epilm.baselines.run import check_baseline, run_baseline

    return BaselineRecipe, run_baseline, check_baseline


def _evaluate() -> Loaded:
    from epilm.evaluate.check import check_evaluate
    from epilm.evaluate.recipe import EvaluateRecipe
    from epilm.evaluate.run import run_evaluate

    return EvaluateRecipe, run_evaluate, check_evaluate


def _gene_marks() -> Loaded:
    from epilm.histone.count import check_gene_marks, run_gene_marks
    from epilm.histone.recipe import GeneMarksRecipe

    return GeneMarksRecipe, run_gene_marks, check_gene_marks


def _simulate_genes() -> Loaded:
    from epilm.simulate.gene_recipe import SimulateGenesRecipe
    from epilm.simulate.genes import simulate_genes

    return SimulateGenesRecipe, simulate_genes, None


def _expression() -> Loaded:
    from epilm.expression.plan import check_expression
    from epilm.expression.recipe import ExpressionRecipe
    from epilm.expression.run import run_expression

    return ExpressionRecipe, run_expression, check_expression


def _eval_binding() -> Loaded:
    from epilm.studies.check import check_eval_binding
    from epilm.studies.recipe import EvalBindingRecipe
    from epilm.studies.run import run_eval_binding

    return EvalBindingRecipe, run_eval_binding, check_eval_binding


STAGES: dict[str, Stage] = {
    "simulate": Stage(
        "write a toy epigenome with planted truth",
        "Genome, states, tracks, genes and expression whose rules are known: the demo's and most tests' input.",
        _simulate,
        uses_ray=False,
    ),
    "corpus": Stage(
        "build a corpus from genome and epigenome files",
        "FASTA or 2bit, states (IDEAS, ChromHMM, bigBed, or levels of bigWig tracks), blacklist -> sharded parquet that "
        "stores a locus once for all cell types. A killed build goes on with --resume.",
        _corpus,
    ),
    "npmi": Stage(
        "count n-grams and score k-mers by normalised PMI",
        "Counts of n = 1..8 over a FASTA, 2bit or corpus, exact over Ray by contig chunks, never across an N; PMI, NPMI and "
        "ranks as a parquet table, which masking policies read (task.dna_mask.table). Also imports a published table.",
        _npmi,
    ),
    "pretrain": Stage(
        "pre-train EBERT, DBERT or DNABERT on a corpus",
        "Ray Data streams the corpus into Ray Train workers that run DeepSpeed. Same seed, same curve, on any number of "
        "workers (with dropout: of those in train.exact_workers), through any kill: go on with --resume, also with another "
        "train.num_workers. task.dna_mask.policy chooses what is masked: uniform, span, genemask, global, cm-step, cm-gems, or "
        "a class of your own.",
        _pretrain,
    ),
    "tune": Stage(
        "search settings of pre-training or of expression with Ray Tune",
        "Optuna draws settings of a pretrain recipe, ASHA stops the hopeless; all trials see equally many tokens and are "
        "compared on the same hidden bases of validation contigs. Writes the best as a recipe that `epilm pretrain` runs, and "
        "confirms it from fresh seeds on test contigs. With an expression recipe as its base it searches one row of "
        "that table by validation Pearson r, and confirms the best against the base on the test genes. A killed sweep goes on "
        "with --resume.",
        _tune,
        others={"expression": _tune_expression},
        kind_of=_kind_of_tune,
    ),
    "eval-masking": Stage(
        "pre-train every masking policy from the same seeds and compare",
        "Arms of settings over one pretrain recipe, at one budget and from the same seeds; mean, spread and margins to a "
        "baseline paired by seed, the test contigs scored once. Goes on with --resume.",
        _eval_masking,
    ),
    "embed": Stage(
        "embed intervals with a pre-trained model",
        "Mean, CLS or per-token embeddings of promoters, BED intervals or windows, by Ray Data, to parquet.",
        _embed,
    ),
    "regress": Stage(
        "fit xgboost-ray on embeddings, k-mer counts or state fractions",
        "Rounds are chosen on validation genes, figures come from held-out contigs once, with bootstrap intervals.",
        _regress,
    ),
    "labels": Stage(
        "turn peaks or label files into labelled bins",
        "narrowPeak/BED (conservative and relaxed, or one set) or ENCODE-DREAM label files -> bound, ambiguous and unbound bins "
        "of 200 bp every 50 bp, kept as runs. Other stages take peaks directly; this one saves what is slow to read, and "
        "writes ENCODE-DREAM label files.",
        _labels,
    ),
    "finetune": Stage(
        "fine-tune a pre-trained encoder for TF binding",
        "DBERT, EBERT, or EBERT+ (with DNase, mappability or any tracks), from a pretrain run or random weights, all factors "
        "at once: all positives and a fresh draw of negatives every epoch, stopped by AUPRC on validation contigs. Sequences, "
        "states and signals are gathered from the corpus; the stream is as exact as that of pre-training: --resume.",
        _finetune,
    ),
    "predict": Stage(
        "predict TF binding over whole contigs",
        "Probability of every bin, factor and cell type by Ray Data: parquet, bigWig tracks, ENCODE-DREAM submissions. A "
        "killed run goes on with --resume.",
        _predict,
    ),
    "baseline": Stage(
        "fit and predict a simple rival: k-mer logistic regression, or a position-weight matrix",
        "On the same positives, negatives and splits as fine-tuning; its predictions are evaluated as a model's are.",
        _baseline,
    ),
    "evaluate": Stage(
        "score predictions as ENCODE-DREAM does",
        "AUROC, AUPRC (Davis-Goadrich; average precision beside it), recall at 10 % and 50 % FDR over every bin, exact, by Ray; "
        "block-bootstrap intervals and paired differences; the challenge's rank and the paper's. Refuses contigs and cell "
        "types that a model has seen, unless allow_overlap names them.",
        _evaluate,
    ),
    "eval-binding": Stage(
        "fine-tune, predict and score several models from the same seeds, and compare",
        "Arms of settings over one finetune recipe, with baselines, on test contigs and a held-out cell type; mean, spread over "
        "seeds, intervals and paired margins. Goes on with --resume.",
        _eval_binding,
    ),
    "variants": Stage(
        "predict what variants change",
        "VCF in; for every variant, allele, factor and cell type the change of predicted binding out. The reference allele "
        "is checked against the corpus.",
        _variants,
    ),
    "mutagenesis": Stage(
        "ask a model which bases matter",
        "Every single-base change of chosen intervals, and attributions by gradients or attention: parquet, bigWig, and logos "
        "in the report.",
        _mutagenesis,
    ),
    "simulate-genes": Stage(
        "write genes' histone marks whose expression is a known function of them",
        "Counts of marks around genes in several cell types and their expression, in DeepDiff's format: what `epilm expression` "
        "can reach at best is known.",
        _simulate_genes,
        uses_ray=False,
    ),
    "gene-marks": Stage(
        "count histone marks in bins around genes' starts",
        "bigWig marks and gene models -> 200 bins of 100 bp around every TSS, for any number of cell types, by Ray Data, to "
        "parquet that `epilm expression` reads. A killed run goes on with --resume.",
        _gene_marks,
    ),
    "expression": Stage(
        "predict differential expression from histone marks",
        "Histone words, GPT-2 and RoBERTa on them, embeddings for xgboost-ray, end-to-end regression, DeepDiff, SVR: one table "
        "of models x inputs over several seeds, chosen on validation genes and tested once, with importances by mark and "
        "position. Goes on with --resume.",
        _expression,
    ),
}


def other_stages(name: str, raw: Mapping[str, Any]) -> list[str]:
    """The stages whose recipe a raw one could be, where it has not the outline of stage ``name``'s; else none."""
    return [] if _has_outline(STAGES[name], raw) else [other for other in STAGES if _has_outline(STAGES[other], raw)]


def _has_outline(stage: Stage, raw: Mapping[str, Any]) -> bool:
    """Whether a raw recipe has, at its top level, all that the stage requires and nothing that it does not know."""
    fields = stage.load_for(raw)[0].model_fields  # type: ignore[attr-defined]
    return {key for key, field in fields.items() if field.is_required()} <= set(raw) <= set(fields)
