"""What the benchmarks share: repeats taken in turn, medians with their spread, a table, a JSON file, the GEMM peak."""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from oleander.datasets.cifar10 import CIFAR10
from oleander.learning.devices import dtype_of, fastest_precision, gpu_name
from oleander.models import fresh_model
from oleander.settings.config import Experiment
from oleander.system.environment import environment
from oleander.system.errors import UserError
from oleander.system.machine import cpu_count

SIDES = (1024, 2048)
"""Sides of the square matrices whose product sets the GEMM peak; the better one counts."""


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of some repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        digits = 0 if self.median >= 20 else 1 if self.median >= 2 else 2
        if self.low == self.high:
            return f"{self.median:.{digits}f}"
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


class _Format(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The docstring as it is, and each flag with its default."""


def arguments(doc: str | None, **flags: tuple[Any, str]) -> argparse.Namespace:
    """Parse the command line: flags with their default and help, --repeats among them, and --json FILE."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=_Format)
    for name, (default, text) in flags.items():
        many = {"nargs": "+", "type": type(default[0])} if isinstance(default, list) else {"type": type(default)}
        parser.add_argument(f"--{name.replace('_', '-')}", default=default, help=text, **many)
    parser.add_argument("--json", type=Path, help="write everything that was measured to this file")
    return parser.parse_args()


def refuse(text: str) -> NoReturn:
    """End with what cannot be, exit code 2, as programs do that are asked for it."""
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(UserError.exit_code)


def in_turn(repeats: int, measures: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Every measure once, then every measure again …: what disturbs the machine meets them all."""
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repeats):
        for name, measure in measures.items():
            found[name].append(measure())
    return found


def ratios(of: Sequence[float], over: Sequence[float]) -> Spread:
    """Repeat by repeat."""
    return Spread.of([a / b for a, b in zip(of, over, strict=True)])


def gemm_rate(precision: str, device: torch.device, seconds: float = 0.3) -> float:
    """FLOP/s of the best product of two square matrices in this precision, with the threads that are set."""
    best = 0.0
    for side in SIDES:
        left, right = torch.randn(2, side, side).to(device, dtype_of(precision))
        torch.mm(left, right)
        spent = 0.0
        while spent < seconds:
            taken = timed(lambda left=left, right=right: torch.mm(left, right), device)
            best, spent = max(best, 2 * side**3 / taken), spent + taken
    return best


def precisions(device: torch.device) -> tuple[str, ...]:
    """Those that are worth measuring: where bf16 is emulated, it takes many times as long as fp32."""
    if fastest_precision(device) == "bf16":
        return ("fp32", "bf16")
    print("bf16 is no faster than fp32 on this machine, and left out")
    return ("fp32",)


def timed(work: Callable[[], object], device: torch.device = torch.device("cpu")) -> float:  # noqa: B008
    """Seconds that ``work`` takes, the device's included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def flops_per_image() -> tuple[float, float]:
    """FLOP of an image's forward pass, and of its forward and backward pass, as PyTorch counts convolutions and products."""
    model, images = fresh_model(Experiment.model, 10, CIFAR10, 0), torch.zeros(4, *CIFAR10.shape)
    with FlopCounterMode(display=False) as forward:
        out = model(images)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    return forward.get_total_flops() / 4, (forward.get_total_flops() + backward.get_total_flops()) / 4


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table that can be pasted into Markdown."""
    console = Console(width=max(120, Console().width), highlight=False)
    table = Table(title=title, title_justify="left", box=None, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")


def write(path: Path | None, **content: Any) -> None:
    """Write what was measured, with the machine and the commit, where a file was asked for."""
    if path is not None:
        about = environment("cuda" if torch.cuda.is_available() else "cpu", gpu_name(), cpu_count())
        about["command"] = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        path.write_text(json.dumps({"environment": about, **content}, indent=1, default=vars))
