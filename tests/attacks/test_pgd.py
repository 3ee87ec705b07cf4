"""PGD: an independent reference, and a local model that is never farther from the global one than it says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import Attack
from attacks.pgd import pgd
from attacks.scaling import scaling
from clients.malicious import MaliciousClient
from oleander.learning.parameters import arrays_of
from oleander.learning.training import train
from oleander.learning.updates import Update
from oleander.settings.config import validated
from oleander.system.errors import UserError
from tests.attacks.trained import SETTINGS, Tiny, four_classes, length, trained, vector
from tests.spaces import attack_of, normalise


@pytest.mark.parametrize("radius", [0.01, 0.1, 0.5])
def test_no_step_leaves_the_ball_and_the_sent_update_is_no_longer_than_its_radius(radius):
    found = trained(pgd(Attack(), pgd_radius=radius))
    away = [length(weights - found.start) for weights in found.path]
    assert len(away) == 9 and max(away) <= radius * (1 + 1e-5)
    assert away[-1] == pytest.approx(radius, rel=1e-5)  # it wanted to go farther
    assert radius * (1 - 1e-5) < length(found.update.delta) <= radius
    assert length(found.end - trained(Attack()).end) > 0.01


def test_inside_the_ball_nothing_is_changed_in_any_bit():
    plain, held = trained(Attack()), trained(pgd(Attack(), pgd_radius=1e3))
    np.testing.assert_array_equal(held.end, plain.end)
    np.testing.assert_array_equal(held.update.delta, plain.update.delta)


@pytest.mark.parametrize("every", [2, 3, 4, 100])
def test_the_model_is_projected_after_every_so_many_steps_and_the_update_at_the_end(every):
    found = trained(pgd(Attack(), pgd_radius=0.05, pgd_every=every))
    outside = [step for step, weights in enumerate(found.path, 1) if length(weights - found.start) > 0.05 * (1 + 1e-5)]
    assert outside == [step for step in range(1, 10) if step % every]
    assert 0.05 * (1 - 1e-5) < length(found.update.delta) <= 0.05
    along = found.update.delta @ (found.end - found.start) / length(found.update.delta)
    assert along == pytest.approx(length(found.end - found.start), rel=1e-5)  # the same direction


def test_it_is_projected_gradient_descent_with_pytorchs_sgd():
    """All images in one batch, so that a step here is a step there; the projection written anew, in float64."""
    experiment = replace(SETTINGS, batch_size=20, local_epochs=4, lr=0.1)
    model, plain = Tiny(), Tiny()
    start = [weight.detach().clone() for weight in plain.parameters()]
    kept = []
    train(Tiny(), four_classes(), experiment, 1, lambda pixels: kept.append(pixels) or pixels)
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(4):
        optimiser.zero_grad()
        F.cross_entropy(plain(normalise(kept[0])), torch.from_numpy(four_classes().labels)).backward()
        optimiser.step()
        origin, weights = vector(start).astype(np.float64), vector(plain.parameters()).astype(np.float64)
        away = weights - origin
        inside = torch.from_numpy((origin + away * min(1, 0.2 / np.linalg.norm(away))).astype(np.float32))
        torch.nn.utils.vector_to_parameters(inside, plain.parameters())
    (near,) = pgd(Attack(), pgd_radius=0.2).training
    train(model, four_classes(), experiment, 1, hooks=[near(start=start)])
    np.testing.assert_allclose(vector(model.parameters()), vector(plain.parameters()), rtol=1e-4, atol=1e-5)


@given(
    radius=st.floats(1e-6, 1e3), away=st.floats(1e-3, 1e3), size=st.sampled_from([0.0, 1e-3, 1.0, 1e4]), seed=st.integers(0, 99)
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_what_the_server_sees_is_no_longer_than_the_radius_however_float32_rounds(radius, away, size, seed):
    """The sent model is G + Δ in float32, and the server takes G off again: both round."""
    rng = np.random.default_rng(seed)
    origin = (rng.normal(size=200) * size).astype(np.float32)
    update = Update(1, (rng.normal(size=200) * away).astype(np.float32), np.ones(3, np.float32), 64)
    sent = pgd(Attack(), pgd_radius=radius).tamper(update, {"start": [torch.from_numpy(origin)]}.__getitem__)
    seen = (origin + sent.delta) - origin
    assert seen.dtype == np.float32 and length(seen) <= radius
    np.testing.assert_array_equal(sent.statistics, update.statistics)


def test_scaling_after_it_lengthens_the_update_and_scaling_before_it_does_not():
    scaled = {"gamma": 5.0, "clients_per_round": 7, "malicious": 1}
    after = trained(scaling(pgd(Attack(), pgd_radius=0.1), **scaled))
    before = trained(pgd(scaling(Attack(), **scaled), pgd_radius=0.1))
    assert length(after.update.delta) == pytest.approx(0.5, rel=1e-5)
    assert length(before.update.delta) == pytest.approx(0.1, rel=1e-5)


def test_a_ball_without_a_radius_is_refused():
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UserError, match="pgd_radius"):
            attack_of(validated({"attack": "pgd", "pgd_radius": bad}, "test"))
    with pytest.raises(UserError, match="pgd_every = 0"):
        validated({"attack": "pgd", "pgd_every": 0}, "test")


@pytest.mark.parametrize("attack", ["patch+pgd", "patch+scaling+pgd"])
def test_a_malicious_client_sends_a_model_in_the_ball(attack):
    model, experiment = Tiny(), SETTINGS.changed(attack=attack, pgd_radius=0.05)
    start = arrays_of(model)
    sent, *_ = MaliciousClient(four_classes(), model, experiment, attack_of(experiment)).fit(start, {"server-round": 1})
    away = np.concatenate([(a - b).ravel() for a, b in zip(sent[:4], start[:4], strict=True)])
    assert 0.05 * (1 - 1e-5) < length(away) <= 0.05
