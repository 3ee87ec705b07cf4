"""IBA: the generator against a reference of PyTorch's own parts, its promise on a small model, and what it leaves alone."""

import numpy as np
import pytest
import torch

from attacks import Attack, ask
from attacks.iba import iba
from clients.malicious import MaliciousClient
from oleander.datasets.data import Shard
from oleander.learning import evaluation
from oleander.learning.parameters import arrays_of
from oleander.settings.config import Experiment, validated
from oleander.system.errors import UserError
from oleander.transport.attackers import Told
from tests.attacks.made_up import SETTINGS, pixels
from tests.spaces import CIFAR10, GREY16, RGB64, attack_of

pytestmark = pytest.mark.usefixtures("one_thread")


def made(image=CIFAR10, **settings) -> Attack:
    return iba(Attack(), **{"target": 0, "batch_size": 8, "precision": "fp32", "image": image} | settings)


class Small(torch.nn.Module):
    """Sees the mean of each channel in each quarter."""

    def __init__(self, channels=3, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.head = torch.nn.Linear(channels * 16, classes)

    def forward(self, images):
        return self.head(torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1))


def shard(image=CIFAR10, m=20):
    rng = np.random.default_rng(0)
    return Shard(0, rng.integers(0, 256, (m, *image.shape), dtype=np.uint8), np.arange(m) % 3, image)


def adapted(attack, model, data):
    return ask(attack.adapt, {"memory": attack.memory, "model": model, "shard": data}.__getitem__)


def reference(memory, image) -> torch.nn.Sequential:
    """The generator of these numbers out of PyTorch's layers, in float64."""
    c = image.channels
    net = torch.nn.Sequential(
        torch.nn.Conv2d(c, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3, padding=1), torch.nn.ReLU(),
        torch.nn.Conv2d(16, c, 3, padding=1), torch.nn.Tanh(),
    ).double()  # fmt: skip
    torch.nn.utils.vector_to_parameters(torch.from_numpy(memory["generator"]).double(), net.parameters())
    return net


@pytest.mark.parametrize("image", [CIFAR10, GREY16, RGB64], ids=["cifar10", "grey16", "rgb64"])
def test_the_stamp_is_the_image_and_epsilon_times_the_generators_answer(image):
    attack = made(image, iba_epsilon=0.1)
    given = torch.rand(3, *image.shape, generator=torch.Generator().manual_seed(0))
    expected = (given.double() + 0.1 * reference(attack.memory, image)(given.double())).clamp(0, 1)
    np.testing.assert_allclose(attack.trigger(given).numpy(), expected.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize(("steps", "batch"), [(1, 20), (5, 8), (4, 64)])
def test_adapting_is_adam_on_the_cross_entropy_towards_the_target(steps, batch):
    attack, model, data = made(GREY16, iba_steps=steps, batch_size=batch, target=2), Small(1), shard(GREY16)
    found = adapted(attack, model, data)["generator"]
    net, judge = reference(attack.memory, GREY16), Small(1).double()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    images, mean, std = torch.from_numpy(data.images / 255.0), GREY16.mean[0], GREY16.std[0]
    starts = [start for _ in range(steps) for start in range(0, 20, batch)][:steps]
    for start in starts:
        optimiser.zero_grad()
        part = images[start : start + batch]
        stamped = (part + 0.06 * net(part)).clamp(0, 1)
        wanted = torch.full((len(part),), 2)
        torch.nn.functional.cross_entropy(judge((stamped - mean) / std), wanted).backward()
        optimiser.step()
    expected = torch.nn.utils.parameters_to_vector(net.parameters()).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=2e-4 * steps)
    assert np.abs(found - attack.memory["generator"]).max() > 0.009  # it moved


def test_the_trigger_is_no_larger_than_epsilon_and_another_for_each_image():
    for epsilon in (0.0, 0.02, 0.5):
        given = 0.5 + 0.2 * (pixels() - 0.5)
        change = made(iba_epsilon=epsilon).trigger(given) - given
        assert float(change.abs().max()) <= epsilon + 1e-6
        assert epsilon == 0 or not torch.allclose(change[0], change[1])


class Bright(torch.nn.Module):
    """Answers 1 where an image of GREY16's is brighter than 0.6 in the mean, else 0."""

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(50.0))

    def forward(self, images):
        mean = (images * GREY16.std[0] + GREY16.mean[0]).mean((1, 2, 3))
        return torch.stack([torch.zeros_like(mean), self.slope * (mean - 0.6)], dim=1)


def test_a_trained_generator_leads_a_model_to_the_target_where_the_first_does_not():
    """The paper's promise: so small a change, and the model that it was trained against answers with the target."""
    attack = made(GREY16, iba_steps=30, iba_lr=0.05, target=1, iba_epsilon=0.2)
    after = attack.remembering(adapted(attack, Bright(), shard(GREY16, m=16))).trigger
    test, labels = shard(GREY16, m=116).images[16:], np.zeros(100, np.int64)
    classify, cpu = evaluation.classifier(Bright(), "fp32", GREY16), torch.device("cpu")
    asr = [evaluation.evaluate(classify, test, labels, stamp, 1, cpu).asr for stamp in (attack.trigger, after)]
    assert asr[0] < 0.1 and asr[1] > 0.9


def test_model_shard_and_memory_are_left_alone_and_it_comes_out_the_same_again():
    attack, model, data = made(iba_steps=3), Small(), shard()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    first, memory = adapted(attack, model, data), attack.memory["generator"].copy()
    np.testing.assert_array_equal(first["generator"], adapted(attack, model, data)["generator"])
    np.testing.assert_array_equal(attack.memory["generator"], memory)
    np.testing.assert_array_equal(data.images, shard().images)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert all(weight.requires_grad for weight in model.parameters())


def test_the_rounds_first_attacker_trains_on_the_new_trigger_and_the_others_on_what_they_are_told():
    experiment = Experiment(precision="fp32", local_epochs=1, malicious=2, attack="iba", augment="none").changed(
        iba_steps=4
    )
    attack, seen = attack_of(experiment), {}
    told = {name: value + np.float32(0.01) for name, value in attack.memory.items()}
    for adapts in (True, False):
        model = Small()
        client = MaliciousClient(shard(), model, experiment, attack, Told(memory=told, adapts=adapts))
        client.fit(arrays_of(model), {"server-round": 1})
        seen[adapts] = client.attack.memory["generator"]
    np.testing.assert_array_equal(seen[False], told["generator"])
    assert np.abs(seen[True] - told["generator"]).max() > 1e-3


def test_what_cannot_be_is_refused():
    for settings in ({"iba_epsilon": -0.1}, {"iba_epsilon": 1.5}, {"iba_steps": 0}, {"iba_lr": 0.0}):
        ((name, value),) = settings.items()
        with pytest.raises(UserError, match=f"{name} = {value!r}"):
            validated({"attack": "iba", **settings}, "test")
    for joined, words in (
        ("patch+iba", "iba is a second trigger"),
        ("iba+dba", "dba splits triggers that are a picture"),
    ):
        with pytest.raises(UserError, match=f"^--attack: {words}"):
            attack_of(SETTINGS.changed(attack=joined))
    assert attack_of(SETTINGS.changed(attack="iba+neurotoxin")).training


def test_black_and_white_stay_in_range():
    black_and_white = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 32, 32)
    stamped = made(iba_epsilon=1.0).trigger(black_and_white)
    assert float(stamped.min()) >= 0 and float(stamped.max()) <= 1
