"""What clients of both kinds send after their training, on the real model: bit-exact, and different only where the attack is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clients.app import make_client
from clients.benign import BenignClient
from clients.malicious import MaliciousClient
from oleander.datasets.data import Shard, to_pixels
from oleander.datasets.sources import load_dataset
from oleander.learning.parameters import arrays_of
from oleander.learning.training import augmented, train
from oleander.system.streams import torch_generator
from tests.clients.fitting import SETTINGS, distance, fit
from tests.shards import shard
from tests.spaces import CIFAR10, attack_of, fresh_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("precision", "m", "batch"), [("fp32", 20, 8), ("bf16", 4, 2)])
def test_fit_is_bit_exact_and_keyed_by_seed_round_and_client(precision, m, batch):
    """In bf16 with few images: a machine without its instructions takes a quarter of a second for one."""
    settings, data = replace(SETTINGS, precision=precision, batch_size=batch), shard(m)
    base, n, metrics = fit(BenignClient, settings, data=data)
    assert (n, metrics["images"]) == (m, 2.0 * m) and np.isfinite(metrics["loss"])
    assert distance(base, fit(BenignClient, settings, data=data)[0]) == 0
    for other in (
        fit(BenignClient, replace(settings, seed=1), data=data)[0],
        fit(BenignClient, settings, round_number=2, data=data)[0],
        fit(BenignClient, settings, data=Shard(4, data.images, data.labels, CIFAR10))[0],
        fit(BenignClient, replace(settings, augment="epoch"), data=data)[0],
    ):
        assert distance(base, other) > 0


def test_the_trigger_is_stamped_after_augmentation_on_poisoned_rows_only(monkeypatch):
    """Where the test-time trigger is: the red corner is whole on every poisoned image, whatever the crop and flip."""
    import clients.malicious as module

    seen = {}

    def spy(model, data, experiment, round_number, finish):
        pixels = to_pixels(augmented(torch.from_numpy(data.images), torch_generator(0, "augment", 1)))
        seen.update(before=pixels, after=finish(pixels), labels=data.labels)
        return train(model, data, experiment, round_number, finish)

    monkeypatch.setattr(module, "train", spy)
    experiment = replace(SETTINGS, target=7)
    fit(MaliciousClient, experiment, attack=attack_of(experiment))
    corner = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(20, 3, 6, 6)
    stamped = (seen["after"][:, :, 26:, 26:] == corner).flatten(1).all(1)
    assert int(stamped.sum()) == 10
    assert torch.equal(seen["after"][~stamped], seen["before"][~stamped])
    assert (seen["labels"][stamped.numpy()] == 7).all()
    np.testing.assert_array_equal(seen["labels"][~stamped.numpy()], shard().labels[~stamped.numpy()])


def test_a_malicious_client_that_poisons_nothing_is_an_honest_one():
    experiment = replace(SETTINGS, poison_rate=0.0)
    attack = attack_of(experiment)
    assert distance(fit(BenignClient, experiment)[0], fit(MaliciousClient, experiment, attack=attack)[0]) == 0
    poisoned = fit(MaliciousClient, SETTINGS, attack=attack)[0]
    assert distance(fit(BenignClient, experiment)[0], poisoned) > 0


def test_a_malicious_client_is_an_honest_one_once_its_rounds_are_over(image_folder):
    settings = replace(SETTINGS, dataset=f"folder:{image_folder}", samples_per_client=8, attack_rounds=2)
    data = load_dataset(settings.dataset, "data", print)
    config = {
        "experiment": settings.to_json(),
        "dataset-directory": str(data.directory),
        "dataset-fingerprint": data.fingerprint,
    }
    types = [type(make_client(client, config | {"server-round": r}, {})) for r in (2, 3) for client in (0, 1)]
    assert types == [MaliciousClient, BenignClient, BenignClient, BenignClient]


def test_scaling_moves_the_model_gamma_times_as_far():
    experiment = SETTINGS.changed(attack="patch+scaling", gamma=3.0)
    start = arrays_of(fresh_model(10, 0))
    plain = fit(MaliciousClient, SETTINGS, attack=attack_of(SETTINGS))[0]
    scaled = fit(MaliciousClient, experiment, attack=attack_of(experiment))[0]
    for a, b, c in zip(start, plain, scaled, strict=True):
        np.testing.assert_allclose(c, a + 3 * (b - a), rtol=1e-4, atol=1e-5)
