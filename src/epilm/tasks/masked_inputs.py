"""From bytes to a micro-batch of masked pre-training: strand, k-mers, length, mask, states; all on the batch's device.

Everything random in a sample is a hash of (seed, position in the run).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from epilm.corpus.manifest import CorpusManifest
from epilm.masking.contract import MaskInput, MaskPolicy, Moment
from epilm.masking.hashing import uniform
from epilm.masking.hidden_bases import draw_bases
from epilm.masking.hide import hide
from epilm.masking.state_mask import copy_nearest_visible, hide_states, state_mask
from epilm.tasks import lengths
from epilm.tasks.mask_report import MaskReport
from epilm.tasks.protocol import Prepared
from epilm.tasks.recipe import MaskedEpigenomeConfig
from epilm.tokens.kmers import tokenize_kmers
from epilm.tokens.states import tokenize_states
from epilm.tokens.strand import reverse_bins, reverse_complement
from epilm.tokens.vocab import CLS, IGNORE, PAD, SEP, STATE_PAD, dna_vocab_size

# Streams of the stateless hash, one a purpose; policies draw from 31 on (the uniform one from 11, in training).
_BASES, _CHOICE, _RANDOM, _CENTRE, _STRAND, _LENGTH = 11, 12, 13, 14, 15, 16


@dataclass(frozen=True)
class MaskedInputs:
    """Makes the inputs and labels of :class:`~epilm.tasks.masked_epigenome.MaskedEpigenomeTask`."""

    config: MaskedEpigenomeConfig
    manifest: CorpusManifest
    policy: MaskPolicy
    report: MaskReport
    seed: int

    @property
    def uses_states(self) -> bool:
        return self.config.model.kind == "ebert"

    def prepare(self, batch: dict[str, Tensor], moment: Moment | None) -> Prepared:
        """Tokenise, mask, and compute the baselines' answers; all on the batch's device."""
        config, tokens = self.config, self.config.tokens
        training = moment is not None
        seed = self.seed if training else config.evaluation.seed + 2**31  # evaluation masks are their own
        position, dna, phase = batch["position"], batch["dna"], batch["phase"].long()
        bins = batch.get("states")
        if training and config.reverse_complement:
            flip = uniform(seed, _STRAND, position, 1)[:, 0] < 0.5
            dna = reverse_complement(dna, flip)
            if bins is not None:
                geometry = {"bin_bp": self.manifest.bin_bp, "length_bp": self.manifest.window_bp}
                bins, phase = reverse_bins(bins, phase, rows=flip, **geometry)
        ids = tokenize_kmers(dna, k=tokens.k, stride=tokens.step_bp)
        num = self._draw_lengths(ids, seed, position, training)
        ids = lengths.cut(ids, num)
        if moment is None:
            hidden = draw_bases(ids, k=tokens.k, stride=tokens.step_bp, seed=seed, stream=_BASES, position=position)
            mask = hidden.mask
            inputs = {"base_offsets": hidden.offset[mask]}
            counts = {"dna": mask.sum(), "base": (hidden.offset >= 0).sum()}
        else:
            overlapping = self._overlapping(ids, dna, num)
            mask_input = MaskInput(ids, overlapping, position, seed=seed, k=tokens.k, stride=tokens.step_bp)
            mask = self.policy.mask(mask_input, moment)
            inputs = {}
            counts = {"dna": mask.sum(), **self.report.count(ids, mask)}
        input_ids, labels = hide(
            ids,
            mask,
            seed=seed,
            position=position,
            choice_stream=_CHOICE,
            random_stream=_RANDOM,
            vocab_size=dna_vocab_size(tokens.k),
            # an evaluation hides all that it scores: k-mers shown unchanged would be "predicted" by copying them
            mask_frac=config.dna_mask.mask_fraction if training else 1.0,
            random_frac=config.dna_mask.random_fraction if training else 0.0,
        )
        inputs["input_ids"] = lengths.frame(input_ids, num, cls=CLS, sep=SEP, pad=PAD)
        inputs["dna_labels"] = lengths.frame(labels, num, cls=IGNORE, sep=IGNORE, pad=IGNORE)
        if training and config.lengths:
            inputs["attention_mask"] = lengths.attention_mask(num, ids.shape[1])
        if self.uses_states:
            assert bins is not None
            state_inputs, counts["state"] = self._prepare_states(bins, phase, mask, num, seed, position)
            inputs |= state_inputs
        num_real = int(num.sum()) + 2 * len(ids) if training and config.lengths else len(ids) * (ids.shape[1] + 2)
        return Prepared(inputs, counts, num_rows=len(ids), num_tokens=num_real)

    def _draw_lengths(self, ids: Tensor, seed: int, position: Tensor, training: bool) -> Tensor:
        """k-mers of each sequence, int64 [B]."""
        if training and self.config.lengths:
            return lengths.draw_lengths(self.config.lengths, ids.shape[1], uniform(seed, _LENGTH, position, 2))
        return torch.full((len(ids),), ids.shape[1], dtype=torch.int64, device=ids.device)

    def _overlapping(self, ids: Tensor, dna: Tensor, num: Tensor) -> Tensor:
        """The k-mers at every base, which policies score; the uniform policy looks at the tokens alone."""
        tokens = self.config.tokens
        if tokens.step_bp == 1 or self.config.dna_mask.policy == "uniform":
            return ids
        return lengths.cut(tokenize_kmers(dna, k=tokens.k, stride=1), num, stride=tokens.step_bp)

    def _prepare_states(
        self, bins: Tensor, phase: Tensor, dna_mask: Tensor, num: Tensor, seed: int, position: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        tokens, manifest = self.config.tokens, self.manifest
        geometry = {"k": tokens.k, "stride": tokens.step_bp, "bin_bp": manifest.bin_bp}
        states = tokenize_states(bins, phase, length_bp=manifest.window_bp, **geometry)
        states = lengths.cut(states, num)  # both alphabets pad with 0
        hidden, centre = state_mask(
            dna_mask,
            states,
            phase_bp=phase,
            flank_bp=self.config.state_mask.flank_bp,
            whole_bin=self.config.state_mask.whole_bin,
            u_centre=uniform(seed, _CENTRE, position, 1)[:, 0],
            **geometry,
        )
        copied = copy_nearest_visible(states, hidden, centre)
        shown, labels = hide_states(states, hidden, centre)
        inputs = {
            "state_ids": lengths.frame(shown, num, cls=STATE_PAD, sep=STATE_PAD, pad=STATE_PAD),
            "state_labels": lengths.frame(labels, num, cls=IGNORE, sep=IGNORE, pad=IGNORE),
            "copied_states": copied[centre.any(dim=1)],
        }
        return inputs, centre.sum()
