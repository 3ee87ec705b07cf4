"""A whole scenario as users run it, from the shell to the end of the process, against ``plain_loop.py`` doing the same work.

Same images, shards, starting model, training and evaluations (MTA every round, MTA and ASR at the end); the plain loop's
result is worked out by code of its own and checks ours. The baseline of the starting model, which the plain loop does not
measure at all, is remembered from a warm-up. Each repeat has a seed of its own, so that no score of it is known beforehand.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.common import Spread, arguments, ratios, show, write

ROOT = Path(__file__).parent.parent
PHASES = ("seconds", "startup", "train", "evaluate", "other", "gigabytes")
"""What is measured of a run: all its seconds, those of its phases, and its memory."""


def main() -> None:
    """Measure, print, write."""
    told = arguments(
        __doc__, dataset=("toy", "as simulate.py's --dataset"), weights=("", "safetensors file to start from (toy: the shipped one)"),
        repeats=(3, "repeats, each with the next seed"), plain_batches=([64, 256, 1000], "evaluation batches of the plain loop"),
        precisions=(["fp32", "auto"], "ours"), rounds=(5, "rounds"),
    )  # fmt: skip
    weights = told.weights or str(ROOT / "oleander/learning/checkpoints/toy.safetensors")
    what = ["--dataset", told.dataset, "--weights", weights, "--rounds", str(told.rounds), "--scenario", "blend"]
    ways: dict[str, list[str]] = {f"plain, batch {b}": [*what, "--eval-batch", str(b)] for b in told.plain_batches}
    ways |= {f"ours {p}": [*what, "--precision", p, "--evaluate-asr", "last"] for p in told.precisions}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as scratch:
        for name, flags in ways.items():
            if name.startswith("ours"):  # decode the images, remember the baseline
                run(name, [*flags, "--rounds", "1"], Path(scratch) / f"warm-{name}")
        for seed in range(told.repeats):
            for name, flags in ways.items():
                found[name].append(run(name, [*flags, "--seed", str(seed)], Path(scratch) / f"{name}-{seed}"))
                print(name, seed, found[name][-1], flush=True)
    rows = []
    for name, runs in found.items():
        rows.append([
            name, *measures(runs), *percents(runs),
            *(ratios([r["seconds"] for r in found[f"plain, batch {b}"]], [r["seconds"] for r in runs]) for b in told.plain_batches),
        ])  # fmt: skip
    columns = ("way", "seconds", "startup", "train", "evaluate", "other", "GB", "MTA %", "ASR %")
    show(
        f"blend on {told.dataset.partition(':')[0]}, {told.rounds} rounds",
        (*columns, *(f"x plain {b}" for b in told.plain_batches)),
        rows,
    )
    write(told.json, measured=found)


def measures(runs: list[dict[str, Any]]) -> list[Spread]:
    """PHASES over the repeats."""
    return [Spread.of([run[phase] for run in runs]) for phase in PHASES]


def percents(runs: list[dict[str, Any]]) -> list[Spread]:
    """MTA and ASR over the repeats."""
    return [Spread.of([100 * run[score] for run in runs]) for score in ("mta", "asr")]


def run(name: str, flags: list[str], out: Path) -> dict[str, Any]:
    """One process from start to end: its seconds, phases, peak memory with all its children, and scores."""
    ours = name.startswith("ours")
    program = [str(ROOT / "simulate.py"), "--out", str(out)] if ours else ["-m", "benchmarks.plain_loop"]
    began = time.perf_counter()
    process = psutil.Popen([sys.executable, *program, *flags], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    peak = Peak(process)
    printed, _ = process.communicate()
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{name} ended with {process.returncode}:\n{printed[-2000:]}")
    if ours:
        summary = json.loads((out / "summary.json").read_text())
        phases, mta, asr = summary["seconds"], summary["mta"], summary["asr"]
        found = {k: phases[k] for k in ("startup", "train", "evaluate")}
    else:
        said = json.loads(printed.splitlines()[-1])
        mta, asr = said["scores"][-1]["mta"], said["scores"][-1]["asr"]
        found = said["seconds"]
    other = seconds - sum(found.values())
    return {"seconds": seconds, **found, "other": other, "gigabytes": peak.end() / 1e9, "mta": mta, "asr": asr}


class Peak:
    """Watches the memory of a process and its children (proportional set size: shared pages count once)."""

    def __init__(self, process: psutil.Process) -> None:
        self.most, self.process, self.over = 0, process, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.over.wait(2):
            total = 0
            for one in [self.process, *self._children()]:
                try:
                    total += one.memory_full_info().pss
                except psutil.Error:
                    continue
            self.most = max(self.most, total)

    def _children(self) -> list[psutil.Process]:
        try:
            return self.process.children(recursive=True)
        except psutil.Error:
            return []

    def end(self) -> int:
        """The most that was seen, in bytes."""
        self.over.set()
        self.thread.join()
        return self.most


if __name__ == "__main__":
    main()
