"""Which figures may be compared between trials that differ in tokens, masking or what is hidden. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from epilm.errors import RecipeError
from epilm.tasks.eval_sets import TEST_SET

COMPARABLE = ("base_loss", "base_accuracy")
"""Scored on the same hidden bases for every policy, k and stride."""
PER_TOKEN = ("dna_loss", "dna_accuracy")
"""Scored on the tokens that hold those bases: the same question for every policy, but another for each k and stride."""
BASELINES = ("unigram_base_loss", "unigram_base_accuracy")
"""What the frequencies of k-mers reach without a model, on the same bases."""
PER_TOKEN_BASELINES = ("unigram_dna_loss", "unigram_dna_accuracy")

_DECIDES = {
    "dna": ("task.tokens",),
    "unigram_dna": ("task.tokens",),
    "state": ("task.state_mask",),
    "loss": ("task.tokens", "task.dna_mask", "task.state_mask", "task.alpha", "task.model.kind"),
}
"""Beginning of a metric's name -> settings that change what it measures."""


def check_figure(metric: str, known: Collection[str]) -> None:
    """Refuse a figure that no evaluation has, or that needs no model.

    Args:
        known: the sums of the task; a perplexity belongs to each loss.

    Raises:
        RecipeError: names the nearest figure that there is.
    """
    own = [n for n in known if not n.startswith(("unigram_", "copy_", "majority_"))]
    own += [n.replace("_loss", "_perplexity") for n in own if n.endswith("_loss") and not n.startswith("base")]
    name = metric.rpartition("/")[2]
    if name not in own:
        near = difflib.get_close_matches(name, own, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise RecipeError(f"metric={metric!r}: no evaluation of a model has {name!r}.{hint} Allowed: {', '.join(own)}.")


def check_metric(metric: str, mode: str, keys: Iterable[str]) -> None:
    """Refuse a metric on which trials cannot be compared.

    Raises:
        RecipeError: it has no set, is of the test set, points the wrong way, or is changed by what the space varies.
    """
    name = metric.rpartition("/")[2]
    if metric.count("/") != 1 or not all(metric.split("/")):
        raise RecipeError(f"metric={metric!r} is not of the form <set>/<figure>, e.g. held_out_contigs/base_loss.")
    if metric.partition("/")[0] == TEST_SET:
        raise RecipeError(
            f"metric={metric!r} is of the test set, on which nothing may be chosen. Use held_out_contigs/base_loss; "
            "confirm reports the test set once."
        )
    if (name.endswith(("loss", "perplexity")) and mode == "max") or (name.endswith("accuracy") and mode == "min"):
        raise RecipeError(
            f"mode={mode!r} would look for the worst {name}; use mode={'min' if mode == 'max' else 'max'!r}."
        )
    if name in COMPARABLE:
        return
    prefixes = next((p for start, p in _DECIDES.items() if name.startswith(start)), ())
    changed = [k for k in keys if k.startswith(prefixes)] if prefixes else []
    if changed:
        raise RecipeError(
            f"metric={metric!r} measures another thing in each trial: the space varies {', '.join(changed)}. "
            f"Use <set>/base_loss or <set>/base_accuracy, which are scored on the same hidden bases."
        )
