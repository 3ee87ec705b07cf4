"""Clients with unequal numbers of images, from their shards to the average: nothing takes them to be alike."""

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from attacks import poison
from clients import app
from oleander.datasets.partition import shard_of
from oleander.experiment.federation import client_config
from oleander.experiment.prepare import Sources, prepare
from oleander.settings.config import Experiment
from oleander.system.streams import generator
from oleander.transport.replies import read_reply

pytestmark = pytest.mark.usefixtures("task", "one_thread")
ASKED = {"weights": "fresh", "clients": 5, "clients_per_round": 3, "partition": "iid", "precision": "fp32",
         "local_epochs": 1, "batch_size": 4, "attack": "patch", "malicious": 2}  # fmt: skip


def prepared(image_folder, **settings):
    told = []
    asked = ASKED | {"dataset": f"folder:{image_folder}", "samples_per_client": "2-9"} | settings
    return prepare(Experiment().changed(**asked), Sources(told.append)), told


def test_a_client_says_of_its_shard_what_the_server_expects_of_it(image_folder):
    """Its number of images, and as many as it passed."""
    setup, _ = prepared(image_folder)
    assert len(set(setup.shard_sizes)) > 2
    config = {**client_config(setup), "server-round": 1}
    for client in range(2):
        content = RecordDict({"arrays": ArrayRecord(setup.start.state.sent()), "config": ConfigRecord(config)})
        message = Message(content, dst_node_id=1, message_type="train")
        message.metadata.__dict__["_message_id"] = "m"

        class Context:
            node_config = {"partition-id": client}  # noqa: RUF012

        reply = app.fit(message, Context())
        size = setup.shard_sizes[client]
        assert size == len(shard_of(client, setup.dataset, setup.experiment).labels)
        _, metrics = read_reply(reply, setup.layout, size, size)
        assert metrics["images"] == size


def test_an_attacker_poisons_its_share_of_its_own_images_and_who_comes_to_none_is_named(image_folder):
    setup, told = prepared(image_folder, poison_rate=0.1)
    counts = []
    for client in setup.experiment.malicious_clients:
        shard = shard_of(client, setup.dataset, setup.experiment)
        chosen = poison(shard, 0.1, 0, generator(0, "poison", client=client))
        counts.append(int(chosen.poisoned.sum()))
        assert counts[-1] == round(0.1 * len(shard.labels))
    none = [str(client) for client, count in enumerate(counts) if not count]
    said = [text for text in told if "poison no image" in text]
    assert bool(said) == bool(none) and all(text.endswith(f"--poison-rate 0.1: {', '.join(none)}") for text in said)
    assert none  # of 2 to 9 images: some
    assert not [text for text in prepared(image_folder, poison_rate=0.5)[1] if "poison no image" in text]
