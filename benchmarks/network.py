"""What a real network costs beside the simulation: seconds a round, start-up, memory, and what a round is made of.

All clients are on this machine and in each round. With --work nothing each trains a few images once, so that what is measured is
Flower, the wire and the processes; with --work train a round is one of ``blend`` with normal shards. Ways are taken in turn, repeat
by repeat; rounds after the first count (a client's first builds its model). CPU seconds say what a round costs on a busy machine
too: they are those of the server, of its gate, of the SuperLink, and of all clients together, from the end of the first round to
that of the last, before that is scored.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.clients import ROOT
from benchmarks.common import Spread, arguments, ratios, show, write
from oleander.experiment.records import STATE, read_rounds, read_summary
from oleander.network.address import free_port

WAYS = {
    "simulation": [],
    "network": [],
    "network, keys": ["--keys"],
    "network, stock": ["--stock"],
}
RANDOM = str(ROOT / "benchmarks" / "random_images.py")
WORK: dict[str, list[object]] = {
    "nothing": ["--samples-per-client", 8, "--local-epochs", 1, "--weights", "fresh", "--partition", "iid"],
    "train": ["--scenario", "blend"],
}
PARTS = ("server", "gate", "SuperLink", "clients")
LOOK_SECONDS = 0.1
WEIGH_SECONDS = 2.0
"""How often memory is looked at, which takes the system 10 ms for each client: more often, it would slow down what is measured."""


def main() -> None:
    """Measure, print, write."""
    told = arguments(
        __doc__, clients=(6, "clients"), rounds=(4, "rounds"), repeats=(3, "repeats of each way"),
        ways=(list(WAYS), "of " + ", ".join(WAYS)), work=("nothing", "what clients do: nothing, or train"),
        dataset=(RANDOM, "as simulate.py's"),
    )  # fmt: skip
    found: dict[str, list[Measured]] = {way: [] for way in told.ways}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if "network, keys" in told.ways:
            _python("server", "keys", "--clients", told.clients, "--out", folder / "keys")
        for repeat in range(told.repeats):
            for way in told.ways:
                out = folder / f"{way}-{repeat}".replace(" ", "-").replace(",", "")
                flags = [
                    *WORK[told.work], "--clients", told.clients, "--clients-per-round", told.clients,
                    "--rounds", told.rounds, "--dataset", told.dataset, "--evaluate", "last", "--out", out,
                ]  # fmt: skip
                how = [*WAYS[way], *[folder / "keys"] * ("--keys" in WAYS[way])]
                found[way].append(measured(way, how, told.clients, flags, out))
                print(f"{way}: {found[way][-1]}", flush=True)
    _print(found, told.clients, told.ways[0])
    write(told.json, measured=found)


def _print(found: "dict[str, list[Measured]]", clients: int, first: str) -> None:
    base = [run.round for run in found[first]]
    rows, parts = [], []
    for way, runs in found.items():
        seconds, *rest = (
            Spread.of([getattr(run, name) for run in runs]) for name in ("round", "startup", "total", "megabytes")
        )
        rows.append([way, seconds, ratios([run.round for run in runs], base), *rest])
        spreads = [Spread.of([run.cpu.get(part, 0.0) for run in runs]) for part in PARTS]
        parts.append([way, *spreads, Spread.of([sum(run.cpu.values()) for run in runs])])
    columns = ("way", "seconds a round", f"over {first}", "start-up s", "whole run s", "MB a client")
    show(f"{clients} clients, all in each round", columns, rows)
    show("CPU seconds a round", ("way", *PARTS, "together"), parts)
    print(f"the same model in all of them: {len({run.hash for runs in found.values() for run in runs}) == 1}")


@dataclass
class Measured:
    """One run."""

    round: float
    """Seconds of a round after the first."""
    startup: float
    total: float
    megabytes: float
    """What a client has of its own at most; 0 in a simulation."""
    cpu: dict[str, float]
    """Part → CPU seconds of a round after the first."""
    hash: str


@dataclass
class Watch:
    """CPU seconds and memory of a run's processes, looked at while it goes on."""

    server: psutil.Process
    clients: list[psutil.Process]
    peaks: dict[int, float] = field(default_factory=dict)
    """Client's process → the most that it and all that it started had at a time, in MB."""
    spent: dict[int, tuple[str, float]] = field(default_factory=dict)
    """Process → the part that it is, and its CPU seconds when it was last seen."""
    before: dict[int, float] = field(default_factory=dict)
    """Process → its CPU seconds at the end of the first round."""
    weighed: float = 0.0
    """When memory was last looked at."""

    def look(self) -> None:
        """Now."""
        for process, part in self._processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self.spent[process.pid] = part, times.user + times.system
        due = time.monotonic() - self.weighed > WEIGH_SECONDS
        self.weighed = time.monotonic() if due else self.weighed
        for client in self.clients if due else []:
            with contextlib.suppress(psutil.Error):
                now = sum(process.memory_full_info().uss for process in _tree(client)) / 1e6
                self.peaks[client.pid] = max(self.peaks.get(client.pid, 0.0), now)

    def begin(self) -> None:
        """What was spent so far does not count."""
        self.before = {pid: seconds for pid, (_, seconds) in self.spent.items()}

    def _processes(self) -> Iterator[tuple[psutil.Process, str]]:
        yield self.server, "server"
        for process in _tree(self.server)[1:]:
            with contextlib.suppress(psutil.Error):
                command = " ".join(process.cmdline())
                is_gate, is_link = (
                    "oleander.network.gate" in command,
                    "superlink" in command or "network.link" in command,
                )
                yield (
                    process,
                    "gate" if is_gate else "SuperLink" if is_link else "clients" if not self.clients else "server",
                )
        for client in self.clients:
            for process in _tree(client):
                yield process, "clients"

    def cpu(self, rounds: int) -> dict[str, float]:
        """Part → CPU seconds of each of so many rounds."""
        parts = dict.fromkeys(PARTS, 0.0)
        for pid, (part, seconds) in self.spent.items():
            parts[part] += (seconds - self.before.get(pid, 0.0)) / rounds
        return parts


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def measured(way: str, how: list[object], clients: int, flags: list[object], out: Path) -> Measured:
    """One run, in processes of its own."""
    began = time.perf_counter()
    started = []
    if way == "simulation":
        server = _start("simulate", *flags)
    else:
        port = free_port()
        server = _start("server", *flags, "--port", port, *how)
        where = ("--server", f"127.0.0.1:{port}")
        started = [_start("clients", *where, "--client-id", i, *how) for i in range(clients)]
    watch = Watch(psutil.Process(server.pid), [psutil.Process(client.pid) for client in started])
    over = -1
    while server.poll() is None:
        if over < _last(flags):  # what comes after the last round is no round's
            watch.look()
        over = max(over, _rounds(out))
        if over == 1 and not watch.before:
            watch.begin()
        time.sleep(LOOK_SECONDS)
    seconds = time.perf_counter() - began
    for client in started:
        client.wait(60)
    if server.returncode:
        raise SystemExit(f"{way} failed; {out} says why")
    rounds, summary = read_rounds(out)[2:], read_summary(out)
    spent = sum(r.seconds["train"] + r.seconds["aggregate"] for r in rounds) / len(rounds)
    megabytes = sum(watch.peaks.values()) / max(len(watch.peaks), 1)
    return Measured(spent, summary.seconds["startup"], seconds, megabytes, watch.cpu(len(rounds)), summary.model_sha256)


def _rounds(out: Path) -> int:
    """Rounds that are over, by the state that is kept after each; records follow when their scores are there."""
    try:
        with (out / STATE).open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return int(header["__metadata__"]["round"])
    except OSError:
        return -1


def _last(flags: list[object]) -> int:
    return int(str(flags[flags.index("--rounds") + 1]))


def _start(module: str, *words: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _python(module: str, *words: object) -> None:
    subprocess.run([sys.executable, "-m", module, *map(str, words)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
