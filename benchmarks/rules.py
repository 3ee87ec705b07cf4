"""Every rule that Flower has too, ours against Flower's own: seconds and memory beyond the replies themselves.

Each measurement is a process of its own. Ours gets the cohort as the server fills it, reply by reply; Flower's gets the same
models as the ArrayRecords that it keeps until a round is over. Both hold n x d float32 numbers when the clock starts.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Spread, arguments, ratios, show, timed, write
from oleander.learning.parameters import ModelState
from oleander.learning.updates import Cohort
from oleander.settings.config import Experiment
from oleander.settings.registry import bind
from strategies import known_strategies
from strategies._sums import squared_distances

D = 2_797_610
S = 4_800
SIZES = [6, 20, 100, 300]
RULES = ["fedavg", "krum", "multi_krum", "median"]


def main() -> None:
    """Measure, print, write; or be one measurement."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
        return
    told = arguments(
        __doc__, repeats=(3, "repeats of each measure"), sizes=(SIZES, "clients in a round"), rules=(RULES, "rules"),
        free_gigabytes=(18.0, "leave out what would not fit into this much memory"),
    )  # fmt: skip
    rows, measured = [], {}
    for rule in told.rules:
        for n in told.sizes:
            found = {who: [] for who in ("ours", "flwr")}
            for _ in range(told.repeats if n <= 100 else 1):
                for who in found:
                    if n * D * 4 * (3.4 if who == "flwr" else 2.0) < told.free_gigabytes * 1e9:
                        found[who].append(process(who, rule, n))
            measured[f"{rule} {n}"] = found
            rows.append(row(rule, n, found))
    show(
        "Rules, d = 2,797,610 (memory: peak beyond the replies, in cohorts)",
        (
            "rule",
            "n",
            "ours s",
            "flwr s",
            "flwr / ours",
            "ours memory",
            "flwr memory",
            "distances: ours off by",
            "flwr off by",
        ),
        rows,
    )
    write(told.json, measured=measured)


def row(rule: str, n: int, found: dict[str, list[dict[str, float]]]) -> list[object]:
    """One line of the table."""
    seconds = {who: [run["seconds"] for run in runs] for who, runs in found.items()}

    def memory(who: str) -> str:
        return f"{Spread.of([run['memory'] for run in found[who]]).median:.2f}" if found[who] else "-"

    def error(who: str) -> str:
        return f"{max(run['error'] for run in found[who]):.0e}" if found[who] and "error" in found[who][0] else ""

    both = seconds["ours"] and seconds["flwr"]
    return [
        rule, n, *(Spread.of(seconds[who]) if seconds[who] else "-" for who in found),
        ratios(seconds["flwr"], seconds["ours"]) if both else "-", memory("ours"), memory("flwr"), error("ours"), error("flwr"),
    ]  # fmt: skip


def process(who: str, rule: str, n: int) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.rules", "--one", who, rule, str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def one(who: str, rule: str, n: int) -> dict[str, float]:
    """Seconds, memory beyond the replies in cohorts, and for Krum the distances' greatest relative error."""
    start, rng = np.random.default_rng(0).normal(size=D).astype(np.float32) * np.float32(0.05), np.random.default_rng(1)
    if who == "ours":
        deltas = np.empty((n, D), dtype=np.float32)
        for i in range(n):
            deltas[i] = update(rng)
        start = ModelState(deltas[0], np.zeros(S, dtype=np.float32))
        cohort = Cohort(
            1,
            np.arange(n),
            deltas,
            np.zeros((n, S), dtype=np.float32),
            np.full(n, 384),
            ModelState(deltas[0], np.zeros(S, np.float32)),
        )
        work = bind(known_strategies()[rule], Experiment(strategy=rule))
        call = lambda: work(cohort)  # noqa: E731
    else:
        call = of_flower(rule, n, start, rng)
    reset_peak()
    before = memory_now("VmRSS")
    seconds = timed(call)
    result = {"seconds": seconds, "memory": (memory_now("VmHWM") - before) / (n * D * 4)}
    if "krum" in rule and n <= 20:
        result["error"] = distance_error(who, n, start)
    return result


def update(rng: np.random.Generator) -> NDArray[np.float32]:
    """One client's change of the weights: small beside them, as it is."""
    return rng.normal(size=D).astype(np.float32) * np.float32(1e-3)


def of_flower(rule: str, n: int, start: NDArray[np.float32], rng: np.random.Generator):  # noqa: ANN201
    """Flower's own aggregation of n replies that hold a model each."""
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.serverapp.strategy import FedAvg, FedMedian, Krum, MultiKrum
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("_task_id", "_run_id", "_node_id"):
        setattr(TaskIdentity, name, 1)  # as a running server has them

    strategy = {
        "fedavg": lambda: FedAvg(), "median": lambda: FedMedian(), "krum": lambda: Krum(num_malicious_nodes=1),
        "multi_krum": lambda: MultiKrum(num_malicious_nodes=1, num_nodes_to_select=n - 1),
    }[rule]()  # fmt: skip
    replies = []
    for _ in range(n):
        record = RecordDict(
            {"arrays": ArrayRecord([start + update(rng)]), "metrics": MetricRecord({"num-examples": 384})}
        )
        replies.append(Message(record, dst_node_id=1, message_type="train"))
    return lambda: strategy.aggregate_train(1, replies)


def distance_error(who: str, n: int, start: NDArray[np.float32]) -> float:
    """Greatest relative error of the squared distances, against differences squared and summed in float64, pair by pair."""
    rng = np.random.default_rng(1)
    deltas = np.stack([update(rng) for _ in range(n)])
    if who == "ours":
        found, rows = squared_distances(deltas), deltas
    else:
        from flwr.app import ArrayRecord
        from flwr.serverapp.strategy.multikrum import compute_distances

        rows = start + deltas  # what it sees; its error is against exact distances of these
        found = compute_distances([ArrayRecord([row]) for row in rows])
    worst = 0.0
    for i in range(n):
        for j in range(i):
            exact = float(np.square(rows[i].astype(np.float64) - rows[j]).sum())
            worst = max(worst, abs(float(found[i, j]) - exact) / exact)
    return worst


def memory_now(what: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at its peak."""
    return int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) * 1024  # type: ignore[union-attr]


def reset_peak() -> None:
    """Let VmHWM begin again from here (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
