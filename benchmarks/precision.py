"""The same runs in fp32 and in bf16, seed by seed: do their scores differ by less than those of two seeds?

Each run is a process of simulate.py with its folder below --out; runs that are there and whole are not repeated.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import arguments, show, write

ROOT = Path(__file__).parent.parent
PRECISIONS = ("fp32", "bf16")


def main() -> None:
    """Run what is missing, print, write."""
    told = arguments(
        __doc__, scenario=("blend", "as simulate.py's"), dataset=("toy", "as simulate.py's"), weights=("auto", "as simulate.py's"),
        seeds=([0, 1, 2, 3, 4], "seeds"), out=("runs/precision", "folder of the runs"),
    )  # fmt: skip
    flags = [
        "--scenario",
        told.scenario,
        "--dataset",
        told.dataset,
        "--weights",
        told.weights,
        "--evaluate-asr",
        "last",
    ]
    found = {p: [run(p, seed, flags, Path(told.out)) for seed in told.seeds] for p in PRECISIONS}
    rows: list[list[object]] = []
    for i, seed in enumerate(told.seeds):
        rows.append([seed, *(f"{100 * found[p][i][score]:.2f}" for score in ("mta", "asr") for p in PRECISIONS)])
    for name, of in (("mean", statistics.mean), ("standard deviation", statistics.stdev)):
        rows.append(
            [name, *(f"{100 * of([r[score] for r in found[p]]):.2f}" for score in ("mta", "asr") for p in PRECISIONS)]
        )
    show(f"{told.scenario} after the last round, %", ("seed", "MTA fp32", "MTA bf16", "ASR fp32", "ASR bf16"), rows)
    for score in ("mta", "asr"):
        apart = [100 * (b[score] - a[score]) for a, b in zip(found["fp32"], found["bf16"], strict=True)]
        spread = 100 * statistics.stdev([r[score] for r in found["fp32"]])
        print(
            f"{score.upper()}: bf16 - fp32 on average {statistics.mean(apart):+.2f} points, at most {max(map(abs, apart)):.2f}; "
            f"standard deviation over seeds in fp32 {spread:.2f}"
        )
    write(told.json, measured=found)


def run(precision: str, seed: int, flags: list[str], out: Path) -> dict[str, Any]:
    """The summary of one run."""
    folder = out.resolve() / f"{precision}-{seed}"
    if not (folder / "summary.json").exists():
        command = [
            sys.executable,
            "simulate.py",
            *flags,
            "--precision",
            precision,
            "--seed",
            str(seed),
            "--out",
            str(folder),
        ]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return dict(json.loads((folder / "summary.json").read_text()))


if __name__ == "__main__":
    main()
