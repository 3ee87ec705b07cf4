"""Training, against a plain loop: what is augmented, when, and in which precision."""

import copy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clients.benign import BenignClient
from oleander.learning.parameters import arrays_of
from oleander.learning.training import CROP, augmented, train
from oleander.system.streams import torch_generator
from tests.clients.fitting import SETTINGS, fit
from tests.programs import ROOT
from tests.shards import shard
from tests.spaces import CIFAR10, fresh_model

pytestmark = pytest.mark.usefixtures("one_thread")


def test_augmentation_is_crop_and_flip_of_the_padded_image():
    images = torch.from_numpy(shard(30).images)
    result = augmented(images, torch_generator(0, "augment"))
    padded = F.pad(images, (32 // CROP,) * 4)
    for image, wide in zip(result, padded, strict=True):
        crops = [wide[:, y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
        assert any(torch.equal(image, crop) or torch.equal(image, crop.flip(2)) for crop in crops)
    assert not torch.equal(result, augmented(images, torch_generator(0, "augment", 1)))


def test_training_equals_a_plain_loop():
    """The vectorised loop against one that augments and feeds image by image, with the same random numbers."""
    data, experiment = shard(20), replace(SETTINGS, augment="epoch")
    model = fresh_model(10, 0)
    plain = copy.deepcopy(model)
    train(model, data, experiment, round_number=3)
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.2, momentum=0.9, weight_decay=5e-4)
    crops, order = torch_generator(0, "augment", 3), torch_generator(0, "batches", 3)
    plain.train()
    for _ in range(2):
        images = augmented(torch.from_numpy(data.images), crops)
        for batch in torch.randperm(20, generator=order).split(8):
            rows = [
                ((images[i] / 255.0).permute(1, 2, 0) - torch.tensor(CIFAR10.mean)) / torch.tensor(CIFAR10.std)
                for i in batch
            ]
            loss = F.cross_entropy(
                plain(torch.stack(rows).permute(0, 3, 1, 2)), torch.from_numpy(data.labels[batch.numpy()])
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    for a, b in zip(arrays_of(model), arrays_of(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)


def test_training_makes_no_optimiser_object_whose_first_one_imports_pytorchs_compiler():
    script = (
        "import sys; from clients.benign import BenignClient\n"
        "from tests.shards import shard; from tests.clients.fitting import SETTINGS, fit\n"
        "fit(BenignClient, SETTINGS, data=shard(8)); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"


def test_bf16_trains_nearly_as_fp32_does_and_nothing_else_is_taken():
    settings = replace(SETTINGS, lr=0.01, local_epochs=1)
    start = arrays_of(fresh_model(10, 0))
    fp32, bf16 = (fit(BenignClient, replace(settings, precision=p))[0] for p in ("fp32", "bf16"))
    moved = np.concatenate([(a - b).ravel() for a, b in zip(fp32, start, strict=True)])
    apart = np.concatenate([(a - b).ravel() for a, b in zip(fp32, bf16, strict=True)])
    assert 0 < np.linalg.norm(apart) < 0.1 * np.linalg.norm(moved)
    with pytest.raises(ValueError, match=r"'auto'.*fp32, bf16"):
        fit(BenignClient, replace(settings, precision="auto"))


def test_augment_once_trains_every_epoch_on_the_same_pixels_and_epoch_on_others():
    for augment, distinct in (("once", 1), ("epoch", 3)):
        seen = []
        train(
            fresh_model(10, 0), shard(), replace(SETTINGS, augment=augment, local_epochs=3), 1,
            lambda pixels, seen=seen: seen.append(pixels.clone()) or pixels,
        )  # fmt: skip
        assert len({pixels.numpy().tobytes() for pixels in seen}) == len(seen) == distinct


@pytest.mark.parametrize(("augment", "distinct"), [("once", 1), ("round", 3), ("epoch", 3)])
def test_augment_once_is_once_for_all_rounds(augment, distinct):
    seen = set()
    for round_number in (1, 2, 3):
        train(
            fresh_model(10, 0), shard(8), replace(SETTINGS, augment=augment, local_epochs=1), round_number,
            lambda pixels: seen.add(pixels.numpy().tobytes()) or pixels,
        )  # fmt: skip
    assert len(seen) == distinct
