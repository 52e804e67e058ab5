"""What a policy asks of a window, held against it before any worker starts: room for a span, and no more than half hidden.

Messages name the setting as the user wrote it; ``policy`` is the recipe's, also for the parts of a curriculum.
"""

from __future__ import annotations

from epilm.errors import RecipeError
from epilm.masking.rates import ExpectedRate, probability_for

MOST_HIDDEN = 0.5
"""The largest share of the tokens, as of ``rate``."""


def check_span_fits(policy: str, *, num_kmers: int, k: int) -> None:
    """Refuse windows in which one hidden k-mer and all that share a base with it (2k - 1) do not fit.

    Raises:
        RecipeError: the window has fewer than 2k - 1 k-mers.
    """
    least = 2 * k - 1
    if num_kmers < least:
        raise RecipeError(
            f"task.dna_mask.policy={policy} hides spans of up to {least} k-mers at k={k}, but a window has only {num_kmers}. "
            f"Use windows of at least {least + k - 1} bp, a smaller k, or policy=uniform."
        )


def check_centres(group: str, probability: float | None, expected: ExpectedRate) -> None:
    """Refuse a ``centre_probability`` that hides more than half of a full window.

    Args:
        expected: share of a full window's tokens, by the centres' probability.

    Raises:
        RecipeError: says the largest probability.
    """
    if probability is None or (share := expected(probability)) <= MOST_HIDDEN:
        return
    largest = probability_for(expected, MOST_HIDDEN)
    raise RecipeError(
        f"task.dna_mask.{group}.centre_probability={probability:g} hides {share:.0%} of a window's tokens; at most "
        f"{MOST_HIDDEN:.0%} can be hidden. Give {_rounded_down(largest)} or less, or leave it out and set task.dna_mask.rate."
    )


def check_number(
    *, fixed_m: int | None, binomial_m: float | None, num_tokens: int, num_kmers: int, k: int, stride: int
) -> None:
    """Refuse a number of hidden k-mers that could hide more than half of a full window, were their spans apart.

    Raises:
        RecipeError: says the largest ``fixed_m`` or ``binomial_m``.
    """
    span = -(-(2 * k - 1) // stride)  # tokens that share a base with one k-mer, at most
    largest = MOST_HIDDEN * num_tokens / span
    number = fixed_m if fixed_m is not None else (binomial_m or 0) * num_kmers
    if number <= largest:
        return
    if fixed_m is not None:
        setting, allowed = (
            f"fixed_m={fixed_m}",
            f"{int(largest)} or less" if largest >= 1 else "windows that are longer",
        )
    else:
        setting, allowed = f"binomial_m={binomial_m:g}", f"{_rounded_down(largest / num_kmers)} or less"
    raise RecipeError(
        f"task.dna_mask.global_pmi.{setting} hides {number:g} k-mers with up to {span} tokens each, but a window has only "
        f"{num_tokens} tokens, of which at most {MOST_HIDDEN:.0%} can be hidden. Give {allowed}, or leave it out and set "
        "task.dna_mask.rate."
    )


def _rounded_down(value: float) -> str:
    """Three digits, never above the value."""
    shown = f"{value:.2e}"
    if float(shown) > value:
        shown = f"{value - 10.0 ** (int(shown.split('e')[1]) - 2):.2e}"
    return f"{float(shown):g}"
