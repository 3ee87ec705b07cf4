"""What the machine has. Free of PyTorch, whose import takes longer than Ray needs to start."""

import os


def cpu_count() -> int:
    """CPUs that this process may run on (its affinity counts; a quota of CPU time, as ``docker --cpus`` sets, does not)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
