"""The Flower ClientApp: transport only. It picks the client of its partition, lets it train, and sends what it says.

A train message carries the global model, the round and the experiment. A query asks which partition a node is, and on a real
network with what it would train (``clients.introduction``); or it says farewell.
"""

import functools
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from attacks import attack_of
from clients.benign import BenignClient
from clients.farewell import take_leave
from clients.introduction import NodeConfig, at_home, introduce
from clients.malicious import MaliciousClient
from clients.plugins import ATTACKING, HONEST, with_own_copies
from oleander.datasets.data import Dataset, open_dataset
from oleander.datasets.partition import shard_of
from oleander.datasets.sources import load_dataset, settings_for
from oleander.datasets.space import ImageSpace
from oleander.learning.devices import prepare_device
from oleander.learning.parameters import Layout, ModelState
from oleander.models import build, identity
from oleander.settings.config import Experiment
from oleander.settings.declared import DATASETS
from oleander.settings.registry import model_name
from oleander.system.errors import UserError
from oleander.system.foreign import reason
from oleander.transport.attackers import MEMORY, Told, memory_record, told_in
from oleander.transport.roster import CLIENT, PLAYS

app = ClientApp()


@app.query()
def identify(message: Message, context: Context) -> Message:
    """Answer which partition this node is, and what the server asks besides."""
    client_id = int(context.node_config["partition-id"])
    identity: dict[str, int | str] = {"partition-id": client_id}
    if "hello" in message.content:
        hello = {name: str(value) for name, value in message.content["hello"].items()}
        experiment, dataset = functools.partial(_experiment, hello, context.node_config), _dataset_of
        identity |= introduce(
            client_id, hello, experiment, lambda e: dataset(hello, e, context.node_config), context.node_config
        )
    if "farewell" in message.content:
        take_leave(dict(message.content["farewell"]), context.node_config)
    return Message(RecordDict({"identity": ConfigRecord(identity)}), reply_to=message)


@app.train()
def fit(message: Message, context: Context) -> Message:
    """Train this node's client for one round."""
    config = dict(message.content["config"])
    told = told_in(message.content)
    client = make_client(_client_id(message, context.node_config), config, context.node_config, told)
    layout = Layout.of(client.model)
    start = layout.unflatten(ModelState(*message.content["arrays"].to_numpy_ndarrays()))
    local, num_examples, metrics = client.fit(start, config)
    reply: dict[str, Any] = {
        "arrays": ArrayRecord(layout.flatten(local).sent()),
        "metrics": MetricRecord({**{k: float(v) for k, v in metrics.items()}, "num-examples": int(num_examples)}),
    }
    if isinstance(client, MaliciousClient) and client.adapts:
        reply[MEMORY] = memory_record(client.attack.memory)
    return Message(RecordDict(reply), reply_to=message)


def make_client(
    client_id: int, config: dict[str, object], node_config: NodeConfig, told_by_attackers: Told | None = None
) -> BenignClient:
    """The client of this partition: malicious if it is among the round's attackers.

    Raises:
        ValueError: this machine's data are not the server's.
    """
    told = {name: str(value) for name, value in config.items()}
    experiment = _experiment(told, node_config)
    dataset = _dataset_of(told, experiment, node_config)
    if dataset.fingerprint != told["dataset-fingerprint"]:
        raise ValueError(
            f"client {client_id} has other data than the server: {dataset.name} {dataset.fingerprint[:12]}, "
            f"not {told['dataset-fingerprint'][:12]}"
        )
    attacks = client_id in experiment.attackers_in(int(told["server-round"]))
    mine = with_own_copies(experiment, node_config, ATTACKING if attacks else HONEST)
    model_name(mine)  # of one from outside, this process may not know yet
    threads = experiment.client_threads or 1
    known = identity(mine.model, mine.norm)
    model = _model(mine.model, mine.norm, known, len(dataset.classes), dataset.image, threads)
    shard = shard_of(client_id, dataset, experiment)
    if attacks:
        number = experiment.malicious_clients.index(client_id)
        attack = attack_of(mine, dataset.image, lambda: Layout.of(model))
        return MaliciousClient(shard, model, experiment, attack, told_by_attackers, number)
    return BenignClient(shard, model, experiment)


def _client_id(message: Message, node_config: NodeConfig) -> int:
    """Which client this node is. In a simulation the server says so, anew in each round; on a network nobody is told who he is."""
    if PLAYS in message.content and "mailbox" not in node_config:
        return int(message.content[PLAYS][CLIENT])
    return int(node_config["partition-id"])


def _experiment(told: dict[str, str], node_config: NodeConfig) -> Experiment:
    return at_home(Experiment.from_json(told["experiment"]), node_config)


def _dataset_of(told: dict[str, str], experiment: Experiment, node_config: NodeConfig) -> Dataset:
    stamp, data_dir, asked = told.get("dataset-stamp", ""), experiment.data_dir, settings_for(experiment)
    if "dataset" in node_config:
        return _dataset("", stamp, experiment.dataset, data_dir, asked)
    theirs = told["dataset-directory"]
    try:
        source = with_own_copies(experiment, node_config, (DATASETS,)).dataset
    except UserError:
        if not Path(theirs).is_dir():
            raise
        source = ""  # the server's arrays are here, and nothing is run for them
    return _dataset(theirs, stamp, source, data_dir, asked)


@functools.lru_cache(maxsize=4)  # a process serves many messages
def _dataset(directory: str, stamp: str, source: str, data_dir: str, asked: tuple[tuple[str, Any], ...]) -> Dataset:
    """The server's decoded dataset where this is its machine, else this machine's own copy of the same source.

    The files that the server has checked are not read a second time; any others are.
    """
    if directory and Path(directory).is_dir():
        try:
            return open_dataset(Path(directory), stamp)
        except (OSError, ValueError) as error:
            if not source:
                raise UserError(
                    f"{directory} is damaged ({reason(error)}), and no copy of its source is here"
                ) from None
            print(f"{directory} is damaged ({reason(error)}); looking for {source} here")
    return load_dataset(source, data_dir, notify=print, **dict(asked))


@functools.lru_cache(maxsize=4)
def _model(name: str, norm: str, _identity: str, classes: int, image: ImageSpace, threads: int) -> nn.Module:
    device = prepare_device(threads)
    return build(name, classes, image, norm).to(device).to(memory_format=torch.channels_last)
