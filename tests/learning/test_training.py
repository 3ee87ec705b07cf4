"""What a client's training draws, and by what it is keyed: crops, flips, batches; seen in what goes through a model."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clients.benign import BenignClient
from oleander.datasets.data import Shard
from oleander.learning.parameters import arrays_of
from oleander.learning.training import augmented, train
from oleander.settings.config import Experiment
from oleander.system.streams import torch_generator
from tests.spaces import CIFAR10, normalise

SETTINGS = Experiment(precision="fp32", batch_size=8, local_epochs=2)


pytestmark = pytest.mark.usefixtures("one_thread")


class Watched(torch.nn.Module):
    """A model of one layer that keeps what it is trained on."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = torch.nn.Linear(3 * 32 * 32, 4)
        self.seen: list[torch.Tensor] = []

    def forward(self, pixels):
        assert self.training
        self.seen.append(pixels.detach().clone())
        return self.linear(pixels.flatten(1))


def shard(client: int = 0, m: int = 20) -> Shard:
    """The same images and labels for every client."""
    rng = np.random.default_rng(0)
    return Shard(client, rng.integers(0, 256, (m, 3, 32, 32), dtype=np.uint8), rng.integers(0, 4, m), CIFAR10)


def augmentation(experiment, client, round_number):
    """The shard as it is augmented for each time that it is drawn."""
    drawn = []
    train(Watched(), shard(client), experiment, round_number, lambda pixels: drawn.append(pixels.clone()) or pixels)
    return [pixels.numpy().tobytes() for pixels in drawn]


def batches(experiment, client, round_number):
    """Which image goes through the model when, told by the middle of images that are told apart there."""
    images = np.repeat(np.arange(20, dtype=np.uint8) * 10, 3 * 32 * 32).reshape(20, 3, 32, 32)
    model = Watched()
    train(model, Shard(client, images, np.zeros(20, dtype=np.int64), CIFAR10), experiment, round_number)
    return [[round(float(row[0, 16, 16]), 3) for row in batch] for batch in model.seen]


@pytest.mark.parametrize("augment", ["once", "round", "epoch"])
def test_augmentation_is_keyed_by_seed_and_client(augment):
    experiment = replace(SETTINGS, augment=augment)
    drawn = [
        augmentation(experiment, 0, 1), augmentation(experiment, 1, 1), augmentation(replace(experiment, seed=1), 0, 1)
    ]  # fmt: skip
    assert drawn[0] == augmentation(experiment, 0, 1)
    assert len({images for draw in drawn for images in draw}) == 3 * (2 if augment == "epoch" else 1)


@pytest.mark.parametrize("augment", ["once", "epoch"])
def test_batches_are_keyed_by_seed_client_and_round_whatever_the_augmentation(augment):
    experiment = replace(SETTINGS, augment=augment)
    base = batches(experiment, 0, 1)
    assert base == batches(experiment, 0, 1)
    for other in (batches(experiment, 1, 1), batches(experiment, 0, 2), batches(replace(experiment, seed=1), 0, 1)):
        assert other != base


def test_an_epoch_passes_every_image_once_in_batches_of_the_size_that_is_set_and_each_epoch_in_an_order_of_its_own():
    seen = batches(replace(SETTINGS, local_epochs=3), 0, 1)
    assert [len(batch) for batch in seen] == [8, 8, 4] * 3
    epochs = [list(itertools.chain(*seen[start : start + 3])) for start in (0, 3, 6)]
    assert all(sorted(epoch) == sorted(epochs[0]) and len(set(epoch)) == 20 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_half_of_the_images_are_flipped_and_every_shift_is_as_likely():
    """An image whose pixels tell where they are: column in red, row in green."""
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[0], image[1] = torch.arange(32) + 100, torch.arange(32).view(-1, 1) + 100
    found = augmented(image.expand(4000, 3, 32, 32), torch_generator(0, "augment"))
    left, right, row = found[:, 0, 16, 15].long(), found[:, 0, 16, 16].long(), found[:, 1, 16, 16].long()
    flipped = right < left
    assert abs(float(flipped.float().mean()) - 0.5) < 0.04  # five standard errors
    shifts = torch.where(flipped, left - 116, right - 116)  # −4 … 4: a flipped crop is read from its other side
    for drawn in (shifts, shifts[flipped], row - 116):
        counts = torch.bincount(drawn + 4, minlength=9)
        assert len(counts) == 9 and (counts / counts.sum() - 1 / 9).abs().max() < 0.04
    together = np.corrcoef(np.stack([shifts.numpy(), row.numpy(), flipped.numpy()]))
    assert np.abs(together - np.eye(3)).max() < 0.08  # drawn independently


def test_what_the_crop_takes_from_outside_the_image_is_black():
    white = torch.full((500, 3, 32, 32), 255, dtype=torch.uint8)
    found = augmented(white, torch_generator(0, "augment"))
    assert set(found.unique().tolist()) == {0, 255}
    margins = (found == 0).all(1).all(1).sum(1), (found == 0).all(1).all(2).sum(1)  # black columns, black rows
    assert all(set(margin.tolist()) == {0, 1, 2, 3, 4} for margin in margins)


def test_loss_is_the_mean_over_the_images_of_the_last_epoch():
    """With steps too small to change anything: the mean over all images, not over the batches of 8, 8 and 4."""
    model, experiment = Watched(), replace(SETTINGS, lr=1e-30, local_epochs=3)
    data = shard()
    fit = train(model, data, experiment, 1)
    pixels = torch.cat(model.seen[-3:])
    start = Watched()
    with torch.no_grad():
        logits = {row.numpy().tobytes(): start(row[None])[0] for row in pixels}
    kept = []
    train(Watched(), data, experiment, 1, lambda pixels: kept.append(pixels) or pixels)
    labels = {row.numpy().tobytes(): int(label) for row, label in zip(normalise(kept[0]), data.labels, strict=True)}
    expected = F.cross_entropy(torch.stack(list(logits.values())), torch.tensor([labels[key] for key in logits]))
    assert fit.loss == pytest.approx(float(expected), rel=1e-4) and fit.images == 60


@pytest.mark.parametrize(("momentum", "weight_decay", "lr"), [(0.0, 0.0, 0.1), (0.9, 0.0, 0.05), (0.5, 0.01, 0.1)])
def test_steps_are_those_of_pytorchs_sgd(momentum, weight_decay, lr):
    experiment = replace(SETTINGS, momentum=momentum, weight_decay=weight_decay, lr=lr, batch_size=20, local_epochs=3)
    model, plain = Watched(), Watched()
    data = shard()
    train(model, data, experiment, 1)
    optimiser = torch.optim.SGD(plain.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
    kept = []
    train(Watched(), data, experiment, 1, lambda pixels: kept.append(pixels) or pixels)
    for _ in range(3):
        loss = F.cross_entropy(plain(normalise(kept[0])), torch.from_numpy(data.labels))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    np.testing.assert_allclose(model.linear.weight.detach(), plain.linear.weight.detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.linear.bias.detach(), plain.linear.bias.detach(), rtol=1e-4, atol=1e-5)


def test_an_honest_client_begins_from_the_global_model_and_says_what_it_holds():
    model = Watched()
    start = [array + 1 for array in arrays_of(model)]
    client = BenignClient(shard(3, m=13), model, replace(SETTINGS, lr=1e-30))
    sent, examples, metrics = client.fit(start, {"server-round": 1})
    assert examples == 13 and metrics["images"] == 26 and metrics["began"] > 1.7e9
    for a, b in zip(start, sent, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
