"""Scaling: the update, and its statistics if told so, times gamma."""

from dataclasses import replace

import numpy as np
import pytest

from attacks import Attack
from attacks.scaling import scaling
from tests.attacks.made_up import SETTINGS, update
from tests.spaces import attack_of


@pytest.mark.parametrize(("gamma", "factor"), [(None, 2.0), (5.0, 5.0)])
@pytest.mark.parametrize("statistics", [True, False])
def test_scaling_multiplies_the_update(gamma, factor, statistics):
    attack = attack_of(SETTINGS.changed(attack="scaling", gamma=gamma, scale_statistics=statistics))
    sent = attack.tamper(update())
    np.testing.assert_array_equal(sent.delta, update().delta * np.float32(factor))
    np.testing.assert_array_equal(sent.statistics, update().statistics * np.float32(factor if statistics else 1))


def test_scaling_comes_after_the_tampers_before_it_and_keeps_the_trigger():
    negate = lambda sent: replace(sent, delta=sent.delta - 1)  # noqa: E731
    before = Attack(trigger=lambda pixels: pixels, parts=(lambda pixels: pixels,), tampers=(negate,))
    attack = scaling(before, gamma=3.0, scale_statistics=False, clients_per_round=6, malicious=1)
    np.testing.assert_allclose(attack.tamper(update()).delta, (update().delta - 1) * 3, rtol=1e-6)
    assert (attack.trigger, attack.parts) == (before.trigger, before.parts)


@pytest.mark.parametrize(("malicious", "factor"), [(0, 6.0), (1, 6.0), (2, 3.0), (3, 2.0), (6, 1.0)])
def test_scaling_is_by_clients_a_round_over_attackers_unless_told_otherwise(malicious, factor):
    attack = attack_of(replace(SETTINGS, attack="scaling", malicious=malicious, clients=6))
    np.testing.assert_allclose(attack.tamper(update()).delta, update().delta * factor, rtol=1e-6)
