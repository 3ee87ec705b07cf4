"""Where tensors are worked on, and how many threads work."""

import os

import torch


def prepare_device(threads: int) -> torch.device:
    """CUDA where this process has one, else the CPU with this many threads; deterministic kernels on either."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may sum in any order
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def gpu_count() -> int:
    """CUDA devices that this process sees."""
    return torch.cuda.device_count()


def gpu_name() -> str | None:
    """The CUDA devices in words, with their memory and CUDA's version; None without one."""
    if not gpu_count():
        return None
    devices = [torch.cuda.get_device_properties(i) for i in range(gpu_count())]
    return ", ".join(f"{d.name} {d.total_memory / 2**30:.0f} GiB" for d in devices) + f", CUDA {torch.version.cuda}"


def cpu_count() -> int:
    """CPUs that this process may run on (its affinity counts; a quota of CPU time, as ``docker --cpus`` sets, does not)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
