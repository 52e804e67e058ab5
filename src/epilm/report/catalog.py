"""What the metrics are called on the page, how they are shown, and which of them is a baseline of which."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Metric:
    """One curve's name and manner."""

    key: str
    title: str
    style: str = "number"
    """As in :func:`epilm.report.text.show`."""
    better: str = ""
    """``higher``, ``lower`` or nothing."""
    help: str = ""
    reference: tuple[float, str] | None = None
    """What a model that knows nothing has, and its name."""


LEARNING = (
    Metric("state_accuracy", "State accuracy", "percent", "higher", "Hidden epigenetic states predicted right."),
    Metric(
        "base_loss",
        "Base loss",
        "fine",
        "lower",
        "Nats per hidden base, given the visible bases of its token; comparable over policies, k and strides.",
        (math.log(4), "knows nothing, log 4"),
    ),
    Metric(
        "base_accuracy",
        "Base accuracy",
        "percent",
        "higher",
        "Hidden bases predicted right; comparable over policies, k and strides.",
        (0.25, "one base in four"),
    ),
    Metric("dna_accuracy", "DNA accuracy", "percent", "higher", "Masked k-mers predicted right."),
    Metric("state_loss", "State loss", "number", "lower", "Cross-entropy of the hidden states, nats."),
    Metric("dna_loss", "DNA loss", "number", "lower", "Cross-entropy of the masked k-mers, nats."),
    Metric("loss", "Total loss", "number", "lower", "What the optimiser minimises."),
    Metric("state_perplexity", "State perplexity", "number", "lower", "States the model still hesitates between."),
    Metric("dna_perplexity", "DNA perplexity", "number", "lower", "K-mers the model still hesitates between."),
    Metric("auprc", "AUPRC", "fine", "higher", "Area under precision and recall by Davis-Goadrich, mean over factors."),
    Metric("auroc", "AUROC", "fine", "higher", "Area under the ROC curve, mean over factors.", (0.5, "any order")),
    Metric(
        "average_precision",
        "Average precision",
        "fine",
        "higher",
        "Precision at each bound bin, without interpolation.",
    ),
    Metric(
        "recall_at_10_fdr",
        "Recall at 10 % FDR",
        "fine",
        "higher",
        "Bound bins found where nine calls in ten are right.",
    ),
    Metric(
        "recall_at_50_fdr",
        "Recall at 50 % FDR",
        "fine",
        "higher",
        "Bound bins found where half of the calls are right.",
    ),
    Metric("pearson", "Pearson r", "fine", "higher", "Of predicted and measured differential expression, over genes."),
    Metric("binding_loss", "Binding loss", "number", "lower", "Cross-entropy of a label, nats."),
)
THROUGHPUT = (
    Metric("tokens_per_s", "Tokens per second", "si", "higher", "All workers together."),
    Metric("step_time_s", "Step time", "seconds", "lower", "Wall time of one optimizer step."),
    Metric("data_wait_share", "Waiting for data", "percent", "lower", "Share of the step spent waiting for a batch."),
    Metric("mfu", "Model FLOPs utilisation", "percent", "higher", "Against a measured matrix-multiplication peak."),
    Metric("lr", "Learning rate", "number", "", "Warm-up and decay as they were applied."),
    Metric("grad_norm", "Gradient norm", "number", "", "Before clipping."),
)
MASKING = (
    Metric(
        "mask_rate", "Masked k-mers", "percent", "", "Share of the k-mers of a training batch that the policy hides."
    ),
    Metric("top_npmi_masked", "Top-NPMI k-mers masked", "percent", "", "Of the k-mers in the top tenth by NPMI."),
    Metric("masked_that_are_top", "Masked that are top NPMI", "percent", "", "Of the masked k-mers."),
    Metric("global_share", "Share of Global PMI", "percent", "", "Samples that the curriculum masks by Global PMI."),
)
"""What a masking policy did in training; no better and no worse."""
KNOWN = {metric.key: metric for metric in LEARNING + MASKING + THROUGHPUT}

SET_ORDER = ("train", "held_out_contigs", "test_contigs", "validation")
"""Sets that come first on the page; the others follow in the order of the records."""

BASELINES = {
    "copy": "copy nearest visible state",
    "majority": "commonest state",
    "unigram": "unigram frequencies",
    "uniform": "uniform guess",
    "random": "random guess",
    "mean": "training mean",
    "base_rate": "share of bound bins",
}
"""Prefix of a baseline's key (``copy_state_accuracy``) -> its name."""

NOT_CURVES = frozenset({"kind", "step", "set", "time", "pass", "epoch", "switched"})
"""Keys of a metrics record that place it, rather than measure something; ``switched`` is shown as a mark."""


def is_count(key: str) -> bool:
    """True of the sample counts beside the metrics, which make no curve."""
    return key.startswith(("num_", "count_", "n_")) or key.endswith(("_count", "_tokens", "_scored", "_samples"))


def baseline_of(key: str, keys: Iterable[str]) -> tuple[str, str] | None:
    """``copy_state_accuracy`` -> (``copy``, ``state_accuracy``) where both keys are there; None of other metrics."""
    for prefix in BASELINES:
        rest = key.removeprefix(f"{prefix}_")
        if rest != key and rest in set(keys):
            return prefix, rest
    return None


def metric(key: str) -> Metric:
    """The catalogue's entry (of ``auprc.CTCF``, that of its whole), or a plain one for a key that it does not know."""
    if key in KNOWN:
        return KNOWN[key]
    whole, _, part = key.partition(".")
    if part and whole in KNOWN:
        return replace(KNOWN[whole], key=key, title=f"{KNOWN[whole].title}, {part}", help="", reference=None)
    title = key.replace("_", " ").strip().capitalize()
    style = "percent" if key.endswith(("accuracy", "share", "fraction")) else "number"
    return Metric(key, title, style)


def metric_of_set(key: str) -> tuple[str, Metric]:
    """``held_out_contigs/base_loss`` -> (``held_out_contigs``, the entry of ``base_loss``)."""
    name_of_set, _, name = key.rpartition("/")
    return name_of_set, metric(name)


def set_order(name: str) -> int:
    """Sort key of a set's name; sorting by it is stable for the sets that it does not know."""
    return SET_ORDER.index(name) if name in SET_ORDER else len(SET_ORDER)
