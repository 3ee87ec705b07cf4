"""Seconds a round and memory as the virtual clients grow: what Flower, Ray and the server cost when training costs nothing.

Clients send the global model straight back. The server's own memory (without what it shares with Ray) is read after each round.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common import Spread, arguments, show, write

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Measure, print, write."""
    told = arguments(
        __doc__, sizes=(["6x5", "100x10", "100x50", "1000x10", "1000x50"], "clients x clients a round"),
        rounds=(20, "rounds"), strategy=("fedavg", "as simulate.py's"),
    )  # fmt: skip
    rows, measured = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        images = Path(scratch) / "images"
        draw(images, 1000)
        for size in told.sizes:
            found = measured[size] = run(size, images, Path(scratch) / size, told.rounds, told.strategy)
            seconds, memory = found["seconds"], found["megabytes"]
            later = Spread.of(seconds[1:] or seconds)
            rows.append(
                [
                    size.replace("x", " x "),
                    found["startup"],
                    f"{seconds[0]:.1f}",
                    later,
                    *memory[:: max(1, len(memory) // 2)][:2],
                    memory[-1],
                ]
            )
    columns = (
        "clients x a round",
        "startup s",
        "first round s",
        "later rounds s",
        "MB after round 1",
        "half way",
        "at the end",
    )
    show(f"A round without training, {told.strategy}", columns, rows)
    write(told.json, measured=measured)


def run(size: str, images: Path, out: Path, rounds: int, strategy: str) -> dict[str, list[float]]:
    """One run in a process of its own."""
    clients, a_round = size.split("x")
    flags = [
        "--clients", clients, "--clients-per-round", a_round, "--rounds", str(rounds), "--samples-per-client", "1",
        "--dataset", f"folder:{images}", "--weights", "fresh", "--strategy", strategy, "--partition", "iid", "--out", str(out),
    ]  # fmt: skip
    subprocess.run([sys.executable, "-m", "benchmarks.noop", *flags], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    records = [json.loads(line) for line in (out / "rounds.jsonl").read_text().splitlines()][1:]
    memory = [json.loads(line) for line in (out / "memory.jsonl").read_text().splitlines()][1:]
    startup = json.loads((out / "summary.json").read_text())["seconds"]["startup"]
    return {
        "seconds": [r["seconds"]["train"] + r["seconds"]["aggregate"] + r["seconds"]["evaluate"] for r in records],
        "megabytes": [round(bytes_ / 1e6) for bytes_ in memory],
        "startup": round(startup, 1),
    }


def draw(root: Path, count: int) -> None:
    """An image folder of two classes, as many training images as there can be clients."""
    rng = np.random.default_rng(0)
    for split, images in (("train", count), ("test", 20)):
        for name in ("dark", "light"):
            (root / split / name).mkdir(parents=True)
            for i in range(images // 2):
                pixels = rng.integers(0, 128, (32, 32, 3), dtype=np.uint8) + np.uint8(100 * (name == "light"))
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")


if __name__ == "__main__":
    began = time.perf_counter()
    main()
    print(f"{time.perf_counter() - began:.0f} s")
