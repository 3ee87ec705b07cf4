"""A study's throughput: seconds a run, from the first run's end to the last one's, as runs go on beside each other and are drawn.

Each way is the same study of ``dba`` on digits, in a process of its own; the ways are taken in turn. The first two run ends are
left out, since what comes before them is the start of Ray and of the clients' processes. Beside the wall clock stands the time
of all processors that the whole process took, its start included, for each run. Every way must come to the same models.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import Spread, arguments, in_turn, ratios, show, write

ROOT = Path(__file__).parent.parent
WAYS = {
    "one by one, with pages": ["--runs-at-once", "1", "--pages", "all"],
    "one by one": ["--runs-at-once", "1", "--pages", "none"],
    "two at once": ["--runs-at-once", "2", "--pages", "none"],
    "three at once": ["--runs-at-once", "3", "--pages", "none"],
    "as by default": [],
}
LEFT_OUT = 2


def main() -> None:
    """Measure, print, write."""
    told = arguments(__doc__, runs=(48, "runs of a study"), repeats=(3, "studies of each way"))
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}

    def measure(name: str) -> float:
        measured[name].append(studied(told.runs, WAYS[name]))
        print(name, {key: value for key, value in measured[name][-1].items() if key != "models"}, flush=True)
        return float(measured[name][-1]["seconds_a_run"])

    found = in_turn(told.repeats, {name: lambda name=name: measure(name) for name in WAYS})
    models = {json.dumps(one.pop("models")) for ones in measured.values() for one in ones}
    first = next(iter(found.values()))
    rows = [
        [name, Spread.of(seconds), Spread.of([m["processor_seconds_a_run"] for m in measured[name]]),
         Spread.of([m["whole"] for m in measured[name]]), ratios(first, seconds)]
        for name, seconds in found.items()
    ]  # fmt: skip
    columns = ("way", "seconds a run", "processor seconds a run", "whole process, s", f"x {next(iter(found))}")
    show(f"a study of {told.runs} runs of dba on digits", columns, rows)
    print("\nall ways came to the same models" if len(models) == 1 else "\nTHE WAYS CAME TO DIFFERENT MODELS")
    write(told.json, measured=measured)


def studied(runs: int, flags: list[str]) -> dict[str, Any]:
    """One study in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "study"
        what = [
            "--scenario",
            "dba",
            "--dataset",
            "digits",
            "--sweep",
            "malicious=1,2,3",
            "--repeats",
            str(-(-runs // 3)),
        ]
        command = [sys.executable, str(ROOT / "simulate.py"), *what, "--out", str(out), *flags]
        before, began = sum(os.times()[2:4]), time.monotonic()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        whole, after = time.monotonic() - began, sum(os.times()[2:4])
        files = sorted(out.glob("runs/*/summary.json"), key=lambda file: file.stat().st_mtime)
        models = {file.parent.name: json.loads(file.read_text())["model_sha256"] for file in files}
        ends = [file.stat().st_mtime for file in files]
    return {
        "seconds_a_run": (ends[-1] - ends[LEFT_OUT - 1]) / (len(ends) - LEFT_OUT),
        "processor_seconds_a_run": (after - before) / len(ends), "whole": whole, "models": dict(sorted(models.items())),
    }  # fmt: skip


if __name__ == "__main__":
    main()
