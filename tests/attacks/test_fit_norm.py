"""Fit norm: the norm that was asked for, an honest training's that is really one, and a backdoor that clipping leaves as it is."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks import Attack
from attacks.fit_norm import fit_norm
from attacks.scaling import scaling
from clients.benign import BenignClient
from clients.malicious import MaliciousClient
from oleander.learning.parameters import arrays_of
from oleander.learning.updates import Update
from oleander.settings.config import validated
from oleander.system.errors import UserError
from strategies.clip import clip
from tests.attacks.trained import SETTINGS, Tiny, four_classes, length
from tests.cohorts import random_cohort
from tests.spaces import attack_of

HONEST = Update(1, np.array([2, 0, 0], np.float32), np.ones(1, np.float32), 64)


def fitted(norm, update: Update, statistics: bool = True) -> Update:
    attack = fit_norm(Attack(), fit_norm_to=norm, scale_statistics=statistics)
    return attack.tamper(update, {"shard": None, "train": lambda shard: HONEST}.__getitem__)


@pytest.mark.parametrize(
    ("norm", "expected"), [(10.0, (6.0, 8.0, 0.0)), (2.5, (1.5, 2.0, 0.0)), ("honest", (1.2, 1.6, 0.0))]
)
def test_golden_vector_worked_out_by_hand(norm, expected):
    """(3, 4, 0) is 5 long; the honest one is 2 long."""
    update = Update(1, np.array([3, 4, 0], np.float32), np.array([5, -10], np.float32), 64)
    sent = fitted(norm, update)
    np.testing.assert_allclose(sent.delta, expected, rtol=1e-7)
    np.testing.assert_allclose(sent.statistics, [expected[0] / 3 * 5, expected[0] / 3 * -10], rtol=1e-6)
    np.testing.assert_array_equal(fitted(norm, update, statistics=False).statistics, [5, -10])
    assert update.delta.tolist() == [3, 4, 0] and sent.delta.dtype == sent.statistics.dtype == np.float32


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e30])
@pytest.mark.parametrize("norm", [1e-3, 7.0, 1e4])
def test_the_norm_is_the_one_asked_for_and_the_direction_stays(scale, norm):
    delta = (np.random.default_rng(0).normal(size=500) * scale).astype(np.float32)
    sent = fitted(norm, Update(1, delta, np.zeros(0, np.float32), 64)).delta
    assert math.sqrt(sum(float(value) ** 2 for value in sent)) == pytest.approx(norm, rel=1e-6)
    along = sent.astype(np.float64) @ (delta.astype(np.float64) / scale)
    assert along == pytest.approx(norm * np.linalg.norm(delta.astype(np.float64) / scale), rel=1e-6)


def test_an_update_of_nothing_stays_nothing():
    nothing = Update(1, np.zeros(3, np.float32), np.ones(1, np.float32), 64)
    for norm in (3.0, "honest"):
        sent = fitted(norm, nothing)
        assert not sent.delta.any() and sent.statistics.tolist() == [1]


def norms(attack: str, **settings) -> tuple[float, float]:
    """Of a malicious client's update as the server sees it, and of an honest client's with the same shard."""
    torch.set_num_threads(1)
    experiment, found = SETTINGS.changed(attack=attack, target=1, poison_rate=1.0, **settings), []
    for kind, extra in ((MaliciousClient, (attack_of(experiment),)), (BenignClient, ())):
        model = Tiny()
        start = [array.copy() for array in arrays_of(model)]
        sent, *_ = kind(four_classes(), model, experiment, *extra).fit(start, {"server-round": 1})
        found.append(length(np.concatenate([(a - b).ravel() for a, b in zip(sent[:4], start[:4], strict=True)])))
    return found[0], found[1]


def test_a_malicious_client_sends_an_update_as_long_as_its_own_honest_one_would_have_been():
    plain, honest = norms("patch")
    assert abs(plain / honest - 1) > 0.05  # there was something to do
    assert norms("patch+fit_norm")[0] == pytest.approx(honest, rel=1e-5)
    assert norms("patch+scaling+fit_norm")[0] == pytest.approx(honest, rel=1e-5)
    assert norms("patch+fit_norm", fit_norm_to=0.125)[0] == pytest.approx(0.125, rel=1e-5)


def test_clipping_shortens_a_scaled_update_and_leaves_a_fitted_one_alone():
    """What it promises: a bound by norms sees nothing to cut."""
    cohort = random_cohort(7, d=400)
    middle = float(np.sort(np.linalg.norm(cohort.deltas[1:].astype(np.float64), axis=1))[2])
    update = Update(0, cohort.deltas[0], cohort.statistics[0], 64)
    scaled = scaling(Attack(), gamma=9.0, clients_per_round=7, malicious=1)
    for attack, cut in ((scaled, True), (fit_norm(scaled, fit_norm_to=middle, scale_statistics=True), False)):
        deltas = cohort.deltas.copy()
        deltas[0] = attack.tamper(update).delta
        clipped = clip(replace(cohort, deltas=deltas), clip_norm="median")
        assert np.allclose(clipped.deltas[0], deltas[0], rtol=1e-5) != cut


def test_what_is_no_norm_is_refused():
    for bad in (0.0, -1.0, float("inf"), "median"):
        with pytest.raises(UserError, match="fit_norm_to"):
            validated({"attack": "fit_norm", "fit_norm_to": bad}, "test")
