"""The training loop of one worker: stream -> step -> records -> evaluation -> checkpoint. Knows only the task protocol."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.train
import torch
import torch.distributed as dist
from ray import cloudpickle
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import get_device

from epilm.corpus.order import step_positions
from epilm.corpus.stream import StreamPlan, iterate_steps, segment_dataset
from epilm.errors import EpilmError
from epilm.masking.contract import Moment
from epilm.storage import Location
from epilm.tasks.protocol import Task
from epilm.train.checkpoint import CheckpointMeta, check_meta, read_meta, restore, save_checkpoint
from epilm.train.engine import Engine, all_reduce_sum, build_engine
from epilm.train.evaluate import evaluate_set
from epilm.train.ledger import samples_digest
from epilm.train.recipe import TrainConfig
from epilm.train.records import Records
from epilm.train.registry import SCORE, RayRegistry, Registry
from epilm.train.schedule import learning_rate
from epilm.train.step import StepTotals, run_step, total_loss
from epilm.train.throughput import matmul_peak_gflops

NOT_EVALUATED = -1e30


@dataclass(frozen=True)
class Job:
    """What the driver sends to every worker."""

    task: Task
    config: TrainConfig
    folder: Location
    recipe_fingerprint: str
    data_fingerprint: str
    board: Any


@dataclass
class _Span:
    """Totals over the steps since the last record."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    wait_s: float = 0.0
    digest: int = 0

    def add(self, tokens: int, digest: int, seconds: float) -> None:
        self.steps += 1
        self.tokens += tokens
        self.seconds += seconds
        self.digest = (self.digest + digest + 2**63) % 2**64 - 2**63  # int64 that wraps, as the sum over workers does


def train_worker(settings: dict[str, bytes]) -> None:
    """Entry point of a Ray Train worker; ``job`` is a pickled :class:`Job`."""
    job: Job = cloudpickle.loads(settings["job"])
    if ray.get(job.board.fatal.remote()) is not None:
        return  # a restart after an error that no restart can mend: end at once, the driver raises it
    try:
        Worker(job, RayRegistry()).run()
    except EpilmError as error:
        ray.get(job.board.fail.remote(type(error).__name__, str(error)))
        raise


class Worker:
    """One worker's training; its rank decides only which rows it takes."""

    def __init__(self, job: Job, registry: Registry) -> None:
        context = ray.train.get_context()
        self.registry = registry
        self.job, self.task, self.config = job, job.task, job.config
        self.rank, self.num_workers = context.get_world_rank(), context.get_world_size()
        self.local_rank, self.node_rank = context.get_local_rank(), context.get_node_rank()
        self.device = get_device()
        torch.set_num_threads(job.config.threads_per_worker or max(1, round(job.config.cpus_per_worker)))
        self.micro_batch = job.config.micro_batch_for(self.num_workers)
        self.dtype = torch.bfloat16 if job.config.bf16 else torch.float32
        self.peak_gflops = 0.0
        self.engine, self.step, self.state = self._build()
        self.evaluations: dict[str, dict[str, float]] = {}
        self.records = Records(job.folder, self.step) if self.rank == 0 else None

    def _build(self) -> tuple[Engine, int, dict[str, Any]]:
        """The engine, from the last registered checkpoint where there is one; the steps done; the task's state."""

        def build(universal: bool) -> Engine:
            torch.manual_seed(self.task.seed)
            model = self.task.build_model().to(self.device)
            return build_engine(
                model,
                self.config,
                num_workers=self.num_workers,
                universal=universal,
                rate_factor=self.task.rate_factor,
            )

        checkpoint = self.registry.latest()
        if checkpoint is None:
            return build(False), 0, self.task.initial_state()
        with checkpoint.as_directory() as folder:
            check_meta(
                read_meta(folder),
                recipe_fingerprint=self.job.recipe_fingerprint,
                data_fingerprint=self.job.data_fingerprint,
            )
        engine, meta = restore(
            checkpoint,
            build,
            num_workers=self.num_workers,
            zero_stage=self.config.zero_stage,
            local_rank=self.local_rank,
            node_rank=self.node_rank,
        )
        return engine, meta.step, meta.task_state

    @property
    def _moment(self) -> Moment:
        return Moment(self.step, self.config.steps, self.state)

    def _measure_peak(self) -> None:
        """The workers' joint matmul rate; the best of several measurements, since a neighbour slows some of them."""
        dist.barrier()  # together, or one would measure while another still loads its model
        rate = torch.tensor([matmul_peak_gflops(self.device, self.dtype, seconds=0.1)], device=self.device)
        self.peak_gflops = max(self.peak_gflops, float(all_reduce_sum(rate)))

    def run(self) -> None:
        self._measure_peak()
        config, span, waiting = self.config, _Span(), time.perf_counter()
        if self.records:
            self.job.board.post.remote({"kind": "start", "step": self.step, "num_workers": self.num_workers})
        for table in () if self.task.finished(self.state) else self._stream():
            span.wait_s += time.perf_counter() - waiting
            totals, grad_norm = self._train_step(table)
            span.add(totals.num_tokens, samples_digest(table), time.perf_counter() - waiting)
            trained_at, self.step, self.evaluations = self._moment, self.step + 1, {}
            last = self.step == config.steps
            if last or self.step % config.log_every_steps == 0:
                self._record(totals, grad_norm, span, trained_at)
                span = _Span()
            if last or (config.eval_every_steps and self.step % config.eval_every_steps == 0):
                self._evaluate(final=last)
            last = last or self.task.finished(self.state)
            scored = self.evaluations and self.task.score(self.evaluations) is not None
            if last or scored or (config.checkpoint_every_steps and self.step % config.checkpoint_every_steps == 0):
                self._checkpoint(totals)
            if last:
                break
            waiting = time.perf_counter()
        if self.records:
            self.records.close()

    def _stream(self) -> Iterator[pa.Table]:
        """Tables of this rank's rows, one a step, from the current step to the last."""
        source = self.task.train_source()
        if source.in_memory:
            for step in range(self.step, self.config.steps):
                yield source.read(step_positions(step, self.rank, self.config.global_batch, self.num_workers))
            return
        plan = StreamPlan(self.step, self.config.steps, self.config.global_batch, self.num_workers, source.row_bytes)
        for segment in plan.segments():
            iterators = None
            if self.rank == 0:
                iterators = segment_dataset(source, segment).streaming_split(self.num_workers, equal=True)
            iterators: Any = broadcast_from_rank_zero(iterators)
            yield from iterate_steps(iterators[self.rank], segment)

    def _train_step(self, table: pa.Table) -> tuple[StepTotals, float]:
        batch = {k: v.to(self.device, non_blocking=True) for k, v in self.task.collate(table).items()}
        totals = run_step(
            self.task,
            self.engine.deepspeed,
            batch,
            self._moment,
            micro_batch=self.micro_batch,
            backward=self.engine.backward,
            all_reduce=all_reduce_sum,
        )
        rate = learning_rate(self.config.optimizer, self.step, self.config.steps)
        return totals, self.engine.apply(rate)

    def _record(self, totals: StepTotals, grad_norm: float, span: _Span, moment: Moment) -> None:
        """Losses are those of the last step; times and the digest are of all steps since the record before."""
        digest = int(all_reduce_sum(torch.tensor([span.digest], dtype=torch.int64, device=self.device)))
        if self.records is None:
            return
        step_s = span.seconds / span.steps
        flops = self.task.flops_per_row() * self.config.global_batch
        self._write(
            {
                "kind": "train",
                "step": self.step,
                "loss": total_loss(self.task, totals),
                **self.task.summarise(totals.sums, totals.counts),
                **self.task.moment_metrics(moment),
                "lr": learning_rate(self.config.optimizer, self.step - 1, self.config.steps),
                "grad_norm": grad_norm,
                "step_time_s": step_s,
                "tokens_per_s": span.tokens / span.seconds,
                "data_wait_share": span.wait_s / span.seconds,
                "mfu": flops / step_s / 1e9 / self.peak_gflops,
                "num_workers": self.num_workers,
                "samples_digest": f"{digest & (2**64 - 1):016x}",
                "time": time.time(),
            }
        )

    def _evaluate(self, *, final: bool) -> None:
        self._measure_peak()
        for name, samples in self.task.eval_sets(final=final).items():
            self.evaluations[name] = metrics = evaluate_set(
                self.task,
                self.engine.deepspeed,
                samples,
                batch_rows=max(1, self.config.micro_batch),
                rank=self.rank,
                num_workers=self.num_workers,
                device=self.device,
                all_reduce=all_reduce_sum,
            )
            if self.records:
                self._write({"kind": "eval", "step": self.step, "set": name, **metrics, "time": time.time()})
        self._observe()

    def _observe(self) -> None:
        """Let the task learn from the evaluation, on rank 0 for all: a decision must not hang on a last bit."""
        before = self._moment
        state = [self.task.observe(self.state, step=self.step, evaluations=self.evaluations)]
        if self.num_workers > 1:
            dist.broadcast_object_list(state, src=0)
        self.state = state[0]
        was, now = self.task.moment_metrics(before), self.task.moment_metrics(self._moment)
        if self.records and was != now and self.step < self.config.steps:  # no step follows the last
            self._write({"kind": "event", "step": self.step, **now, "time": time.time()})

    def _write(self, record: dict[str, Any]) -> None:
        assert self.records is not None
        self.records.write({k: _plain(v) for k, v in record.items()})
        self.job.board.post.remote(record)

    def _checkpoint(self, totals: StepTotals) -> None:
        """Every rank writes its part; Ray registers the checkpoint when all have reported."""
        if self.records:
            self.records.flush()
        meta = CheckpointMeta(
            step=self.step,
            num_workers=self.num_workers,
            zero_stage=self.config.zero_stage,
            recipe_fingerprint=self.job.recipe_fingerprint,
            data_fingerprint=self.job.data_fingerprint,
            task_state=self.state,
        )
        with tempfile.TemporaryDirectory(prefix="epilm-checkpoint-") as folder:
            save_checkpoint(self.engine.deepspeed, folder, meta, rank=self.rank)
            dist.barrier()
            evaluated = {f"{s}/{n}": _plain(v) for s, metrics in self.evaluations.items() for n, v in metrics.items()}
            score = self.task.score(self.evaluations)
            metrics = {
                "step": self.step,
                "tokens_seen": self.step * self.config.global_batch * self.task.tokens_per_row(),
                "loss": total_loss(self.task, totals),
                # of equal scores the earlier step's counts, however many checkpoints are kept
                SCORE: NOT_EVALUATED if score is None or np.isnan(score) else score - 1e-12 * self.step,
                **evaluated,
                "matmul_peak_gflops": self.peak_gflops,
                "num_workers": self.num_workers,
            }
            self.registry.register(metrics, folder)


def _plain(value: Any) -> Any:
    """JSON has no NaN: an accuracy over nothing scored is null."""
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
