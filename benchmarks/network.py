"""What a real network costs beside the simulation, when training costs next to nothing: seconds a round, start-up, memory.

Six clients on this machine, all of them in each round; each trains a few images once, so that what is measured is Flower, the
wire and the processes. Ways are taken in turn, repeat by repeat; rounds after the first count (a client's first builds its model).
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.clients import ROOT, draw
from benchmarks.common import Spread, arguments, ratios, show, write
from oleander.experiment.records import read_rounds, read_summary
from oleander.network.address import free_port

WAYS = {
    "simulation": [],
    "network": [],
    "network, keys": ["--keys"],
    "network, stock": ["--stock"],
}


def main() -> None:
    """Measure, print, write."""
    told = arguments(
        __doc__, clients=(6, "clients"), rounds=(4, "rounds"), repeats=(3, "repeats of each way"),
        ways=(list(WAYS), "of " + ", ".join(WAYS)),
    )  # fmt: skip
    found: dict[str, list[dict[str, float]]] = {way: [] for way in told.ways}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        draw(folder / "images", 200)
        keys = folder / "keys"
        _python("server", "keys", "--clients", told.clients, "--out", keys)
        for repeat in range(told.repeats):
            for way in told.ways:
                out = folder / f"{way}-{repeat}".replace(" ", "-")
                flags = [
                    "--clients", told.clients, "--clients-per-round", told.clients, "--rounds", told.rounds,
                    "--samples-per-client", 8, "--local-epochs", 1, "--dataset", f"folder:{folder / 'images'}",
                    "--weights", "fresh", "--partition", "iid", "--evaluate", "last", "--out", out,
                ]  # fmt: skip
                found[way].append(
                    measured(way, [*WAYS[way], *[keys] * ("--keys" in WAYS[way])], told.clients, flags, out)
                )
                print(f"{way}: {found[way][-1]}", flush=True)
    hashes = {run["hash"] for runs in found.values() for run in runs}
    rows = []
    for way, runs in found.items():
        seconds = [run["round"] for run in runs]
        base = [run["round"] for run in found[told.ways[0]]]
        columns = [Spread.of([float(run[name]) for run in runs]) for name in ("round", "startup", "total", "megabytes")]
        rows.append([way, *columns[:1], ratios(seconds, base), *columns[1:]])
    columns = ("way", "seconds a round", f"over {told.ways[0]}", "start-up s", "whole run s", "MB a client")
    show(f"{told.clients} clients, all in each round", columns, rows)
    print(f"the same model in all of them: {len(hashes) == 1}")
    write(told.json, measured=found)


def measured(way: str, how: list[object], clients: int, flags: list[object], out: Path) -> dict[str, float]:
    """One run: seconds of a later round, of the start-up and of the whole, and the memory that a client has of its own."""
    began = time.perf_counter()
    peaks: dict[int, float] = {}
    started = []
    if way == "simulation":
        server = _start("simulate", *flags)
    else:
        port = free_port()
        server = _start("server", *flags, "--port", port, *how)
        where = ("--server", f"127.0.0.1:{port}")
        started = [_start("clients", *where, "--client-id", i, *how) for i in range(clients)]
    while server.poll() is None:
        _note_memory(started, peaks)
        time.sleep(0.5)
    seconds = time.perf_counter() - began
    for client in started:
        client.wait(60)
    if server.returncode:
        raise SystemExit(f"{way} failed; {out} says why")
    rounds, summary = read_rounds(out)[2:], read_summary(out)
    return {
        "round": sum(r.seconds["train"] + r.seconds["aggregate"] for r in rounds) / len(rounds),
        "startup": summary.seconds["startup"],
        "total": seconds,
        "megabytes": sum(peaks.values()) / max(len(peaks), 1),
        "hash": summary.model_sha256,  # type: ignore[dict-item]
    }


def _note_memory(started: "list[subprocess.Popen[bytes]]", peaks: dict[int, float]) -> None:
    """The most that each client and all that it started had at a time, in MB."""
    for client in started:
        try:
            tree = [psutil.Process(client.pid), *psutil.Process(client.pid).children(recursive=True)]
            now = sum(process.memory_full_info().uss for process in tree) / 1e6
        except psutil.Error:
            continue
        peaks[client.pid] = max(peaks.get(client.pid, 0.0), now)


def _start(module: str, *words: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _python(module: str, *words: object) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, words)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
