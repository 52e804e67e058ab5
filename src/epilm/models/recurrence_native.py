"""Recurrences of LSTMs by a compiled kernel (``recurrence.cpp``): float32 on CPUs, several times as fast as torch's operators.

The kernel is compiled for this processor on first use (half a minute; ``$CXX`` or g++) and kept in
``$TORCH_EXTENSIONS_DIR`` or ``~/.cache/torch_extensions``; of several processes one compiles and the others wait. Where
that fails, one line is logged and :func:`kernel` is None: the caller then takes torch's operators.
``EPILM_NATIVE=0`` in the environment turns the kernel off.

``torch.utils.cpp_extension.load`` is not used: its lock outlives a killed process, and all others then wait for ever.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SWITCH = "EPILM_NATIVE"
SOURCE = Path(__file__).with_name("recurrence.cpp")
FLAGS = ("-O3", "-march=native", "-std=c++20", "-fPIC", "-shared", "-fopenmp", "-Wno-psabi")
BUILD_LIMIT_S = 600

log = logging.getLogger(__name__)


def _processor() -> str:
    """Model and instruction sets: a home folder may be shared by machines that cannot run each other's code."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model", "flags", "Features", "CPU part")
    return "\n".join(line for line in lines if line.startswith(wanted))


def _command(environment: Mapping[str, str]) -> list[str]:
    root = Path(torch.__file__).parent
    include = [f"-I{root / 'include'}", f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]
    link = [f"-L{root / 'lib'}", "-ltorch_cpu", "-lc10"]
    return [*shlex.split(environment.get("CXX", "") or "g++"), *FLAGS, *include, str(SOURCE), *link]


def _library_path(environment: Mapping[str, str]) -> Path:
    """Where the library of this source, compiler, torch and processor is kept."""
    root = environment.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions"
    parts = [SOURCE.read_text(), *_command(environment), torch.__version__, _processor()]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return Path(root) / "epilm_recurrence" / key / "recurrence.so"


def build(environment: Mapping[str, str] = os.environ) -> Path:
    """The library, compiled if it is not there yet.

    Raises:
        OSError: no compiler, or a folder that cannot be written.
        subprocess.SubprocessError: the compiler failed or took longer than ``BUILD_LIMIT_S``.
    """
    library = _library_path(environment)
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    with (library.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system lets go of it when the process ends, however that comes about
        if not library.exists():
            for left in library.parent.glob("tmp*"):  # by a process that was killed while it compiled
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=library.parent) as folder:
                made = Path(folder) / library.name
                command = [*_command(environment), "-o", str(made)]
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=BUILD_LIMIT_S)
                made.replace(library)
    return library


@functools.cache
def _loaded() -> Any:
    """The operators, or None with the reason logged; asked for once a process."""
    try:
        torch.ops.load_library(build())
    except (OSError, RuntimeError, subprocess.SubprocessError) as fault:
        said = getattr(fault, "stderr", None) or ""
        log.warning("The LSTM kernel is not to be had, torch's operators are taken: %s %s", fault, said[:500])
        return None
    return torch.ops.epilm_recurrence


def kernel() -> Any:
    """The operators ``forward`` and ``backward`` of the kernel; None if it is turned off or could not be built."""
    return None if os.environ.get(SWITCH) == "0" else _loaded()


class NativeRecurrence(torch.autograd.Function):
    """Hidden states [R, T, N, H] of inputs [R, T, N, I], weights [R, 4H, I] and [R, 4H, H], and a bias [R, 4H].

    Float32 on the CPU alone. R = recurrences, T = steps, N = rows, I = input size, H = hidden size; each at least 1. With
    ``keep`` false the backward pass is not prepared.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, keep: bool) -> Tensor:
        read = [part.contiguous() for part in (inputs, weight_ih, weight_hh, bias)]
        hidden, kept = kernel().forward(*read, keep)
        if keep:
            ctx.operators = kernel()
            ctx.save_for_backward(*read[:3], hidden, kept)
        return hidden[..., : weight_hh.shape[-1]]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_hidden: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        inputs, weight_ih, weight_hh, hidden, kept = ctx.saved_tensors
        more = hidden.shape[-1] - grad_hidden.shape[-1]
        given = torch.nn.functional.pad(grad_hidden, (0, more)) if more else grad_hidden
        of_inputs = ctx.needs_input_grad[0]
        grad_inputs, *grads = ctx.operators.backward(
            given.contiguous(), inputs, weight_ih, weight_hh, hidden, kept, of_inputs
        )
        return grad_inputs if of_inputs else None, *grads, None
