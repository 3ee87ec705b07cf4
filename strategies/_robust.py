"""Any pipeline in anybody's Flower app: arrays in, arrays out; nothing of our engine, our settings of a run or our models.

It samples, sends and aggregates metrics as Flower's FedAvg, of which it is one. A reply is read as in our own runs, and never
believed: one that is none of this model's is left out, and the log says why.
"""

import fnmatch
import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from logging import getLogger
from typing import Any, Literal

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result
from numpy.typing import NDArray

from oleander.datasets.data import Shard
from oleander.datasets.space import ImageSpace
from oleander.learning.parameters import VARIANCE, FloatArray, Layout, ModelState
from oleander.learning.root import Root
from oleander.learning.updates import Cohort, Memory, Update
from oleander.settings.declared import declaration
from oleander.settings.registry import strategy_steps
from oleander.settings.steps import short, split
from oleander.system.errors import RunError, UserError
from oleander.transport.replies import BadReply, error_of, guarded, sender, unpacked
from strategies import Pipeline, RuleError, Server, pipeline_for
from strategies._arrays import MOST_EXAMPLES, check_rest, settings_of

STATISTICS = ("*running_mean", "*running_var")
"""Names of batch norm's statistics in a PyTorch state dict."""
MOST_ID = 2**63 - 1
FLOWERS = frozenset(inspect.signature(FedAvg.__init__).parameters) - {"self"}
"""What FedAvg is told: fraction_train, min_train_nodes, weighted_by_key …"""
Trained = Callable[[ArrayRecord, int], ArrayRecord]
"""The global model and the round → what training it on clean images of the server's own comes to."""
log = getLogger("flwr")


class RobustStrategy(FedAvg):
    """Aggregates by any ``--strategy``, such as ``clip+krum``, in place of FedAvg's mean.

    ``influence`` says after each round what weight each node had (by node id), ``left_out`` whose reply could not be used and why,
    and ``memory`` what the steps remember of the rounds so far.
    """

    def __init__(
        self, strategy: str, *, seed: int = 0, statistics: Sequence[str] = STATISTICS, root: Trained | None = None,
        on_bad_reply: Literal["drop", "fail"] = "drop", weigh_equally: bool = False,
        memory: Mapping[str, Memory] | None = None, **settings: Any,
    ) -> None:  # fmt: skip
        """Take the pipeline and its settings.

        Args:
            strategy: filters, then one rule, then finishes, joined by +; a file of your own is a step too.
            seed: of steps that draw at random. (Which nodes are asked, Flower draws, and by no seed.)
            statistics: patterns of the arrays' names that are no weights but statistics: distances and norms leave them out.
                What are integers (``num_batches_tracked``) is neither: the next model has the median of the trusted clients'.
            root: trains the global model on clean images of the server's own, for steps that ask for it (``fltrust``).
            on_bad_reply: leave it out of its round, or end the run.
            weigh_equally: count each client as one example. How many it has is its own word (``weighted_by_key``), and in a
                weighted mean a liar's word is law.
            memory: what ``memory`` was when a run before this one ended.
            settings: those of the steps by their names (``assumed_malicious=2``), and FedAvg's own (``fraction_train=0.5``).

        Raises:
            UserError: an unknown step or setting, a value out of its range, or a step that needs what a server here does not have.
            RuleError: a seed or a memory that is none of this strategy's.
        """
        flowers = {name: value for name, value in settings.items() if name in FLOWERS}
        super().__init__(**flowers)
        own = {name: value for name, value in settings.items() if name not in FLOWERS}
        experiment = settings_of(strategy, own)
        self._experiment = experiment
        self.pipeline = self._built()
        _check_given(self.pipeline, root, on_bad_reply, statistics)
        check_rest(self.pipeline, memory, seed, 1, None)
        self.seed, self.on_bad_reply, self.weigh_equally, self.settings = seed, on_bad_reply, weigh_equally, own
        self.statistics = tuple(statistics)
        self.memory = dict(memory or {})
        self.influence: dict[int, float] = {}
        self.left_out: dict[int, str] = {}
        self._rounds_known = "rounds" in own
        self._root = root
        self._model: _Model | None = None

    def _built(self) -> Pipeline:
        return pipeline_for(strategy_steps(self._experiment), self._experiment, f"strategy {self._experiment.strategy}")

    def start(self, grid: Grid, initial_arrays: ArrayRecord, num_rounds: int = 3, *given: Any, **named: Any) -> Result:
        """As FedAvg; steps that go by how many rounds there are (``crfl``) go by these, unless ``rounds`` was given."""
        if "rounds" not in self.settings:
            self._rounds_known = True
            self._experiment = self._experiment.changed(rounds=num_rounds)
            self.pipeline = self._built()
        return super().start(grid, initial_arrays, num_rounds, *given, **named)

    def summary(self) -> None:
        """Log what aggregates, and FedAvg's own settings."""
        said = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        log.info("\t├──> Aggregation: %s%s", self.pipeline.name, f" ({said})" if said else "")
        super().summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """As FedAvg; the model that is sent is the one that updates start from."""
        self._model = _Model.of(arrays, self.statistics)
        if "layout" in self.pipeline.asks and all(name.isdecimal() for name in self._model.layout.names):
            raise UserError(
                f"strategy {self.pipeline.name} needs the names of the model's tensors, and its arrays have numbers; "
                "make the ArrayRecord of a state dict"
            )
        if not self._rounds_known:
            self._refuse_going_by_rounds()
        messages: Iterable[Message] = super().configure_train(server_round, arrays, config, grid)
        return messages

    def _refuse_going_by_rounds(self) -> None:
        """Raises UserError where a step depends on how many rounds there are, and nobody has said."""
        for step in map(short, split(self._experiment.strategy)):
            if "rounds" in declaration("strategies", step).uses:
                raise UserError(
                    f"strategy {self.pipeline.name}: {step} goes by how many rounds there are: rounds=N, or start(…, num_rounds=N)"
                )

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check the replies, aggregate them, and move the global model."""
        assert self._model is not None
        model = self._model
        sent: dict[int, _Sent] = {}
        contents = self._usable(server_round, replies, sent)
        if not contents:
            raise RunError(f"round {server_round}: no reply that could be used{_causes(self.left_out)}")
        nodes = sorted(sent, key=_client_id)
        starts = model.state
        deltas = np.empty((len(nodes), model.layout.weight_count), np.float32)
        statistics = np.empty((len(nodes), model.layout.statistic_count), np.float32)
        for row, node in enumerate(nodes):
            np.subtract(sent[node].state.weights, starts.weights, out=deltas[row])
            np.subtract(sent[node].state.statistics, starts.statistics, out=statistics[row])
        counts = np.array([1 if self.weigh_equally else sent[node].num_examples for node in nodes], np.int64)
        ids = np.array([_client_id(node) for node in nodes], np.int64)
        cohort = Cohort(server_round, ids, deltas, statistics, counts, starts)
        try:
            passed = self.pipeline.run(cohort, self.memory, Server(self.seed, model.layout, self._own_root(model)))
        except RuleError as error:
            raise RuleError(f"round {server_round}: {error}{_causes(self.left_out)}") from None
        self.memory = passed.memory
        self.influence = dict(zip(nodes, passed.aggregate.influence.tolist(), strict=True))
        trusted = [sent[node].integers for node in nodes if self.influence[node] > 0]
        arrays = model.moved(passed.aggregate.delta, passed.aggregate.statistics, trusted)
        unused = sum(weight == 0 for weight in self.influence.values())
        log.info("aggregate_train: %s gave %s of %s clients no weight", self.pipeline.name, unused, len(nodes))
        ordered = [contents[node] for node in nodes]
        return arrays, self.train_metrics_aggr_fn(ordered, self.weighted_by_key)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """As FedAvg, of the replies that can be used."""
        contents = self._usable(server_round, replies, None)
        metrics: MetricRecord | None = None
        if contents:
            metrics = self.evaluate_metrics_aggr_fn(list(contents.values()), self.weighted_by_key)
        return metrics

    def _usable(
        self, server_round: int, replies: Iterable[Message], sent: "dict[int, _Sent] | None"
    ) -> dict[int, RecordDict]:
        """Node → content of the replies that can be used; of training, what they sent goes into ``sent``."""
        contents: dict[int, RecordDict] = {}
        causes: dict[int, str] = {}
        for reply in replies:
            node = sender(reply)
            if node is None or node in contents or node in causes:
                continue
            try:
                with guarded():
                    if reply.has_error():
                        raise BadReply(error_of(reply))
                    count = _count(reply.content, self.weighted_by_key)
                    if sent is not None:
                        assert self._model is not None
                        sent[node] = self._model.read(reply.content, count)
                    contents[node] = reply.content
            except BadReply as error:
                causes[node] = str(error)
        kinds = Counter(_kind(content) for content in contents.values())
        usual = kinds.most_common(1)[0][0] if kinds else None
        for node in [node for node, content in contents.items() if _kind(content) != usual]:
            causes[node] = "its metrics are not those that most others sent"
            del contents[node]
            if sent is not None:
                del sent[node]
        if sent is not None:
            self.left_out = causes
        for node, cause in causes.items():
            log.warning("round %s: node %s is left out: %s", server_round, node, cause)
        if causes and self.on_bad_reply == "fail":
            raise RunError(f"round {server_round}{_causes(causes)}")
        return contents

    def _own_root(self, model: "_Model") -> Root | None:
        """The server's own training as steps ask for it."""
        trained = self._root
        if trained is None:
            return None

        def update(start: ModelState, shard: Shard, round_number: int, **settings: float) -> Update:
            if settings:
                raise RuleError(f"root trains as it does, and cannot be told {', '.join(settings)}")
            try:
                with guarded():
                    end = model.read(RecordDict({"arrays": trained(model.arrays, round_number)}), 1).state
            except BadReply as error:
                raise RuleError(f"root: {error}") from None
            return Update(shard.client_id, end.weights - start.weights, end.statistics - start.statistics, 1)

        nothing = Shard(-1, np.zeros((0, 1, 1, 1), np.uint8), np.zeros(0, np.int64), ImageSpace(1, 1, (0.0,), (1.0,)))
        return Root(nothing, update)


@dataclass(frozen=True)
class _Sent:
    """What a client sent."""

    state: ModelState
    integers: dict[str, NDArray[Any]]
    num_examples: int


@dataclass(frozen=True)
class _Model:
    """The global model of a foreign app: its arrays, and which of their numbers are weights, statistics and neither."""

    arrays: ArrayRecord
    values: dict[str, NDArray[Any]]
    layout: Layout
    """Of the arrays of real numbers."""

    @classmethod
    def of(cls, arrays: ArrayRecord, statistics: Sequence[str]) -> "_Model":
        values = {name: array.numpy() for name, array in arrays.items()}
        strange = [f"{name} ({value.dtype})" for name, value in values.items() if value.dtype.kind not in "fiub"]
        if strange:
            raise UserError(f"the model's arrays {', '.join(strange)}: wanted real numbers, integers or booleans")
        for name, value in values.items():
            if value.dtype.kind == "f" and not np.isfinite(value.astype(np.float32)).all():
                raise UserError(f"the model's array {name} has values that are not finite in float32")
        real = [name for name, value in values.items() if value.dtype.kind == "f"]
        weights = tuple(not any(fnmatch.fnmatchcase(name, pattern) for pattern in statistics) for name in real)
        if not any(weights):
            raise UserError(f"the model has no weights: {', '.join(real) or 'no real numbers'}; see statistics")
        layout = Layout(tuple(real), tuple(values[name].shape for name in real), weights)
        return cls(arrays, values, layout)

    @cached_property
    def state(self) -> ModelState:
        """The real numbers in float32."""
        return self.layout.flatten([self.values[name] for name in self.layout.names])

    def read(self, content: RecordDict, num_examples: int) -> _Sent:
        """The arrays of a reply, checked.

        Raises:
            BadReply: others than the model's, or values that are not finite.
        """
        records = list(content.array_records.values())
        if len(records) != 1 or set(records[0]) != set(self.values):
            raise BadReply(f"it sent {[len(record) for record in records]} arrays, not the model's {len(self.values)}")
        found = {}
        for name, value in self.values.items():
            found[name] = unpacked(records[0][name], name, value.dtype, value.shape)
            if value.dtype.kind == "f" and not np.isfinite(found[name]).all():
                raise BadReply(f"its {name} has values that are not finite (NaN or infinite)")
        with np.errstate(over="ignore"):
            state = self.layout.flatten([found[name] for name in self.layout.names])
            far = [state.weights - self.state.weights, state.statistics - self.state.statistics]
        if not all(np.isfinite(change).all() for change in far):
            raise BadReply("its update overflows float32")
        integers = {name: value for name, value in found.items() if value.dtype.kind != "f"}
        return _Sent(state, integers, num_examples)

    def moved(self, delta: FloatArray, statistics: FloatArray, trusted: list[dict[str, NDArray[Any]]]) -> ArrayRecord:
        """The model after the aggregate, each array of the type that it had; variances are not negative."""
        changes = dict(zip(self.layout.names, self.layout.unflatten(ModelState(delta, statistics)), strict=True))
        arrays = {}
        for name, value in self.values.items():
            if name in changes:
                with np.errstate(over="ignore"):
                    moved = value.astype(np.float64) + changes[name]
                    after = (np.maximum(moved, 0) if name.endswith(VARIANCE) else moved).astype(value.dtype)
                if not np.isfinite(after).all():
                    raise RuleError(f"the aggregate overflows {value.dtype} in {name}")
            else:
                after = _middle([sent[name] for sent in trusted]) if trusted else value
            arrays[name] = Array(np.asarray(after))
        return ArrayRecord(arrays)


def _middle(values: list[NDArray[Any]]) -> NDArray[Any]:
    """The median in each place, of an even number the lower: what a client sent, so that integers stay integers."""
    middle: NDArray[Any] = np.sort(np.stack(values), axis=0)[(len(values) - 1) // 2]
    return middle


def _check_given(pipeline: Pipeline, root: Trained | None, on_bad_reply: str, statistics: Sequence[str]) -> None:
    """Refuse what could only fail later.

    Raises:
        UserError: names the step and what it needs, or the argument.
    """
    for step in pipeline.steps:
        if "root" in step.asks and root is None:
            raise UserError(
                f"strategy {pipeline.name}: {step.name} needs root, and was given none: a function that trains the global "
                "model on clean images of the server's own, (arrays, round) -> arrays"
            )
        if missing := [name for name in ("answers", "image") if name in step.asks]:
            raise UserError(
                f"strategy {pipeline.name}: {step.name} needs {missing[0]}, which a foreign app cannot give it"
            )
    if on_bad_reply not in ("drop", "fail"):
        raise UserError(f"on_bad_reply = {on_bad_reply!r}; wanted 'drop' or 'fail'")
    if isinstance(statistics, str) or not all(isinstance(pattern, str) for pattern in statistics):
        raise UserError(f"statistics = {statistics!r}; wanted a list of patterns, such as {STATISTICS}")


def _client_id(node: int) -> int:
    """By what steps know a node: its id, as far as it fits."""
    return node % MOST_ID


def _count(content: RecordDict, key: str) -> int:
    """The examples that a client says it has.

    Raises:
        BadReply: no such number.
    """
    records = list(content.metric_records.values())
    if len(records) != 1:
        raise BadReply(f"it sent {len(records)} records of metrics, not one")
    count = records[0].get(key)
    whole = isinstance(count, int | float) and not isinstance(count, bool) and count == int(count)
    if not whole or not 1 <= count <= MOST_EXAMPLES:
        raise BadReply(f"its {key} is {count!r}, not a whole number of at least 1")
    return int(count)


def _kind(content: RecordDict) -> tuple[tuple[str, int], ...]:
    """Names of a reply's metrics, each with how many numbers it is."""
    (metrics,) = content.metric_records.values()
    return tuple(sorted((str(n), len(v) if isinstance(v, list) else -1) for n, v in metrics.items()))


def _causes(left_out: Mapping[int, str]) -> str:
    return "".join(f"; node {node} was left out: {cause}" for node, cause in left_out.items())
