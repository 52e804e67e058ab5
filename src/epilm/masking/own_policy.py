"""A masking policy of the user's own: imported, built, and tried on two small batches before any worker starts."""

from __future__ import annotations

import importlib
import inspect
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Self, cast

import torch
from torch import Tensor

from epilm.errors import EpilmError, RecipeError
from epilm.masking.contract import POLICY_METHODS, MaskInput, MaskPolicy, Moment
from epilm.tokens.kmers import tokenize_kmers
from epilm.tokens.vocab import BASE_N, PAD

_STEPS = 100


@dataclass(frozen=True)
class OwnPolicy:
    """The user's policy, which :meth:`check` tries out."""

    policy: MaskPolicy
    name: str
    """``package.module:Class``."""

    @classmethod
    def build(cls, name: str, arguments: Mapping[str, Any]) -> Self:
        """Import the class and call it with ``arguments`` as keywords: ``rate``, ``scores`` (None without a table), options.

        Raises:
            RecipeError: no such module or class, methods are missing, or it cannot be built with these keywords.
        """
        wanted = f"task.dna_mask.policy={name}"
        policy_class = _import_class(name, wanted)
        # what is inherited from the Protocol has no body
        lacking = [
            method
            for method in POLICY_METHODS
            if getattr(policy_class, method, None) is getattr(MaskPolicy, method)
            or not callable(getattr(policy_class, method, None))
        ]
        if lacking:
            raise RecipeError(
                f"{wanted} is not a masking policy: it lacks {', '.join(lacking)}. Write the methods of "
                "epilm.masking.contract.MaskPolicy; initial_state, observe and describe can be inherited from Stateless there."
            )
        try:
            inspect.signature(policy_class).bind(**arguments)
            return cls(cast(MaskPolicy, policy_class(**arguments)), name)
        except EpilmError:
            raise
        except Exception as error:
            raise RecipeError(
                f"{wanted} cannot be built with the keywords {', '.join(arguments)}: {_told(error)}. The class must take rate, "
                "scores and each of task.dna_mask.options."
            ) from error

    def check(self, *, num_tokens: int, num_kmers: int, k: int, stride: int) -> None:
        trial = _Trial(self.policy, self.name)
        trial.call("check", num_tokens=num_tokens, num_kmers=num_kmers, k=k, stride=stride)
        check_own_policy(self.policy, name=self.name, num_kmers=num_kmers, k=k, stride=stride)

    def initial_state(self) -> dict[str, Any]:
        return self.policy.initial_state()

    def observe(self, state: Mapping[str, Any], *, step: int, perplexity: float) -> dict[str, Any]:
        return self.policy.observe(state, step=step, perplexity=perplexity)

    def mask(self, batch: MaskInput, moment: Moment) -> Tensor:
        return self.policy.mask(batch, moment)

    def describe(self, moment: Moment) -> dict[str, float]:
        return self.policy.describe(moment)


def check_own_policy(policy: MaskPolicy, *, name: str, num_kmers: int, k: int, stride: int) -> None:
    """Ask everything of a policy once, with rows like those of training: whole, with an N, shortened, in two batchings.

    Raises:
        RecipeError: names the class, the method, what came back and what must.
    """
    trial = _Trial(policy, name)
    try:
        pickle.dumps(policy)
    except Exception as error:
        raise RecipeError(
            f"task.dna_mask.policy={name} cannot be pickled, and so not sent to the workers: {_told(error)}. Make what it "
            "holds in mask(), or keep plain values and numpy arrays."
        ) from error
    batch = trial_batch(num_kmers=num_kmers, k=k, stride=stride)
    state = trial.state("initial_state")
    for moment in (Moment(0, _STEPS, state), Moment(1, _STEPS, trial.state("observe", state, step=1, perplexity=4.0))):
        trial.describe(moment)
        whole = trial.mask(batch, moment)
        chosen = torch.tensor([False, False, True, True])
        if not torch.equal(trial.mask(batch.rows(chosen), moment), whole[chosen]):
            trial.refuse(
                "mask",
                "hides other tokens of the same samples once they stand in another batch",
                "masks that are a function of (seed, position) and the row alone; draw with epilm.masking.hashing.uniform",
            )


def trial_batch(*, num_kmers: int, k: int, stride: int) -> MaskInput:
    """Four rows of a full window: two whole, one with an N in its middle, one shortened to half (PAD behind)."""
    length_bp = num_kmers + k - 1
    dna = torch.randint(0, 4, (4, length_bp), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    dna[1, length_bp // 2] = BASE_N
    kept_bp = torch.tensor([length_bp, length_bp, max(k, length_bp // 2), length_bp])

    def tokens(step: int) -> Tensor:
        ids = tokenize_kmers(dna, k=k, stride=step)
        end_bp = torch.arange(ids.shape[1]) * step + k
        return ids.masked_fill_(end_bp[None, :] > kept_bp[:, None], PAD)

    kmer_ids = tokens(1)
    ids = kmer_ids if stride == 1 else tokens(stride)
    return MaskInput(ids, kmer_ids, torch.tensor([3, 2**40, 11, 8]), 5, k, stride)


@dataclass(frozen=True)
class _Trial:
    """Calls a policy's methods and judges what they return."""

    policy: MaskPolicy
    name: str

    def refuse(self, method: str, got: str, wanted: str) -> NoReturn:
        raise RecipeError(
            f"task.dna_mask.policy={self.name}: {method} {got}. Wanted: {wanted} (epilm.masking.contract.MaskPolicy)."
        )

    def call(self, method: str, *args: Any, **keywords: Any) -> Any:
        try:
            return getattr(self.policy, method)(*args, **keywords)
        except EpilmError:
            raise
        except Exception as error:
            expected = inspect.signature(getattr(MaskPolicy, method))
            self.refuse(method, f"failed on a small trial with {_told(error)}", f"{method}{expected}".replace("'", ""))

    def state(self, method: str, *args: Any, **keywords: Any) -> dict[str, Any]:
        state = self.call(method, *args, **keywords)
        wanted = "a dict that JSON gives back as it was: text as keys; lists, not tuples; plain numbers"
        try:
            same = isinstance(state, dict) and json.loads(json.dumps(state)) == state
        except (TypeError, ValueError) as error:
            self.refuse(method, f"returned a state that is no JSON ({error})", wanted)
        if not same:
            self.refuse(method, f"returned {_short(state)}", wanted)
        return state

    def describe(self, moment: Moment) -> None:
        figures = self.call("describe", moment)
        if not isinstance(figures, dict) or not all(
            isinstance(key, str) and isinstance(value, int | float) and not isinstance(value, bool)
            for key, value in figures.items()
        ):
            self.refuse("describe", f"returned {_short(figures)}", "a dict of names to float")

    def mask(self, batch: MaskInput, moment: Moment) -> Tensor:
        given = replace(batch, ids=batch.ids.clone(), kmer_ids=batch.kmer_ids.clone(), position=batch.position.clone())
        if batch.kmer_ids is batch.ids:
            given = replace(given, kmer_ids=given.ids)
        mask = self.call("mask", given, moment)
        shape = tuple(batch.ids.shape)
        wanted = f"a bool tensor {list(shape)} ([B, L], as batch.ids) on {batch.ids.device}"
        if not isinstance(mask, Tensor):
            self.refuse("mask", f"returned {_short(mask)}", wanted)
        if mask.dtype != torch.bool or tuple(mask.shape) != shape or mask.device != batch.ids.device:
            self.refuse("mask", f"returned {mask.dtype} {list(mask.shape)} on {mask.device}", wanted)
        if (mask & ~batch.real).any():
            row, column = (mask & ~batch.real).nonzero()[0].tolist()
            self.refuse(
                "mask", f"hides the special id {int(batch.ids[row, column])}", "real tokens only; use `& batch.real`"
            )
        for part in ("ids", "kmer_ids", "position"):
            if not torch.equal(getattr(given, part), getattr(batch, part)):
                self.refuse("mask", f"changes batch.{part} in place", "a batch that stays as it is")
        return mask


def _import_class(dotted: str, wanted: str) -> type[Any]:
    module_name, _, class_name = dotted.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise RecipeError(
            f"{wanted}: the module {module_name!r} cannot be imported ({_told(error)}). Install it, or put "
            "its folder on PYTHONPATH of the job and of its workers."
        ) from error
    found = getattr(module, class_name, None)
    if not inspect.isclass(found):
        classes = sorted(name for name, item in vars(module).items() if inspect.isclass(item)) or ["none"]
        raise RecipeError(f"{wanted}: {module_name} has no class {class_name!r}; its classes: {', '.join(classes)}.")
    return found


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _short(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text[:60]}{'...' if len(text) > 60 else ''}"
