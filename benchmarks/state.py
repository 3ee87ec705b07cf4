"""What a strategy that remembers costs: bytes of ``state.safetensors`` and seconds of a round, aggregation and writing apart.

ResNet18Light's updates from a generator. FoolsGold has a history of --clients clients, of whom --drawn are in each round.
Strategies are taken in turn, repeat by repeat, so that what disturbs the machine meets them all; the first round, in which nothing is
remembered yet, does not count.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.common import Spread, arguments, show, timed, write
from oleander.datasets.cifar10 import CIFAR10
from oleander.experiment.records import RunFolder
from oleander.experiment.resume import keep, standing_of
from oleander.learning.parameters import Layout, ModelState, arrays_of
from oleander.learning.updates import Cohort, Memory
from oleander.models import fresh_model
from oleander.settings.config import Experiment
from strategies import Server, pipeline_of

ABOUT = {"start": "", "dataset_sha256": "", "trigger_sha256": ""}
STRATEGIES = ["fedavg", "fedavg+fedavgm", "fedavg+fedadam", "centred_clip", "foolsgold"]
MB = 10**6


def main() -> None:
    """Measure, print, write."""
    told = arguments(
        __doc__, strategies=(STRATEGIES, "what is measured"), clients=(1000, "clients of the network"),
        drawn=(10, "of them in each round"), repeats=(5, "rounds that count"),
    )  # fmt: skip
    model = fresh_model(Experiment.model, 10, CIFAR10, 0)
    layout = Layout.of(model)
    first = Cohorts(layout, layout.flatten(arrays_of(model)), told.drawn)
    with tempfile.TemporaryDirectory() as scratch:
        runs = {name: Run(name, layout, first, Path(scratch) / name, told.clients) for name in told.strategies}
        for number in range(1, told.repeats + 2):
            for run in runs.values():
                run.round(number)
        found = {name: run.measured() for name, run in runs.items()}
    rows = [
        [name, f"{m['bytes'] / MB:.1f}", *(Spread.of(m[what]) for what in ("aggregate", "write", "read"))]
        for name, m in found.items()
    ]
    columns = ("strategy", "MB of state", "aggregate s", "write s", "read s")
    show(f"{told.drawn} of {told.clients:,} clients a round, {layout.weight_count:,} weights", columns, rows)
    write(told.json, clients=told.clients, drawn=told.drawn, found=found)


class Cohorts:
    """Rounds' cohorts: always the same updates, of whatever clients."""

    def __init__(self, layout: Layout, start: ModelState, drawn: int) -> None:
        """Draw the updates."""
        rng = np.random.default_rng(0)
        rows = np.stack([rng.standard_normal(layout.weight_count, np.float32) * np.float32(1e-3) for _ in range(drawn)])
        statistics = np.zeros((drawn, layout.statistic_count), np.float32)
        self.one = Cohort(1, np.arange(drawn), rows, statistics, np.full(drawn, 384), start)

    def of(self, number: int, ids: np.ndarray) -> Cohort:
        """A round in which these clients send them."""
        return replace(self.one, round=number, client_ids=ids)


class Run:
    """One strategy's rounds, each aggregated, written and read again as a run's are."""

    def __init__(self, strategy: str, layout: Layout, cohorts: Cohorts, path: Path, clients: int) -> None:
        """Begin with a history of every client where the strategy keeps one."""
        self.layout, self.cohorts, self.clients = layout, cohorts, clients
        self.pipeline = pipeline_of(Experiment(strategy=strategy, clients=clients, clients_per_round=len(cohorts.one)))
        self.folder = RunFolder(path)
        self.folder.write_settings(Experiment(), {})
        self.memory: dict[str, Memory] = {}
        if "foolsgold" in strategy:
            sums = np.random.default_rng(1).normal(size=(clients, _length(layout.output_layer())))
            self.memory = {"foolsgold": {"clients": np.arange(clients), "sums": sums}}
        self.seconds: dict[str, list[float]] = {"aggregate": [], "write": [], "read": []}

    def round(self, number: int) -> None:
        """Aggregate, write, read."""
        drawn = np.random.default_rng(number).choice(self.clients, len(self.cohorts.one), replace=False)
        cohort, passed = self.cohorts.of(number, np.sort(drawn)), []
        for what, work in (
            ("aggregate", lambda: passed.append(self.pipeline.run(cohort, self.memory, Server(0, self.layout)))),
            ("write", lambda: keep(self.folder.path, 0, cohort.start, None, ABOUT, passed[0].memory)),
            ("read", lambda: standing_of(self.folder.path, self.layout)),
        ):
            self.seconds[what].append(timed(work))
        self.memory = passed[0].memory

    def measured(self) -> dict[str, object]:
        """Bytes of the file and the seconds of the rounds that count."""
        self.folder.release()
        size = (self.folder.path / "state.safetensors").stat().st_size
        return {"bytes": size, **{what: seconds[1:] for what, seconds in self.seconds.items()}}


def _length(part: slice) -> int:
    return part.stop - part.start


if __name__ == "__main__":
    main()
