"""Made-up rounds on which the contract's checks try a filter, a rule or a finish, alone and with all that it may ask for."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from oleander.learning.parameters import Layout, ModelState
from oleander.learning.updates import Cohort, Memory
from oleander.settings.config import Experiment
from oleander.settings.registry import Plugin, bind
from strategies import BARE, TRIAL, kind_of, trial_server
from strategies._pipeline import Passed, Pipeline, Server, Step
from strategies.fedavg import fedavg

CLIENTS = 9


def arrays_of(of: Any) -> list[NDArray[Any]]:
    """The arrays in a cohort, a model, an update, an aggregate or a memory, by their names."""
    named = of if isinstance(of, Mapping) else vars(of)
    return [named[name] for name in sorted(named) if isinstance(named[name], np.ndarray)]


def cohort_of(number: int, clients: Iterable[int]) -> Cohort:
    """These clients' updates of a round: made up, no two alike, none 0, and no mean of 0."""
    ids = np.array(sorted(clients), dtype=np.int64)
    d, s = TRIAL.weight_count, TRIAL.statistic_count
    draws = [np.random.default_rng([number, int(client)]) for client in ids]
    deltas = np.stack([draw.normal(0.5, 1, d) for draw in draws]).astype(np.float32)
    statistics = np.stack([draw.normal(0.5, 1, s) for draw in draws]).astype(np.float32)
    examples = np.array([int(draw.integers(1, 99)) for draw in draws])
    start = np.random.default_rng(number).normal(size=d + s).astype(np.float32)
    return Cohort(number, ids, deltas, statistics, examples, ModelState(start[:d], start[d:]))


def without_statistics(cohort: Cohort) -> Cohort:
    """The same updates of a model that has none."""
    start = ModelState(cohort.start.weights, cohort.start.statistics[:0])
    return replace(cohort, statistics=cohort.statistics[:, :0], start=start)


def server(layout: Layout = TRIAL) -> Server:
    return trial_server(np.linspace(0.1, 1, layout.weight_count, dtype=np.float32), layout)


def step_of(plugin: Plugin) -> Step:
    return Step(plugin.name, bind(plugin, Experiment()), plugin.asks)


def run_alone(plugin: Plugin, cohort: Cohort, memory: dict[str, Memory] | None = None) -> Passed:
    """One round of a pipeline that is the plug-in, and plain averaging where it is no rule."""
    kind, step, mean = kind_of(plugin), step_of(plugin), Step("fedavg", fedavg)
    pipeline = Pipeline(
        plugin.name,
        filters=(step,) if kind == "filter" else (),
        rule=step if kind == "rule" else mean,
        finishes=(step,) if kind == "finish" else (),
    )
    return pipeline.run(cohort, memory or {}, server(TRIAL if cohort.statistics.size else BARE))


def five_rounds(plugin: Plugin) -> list[Passed]:
    """Five rounds, one after the other."""
    passed: list[Passed] = []
    for number in range(1, 6):
        passed.append(run_alone(plugin, drawn(number), passed[-1].memory if passed else {}))
    return passed


def drawn(number: int) -> Cohort:
    """A round's cohort, in each of which other clients are there."""
    clients = np.random.default_rng(number).choice(2 * CLIENTS, size=CLIENTS, replace=False).tolist()
    return cohort_of(number, clients)


def through_a_file(memory: dict[str, Memory]) -> dict[str, Memory]:
    """As a run that is stopped and resumed has it; in C's order, which is how the file holds arrays."""
    return {step: load(save({n: np.asarray(a, order="C") for n, a in own.items()})) for step, own in memory.items()}
