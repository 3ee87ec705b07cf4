"""The Flower ClientApp: transport only. It picks the client of its partition, lets it train, and sends what it says.

A query answers which partition a node is; a train message carries the global model, the round and the experiment.
"""

import functools
from pathlib import Path

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from attacks import attack_of
from clients.benign import BenignClient
from clients.malicious import MaliciousClient
from experiment.config import Experiment
from learning.data import Dataset, open_dataset
from learning.devices import prepare_device
from learning.partition import shard_of
from learning.resnet import ResNet18Light
from learning.sources import load_dataset

app = ClientApp()


@app.query()
def identify(message: Message, context: Context) -> Message:
    """Answer which partition this node is."""
    identity = ConfigRecord({"partition-id": int(context.node_config["partition-id"])})
    return Message(RecordDict({"identity": identity}), reply_to=message)


@app.train()
def fit(message: Message, context: Context) -> Message:
    """Train this node's client for one round."""
    config = dict(message.content["config"])
    client = make_client(int(context.node_config["partition-id"]), config)
    arrays, num_examples, metrics = client.fit(message.content["arrays"].to_numpy_ndarrays(), config)
    reply = {
        "arrays": ArrayRecord(arrays),
        "metrics": MetricRecord({**{k: float(v) for k, v in metrics.items()}, "num-examples": int(num_examples)}),
    }
    return Message(RecordDict(reply), reply_to=message)


def make_client(client_id: int, config: dict[str, object]) -> BenignClient:
    """The client of this partition: malicious for the ids 0 … µ-1, while they attack.

    Raises:
        ValueError: this machine's data are not the server's.
    """
    experiment = Experiment.from_json(str(config["experiment"]))
    dataset = _dataset(str(config["dataset-directory"]), experiment.dataset, experiment.data_dir)
    if dataset.fingerprint != config["dataset-fingerprint"]:
        raise ValueError(
            f"client {client_id} has other data than the server: {dataset.name} {dataset.fingerprint[:12]}, "
            f"not {str(config['dataset-fingerprint'])[:12]}"
        )
    model = _model(len(dataset.classes), experiment.client_threads or 1)
    shard = shard_of(client_id, dataset, experiment)
    if client_id < experiment.attackers(int(str(config["server-round"]))):
        return MaliciousClient(shard, model, experiment, attack_of(experiment))
    return BenignClient(shard, model, experiment)


@functools.lru_cache(maxsize=1)  # an actor serves many messages
def _dataset(directory: str, source: str, data_dir: str) -> Dataset:
    """The server's decoded dataset where this is its machine, else this machine's own copy of the same source."""
    if Path(directory).is_dir():
        return open_dataset(Path(directory))
    return load_dataset(source, data_dir, notify=print)


@functools.lru_cache(maxsize=1)
def _model(num_classes: int, threads: int) -> nn.Module:
    device = prepare_device(threads)
    return ResNet18Light(num_classes).to(device).to(memory_format=torch.channels_last)
