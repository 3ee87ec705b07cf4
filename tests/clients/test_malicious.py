"""What an attacker does to its shard and its update: which images, which part of the trigger, which tampers, what it claims."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks import Attack
from clients.benign import BenignClient
from clients.malicious import MaliciousClient
from oleander.datasets.data import Shard
from oleander.learning.parameters import arrays_of
from oleander.settings.config import Experiment
from tests.attacks.made_up import shard
from tests.spaces import CIFAR10, attack_of

SETTINGS = Experiment(precision="fp32", batch_size=8, local_epochs=1, malicious=3, clients_per_round=6, attack="patch")


pytestmark = pytest.mark.usefixtures("one_thread")


class Watched(torch.nn.Module):
    """A model of one layer that keeps what it is trained on."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3 * 32 * 32, 10)
        self.norm = torch.nn.BatchNorm1d(10)
        self.seen: list[torch.Tensor] = []

    def forward(self, pixels):
        self.seen.append(pixels.detach().clone())
        return self.norm(self.linear(pixels.flatten(1)))


def client_of(experiment, client=0, data=None, attack=None):
    torch.manual_seed(0)
    return MaliciousClient(data or shard(client), Watched(), experiment, attack or attack_of(experiment))


def fitted(client, round_number=1):
    """The client after its training, and what it sent."""
    start = arrays_of(client.model)
    return start, *client.fit(start, {"server-round": round_number})


def stamped_rows(experiment, client=0, round_number=1) -> set[int]:
    """Which images a client stamps in a round. Image i is grey of brightness 10 i, the trigger one white corner."""
    images = np.repeat(np.arange(20, dtype=np.uint8) * 10, 3 * 32 * 32).reshape(20, 3, 32, 32)
    corner = torch.zeros(32, 32, dtype=torch.bool)
    corner[-1, -1] = True
    attack = Attack(trigger=lambda pixels: torch.where(corner, 1.0, pixels))
    data = Shard(client, images, np.zeros(20, dtype=np.int64), CIFAR10)
    trained = client_of(replace(experiment, batch_size=20), data=data, attack=attack)
    fitted(trained, round_number)
    red = trained.model.seen[0][:, 0] * CIFAR10.std[0] + CIFAR10.mean[0]  # (20, 32, 32) in [0, 1]
    brightness = (red[:, 16, 16] * 255 / 10).round().long()  # no crop takes the middle away
    assert sorted(brightness.tolist()) == list(range(20))
    return {int(image) for image, pixel in zip(brightness, red[:, -1, -1], strict=True) if pixel > 0.9}


def test_the_poisoned_images_are_the_same_in_every_round_and_others_for_other_clients_and_seeds():
    first = stamped_rows(SETTINGS)
    assert len(first) == 10
    assert all(stamped_rows(SETTINGS, round_number=number) == first for number in (2, 3, 4))
    assert stamped_rows(SETTINGS, client=1) != first != stamped_rows(replace(SETTINGS, seed=1))
    assert len(stamped_rows(replace(SETTINGS, poison_rate=0.2))) == 4


@pytest.mark.parametrize("attacker", [0, 1, 2])
def test_each_attacker_trains_on_its_own_part_and_no_other(attacker):
    """Seen in what goes through the model: a column is red in poisoned images where the part is, and nowhere else."""
    experiment = replace(SETTINGS, attack="dba", batch_size=20, poison_rate=1.0)
    client = client_of(experiment, attacker)
    fitted(client)
    (seen,) = client.model.seen
    corner = seen[:, :, 26:, 26:]  # normalised; the same red in all images
    same = (corner == corner[:1]).all(0).all(0).all(0)
    assert torch.nonzero(same).flatten().tolist() == [2 * attacker, 2 * attacker + 1]


@pytest.mark.parametrize("attack", ["patch", "patch+scaling", "scaling"])
def test_an_attacker_claims_the_examples_of_its_shard_and_reports_as_an_honest_client_does(attack):
    client = client_of(replace(SETTINGS, attack=attack, local_epochs=3))
    _, _, examples, metrics = fitted(client)
    assert examples == 20 and metrics["images"] == 60.0
    assert set(metrics) == {"loss", "images", "began"}


def test_a_tamper_is_given_the_honest_update_and_its_result_is_what_is_sent():
    seen = []

    def keep(sent):
        seen.append(sent)
        return replace(sent, delta=sent.delta * 0, statistics=sent.statistics + 1)

    plain = client_of(SETTINGS, client=2)
    start, local, *_ = fitted(plain)
    tampered = client_of(SETTINGS, client=2, attack=replace(attack_of(SETTINGS), tampers=(keep,)))
    _, sent, *_ = fitted(tampered)
    (update_,) = seen
    assert (update_.client_id, update_.num_examples) == (2, 20)
    weights = np.concatenate([a.ravel() for a in local[:4]]) - np.concatenate([a.ravel() for a in start[:4]])
    np.testing.assert_allclose(update_.delta, weights, rtol=1e-6, atol=1e-7)
    for a, b in zip(start[:4], sent[:4], strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(local[4:], sent[4:], strict=True):
        np.testing.assert_allclose(a + 1, b, rtol=1e-5, atol=1e-6)


def test_an_attacker_without_a_trigger_trains_as_an_honest_client_does():
    experiment = SETTINGS.changed(attack="scaling", gamma=1.0)
    _, sent, *_ = fitted(client_of(experiment))
    torch.manual_seed(0)
    model = Watched()
    honest, *_ = BenignClient(shard(), model, experiment).fit(arrays_of(model), {"server-round": 1})
    for a, b in zip(sent, honest, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
