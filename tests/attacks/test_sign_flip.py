"""Sign flip: the opposite of an honest update, number by number, and what comes of it where it is the majority."""

from dataclasses import replace

import numpy as np
import pytest

from attacks import Attack
from attacks.sign_flip import sign_flip
from clients.benign import BenignClient
from clients.malicious import MaliciousClient
from oleander.learning.parameters import arrays_of
from oleander.settings.cli import parse_command
from oleander.system.errors import UserError
from tests.attacks.made_up import update
from tests.attacks.trained import SETTINGS, Tiny, four_classes, trained
from tests.spaces import attack_of


@pytest.mark.parametrize("statistics", [True, False])
def test_it_sends_the_opposite_and_leaves_the_honest_update_alone(statistics):
    honest = update()
    sent = sign_flip(Attack(), scale_statistics=statistics).tamper(honest)
    assert sent.delta.tolist() == [-value for value in update().delta.tolist()]
    assert sent.statistics.tolist() == [(-1) ** statistics * value for value in update().statistics.tolist()]
    np.testing.assert_array_equal(honest.delta, update().delta)
    assert sent.delta.dtype == sent.statistics.dtype == np.float32 and not np.shares_memory(sent.delta, honest.delta)


def test_a_malicious_client_trains_as_an_honest_one_and_undoes_it():
    experiment = SETTINGS.changed(attack="sign_flip")
    sent = []
    for kind, extra in ((BenignClient, ()), (MaliciousClient, (attack_of(experiment),))):
        model = Tiny()
        start = [array.copy() for array in arrays_of(model)]
        parameters, *_ = kind(four_classes(), model, experiment, *extra).fit(start, {"server-round": 1})
        sent.append([a.astype(np.float64) - b for a, b in zip(parameters, start, strict=True)])
    for honest, opposite in zip(*sent, strict=True):
        np.testing.assert_allclose(opposite, -honest, rtol=1e-5, atol=1e-6)
    assert any(np.abs(honest).max() > 0.01 for honest in sent[0])


def test_it_leads_away_from_what_training_reached():
    """The loss of the task rises along it: a step back from where training went."""
    away, towards = trained(sign_flip(Attack(), scale_statistics=True)), trained(Attack())
    assert np.dot(away.update.delta.astype(np.float64), towards.update.delta) < 0
    np.testing.assert_array_equal(away.end, towards.end)  # only what is sent is changed


def test_it_goes_with_scaling_and_without_a_trigger_nothing_is_measured():
    attack = attack_of(replace(SETTINGS, attack="sign_flip+scaling").changed(gamma=3.0))
    np.testing.assert_array_equal(attack.tamper(update()).delta, -update().delta * np.float32(3))
    assert attack.trigger is None and attack.victims is None and attack.choose is None


def test_the_setting_that_it_shares_with_scaling_is_refused_beside_other_attacks():
    told = ["--malicious", "1", "--scale-statistics", "false", "--attack"]
    assert parse_command([*told, "sign_flip"]).given["scale_statistics"] is False
    with pytest.raises(UserError, match="--scale-statistics"):
        parse_command([*told, "patch"])
