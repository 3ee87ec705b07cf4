"""The Flower strategy around any pipeline: sample, check every reply, aggregate.

Flower's node ids are random and replies come in any order; so clients are drawn, named and sorted by partition id, with a
generator of our own, and the result depends on neither. A bad or missing reply ends the run or is left out of its round,
as ``--on-bad-reply`` says; it is never passed over in silence.

For Flower apps that are not ours there is ``RobustStrategy`` (``_robust.py``).
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from flwr.app import DEFAULT_TTL, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from oleander.learning.parameters import Layout, ModelState
from oleander.learning.updates import MIXED, Aggregate, Cohort, Memory
from oleander.settings.config import Experiment
from oleander.system.display import doing
from oleander.system.errors import RunError
from oleander.system.streams import generator
from oleander.transport.adversary import Adversary, Nobody
from oleander.transport.grid import StreamingGrid
from oleander.transport.replies import BadReply, read_reply, sender
from oleander.transport.roster import Roster, SimulatedRoster, plays
from strategies import Pipeline, RuleError, Server
from strategies._robust import RobustStrategy
from strategies._sums import dot, squared_norms, sum_for_each

__all__ = ["PipelineStrategy", "RobustStrategy"]

LONGEST_ROUND = 1e8
"""Seconds, three years: for a ``--round-timeout`` without end."""


class Watcher(Protocol):
    """Is told how a run goes on."""

    def round_began(self, round_number: int, client_ids: list[int]) -> None:
        """The round's clients were sent the global model."""

    def client_done(self, client_id: int, images: int) -> None:
        """A client's reply was checked and taken; ``images`` passed through its model."""

    def waiting_for(self, clients: int) -> None:
        """So many of the round's clients have yet to answer."""


@dataclass(frozen=True)
class RoundOutcome:
    """What a round's aggregation did, clients by rising id."""

    round: int
    client_ids: list[int]
    dropped: dict[int, str]
    """Clients that were selected and left out, with the cause."""
    losses: list[float]
    norms_before: list[float]
    norms_after: list[float | None]
    """0 for whom a filter left out, None for whom it mixed with others."""
    influence: list[float]
    clamped_variances: int
    """Aggregated running variances that were negative and became 0."""
    images: int
    """Images that have passed through the clients' models."""
    seconds: dict[str, float] = field(default_factory=dict)
    cosines: list[float | None] = field(default_factory=list)
    """Of each update's weights, as they came, and the aggregate's; None where either is 0. Empty in old states."""


class PipelineStrategy(Strategy):
    """Runs a pipeline as a Flower strategy.

    ``state`` is the global model, ``outcome`` what the last round's aggregation did, ``memory`` what steps and attackers remember.
    """

    def __init__(
        self, experiment: Experiment, pipeline: Pipeline, layout: Layout, start: ModelState, shard_sizes: list[int],
        config: dict[str, str], watcher: Watcher, roster: Roster, rounds_done: int = 0, *,
        server: Server | None = None, adversary: Adversary | None = None, memory: Mapping[str, Memory] | None = None,
    ) -> None:  # fmt: skip
        """Take the settings, the pipeline, the model's layout and start, each client's shard size, and what clients are sent.

        ``roster`` knows which nodes are clients. ``rounds_done`` rounds were done before: Flower counts from 1, and
        ``rounds_done`` is added wherever a round is named; what the steps remember of them is ``memory``. ``server`` is what
        steps may ask for, ``adversary`` is where the attackers meet.
        """
        self.experiment = experiment
        self.pipeline = pipeline
        self.layout = layout
        self.state = start
        self.shard_sizes = shard_sizes
        self.config = config
        self.watcher = watcher
        self.rounds_done = rounds_done
        self.roster = roster
        self.server = server or Server(experiment.seed, layout)
        self.adversary = adversary or Nobody()
        names = {step.name for step in pipeline.steps}
        self._remembered = {name: kept for name, kept in (memory or {}).items() if name in names}
        self.outcome: RoundOutcome | None = None
        self._chosen: list[int] = []
        self._absent: set[int] = set()
        self._sent_at = 0.0
        self._began: list[float] = []
        self._images = 0
        self.training_began_at = 0.0
        """When the run's first client began to train, in seconds since the epoch: what came before was start-up."""

    def start(self, grid: Grid, initial_arrays: ArrayRecord, *args: object, **kwargs: object) -> Result:
        """Run rounds as Flower does, with replies handed on as they come."""
        return super().start(
            StreamingGrid(grid, restarts=isinstance(self.roster, SimulatedRoster)), initial_arrays, *args, **kwargs
        )

    @property
    def memory(self) -> dict[str, Memory]:
        """What the pipeline's steps and the attackers remember, by their names."""
        return {**self._remembered, **self.adversary.memory()}

    def initial_arrays(self) -> ArrayRecord:
        """The global model as it is sent."""
        return ArrayRecord(self.state.sent())

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Draw the round's clients and address the global model to them."""
        server_round += self.rounds_done
        rng = generator(self.experiment.seed, "selection", server_round)
        drawn = rng.choice(self.experiment.clients, size=self.experiment.clients_per_round, replace=False)
        self._chosen = sorted(int(client) for client in drawn)
        nodes = self.roster.nodes(grid, self._chosen)
        content = RecordDict({"arrays": arrays, "config": ConfigRecord({**self.config, "server-round": server_round})})
        ttl = max(
            DEFAULT_TTL, min(self.experiment.round_timeout, LONGEST_ROUND)
        )  # Flower forgets messages after 12 hours
        told = self.adversary.told(server_round, self._chosen)
        messages = [
            Message(
                content=RecordDict({**content, **told.get(client, {}), **self._part(client)}),
                message_type=MessageType.TRAIN,
                dst_node_id=nodes[client],
                ttl=ttl,
            )
            for client in self._chosen
            if client in nodes
        ]
        self._absent = set(self._chosen) - nodes.keys()
        self._sent_at, self._began, self._images = time.time(), [], 0
        self.watcher.round_began(server_round, self._chosen)
        self.watcher.waiting_for(len(messages))
        return messages

    def _part(self, client: int) -> Mapping[str, ConfigRecord]:
        """What tells a node who it is: a simulation's may be any client, others are who they are."""
        return plays(client) if isinstance(self.roster, SimulatedRoster) else {}

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord, MetricRecord]:
        """Check the replies as they come, aggregate them, and move the global model."""
        server_round += self.rounds_done
        try:
            cohort, losses, dropped = self._collect(server_round, replies)
        finally:  # what is still awaited is given up now, while there is a network, not when somebody frees the iterator
            getattr(replies, "close", lambda: None)()
        collected_at = time.time()
        if not self.training_began_at:
            self.training_began_at = self._sent_at = min(self._began, default=self._sent_at)
        cohort = self.adversary.met(cohort)
        with doing(f"round {server_round}: aggregating {len(cohort)} updates ({self.pipeline.name})", aloud=False):
            try:
                passed = self.pipeline.run(cohort, self._remembered, self.server)
            except RuleError as error:
                raise RunError(f"round {server_round}: {error}{_left_out(dropped)}") from None
        clamped = self._apply(server_round, passed.aggregate)
        self._remembered = passed.memory
        before = _norms(cohort)
        client_ids = cohort.client_ids.tolist()
        self.outcome = RoundOutcome(
            round=server_round,
            client_ids=client_ids,
            dropped=dropped,
            losses=losses,
            norms_before=list(before.values()),
            norms_after=list(before.values()) if passed.filtered is cohort else _norms_after(cohort, passed.filtered),
            influence=passed.aggregate.influence.tolist(),
            clamped_variances=clamped,
            images=self._images,
            seconds={"train": collected_at - self._sent_at, "aggregate": time.time() - collected_at},
            cosines=_cosines(cohort, passed.aggregate, list(before.values())),
        )
        return self.initial_arrays(), MetricRecord()

    def _collect(self, server_round: int, replies: Iterable[Message]) -> tuple[Cohort, list[float], dict[int, str]]:
        """Replies, in whatever order → the cohort by rising client id, the clients' losses, and who was left out and why."""
        deltas = np.empty((len(self._chosen), self.layout.weight_count), dtype=np.float32)
        statistics = np.empty((len(self._chosen), self.layout.statistic_count), dtype=np.float32)
        losses: dict[int, float] = {}
        causes: dict[int, str] = {}
        for reply in replies:
            node = sender(reply)
            client = None if node is None else self.roster.client_of(node)
            if client not in self._chosen or client in losses or client in causes:
                continue  # not asked, or asked once and answered twice: no part of the round
            row = self._chosen.index(client)
            try:
                size = self.shard_sizes[client]
                images = self.experiment.local_epochs * size
                local, metrics = read_reply(reply, self.layout, size, images)
                self._subtract_global(local, deltas[row], statistics[row])
                self.adversary.read(reply, client, server_round)
                losses[client] = metrics["loss"]
                if "began" in metrics:  # only a client's word
                    self._began.append(min(max(metrics["began"], self._sent_at), time.time()))
                self._images += images
                self.watcher.client_done(client, images)
            except BadReply as error:
                causes[client] = str(error)
                self._reject(server_round, client, str(error))
            self.watcher.waiting_for(len(self._chosen) - len(losses) - len(causes))
        self.watcher.waiting_for(0)
        for client in self._chosen:
            if client not in losses and client not in causes:
                waited = f"no reply within {self.experiment.round_timeout:g} s"
                causes[client] = "it was not there" if client in self._absent else waited
                self._reject(server_round, client, causes[client])
        kept = [row for row, client in enumerate(self._chosen) if client in losses]
        if not kept:
            raise RunError(f"round {server_round}: no reply that could be used{_left_out(causes)}")
        ids = [self._chosen[row] for row in kept]
        rows = slice(None) if len(kept) == len(self._chosen) else kept  # no copy where nobody was dropped
        examples = np.array([self.shard_sizes[client] for client in ids], dtype=np.int64)
        cohort = Cohort(
            server_round, np.array(ids, dtype=np.int64), deltas[rows], statistics[rows], examples, self.state
        )
        return cohort, [losses[client] for client in ids], dict(sorted(causes.items()))

    def _subtract_global(self, local: ModelState, delta: np.ndarray, statistics: np.ndarray) -> None:
        with np.errstate(over="ignore"):
            np.subtract(local.weights, self.state.weights, out=delta)
            np.subtract(local.statistics, self.state.statistics, out=statistics)
        if not (np.isfinite(delta).all() and np.isfinite(statistics).all()):
            raise BadReply("its update overflows float32")

    def _reject(self, server_round: int, client: int, cause: str) -> None:
        if self.experiment.on_bad_reply == "fail":
            raise RunError(
                f"round {server_round}, client {client}: {cause} (--on-bad-reply drop leaves such clients out and goes on)"
            )

    def _apply(self, server_round: int, aggregate: Aggregate) -> int:
        """Add the aggregate to the global model; returns how many variances had to be clamped at 0."""
        with np.errstate(over="ignore"):  # looked at below
            weights = (self.state.weights.astype(np.float64) + aggregate.delta).astype(np.float32)
            statistics = (self.state.statistics.astype(np.float64) + aggregate.statistics).astype(np.float32)
        negative = self.layout.variances & (statistics < 0)
        statistics[negative] = 0.0
        if not (np.isfinite(weights).all() and np.isfinite(statistics).all()):
            raise RunError(
                f"round {server_round}: the aggregate overflows float32; the last good model is the round before's"
            )
        self.state = ModelState(weights, statistics)
        return int(negative.sum())

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Clients evaluate nothing: the server scores the global model on the whole test set."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> None:
        """Nothing to aggregate."""

    def summary(self) -> None:
        """Nothing to log: the run folder's config.toml has it all."""


def _norms(cohort: Cohort) -> dict[int, float]:
    """Client → L2 norm of its update's weights."""
    return dict(zip(cohort.client_ids.tolist(), np.sqrt(squared_norms(cohort.deltas)).tolist(), strict=True))


def _norms_after(cohort: Cohort, filtered: Cohort) -> list[float | None]:
    """Of each client of the round: the norm of its own row, None where it is mixed with others', 0 where it is left out."""
    norms = _norms(filtered)
    mixed = np.zeros(len(cohort), dtype=bool)  # (n,)
    if filtered.sources is not None:
        mixed = filtered.sources[filtered.client_ids == MIXED].any(axis=0)
    return [
        norms.get(client, None if in_others else 0.0)
        for client, in_others in zip(cohort.client_ids.tolist(), mixed.tolist(), strict=True)
    ]


def _cosines(cohort: Cohort, aggregate: Aggregate, norms: list[float]) -> list[float | None]:
    """The cosine of each update's weights, whose norms are known, and what the global model's move by."""
    length = float(np.sqrt(squared_norms(aggregate.delta[None])[0]))
    products = sum_for_each(
        cohort.deltas, lambda wide, block: dot(wide, aggregate.delta[block].astype(np.float64))
    )  # (n,)
    with np.errstate(all="ignore"):  # a norm may overflow
        cosines = products / (np.array(norms) * length)
    return [min(1.0, max(-1.0, cosine)) if np.isfinite(cosine) else None for cosine in cosines.tolist()]


def _left_out(causes: dict[int, str]) -> str:
    return "".join(f"; client {client} was left out: {cause}" for client, cause in sorted(causes.items()))
