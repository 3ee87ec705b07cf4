"""Rounds of a strategy that remembers, in one go or stopped and resumed after each."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from oleander.experiment.records import RoundRecord, RunFolder
from oleander.experiment.resume import keep, standing_of
from oleander.learning.parameters import Layout, ModelState
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.config import Experiment
from strategies import Server, pipeline_of

LAYOUT = Layout(("body.weight", "linear.weight", "linear.bias", "norm.mean"), ((20,), (5, 5), (5,), (6,)),
                (True, True, True, False))  # fmt: skip
ABOUT = {"start": "x", "dataset_sha256": "ab" * 32, "trigger_sha256": "cd" * 32}
RECORD = RoundRecord(0, 0.75, 0.05, 1.0, [], [], [], [], [], [], [], 0, 0, {"evaluate": 1.0})


def some_rounds(count: int = 5, drawn: int = 5, clients: int = 9) -> list[Cohort]:
    """Rounds of LAYOUT's updates, each of other clients; from each round's updates something of the client is to be seen."""
    rng = np.random.default_rng(0)
    own = rng.normal(size=(-(-clients // 3), 50)).repeat(3, axis=0)[:clients]  # three clients to a direction
    rounds = []
    for number in range(1, count + 1):
        ids = np.sort(rng.choice(clients, drawn, replace=False))
        deltas = (own[ids] + rng.normal(size=(drawn, 50))).astype(np.float32)
        statistics = rng.normal(size=(drawn, 6)).astype(np.float32)
        start = ModelState(rng.normal(size=50).astype(np.float32), statistics[0])
        rounds.append(Cohort(number, ids, deltas, statistics, rng.integers(1, 99, drawn), start))
    return rounds


def straight(strategy: str, rounds: list[Cohort]) -> list[Aggregate]:
    """The aggregates of these rounds."""
    pipeline, memory, found = pipeline_of(Experiment(strategy=strategy)), {}, []
    for cohort in rounds:
        passed = pipeline.run(cohort, memory, Server(0, LAYOUT))
        memory = passed.memory
        found.append(passed.aggregate)
    return found


def resumed_each_round(strategy: str, rounds: list[Cohort], path: Path) -> list[Aggregate]:
    """The same with a new pipeline each round, which knows of those before what state.safetensors does."""
    folder = RunFolder(path)
    folder.write_settings(Experiment(strategy=strategy), {})
    keep(path, 0, rounds[0].start, None, ABOUT)
    found = []
    for cohort in rounds:
        standing = standing_of(path, LAYOUT)
        passed = pipeline_of(Experiment(strategy=strategy)).run(cohort, standing.memory, Server(0, LAYOUT))
        found.append(passed.aggregate)
        folder.append(replace(RECORD, round=cohort.round - 1))
        keep(path, cohort.round, cohort.start, None, ABOUT, passed.memory)
    folder.release()
    return found


def assert_resumes(strategy: str, path: Path) -> None:
    """Five rounds come to the same, bit for bit, however often they are stopped; and memory matters to them."""
    rounds = some_rounds()
    whole, parts = straight(strategy, rounds), resumed_each_round(strategy, rounds, path / "run")
    for one, other in zip(whole, parts, strict=True):
        assert one.delta.tobytes() == other.delta.tobytes()
        assert one.statistics.tobytes() == other.statistics.tobytes()
        assert one.influence.tobytes() == other.influence.tobytes()
    alone = [straight(strategy, [cohort])[0] for cohort in rounds[1:]]
    assert any(not np.array_equal(one.delta, other.delta) for one, other in zip(alone, whole[1:], strict=True))
