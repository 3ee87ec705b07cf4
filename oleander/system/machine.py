"""What the machine has. Free of PyTorch, whose import takes longer than Ray needs to start."""

import ctypes
import os
import platform
from pathlib import Path


def cpu_count() -> int:
    """CPUs that this process may run on (its affinity counts; a quota of CPU time, as ``docker --cpus`` sets, does not)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's own name for itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def return_memory() -> None:
    """Let glibc give freed memory back to the system: a server's many threads would each keep some. Elsewhere, nothing."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
