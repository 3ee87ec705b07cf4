"""Where tensors are worked on, and how many threads work."""

import os

import torch


def prepare_device(threads: int) -> torch.device:
    """CUDA where this process has one, else the CPU with this many threads; deterministic kernels on either."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may sum in any order
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cpu_count() -> int:
    """CPUs that this process may use (a container's or a task set's limit counts)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
