"""Where tensors are worked on, in which precision, and how many threads work."""

import functools
import logging
import os
import re
import time
from typing import Literal

import torch

from oleander.system.cache import Notify, recall, remember
from oleander.system.machine import cpu_name

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
log = logging.getLogger("oleander")
MOST_SPEEDUP = 1000.0
NATIVE_SPEEDUP = 1.3
"""How much faster bf16 must be than fp32 to count as the hardware's own: emulated it is several times slower."""


def prepare_device(threads: int) -> torch.device:
    """CUDA where this process has one, else the CPU with this many threads; deterministic kernels on either.

    On CPUs nothing that is used here depends on more than the number of threads; to ask for deterministic algorithms there
    would change no bit, and import PyTorch's compiler, which takes longer than a small client trains.
    """
    torch.set_num_threads(threads)
    device = default_device()
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may sum in any order
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # all is written before it is read
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32
    return device


def default_device() -> torch.device:
    """CUDA where this process has one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@functools.lru_cache(maxsize=4)
def fastest_precision(device: torch.device, notify: Notify = log.warning) -> Literal["fp32", "bf16"]:
    """bf16 where products of bf16 matrices are measured to be faster than those of fp32, else fp32.

    Measured once for a machine and a PyTorch, and remembered: a busy moment must not make two runs differ.
    """
    key = re.sub(r"[^\w.]+", "-", f"{hardware(device)}-{torch.__version__}")
    speedup = recall("bf16_speedup", key, notify)
    if speedup is not None and not (type(speedup) in (int, float) and 0 < speedup < MOST_SPEEDUP):
        notify(f"the remembered bf16_speedup {speedup!r:.60} cannot be; measuring it again")
        speedup = None
    if speedup is None:
        speedup = bf16_speedup(device)
        remember("bf16_speedup", key, speedup)
    return "bf16" if speedup > NATIVE_SPEEDUP else "fp32"


def hardware(device: torch.device) -> str:
    """The processor that ``device`` is, as far as results and speed depend on it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_name()} {torch.backends.cpu.get_cpu_capability()}"


def bf16_speedup(device: torch.device, size: int = 256, repeats: int = 200) -> float:
    """Time of a product of two fp32 matrices (size, size) over that of bf16 ones: the best of ``repeats``, taken in turn.

    Small and many, so that some of them are not disturbed by whatever else runs; some 0.1 s in all. Where bf16 is emulated
    it takes 50 times as long, and a tenth of the turns tells.
    """
    best: dict[torch.dtype, float] = {}
    pairs = {dtype: torch.ones(2, size, size, device=device, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)}
    for turn in range(repeats):
        if turn > repeats // 10 and best[torch.bfloat16] > 4 * best[torch.float32]:
            break
        for dtype, (left, right) in pairs.items():
            _wait_for(device)
            began = time.perf_counter()
            torch.mm(left, right)
            _wait_for(device)
            best[dtype] = min(best.get(dtype, float("inf")), time.perf_counter() - began)
    return best[torch.float32] / best[torch.bfloat16]


def dtype_of(precision: str) -> torch.dtype:
    """The type that convolutions work in.

    Raises:
        ValueError: a precision that is not one, such as an ``auto`` that nobody has resolved.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: wanted one of {', '.join(PRECISIONS)}")
    return PRECISIONS[precision]


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context of one forward pass in this precision: one a step, since it keeps the weights it has cast."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype_of(precision) is torch.bfloat16)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def gpu_count() -> int:
    """CUDA devices that this process sees."""
    return torch.cuda.device_count()


def gpu_name() -> str | None:
    """The CUDA devices in words, with their memory and CUDA's version; None without one."""
    if not gpu_count():
        return None
    devices = [torch.cuda.get_device_properties(i) for i in range(gpu_count())]
    return ", ".join(f"{d.name} {d.total_memory / 2**30:.0f} GiB" for d in devices) + f", CUDA {torch.version.cuda}"
