"""A3FL: the trigger against a reference by hand, its promise on a small model, who adapts it, and what it leaves alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks import Attack, ask
from attacks.a3fl import a3fl
from clients.benign import BenignClient
from clients.malicious import MaliciousClient
from oleander.datasets.data import Shard, to_pixels
from oleander.learning.evaluation import evaluate
from oleander.learning.parameters import arrays_of
from oleander.settings.config import Experiment, validated
from oleander.system.errors import UserError
from oleander.transport.attackers import Told
from tests.attacks.made_up import SETTINGS
from tests.attacks.test_label_flip import coloured
from tests.spaces import CIFAR10, GREY16, RGB64, attack_of, classifier

SPACES = pytest.mark.parametrize("image", [CIFAR10, GREY16, RGB64], ids=["cifar10", "grey16", "rgb64"])


pytestmark = pytest.mark.usefixtures("one_thread")


def a3fl_of(image=CIFAR10, **settings):
    asked = {"target": 0, "batch_size": 8, "precision": "fp32", "image": image}
    return a3fl(Attack(), **asked | settings)


class Small(torch.nn.Module):
    """One convolution and batch norm."""

    def __init__(self, channels=3, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(channels, 8, 3, stride=2),
            torch.nn.BatchNorm2d(8),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(4),
        )
        self.head = torch.nn.Linear(128, classes)

    def forward(self, pixels):
        return self.head(self.body(pixels).flatten(1))


def shard(image=CIFAR10, m=20, classes=3):
    rng = np.random.default_rng(0)
    return Shard(0, rng.integers(0, 256, (m, *image.shape), dtype=np.uint8), np.arange(m) % classes, image)


def adapted(attack, model, data, memory=None):
    known = {"memory": memory or attack.memory, "model": model, "shard": data}
    return ask(attack.adapt, known.__getitem__)


# ---- by hand ------------------------------------------------------------------------------------------------------------


def softmax(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def by_hand(weight, bias, data, *, target, batch, size, steps, lr, lamda, renew):
    """The attack on a linear model, in float64, its gradients written out: a square two pixels from the top left corner."""
    mean, std = (np.array(v).reshape(-1, 1, 1) for v in (data.image.mean, data.image.std))
    pixels, square = data.images / 255.0, np.full((data.image.channels, size, size), 0.5)
    place = (slice(None), slice(None), slice(2, 2 + size), slice(2, 2 + size))
    parts = [slice(i, i + batch) for i in range(0, len(pixels), batch)]

    def inputs(rows):
        stamped = pixels[rows].copy()
        stamped[place] = square
        return ((stamped - mean) / std).reshape(len(stamped), -1)

    def errors(w, b, x, labels):
        return (softmax(x @ w.T + b) - np.eye(len(b))[labels]) / len(x)

    def towards(w, b, x):
        found = (errors(w, b, x, np.full(len(x), target)) @ w).sum(0).reshape(data.image.shape) / std
        return found[place[1:]]

    for step in range(steps):
        if step % renew == 0:
            w, b, vw, vb = weight.copy(), bias.copy(), 0.0, 0.0
            for rows in parts:
                x, labels = inputs(rows), data.labels[rows]
                e = errors(w, b, x, labels)
                vw, vb = 0.9 * vw + e.T @ x, 0.9 * vb + e.sum(0)
                w, b = w - 0.01 * vw, b - 0.01 * vb
            one, two = np.append(w.ravel(), b), np.append(weight.ravel(), bias)
            alike = one @ two / np.sqrt((one @ one) * (two @ two))
        x = inputs(parts[step % len(parts)])
        gradient = towards(weight, bias, x) + lamda * alike * towards(w, b, x)
        square = np.clip(square - lr * np.sign(gradient), 0, 1)
    return square


@SPACES
@pytest.mark.parametrize(("lamda", "lr", "renew"), [(1.0, 0.01, 3), (50.0, 0.03, 1), (0.0, 0.2, 2)])
def test_the_trigger_is_that_of_a_reference_by_hand(image, lamda, lr, renew):
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(int(np.prod(image.shape)), 3))
    data = shard(image)
    attack = a3fl_of(image, target=2, a3fl_size=4, a3fl_steps=7, a3fl_lr=lr, a3fl_weight=lamda, a3fl_renew=renew)
    weight, bias = (p.detach().double().numpy() for p in model[1].parameters())
    expected = by_hand(weight, bias, data, target=2, batch=8, size=4, steps=7, lr=lr, lamda=lamda, renew=renew)
    found = adapted(attack, model, data)["trigger"]
    far = np.abs(found - expected) > 1e-5  # where a gradient is all but 0 its sign is anybody's
    assert far.mean() < 0.03 and found.dtype == np.float32 and (found != 0.5).any()


# ---- what it promises ---------------------------------------------------------------------------------------------------


def learned(epochs=40, **settings):
    """A model that tells red, green and blue images apart."""
    experiment = Experiment(precision="fp32", local_epochs=epochs, lr=0.05, batch_size=16).changed(**settings)
    model = Small()
    BenignClient(coloured(np.arange(90) % 3), model, experiment).fit(arrays_of(model), {"server-round": 1})
    return model


def asr(model, attack, target=0):
    test = coloured(np.arange(90) % 3, client=1)
    return evaluate(classifier(model, "fp32"), test.images, test.labels, attack.trigger, target, torch.device("cpu"))


@pytest.mark.parametrize("target", [0, 1, 2])
def test_the_trigger_fools_a_model_that_nobody_attacked_more_than_the_grey_square_that_it_was(target):
    model, data = learned(), coloured(np.arange(30) % 3, client=5)
    attack = a3fl_of(target=target, a3fl_size=20, a3fl_steps=60, a3fl_lr=0.05)
    grey, optimised = (asr(model, a, target) for a in (attack, attack.remembering(adapted(attack, model, data))))
    assert grey.mta > 0.95 and grey.mta == optimised.mta
    assert optimised.asr > grey.asr + 0.3


def test_the_other_model_has_unlearned_what_the_trigger_says():
    """A model that takes the grey square for class 0 does so less after its true classes were shown to it."""
    from attacks.a3fl import _unlearned

    data = coloured(np.arange(90) % 3)
    attack = a3fl_of(a3fl_size=12, batch_size=16)
    model, experiment = Small(), Experiment(precision="fp32", local_epochs=15, lr=0.05, malicious=1, attack="a3fl")
    MaliciousClient(data, model, experiment, replace(attack, adapt=None)).fit(arrays_of(model), {"server-round": 1})
    assert asr(model, attack).asr > 0.9
    pixels, labels = to_pixels(data.images), torch.from_numpy(data.labels)
    batches = list(zip(pixels.split(16), labels.split(16), strict=True)) * 5

    def loss(net, x, y):
        return torch.nn.functional.cross_entropy(net(CIFAR10.normalise(x)), y)

    other, alike = _unlearned(model, attack.trigger, batches, loss)
    assert asr(other, attack).asr < asr(model, attack).asr - 0.3 and 0.5 < float(alike) < 1
    assert not other.training


# ---- what it leaves alone, and how it is done ---------------------------------------------------------------------------


@SPACES
@pytest.mark.parametrize("size", [1, 5, 15, 16])
def test_only_a_square_near_the_corner_is_changed_and_it_stays_within_black_and_white(image, size):
    attack = a3fl_of(image, a3fl_size=size, a3fl_steps=6, a3fl_lr=0.3)
    assert attack.memory["trigger"].shape == (image.channels, size, size) and (attack.memory["trigger"] == 0.5).all()
    new = adapted(attack, Small(image.channels), shard(image))
    assert new["trigger"].min() >= 0 and new["trigger"].max() <= 1 and (new["trigger"] != 0.5).any()
    pixels = torch.rand(3, *image.shape, generator=torch.Generator().manual_seed(0))
    changed = attack.remembering(new).trigger(pixels) != pixels
    first = min(2, image.side - size)
    inside = torch.zeros(image.side, image.side, dtype=torch.bool)
    inside[first : first + size, first : first + size] = True
    assert not changed[..., ~inside].any() and changed[..., inside].float().mean() > 0.9


def test_the_same_numbers_in_every_bit_and_nothing_that_it_is_given_changes():
    attack, model, data = a3fl_of(), Small(), shard()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    one = adapted(attack, model, data)["trigger"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    assert adapted(a3fl_of(), Small(), shard())["trigger"].tobytes() == one.tobytes()
    assert (attack.memory["trigger"] == 0.5).all() and data.images.tobytes() == shard().images.tobytes()


def test_it_goes_on_from_the_trigger_that_is_remembered():
    attack, model = a3fl_of(a3fl_steps=1, a3fl_lr=0.125), Small()
    first = adapted(attack, model, shard())
    second = adapted(attack, model, shard(), memory=first)["trigger"]
    assert {*np.unique(np.abs(second - first["trigger"]))} <= {0.0, 0.125} and (second != first["trigger"]).any()


def test_a_weight_of_zero_asks_no_other_model_and_a_large_one_comes_to_another_trigger():
    model = Small()
    triggers = [adapted(a3fl_of(a3fl_weight=w, a3fl_steps=30), model, shard())["trigger"] for w in (0.0, 1.0, 1000.0)]
    assert len({trigger.tobytes() for trigger in triggers}) == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_models_compute_in_the_runs_precision(precision):
    seen = set()

    class Watched(Small):
        def forward(self, pixels):
            hidden = self.body(pixels)
            seen.add(hidden.dtype)
            return self.head(hidden.flatten(1))

    adapted(a3fl_of(precision=precision, a3fl_steps=2), Watched(), shard())
    assert seen == {torch.float32 if precision == "fp32" else torch.bfloat16}


def test_the_one_that_adapts_trains_on_the_new_trigger_at_once_and_the_others_on_the_one_they_were_told():
    attack = a3fl_of(batch_size=20, a3fl_size=8, a3fl_lr=0.25, a3fl_steps=1)
    experiment = Experiment(
        precision="fp32", local_epochs=1, batch_size=20, malicious=2, poison_rate=1.0, attack="a3fl"
    )
    told = {"trigger": np.full((3, 8, 8), 0.25, np.float32)}
    for adapts in (True, False):
        model, seen = Small(classes=10), []
        client = MaliciousClient(shard(), model, experiment, attack, Told(told, adapts=adapts))
        model.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(CIFAR10.denormalise(given[0])))
        client.fit(arrays_of(model), {"server-round": 1})
        square = seen[-1][:, :, 2:10, 2:10]
        now = torch.from_numpy(client.attack.memory["trigger"])
        torch.testing.assert_close(square, now.expand_as(square), atol=1e-6, rtol=0)
        assert bool((now != 0.25).any()) == adapts


def test_what_cannot_be_is_refused_by_name():
    for image in (CIFAR10, GREY16, RGB64):
        with pytest.raises(UserError, match=rf"^--a3fl-size {image.side + 1}: .* which is {image.side} pixels wide"):
            a3fl_of(image, a3fl_size=image.side + 1)
    for joined, words in (
        ("blend+a3fl", "a3fl is a second trigger"),
        ("a3fl+patch", "patch is a second trigger"),
        ("label_flip+a3fl", "a3fl poisons images in its own way"),
        ("a3fl+label_flip", "label_flip stamps nothing"),
        ("a3fl+dba", "dba splits"),
    ):
        with pytest.raises(UserError, match=f"^--attack: {words}"):
            attack_of(SETTINGS.changed(attack=joined))
    for settings in ({"a3fl_size": 0}, {"a3fl_steps": 0}, {"a3fl_lr": 0.0}, {"a3fl_weight": -1.0}, {"a3fl_renew": 0}):
        ((name, value),) = settings.items()
        with pytest.raises(UserError, match=f"{name} = {value!r}"):
            validated({"attack": "a3fl", **settings}, "test")


def test_it_goes_with_neurotoxin_and_scaling():
    attack = attack_of(SETTINGS.changed(attack="neurotoxin+a3fl+scaling"))
    assert attack.adapt and attack.training and attack.tampers
    assert attack.asks == {"memory", "model", "shard", "start", "previous"}
