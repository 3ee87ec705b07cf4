"""Model, numbers and training, each against an independent way of getting the same."""

import copy
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clients.app import make_client
from clients.benign import BenignClient
from clients.malicious import MaliciousClient
from oleander.datasets.data import Shard, to_pixels
from oleander.datasets.sources import load_dataset
from oleander.learning import devices
from oleander.learning.parameters import Layout, arrays_of, load_arrays
from oleander.learning.training import CROP, augmented, train
from oleander.models.resnet18light import ResNet18Light
from oleander.settings.config import Experiment
from oleander.system.streams import generator, torch_generator
from tests.programs import ROOT
from tests.shards import shard
from tests.spaces import CIFAR10, attack_of, fresh_model, layout_of

SETTINGS = Experiment(precision="fp32", batch_size=8, local_epochs=2, malicious=1, attack="patch")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


# ---- model and layout ------------------------------------------------------------------------------------------------


def test_resnet18light_is_as_defined():
    model = ResNet18Light()
    assert sum(p.numel() for p in model.parameters()) == 2_797_610
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    stages = [model.layer1, model.layer2, model.layer3, model.layer4]
    assert [stage[0].conv1.stride[0] for stage in stages] == [1, 2, 2, 2]
    assert [stage[1].conv2.out_channels for stage in stages] == [32, 64, 128, 256]


def test_layout_keeps_weights_and_statistics_apart_and_sends_no_counter():
    model = fresh_model(10, 0)
    layout = Layout.of(model)
    assert layout.weight_count == 2_797_610
    assert layout.statistic_count == sum(b.numel() for n, b in model.named_buffers() if "running" in n)
    assert layout.variances.sum() == layout.statistic_count // 2
    assert not any("num_batches_tracked" in name for name in layout.names)
    assert layout_of(10) == layout


def test_flatten_and_unflatten_are_inverse_and_load_restores_the_function():
    model, other = fresh_model(10, 0), fresh_model(10, 1)
    with torch.no_grad():
        model(torch.rand(8, 3, 32, 32))  # moves the statistics
    layout = Layout.of(model)
    load_arrays(other, layout.unflatten(layout.flatten(arrays_of(model))))
    for (name, a), b in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
        if "num_batches" not in name:
            assert torch.equal(a, b), name


def test_fresh_model_is_seeded_and_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = fresh_model(10, 0), fresh_model(10, 0), fresh_model(10, 1)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(a.conv1.weight, b.conv1.weight) and not torch.equal(a.conv1.weight, c.conv1.weight)


def test_streams_are_keyed_by_all_four():
    keys = [(0, "a", 0, 0), (1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1)]
    assert len({generator(*key).integers(2**60) for key in keys}) == 5
    assert len({int(torch.randint(2**60, (1,), generator=torch_generator(*key))) for key in keys}) == 5
    assert generator(3, "x", 2, 1).integers(2**60) == generator(3, "x", 2, 1).integers(2**60)


# ---- training --------------------------------------------------------------------------------------------------------


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


def fit(client_type, experiment, round_number=1, data=None, **extra):
    model = fresh_model(10, 0)
    client = client_type(data or shard(), model, experiment, **extra)
    return client.fit(arrays_of(model), {"server-round": round_number})


def distance(a, b) -> float:
    return max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))


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


def test_training_makes_no_optimiser_object_whose_first_one_imports_pytorchs_compiler():
    script = (
        "import sys; from tests.shards import shard; from tests.learning.test_learning import SETTINGS, fit, BenignClient\n"
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


def test_where_bf16_is_emulated_a_tenth_of_the_turns_tells(monkeypatch):
    calls = []
    monkeypatch.setattr(
        devices.torch,
        "mm",
        lambda left, _: (calls.append(left.dtype), time.sleep(0.005 * (left.dtype == torch.bfloat16))),
    )
    assert devices.bf16_speedup(torch.device("cpu")) < 0.25
    assert calls.count(torch.bfloat16) < 30


@pytest.mark.parametrize(("speedup", "chosen"), [(0.3, "fp32"), (1.1, "fp32"), (2.0, "bf16")])
def test_auto_takes_bf16_where_it_is_measured_to_be_faster_and_keeps_to_it(monkeypatch, tmp_path, speedup, chosen):
    """What was measured counts for every later run, or a busy moment would make two runs differ."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for measured in (speedup, 1.3):
        monkeypatch.setattr(devices, "bf16_speedup", lambda _, measured=measured: measured)
        devices.fastest_precision.cache_clear()
        assert devices.fastest_precision(torch.device("cpu")) == chosen
    devices.fastest_precision.cache_clear()


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
