"""Constrain: the loss that it says, a gradient through its distance, and an update that is shorter for it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attacks import Attack
from attacks.constrain import constrain
from oleander.learning.training import train
from oleander.settings.config import validated
from oleander.system.errors import UserError
from tests.attacks.trained import SETTINGS, Tiny, four_classes, length, trained, vector
from tests.spaces import attack_of, normalise


def losses(attack: Attack, plain: float, weights: np.ndarray, start: np.ndarray) -> tuple[float, np.ndarray]:
    """The constrained loss and its gradient, at weights that lie in two tensors of a model."""
    (near,) = attack.training
    loss = near(start=list(torch.from_numpy(start).split(3))).loss
    leaves = [part.clone().requires_grad_() for part in torch.from_numpy(weights).split(3)]
    value = loss(torch.tensor(plain), leaves)
    value.backward()
    return value.item(), vector([leaf.grad for leaf in leaves])


WEIGHTS = np.array([1.0, -2.0, 0.5, 3.0, 0.0], dtype=np.float32)
START = np.array([0.5, -1.0, 0.5, 2.0, 1.0], dtype=np.float32)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_loss_is_the_sum_by_alpha_of_cross_entropy_and_the_squared_distance(alpha):
    value, gradient = losses(constrain(Attack(), constrain_alpha=alpha), 2.0, WEIGHTS, START)
    assert value == pytest.approx(alpha * 2.0 + (1 - alpha) * 3.25)  # 0.25 + 1 + 0 + 1 + 1
    np.testing.assert_allclose(gradient, (1 - alpha) * 2 * (WEIGHTS - START), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_or_of_cross_entropy_and_one_less_the_cosine_of_both_models(alpha):
    attack = constrain(Attack(), constrain_alpha=alpha, constrain_distance="cosine")
    value, gradient = losses(attack, 2.0, WEIGHTS, START)
    w, g = WEIGHTS.astype(np.float64), START.astype(np.float64)
    cosine = w @ g / np.sqrt((w @ w) * (g @ g))
    assert value == pytest.approx(alpha * 2.0 + (1 - alpha) * (1 - cosine))
    expected = -(1 - alpha) * (g / np.sqrt((w @ w) * (g @ g)) - cosine * w / (w @ w))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)
    assert np.abs(gradient).max() > 0.01


def test_half_of_each_squared_distances_is_the_default():
    assert losses(constrain(Attack()), 2.0, WEIGHTS, START)[0] == pytest.approx(0.5 * 2.0 + 0.5 * 3.25)


def test_steps_are_those_of_pytorchs_sgd_on_that_loss():
    """All images in one batch, so that a step here is a step there."""
    experiment = replace(SETTINGS, batch_size=20, local_epochs=4, lr=0.1)
    model, plain = Tiny(), Tiny()
    start = [weight.detach().clone() for weight in plain.parameters()]
    kept = []
    train(Tiny(), four_classes(), experiment, 1, lambda pixels: kept.append(pixels) or pixels)
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(4):
        optimiser.zero_grad()
        ce = F.cross_entropy(plain(normalise(kept[0])), torch.from_numpy(four_classes().labels))
        distance = sum(((w - s) ** 2).sum() for w, s in zip(plain.parameters(), start, strict=True))
        (0.7 * ce + 0.3 * distance).backward()
        optimiser.step()
    (near,) = constrain(Attack(), constrain_alpha=0.7).training
    train(model, four_classes(), experiment, 1, hooks=[near(start=start)])
    np.testing.assert_allclose(vector(model.parameters()), vector(plain.parameters()), rtol=1e-4, atol=1e-5)


def test_the_more_weight_the_distance_has_the_shorter_is_the_update():
    free = trained(Attack())
    lengths = [length(trained(constrain(Attack(), constrain_alpha=alpha)).update.delta) for alpha in (1.0, 0.5, 0.1)]
    assert lengths[0] == pytest.approx(length(free.update.delta), rel=1e-5)
    assert lengths[1] < 0.7 * lengths[0] and lengths[2] < 0.5 * lengths[1]
    assert (
        trained(constrain(Attack())).loss < trained(constrain(Attack(), constrain_alpha=0.01)).loss
    )  # it still learns


def test_the_cosine_keeps_the_direction_of_the_model():
    experiment = replace(SETTINGS, lr=0.3)

    def cosine(found):
        return found.end @ found.start / (length(found.end) * length(found.start))

    held = trained(constrain(Attack(), constrain_alpha=0.05, constrain_distance="cosine"), experiment)
    assert 1 - cosine(held) < 0.5 * (1 - cosine(trained(constrain(Attack(), constrain_alpha=1.0), experiment)))


def test_the_loss_that_is_reported_is_the_cross_entropy_alone():
    experiment = replace(SETTINGS, lr=1e-30)
    assert trained(constrain(Attack(), constrain_alpha=0.3), experiment).loss == trained(Attack(), experiment).loss


def test_with_scaling_it_is_constrain_and_scale():
    attack = attack_of(SETTINGS.changed(attack="constrain+scaling", gamma=5.0))
    alone = attack_of(SETTINGS.changed(attack="constrain"))
    np.testing.assert_array_equal(trained(attack).update.delta, trained(alone).update.delta * np.float32(5))


def test_what_is_no_share_or_no_distance_is_refused():
    for settings_ in ({"constrain_alpha": 1.5}, {"constrain_alpha": -0.1}, {"constrain_distance": "l1"}):
        ((name, value),) = settings_.items()
        with pytest.raises(UserError, match=f"{name} = {value!r}"):
            validated({"attack": "constrain", **settings_}, "test")
