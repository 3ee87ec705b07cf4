"""A Flower grid of clients that are played: they lie, fail, or answer in any order; Ray does not run."""

import itertools
import random

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from oleander.learning.parameters import Layout, ModelState
from oleander.settings.config import Experiment
from oleander.transport.roster import CLIENT, PLAYS, SimulatedRoster
from strategies import pipeline_of
from strategies.flower import PipelineStrategy

LAYOUT = Layout(("w", "bn.running_mean", "bn.running_var"), ((2, 3), (2,), (2,)), (True, False, False))
SIZE = 10


class Quiet:
    """A watcher that only counts."""

    def __init__(self):
        self.images = 0

    def round_began(self, round_number, client_ids): ...

    def waiting_for(self, clients): ...

    def went_on(self, rounds, clients): ...

    def client_done(self, client_id, images):
        self.images += images


class Network:
    """A grid of ``clients`` nodes with random ids; each trains by adding its id and the round; ``faults`` change its reply."""

    def __init__(self, clients, faults=None, order=None, seed=0):
        ids = random.Random(seed).sample(range(1, 2**40), clients)
        self.client_of = {node: client for client, node in enumerate(ids)}
        self.faults, self.order, self.asked = faults or {}, order, []
        self.replies = {}
        self.counter = itertools.count()

    def get_node_ids(self):
        return list(self.client_of)

    def push_messages(self, messages):
        return [self._answer(message) for message in messages]

    def send_and_receive(self, messages, timeout=None):
        return self.pull_messages(self.push_messages(messages))

    def pull_messages(self, ids):
        found = [self.replies.pop(i) for i in list(ids) if i in self.replies]
        (self.order or (lambda replies: None))(found)
        return found

    def _answer(self, message):
        message.metadata.__dict__["_message_id"] = f"m{next(self.counter)}"
        client = self._plays(message)
        self.asked.append((message.metadata.message_type, client))
        if message.metadata.message_type == "query":
            reply = Message(RecordDict({"identity": ConfigRecord({"partition-id": client})}), reply_to=message)
        else:
            reply = self._train(message, client)
        if reply is not None:
            self.replies[message.metadata.message_id] = reply
        return message.metadata.message_id

    def _plays(self, message):
        """Who the node is: whom the message says, else who it always is."""
        told = message.content.get(PLAYS)
        return told[CLIENT] if told else self.client_of[message.metadata.dst_node_id]

    def _train(self, message, client):
        arrays = message.content["arrays"].to_numpy_ndarrays()
        step = np.float32(client + message.content["config"]["server-round"])
        content = {"arrays": [a + step for a in arrays], "num-examples": SIZE, "loss": 0.5, "images": 20.0}
        fault = self.faults.get(client)
        return fault(message, content) if fault else honest(message, content)


def honest(message, content):
    metrics = {k: v for k, v in content.items() if k != "arrays"}
    records = {"arrays": ArrayRecord(content["arrays"]), "metrics": MetricRecord(metrics)}
    return Message(RecordDict(records), reply_to=message)


def changed(**changes):
    def fault(message, content):
        return honest(message, content | {k: f(content) if callable(f) else f for k, f in changes.items()})

    return fault


def first(change):
    """The arrays with the first one changed."""
    return lambda content: [change(content["arrays"][0]), *content["arrays"][1:]]


def failing(reason):
    """A client that fails, in these words."""
    return lambda message, _content: Message(Error(code=2, reason=reason), reply_to=message)


def run(network, start=0.0, after=None, done=0, **settings):
    settings = {"clients": 6, "clients_per_round": 5, "rounds": 3, "round_timeout": 0.3} | settings
    experiment = Experiment(**settings)
    state = after or ModelState(np.full(6, start, dtype=np.float32), np.zeros(4, dtype=np.float32))
    sizes = [SIZE] * experiment.clients
    strategy = PipelineStrategy(
        experiment, pipeline_of(experiment), LAYOUT, state, sizes, {}, Quiet(), SimulatedRoster(experiment), done
    )
    outcomes = []
    strategy.start(
        network, strategy.initial_arrays(), num_rounds=experiment.rounds - done, timeout=experiment.round_timeout,
        evaluate_fn=lambda r, a: outcomes.append(strategy.outcome),
    )  # fmt: skip
    return strategy, outcomes[1:]
