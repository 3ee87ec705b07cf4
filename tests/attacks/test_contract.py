"""Every file of attacks/ keeps the contract of attack steps."""

import importlib
import inspect

import numpy as np
import pytest
import torch

from attacks import known_attacks
from oleander.system.errors import UserError
from tests.attacks.checks import CHECKS, World, update
from tests.attacks.made_up import pixels, settings_of
from tests.spaces import attack_of

KNOWN = known_attacks()


def test_walk_finds_the_attacks_of_the_course():
    assert {"blend", "patch", "dba", "scaling"} <= set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("check", CHECKS)
def test_every_attack_keeps_the_contract_or_says_why_not(name, check):
    """An excuse that no longer holds is a failure: the check would pass."""
    excuses = getattr(importlib.import_module(f"attacks.{name}"), "EXCEPT", {})
    assert excuses.keys() <= CHECKS.keys()
    attack = attack_of(settings_of(name))
    if check not in excuses:
        CHECKS[check](attack)
        return
    with pytest.raises((AssertionError, TypeError, ValueError)):
        CHECKS[check](attack)


@pytest.mark.parametrize("name", KNOWN)
def test_a_step_changes_something_and_leaves_its_inputs_alone(name):
    attack = attack_of(settings_of(name))
    images, sent = pixels(), update()
    before, delta, statistics = images.clone(), sent.delta.copy(), sent.statistics.copy()
    if attack.trigger is not None:
        stamped = attack.trigger(images)
        assert stamped.shape == images.shape and stamped.dtype == images.dtype
        assert float(stamped.min()) >= 0 and float(stamped.max()) <= 1
        assert not torch.equal(stamped, images)
    tampered = attack.tamper(sent, World(attack))
    assert not attack.tampers or not np.array_equal(tampered.delta, sent.delta)
    assert tampered.delta.shape == delta.shape and tampered.delta.dtype == np.float32
    assert tampered.statistics.shape == statistics.shape and tampered.statistics.dtype == np.float32
    assert (tampered.client_id, tampered.num_examples) == (sent.client_id, sent.num_examples)
    assert torch.equal(images, before)
    np.testing.assert_array_equal(sent.delta, delta)
    np.testing.assert_array_equal(sent.statistics, statistics)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("malicious", [1, 2, 3, 6])
def test_parts_unite_to_the_whole_trigger(name, malicious):
    """Those that do not say why not: do not overlap (``parts_do_not_overlap``)."""
    try:
        attack = attack_of(settings_of(name, malicious=malicious, clients=6))
    except UserError as refused:
        pytest.skip(str(refused))
    if not attack.parts:
        assert all(attack.part(j) is attack.trigger for j in range(malicious))
        return
    assert len(attack.parts) == malicious
    images = pixels(1).repeat(60, 1, 1, 1)  # more than a part has stamps of its own
    whole, united = attack.trigger(images)[0], images[0].clone()
    for j in range(malicious):
        stamped = attack.part(j)(images)
        touched = stamped != images
        assert touched.any() and torch.equal(torch.where(touched, stamped, whole), whole.expand_as(stamped))
        united = torch.where(touched.any(0), whole, united)
    assert torch.equal(united, whole)


@pytest.mark.parametrize("name", KNOWN)
def test_an_attack_is_told_nothing_of_other_clients(name):
    parameters = set(inspect.signature(KNOWN[name].function).parameters)
    assert not parameters & {"cohort", "updates", "strategy", "assumed_malicious", "clip_norm", "seed"}
