"""Neurotoxin: which weights are left alone, that nothing moves them, and that the backdoor is learned by the others."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks import Attack
from attacks._tensors import shaped
from attacks.neurotoxin import neurotoxin
from attacks.pgd import pgd
from attacks.scaling import scaling
from clients.malicious import MaliciousClient
from oleander.learning.parameters import arrays_of
from oleander.learning.training import Hooks
from oleander.settings.config import validated
from oleander.system.errors import UserError
from oleander.transport.attackers import Told
from tests.attacks.trained import SETTINGS, Tiny, four_classes, trained, vector
from tests.spaces import attack_of

START = vector(Tiny().parameters())  # (120,)
CHANGE = np.random.default_rng(3).normal(size=120).astype(np.float32)
PREVIOUS = START - CHANGE


def largest(change: np.ndarray, count: int) -> list[int]:
    """Independent reference: by size, then by position."""
    return sorted(sorted(range(len(change)), key=lambda i: (-abs(float(change[i])), i))[:count])


def left_alone(previous: np.ndarray, start: np.ndarray, share: float) -> list[int]:
    """Which weights the hook puts back to the global model's after a step that moved all of them."""
    (masked,) = neurotoxin(Attack(), neurotoxin_top=share).training
    parts = [list(torch.from_numpy(v).split(7)) for v in (start, previous)]
    moved = [part + 1 for part in parts[0]]
    return np.flatnonzero(vector(masked(start=parts[0], previous=parts[1]).weights(moved)) == start).tolist()


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.1), (0.9, 0.1)])
def test_the_weights_that_moved_most_stay_in_every_bit_through_momentum_and_weight_decay(momentum, weight_decay):
    experiment = replace(SETTINGS, momentum=momentum, weight_decay=weight_decay)
    found = trained(neurotoxin(Attack()), experiment, PREVIOUS)
    top = largest(START - PREVIOUS, 6)  # 5 % of 120
    for weights in found.path:
        assert weights[top].tobytes() == START[top].tobytes()
    assert (found.update.delta[top] == 0).all()
    others = np.setdiff1d(np.arange(120), top)
    assert (found.update.delta[others] != 0).mean() > 0.9


def test_a_mask_on_gradients_alone_does_not_hold():
    """Why the weights are put back: weight decay moves what has no gradient."""
    top = largest(START - PREVIOUS, 6)

    def mask(gradients):
        masked = vector(gradients)
        masked[top] = 0
        return shaped(torch.from_numpy(masked), gradients)

    moved = trained(Attack(training=(lambda: Hooks(gradients=mask),))).update.delta
    assert moved[top].any() and not trained(neurotoxin(Attack()), previous=PREVIOUS).update.delta[top].any()


def test_the_backdoor_is_learned_by_the_other_weights():
    experiment = replace(SETTINGS, local_epochs=10)
    still = trained(Attack(), replace(experiment, lr=1e-30))
    held = trained(neurotoxin(Attack(), neurotoxin_top=0.3), experiment, PREVIOUS)
    top = largest(START - PREVIOUS, 36)
    assert held.loss < 0.8 * still.loss
    assert not held.update.delta[top].any() and trained(Attack(), experiment).update.delta[top].all()


@given(
    change=st.lists(st.sampled_from([0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -4.0]), min_size=1, max_size=60),
    share=st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.5, 0.9, 1.0]),
)
@settings(max_examples=150, deadline=None)
def test_the_share_is_of_all_weights_by_size_and_of_equal_ones_the_first_and_none_that_did_not_move(change, share):
    moved = np.array(change, dtype=np.float32)
    start = np.full(len(moved), 8.0, np.float32)
    expected = [i for i in largest(moved, round(share * len(moved))) if moved[i]]
    assert left_alone(start - moved, start, share) == expected


def test_five_per_cent_over_the_whole_model_is_the_default_wherever_they_lie():
    change = np.full(100, 1e-3, np.float32)
    change[[0, 1, 2, 3, 4]] = 1, -2, 3, -4, 5  # all of them in the first of the tensors
    (masked,) = neurotoxin(Attack()).training
    start = list(torch.zeros(100).split(7))
    hooks = masked(start=start, previous=[-part for part in torch.from_numpy(change).split(7)])
    kept = vector(hooks.weights([part + 1 for part in start]))
    assert np.flatnonzero(kept == 0).tolist() == [0, 1, 2, 3, 4]


def test_without_a_model_before_it_trains_as_if_it_were_not_there():
    np.testing.assert_array_equal(trained(neurotoxin(Attack())).end, trained(Attack()).end)


def test_the_weights_stay_through_projection_and_scaling_too():
    attack = scaling(pgd(neurotoxin(Attack()), pgd_radius=0.1), gamma=5.0, clients_per_round=7, malicious=1)
    found = trained(attack, previous=PREVIOUS)
    top = largest(START - PREVIOUS, 6)
    assert not found.update.delta[top].any() and found.update.delta.any()
    assert np.linalg.norm(found.update.delta) == pytest.approx(0.5, rel=1e-4)


def test_it_asks_for_the_model_before_and_what_is_no_share_is_refused():
    assert attack_of(SETTINGS.changed(attack="neurotoxin")).asks == {"start", "previous"}
    with pytest.raises(UserError, match=r"neurotoxin_top = 1\.5"):
        validated({"attack": "neurotoxin", "neurotoxin_top": 1.5}, "test")


def test_a_malicious_client_that_is_told_the_model_before_sends_those_weights_as_they_were():
    model, experiment = Tiny(), SETTINGS.changed(attack="patch+neurotoxin")
    start, told = arrays_of(model), Told(previous=PREVIOUS)
    client = MaliciousClient(four_classes(), model, experiment, attack_of(experiment), told)
    sent, *_ = client.fit(start, {"server-round": 2})
    weights = np.concatenate([array.ravel() for array in sent[:4]])
    top = largest(START - PREVIOUS, 6)
    assert weights[top].tobytes() == START[top].tobytes() and (weights != START).mean() > 0.8
