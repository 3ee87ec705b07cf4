"""One call of one rule, ours or another project's, in a process of its own: ``python -m benchmarks.rule_calls WHO RULE N D SECONDS``.

Whoever it is holds n x d float32 numbers in the form that it takes when the clock starts: ours the cohort as the server fills it,
reply by reply; Flower's strategies the replies that they keep until a round is over; the others arrays or tensors. A call that takes
longer than SECONDS ends the process by SIGALRM. It prints seconds, and the peak of memory beyond the replies, in cohorts.
"""

import functools
import json
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
S = 4_800
"""Statistics of ResNet18Light."""
TINY = (10, 6_000)
"""Clients and numbers of a call that is not measured."""
HEAD = 5_130
"""Weights of its last layer."""
SCALE = np.float32(1e-3)
"""An update's numbers are small beside the weights, as they are."""
Call = Callable[[], object]


def main(who: str, rule: str, n: int, d: int, seconds: int) -> None:
    """Measure and print."""
    WHO[who](rule, *TINY)()  # what is imported, started or looked up at a first call
    call = WHO[who](rule, n, d)
    reset_peak()
    before = memory_now("VmRSS")
    signal.alarm(seconds)
    began = time.perf_counter()
    call()
    taken = time.perf_counter() - began
    signal.alarm(0)
    print(json.dumps({"seconds": taken, "memory": (memory_now("VmHWM") - before) / (n * d * 4)}))


def update(rng: np.random.Generator, i: int, n: int, d: int) -> FloatArray:
    """Client i's change of the weights; no two are equally long, and half of them are longer than ``bound``.

    The same noise from another place on, since to draw it anew for each of 300 clients takes longer than most calls.
    """
    start = rng.integers(d)
    row = np.concatenate((_noise(d)[start:], _noise(d)[:start]))
    row *= SCALE * np.float32(1 + i / n)
    return row


@functools.cache
def _noise(d: int) -> FloatArray:
    return np.random.default_rng(3).standard_normal(d, dtype=np.float32)


def bound(d: int) -> float:
    """What updates are clipped to."""
    return 1.5 * float(SCALE) * d**0.5


def assumed(n: int) -> int:
    """f, a tenth of the clients."""
    return max(1, n // 10)


def rows_of(n: int, d: int, seed: int = 1) -> FloatArray:
    """All clients' updates: (n, d)."""
    rng, rows = np.random.default_rng(seed), np.empty((n, d), np.float32)
    for i in range(n):
        rows[i] = update(rng, i, n, d)
    return rows


# ---- ours -------------------------------------------------------------------------------------------------------------------


def ours(rule: str, n: int, d: int) -> Call:
    """Our own step; one that remembers has two rounds behind it. Models that it would run answer at once."""
    from oleander.learning.parameters import ModelState
    from oleander.learning.updates import Cohort
    from oleander.settings.config import Experiment
    from oleander.settings.registry import bind
    from strategies import known_strategies, trial_server
    from strategies._pipeline import Step

    plugin = known_strategies()[rule]
    settings = Experiment(strategy=rule, assumed_malicious=assumed(n))
    if rule == "clip":
        settings = settings.changed(clip_norm=bound(d))
    step = Step(rule, bind(plugin, settings), plugin.asks)
    start = ModelState(
        np.random.default_rng(0).standard_normal(d, dtype=np.float32) * np.float32(0.05), np.zeros(S, np.float32)
    )
    server = trial_server(update(np.random.default_rng(2), 0, n, d), layout_of(d))
    cohort = Cohort(1, np.arange(n), np.empty((0, d)), np.zeros((n, S), np.float32), np.full(n, 384), start)
    memory: dict[str, Any] = {}
    if "memory" in plugin.asks:
        for number in (1, 2):
            moved = ModelState(start.weights * np.float32(1 + 0.01 * number), start.statistics)
            step(
                replace(cohort, deltas=rows_of(n, d, 10 + number), start=moved),
                round_number=number,
                memory=memory,
                server=server,
            )
    cohort = replace(cohort, deltas=rows_of(n, d))
    return lambda: step(cohort, round_number=3, memory=memory, server=server)


def layout_of(d: int) -> Any:
    """ResNet18Light's where d is its own, else one of two layers."""
    from oleander.datasets.cifar10 import CIFAR10
    from oleander.learning.parameters import Layout
    from oleander.models import fresh_model

    layout = Layout.of(fresh_model("resnet18light", 10, CIFAR10, 0))
    if layout.weight_count == d:
        return layout
    names = ("body.weight", "linear.weight", "linear.bias", "norm.running_mean")
    shapes = ((d - HEAD, 1), (10, HEAD // 10 - 1), (10,), (S,))
    return Layout(names, shapes, (True, True, True, False))


# ---- others -----------------------------------------------------------------------------------------------------------------


def flower_messages(rule: str, n: int, d: int) -> Call:
    """Flower's ``flwr.serverapp.strategy`` on n replies that hold a model each."""
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.serverapp import strategy as strategies
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("_task_id", "_run_id", "_node_id"):
        setattr(TaskIdentity, name, 1)  # as a running server has them
    f = assumed(n)
    strategy = {
        "fedavg": lambda: strategies.FedAvg(),
        "median": lambda: strategies.FedMedian(),
        "trimmed_mean": lambda: strategies.FedTrimmedAvg(beta=(f + 0.25) / n),
        "krum": lambda: strategies.Krum(num_malicious_nodes=f),
        "multi_krum": lambda: strategies.MultiKrum(num_malicious_nodes=f, num_nodes_to_select=n - f),
        "bulyan": lambda: strategies.Bulyan(num_malicious_nodes=f),
    }[rule]()
    rng = np.random.default_rng(1)
    start = np.random.default_rng(0).standard_normal(d, dtype=np.float32) * np.float32(0.05)
    replies = []
    for i in range(n):
        arrays, metrics = ArrayRecord([start + update(rng, i, n, d)]), MetricRecord({"num-examples": 384})
        replies.append(Message(RecordDict({"arrays": arrays, "metrics": metrics}), dst_node_id=1, message_type="train"))
    return lambda: strategy.aggregate_train(1, replies)


def flower_functions(rule: str, n: int, d: int) -> Call:
    """Flower's older generation, the functions behind ``flwr.server.strategy``."""
    from flwr.server.strategy import aggregate as functions

    f, results = assumed(n), [([row], 384) for row in rows_of(n, d)]
    return {
        "fedavg": lambda: functions.aggregate(results),
        "median": lambda: functions.aggregate_median(results),
        "trimmed_mean": lambda: functions.aggregate_trimmed_avg(results, (f + 0.25) / n),
        "krum": lambda: functions.aggregate_krum(results, f, 0),
        "multi_krum": lambda: functions.aggregate_krum(results, f, n - f),
        "bulyan": lambda: functions.aggregate_bulyan(results, f, functions.aggregate_krum, to_keep=0),
    }[rule]


def byzfl(rule: str, n: int, d: int, kind: Callable[[FloatArray], Any] = lambda rows: rows) -> Call:
    """ByzFL on a NumPy array, or on what ``kind`` makes of it; its clipping writes into what it is given."""
    import byzfl as project

    f, rows = assumed(n), kind(rows_of(n, d))
    made = {
        "fedavg": lambda: project.Average(),
        "median": lambda: project.Median(),
        "trimmed_mean": lambda: project.TrMean(f),
        "krum": lambda: project.Krum(f),
        "multi_krum": lambda: project.MultiKrum(f),
        "rfa": lambda: project.GeometricMedian(nu=1e-6, T=3),
        "centred_clip": lambda: project.CenteredClipping(L=1, tau=10.0),
        "clip": lambda: project.Clipping(bound(d)),
        "nnm": lambda: project.NNM(f),
        "bucketing": lambda: project.Bucketing(2),
    }[rule]()
    return lambda: made(rows)


def byzfl_torch(rule: str, n: int, d: int) -> Call:
    """ByzFL on a tensor."""
    import torch

    return byzfl(rule, n, d, torch.from_numpy)


def byzpy(rule: str, n: int, d: int) -> Call:
    """ByzPy on a list of tensors."""
    import torch
    from byzpy.aggregators.coordinate_wise.median import CoordinateWiseMedian
    from byzpy.aggregators.coordinate_wise.trimmed_mean import CoordinateWiseTrimmedMean
    from byzpy.aggregators.geometric_wise.geometric_median import GeometricMedian
    from byzpy.aggregators.geometric_wise.krum import Krum, MultiKrum
    from byzpy.aggregators.norm_wise.center_clipping import CenteredClipping
    from byzpy.pre_aggregators.bucketing import Bucketing
    from byzpy.pre_aggregators.clipping import Clipping
    from byzpy.pre_aggregators.nnm import NearestNeighborMixing

    f, rows = assumed(n), [torch.from_numpy(row) for row in rows_of(n, d)]
    rules = {
        "median": lambda: CoordinateWiseMedian(),
        "trimmed_mean": lambda: CoordinateWiseTrimmedMean(f),
        "krum": lambda: Krum(f),
        "multi_krum": lambda: MultiKrum(f, n - f),
        "rfa": lambda: GeometricMedian(init="mean", max_iter=3, tol=1e-30),
        "centred_clip": lambda: CenteredClipping(c_tau=10.0, M=1, init="zero"),
    }
    filters = {
        "clip": lambda: Clipping(threshold=bound(d)),
        "nnm": lambda: NearestNeighborMixing(f),
        "bucketing": lambda: Bucketing(2),
    }
    if rule in rules:
        made = rules[rule]()
        return lambda: made.aggregate(rows)
    mixer = filters[rule]()
    return lambda: mixer.pre_aggregate(rows)


WHO: dict[str, Callable[[str, int, int], Call]] = {
    "ours": ours, "flwr": flower_messages, "flwr, older": flower_functions, "byzfl": byzfl, "byzfl, tensors": byzfl_torch,
    "byzpy": byzpy,
}  # fmt: skip
FLOWERS = ("fedavg", "median", "trimmed_mean", "krum", "multi_krum", "bulyan")
BYZPYS = ("median", "trimmed_mean", "krum", "multi_krum", "rfa", "centred_clip", "clip", "nnm", "bucketing")
HAVE = {
    "flwr": FLOWERS,
    "flwr, older": FLOWERS,
    "byzfl": ("fedavg", *BYZPYS),
    "byzfl, tensors": ("fedavg", *BYZPYS),
    "byzpy": BYZPYS,
}
"""Which of our rules and filters each has by the same name."""


# ---- memory -----------------------------------------------------------------------------------------------------------------


def memory_now(what: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at its peak."""
    return int(re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text()).group(1)) * 1024  # type: ignore[union-attr]


def reset_peak() -> None:
    """Let VmHWM begin again from here (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


# ---- how exact distances are ------------------------------------------------------------------------------------------------


def distance_errors(n: int, d: int) -> dict[str, float]:
    """Greatest relative error of squared distances, ours and Flower's, against differences squared and summed in float64."""
    from flwr.app import ArrayRecord
    from flwr.serverapp.strategy.multikrum import compute_distances

    from strategies._sums import squared_distances

    rows = rows_of(n, d)
    models = np.random.default_rng(0).standard_normal(d, dtype=np.float32) * np.float32(0.05) + rows
    return {
        "ours": _worst(squared_distances(rows), rows),
        "flwr": _worst(compute_distances([ArrayRecord([row]) for row in models]), models),
    }


def _worst(found: NDArray[Any], rows: FloatArray) -> float:
    worst = 0.0
    for i in range(len(rows)):
        for j in range(i):
            exact = float(np.square(rows[i].astype(np.float64) - rows[j]).sum())
            worst = max(worst, abs(float(found[i, j]) - exact) / exact)
    return worst


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]))
