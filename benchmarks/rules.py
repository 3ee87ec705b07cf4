"""Every rule and filter, ours against Flower's two generations, ByzFL's and ByzPy's of the same name: seconds, and memory.

Each call is a process of its own (``rule_calls.py``), under one limit of memory and one of seconds; projects that are not
installed here get environments of their own. Whoever takes longer at one size is not asked at a larger one.
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.common import Spread, arguments, ratios, refuse, show, write
from benchmarks.rule_calls import HAVE, distance_errors
from conformance.peers import about, environment
from strategies import kind_of, known_strategies

ROOT = Path(__file__).parent.parent
D = 2_797_610
SIZES = [10, 50, 100, 300]
RULES = [name for name, plugin in known_strategies().items() if kind_of(plugin) != "finish"]
PEERS = list(HAVE)
SMALL_PAGES = {"NUMPY_MADVISE_HUGEPAGE": "0"}
"""For everybody. NumPy asks for huge pages, PyTorch does not; where a virtual machine gives free memory back to its host,
one takes five milliseconds to touch first, and that, not the rule, would be measured."""


def main() -> None:
    """Measure, print, write."""
    told = arguments(
        __doc__, repeats=(3, "repeats of each measure (beyond 100 clients one)"), sizes=(SIZES, "clients in a round"),
        weights=(D, "numbers in an update, d"), rules=(RULES, "rules and filters"), peers=(PEERS, "who else is asked"),
        seconds=(60, "a call may take"), gigabytes=(18.0, "a process may have"), environments=("", "folder that keeps the projects"),
    )  # fmt: skip
    if strange := [*(set(told.rules) - set(RULES)), *(set(told.peers) - set(PEERS))]:
        refuse(f"{strange[0]}: unknown; known: {', '.join([*RULES, *PEERS])}")
    rows, measured = [], {}
    with ExitStack() as stack:
        where = Path(told.environments or stack.enter_context(tempfile.TemporaryDirectory())).absolute()
        pythons = {who: python_of(who, where) for who in ("ours", *told.peers)}
        for rule in told.rules:
            asked = ["ours", *(who for who in told.peers if rule in HAVE[who])]
            for n in told.sizes:
                runs = measured[f"{rule} {n}"] = measure(rule, n, told, {who: pythons[who] for who in asked})
                rows.append(row(rule, n, runs))
                print(*rows[-1], sep=" | ", flush=True)
                asked = [who for who in asked if not isinstance(runs[who], str)]
    show(f"Rules and filters, d = {told.weights:,}: seconds, and memory beyond the cohort, in cohorts", COLUMNS, rows)
    errors = {n: distance_errors(n, told.weights) for n in told.sizes if n <= 20}
    for n, error in errors.items():
        print(f"squared distances, n = {n}, off by at most: ours {error['ours']:.0e}, flwr {error['flwr']:.0e}")
    write(told.json, measured=measured, distance_errors=errors)


def python_of(who: str, where: Path) -> Path:
    """The interpreter that has this project: this one, or one of an environment in that folder, made where it is not there."""
    adapter = {"byzfl": "byzfl_rules", "byzpy": "byzpy_rules"}.get(who.partition(",")[0])
    if adapter is None:
        return Path(sys.executable)
    told, folder = about(adapter), where / adapter
    return (
        folder / "bin" / "python"
        if folder.exists()
        else environment(folder, [told["PACKAGE"], *told.get("BESIDE", ())])
    )


Runs = list[dict[str, float]] | str
"""What was measured repeat by repeat, or why it could not be."""


def measure(rule: str, n: int, told: Any, pythons: dict[str, Path]) -> dict[str, Runs]:
    """Everybody in turn, repeat by repeat."""
    found: dict[str, Runs] = {who: [] for who in pythons}
    for _ in range(told.repeats if n <= 100 else 1):
        for who, python in pythons.items():
            runs = found[who]
            if isinstance(runs, list):
                run = process(python, who, rule, n, told)
                found[who] = run if isinstance(run, str) else [*runs, run]
    return found


def process(python: Path, who: str, rule: str, n: int, told: Any) -> dict[str, float] | str:
    """One measurement in a process of its own, or why there is none: it takes too long, too much memory, or refuses."""
    command = [str(python), "-m", "benchmarks.rule_calls", who, rule, *map(str, (n, told.weights, told.seconds))]
    most = int(told.gigabytes * 1e9)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ | SMALL_PAGES,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (most, most)),
    )  # fmt: skip
    if done.returncode == 0:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    if done.returncode == -signal.SIGALRM:
        return f"> {told.seconds} s"
    last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
    if re.search("MemoryError|can't allocate memory|not enough memory", last):
        return f"> {told.gigabytes:g} GB"
    return last[:60]


COLUMNS = ("rule", "n", "ours", *PEERS, "fastest peer", "ours / fastest")


def row(rule: str, n: int, found: dict[str, Runs]) -> list[object]:
    """One line of the table."""
    cells = [cell(found[who]) if who in found else "" for who in ("ours", *PEERS)]
    mine, others = (
        found.get("ours"),
        {who: runs for who, runs in found.items() if who != "ours" and isinstance(runs, list)},
    )
    if not others or not isinstance(mine, list):
        return [rule, n, *cells, "", ""]
    fastest = min(others, key=lambda who: Spread.of(_seconds(others[who])).median)
    return [rule, n, *cells, fastest, ratios(_seconds(mine), _seconds(others[fastest]))]


def cell(runs: Runs) -> str:
    """Median seconds, and median memory in cohorts; or why there are none."""
    if isinstance(runs, str):
        return runs
    return f"{Spread.of(_seconds(runs)).median:.3g} s, {Spread.of([run['memory'] for run in runs]).median:.2f}"


def _seconds(runs: list[dict[str, float]]) -> list[float]:
    return [run["seconds"] for run in runs]


if __name__ == "__main__":
    main()
