"""Seconds a round and memory as the virtual clients grow: what Flower, Ray and the server cost.

Clients send the global model straight back, or train on their few images (--work train). Memory is each process's own, without
what it shares with Ray, read after each round: the server's, and that of all processes of clients together.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import Spread, arguments, show, write

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Measure, print, write."""
    told = arguments(
        __doc__, sizes=(["6x5", "100x10", "100x50", "1000x10", "1000x50", "10000x100"], "clients x clients a round"),
        rounds=(20, "rounds"), strategy=("fedavg", "as simulate.py's"), samples=(5, "images a client"),
        work=("nothing", "what clients do: nothing, or train"), model=("resnet18light", "as simulate.py's"),
        dataset=(str(ROOT / "benchmarks" / "random_images.py"), "images; default: random ones of CIFAR-10's number and size"),
    )  # fmt: skip
    flags = ["--rounds", str(told.rounds), "--strategy", told.strategy, "--samples-per-client", str(told.samples),
             "--model", told.model, "--dataset", told.dataset, "--weights", "fresh", "--partition", "iid"]  # fmt: skip
    rows, measured = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for size in told.sizes:
            found = measured[size] = run(size, Path(scratch) / size, told.work, flags)
            rows.append([size.replace("x", " x "), found["startup"], f"{found['seconds'][0]:.1f}", *later(found)])
    columns = ("clients x a round", "startup s", "first round s", "later rounds s", "server MB after round 1", "half way",
               "at the end", "clients MB after round 1", "half way", "at the end")  # fmt: skip
    show(f"A round in which clients {told.work}, {told.strategy}, {told.samples} images each", columns, rows)
    write(told.json, measured=measured)


def later(found: dict[str, list[float]]) -> list[object]:
    """Seconds of the rounds after the first, and megabytes at three of them."""
    seconds = found["seconds"]
    places = [0, len(seconds) // 2, len(seconds) - 1]
    memory = [found[whose][place] for whose in ("server", "clients") for place in places]
    return [Spread.of(seconds[1:] or seconds), *memory]


def run(size: str, out: Path, work: str, flags: list[str]) -> dict[str, list[float]]:
    """One run in a process of its own."""
    clients, a_round = size.split("x")
    command = [sys.executable, "-m", "benchmarks.noop", work, *flags]
    command += ["--clients", clients, "--clients-per-round", a_round, "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    records = [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()][1:]
    memory = [json.loads(line) for line in (out / "memory.jsonl").read_text().splitlines()][1:]
    startup = json.loads((out / "summary.json").read_text())["seconds"]["startup"]
    return {
        "seconds": [r["seconds"]["train"] + r["seconds"]["aggregate"] + r["seconds"]["evaluate"] for r in records],
        **{whose: [round(line[whose] / 1e6) for line in memory] for whose in ("server", "clients")},
        "startup": round(startup, 1),
    }


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    print(f"{time.perf_counter() - began:.0f} s")
