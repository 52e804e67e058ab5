"""Optimizer steps on one thread: our stack against plain PyTorch, our precision and head against Hugging Face's."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from epilm.bench.masks import one_thread
from epilm.bench.measure import Case, Duel, Workbench
from epilm.bench.streams import write_windows
from epilm.corpus.manifest import write_manifest
from epilm.masking.contract import Moment
from epilm.storage import Location
from epilm.tasks.masked_epigenome import MaskedEpigenomeTask
from epilm.tasks.protocol import sample_seed
from epilm.tasks.recipe import MaskedEpigenomeConfig, ModelConfig
from epilm.train.engine import all_reduce_sum, build_engine, build_optimizer
from epilm.train.recipe import TrainConfig
from epilm.train.step import run_step, split_batch, total_loss

LEARNING_RATE = 1e-4
START = Moment(step=0, steps=100, state={})
MOST_STEP_TIME = 1.05
"""Our step time over the plain loop's; the ratio of speeds is its inverse."""


@dataclass(frozen=True)
class _Bed:
    """What both sides of a case train on."""

    task: MaskedEpigenomeTask
    config: TrainConfig
    batch: dict[str, Tensor]
    close: Callable[[], None]

    @property
    def tokens(self) -> int:
        return self.config.global_batch * self.task.length

    def build_model(self) -> nn.Module:
        torch.manual_seed(self.task.seed)
        return self.task.build_model().train()


def make_bed(bench: Workbench, model: ModelConfig, config: TrainConfig) -> _Bed:
    """A small corpus of random windows, the task on it, its first global batch, and a process group of one."""
    corpus = Location(str(bench.folder / "corpus"))
    write_manifest(corpus, write_windows(corpus, max(256, config.global_batch), bench.seed))
    task = MaskedEpigenomeTask(MaskedEpigenomeConfig(corpus=str(corpus), model=model), bench.seed)
    batch = task.collate(task.train_source().read(np.arange(config.global_batch)))
    restore_threads = one_thread()
    os.environ.setdefault("LOCAL_RANK", "0")
    dist.init_process_group("gloo", init_method=f"file://{bench.folder}/rendezvous", rank=0, world_size=1)

    def close() -> None:
        dist.destroy_process_group()
        restore_threads()

    return _Bed(task, config, batch, close)


def our_step(bed: _Bed) -> Callable[[], float]:
    """The step of ``epilm pretrain`` on one worker: tokenise, mask, forward and backward through DeepSpeed, apply."""
    engine = build_engine(bed.build_model(), bed.config, num_workers=1)
    micro_batch = bed.config.micro_batch_for(1)

    def step() -> float:
        totals = run_step(
            bed.task,
            engine.deepspeed,
            bed.batch,
            START,
            micro_batch=micro_batch,
            backward=engine.backward,
            all_reduce=all_reduce_sum,
        )
        engine.apply(LEARNING_RATE)
        return total_loss(bed.task, totals)

    return step


def training_step(bench: Workbench) -> Duel:
    """EBERT of 4 x 256 in fp32, four micro-batches of 12: same weights, same masks, same dropout, equal loss.

    The peer is the loop that one would write without this package: micro-batches, clipping, the same AdamW.
    """
    layers, width = (4, 256) if bench.size >= 1 else (1, 32)
    model = ModelConfig(kind="ebert", num_layers=layers, num_heads=4, hidden_size=width)
    bed = make_bed(
        bench, model, TrainConfig(steps=100, global_batch=48, micro_batch=12, num_workers=1, exact_workers=(1,))
    )
    task, config = bed.task, bed.config
    plain = bed.build_model()
    optimizer = build_optimizer(plain, config.optimizer, fused=False)
    for group in optimizer.param_groups:
        group["lr"] = LEARNING_RATE

    def theirs() -> float:
        prepared = [task.prepare(rows, START) for rows in split_batch(bed.batch, config.micro_batch)]
        counts = {name: sum(p.counts[name] for p in prepared) for name in prepared[0].counts}
        loss_sum = 0.0
        for position, ready in zip(bed.batch["position"][:: config.micro_batch].tolist(), prepared, strict=True):
            torch.manual_seed(sample_seed(task.seed, position))
            sums = task.sums(plain, ready)
            loss = torch.stack([w * sums[n] / counts[task.sum_counts[n]] for n, w in task.loss_weights.items()]).sum()
            loss.backward()
            loss_sum += loss.item()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), config.optimizer.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss_sum

    def compare(mine: float, other: float) -> str:
        return "" if abs(mine - other) < 1e-4 else f"first loss {mine:.6f}, plain PyTorch {other:.6f}"

    def describe() -> str:
        return f"EBERT {layers} x {width}, {bed.tokens:,} tokens a step; target: at most {MOST_STEP_TIME} x the plain step time"

    return Duel(our_step(bed), theirs, bed.tokens, bed.tokens, compare, describe, least_s=0, close=bed.close)


def bf16_scored_head(bench: Workbench) -> Duel:
    """DBERT of BERT-base's size: bf16 and logits at the scored positions alone, against fp32 and logits everywhere.

    The peer is ``BertForMaskedLM`` as Hugging Face builds it (SDPA attention), with masked ids and labels made
    beforehand; ours tokenises and masks within the step.
    """
    from transformers import BertConfig, BertForMaskedLM

    layers, width, rows = (12, 768, 16) if bench.size >= 1 else (1, 64, 2)
    model = ModelConfig(kind="dbert", num_layers=layers, num_heads=width // 64, hidden_size=width)
    bed = make_bed(
        bench,
        model,
        TrainConfig(steps=100, global_batch=rows, micro_batch=rows, num_workers=1, exact_workers=(1,), bf16=True),
    )
    inputs: dict[str, Any] = bed.task.prepare(bed.batch, START).inputs
    sizes = bed.task.model_config()
    plain = BertForMaskedLM(
        BertConfig(
            vocab_size=sizes.dna_vocab_size,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            intermediate_size=4 * width,
        )
    ).train()
    optimizer = torch.optim.AdamW(plain.parameters(), lr=LEARNING_RATE)

    def theirs() -> float:
        loss = plain(input_ids=inputs["input_ids"], labels=inputs["dna_labels"]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), bed.config.optimizer.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    def compare(mine: float, other: float) -> str:
        wanted = float(np.log(sizes.dna_vocab_size))  # untrained models know nothing
        close = all(abs(loss - wanted) < 0.05 * wanted for loss in (mine, other))
        return "" if close else f"first losses {mine:.3f} and {other:.3f}, expected about {wanted:.3f}"

    def describe() -> str:
        return f"{layers} x {width}, vocabulary {sizes.dna_vocab_size:,}, {rows} rows of {bed.task.length} tokens"

    return Duel(our_step(bed), theirs, bed.tokens, bed.tokens, compare, describe, least_s=0, close=bed.close)


CASES = (
    Case(
        name="training_step",
        about="an optimizer step through DeepSpeed and the task protocol",
        peer="a plain PyTorch loop of the same model",
        unit="tokens/s",
        target=1 / MOST_STEP_TIME,
        build=training_step,
        pairs=5,
        isolated=True,
    ),
    Case(
        name="bf16_scored_head",
        about="an optimizer step in bf16 with the head at scored positions",
        peer="Hugging Face BertForMaskedLM in fp32 with its full head",
        unit="tokens/s",
        target=1.8,
        build=bf16_scored_head,
        pairs=3,
        isolated=True,
    ),
)
