"""PoisonedFL: the update against a reference in Python's floats, its look back, and that its pushes add up where others cancel."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from attacks import Attack, ask
from attacks.poisonedfl import chance, malicious, poisonedfl
from oleander.learning.parameters import Layout, ModelState
from oleander.learning.updates import Cohort, Update
from oleander.settings.config import validated
from oleander.system.errors import UserError
from strategies.median import median
from strategies.trimmed_mean import trimmed_mean
from tests.attacks.trained import SETTINGS
from tests.spaces import attack_of

D = 40


def layout(d=D) -> Layout:
    return Layout(("w", "b"), ((d - 3,), (3,)), (True, True))


def made(d=D, **settings) -> Attack:
    return poisonedfl(Attack(), **{"layout": layout(d)} | settings)


def adapted(attack, start, previous, seed=0) -> Attack:
    """After the first attacker's look at a global model."""
    given = {
        "memory": attack.memory, "start": [torch.from_numpy(start[:-3]), torch.from_numpy(start[-3:])],
        "previous": None if previous is None else [torch.from_numpy(previous)], "rng": np.random.default_rng(seed),
    }  # fmt: skip
    return attack.remembering(ask(attack.adapt, given.__getitem__))


def sent_by(attack, client=0, d=D) -> Update:
    honest = Update(client, np.full(d, 0.5, np.float32), np.full(2, 0.25, np.float32), 64)
    return attack.tamper(honest, {"memory": attack.memory}.__getitem__)


def reference(change, sent, signs, factor):
    """λ v ⊙ s from the paper's formulas, number by number."""
    long, last = math.sqrt(math.fsum(g * g for g in change)), math.sqrt(math.fsum(m * m for m in sent))
    others = [abs(g - m * (long / last if last else 0)) for g, m in zip(change, sent, strict=True)]
    length = math.sqrt(math.fsum(v * v for v in others))
    return [factor * long * v / length * s for v, s in zip(others, signs, strict=True)]


def models(count, seed=0, d=D):
    """Global models of a walk, (d,) float32 each."""
    steps = np.random.default_rng(seed).normal(size=(count, d))
    return list(np.cumsum(steps, axis=0).astype(np.float32))


def test_golden_vector_worked_out_by_hand():
    """‖g‖ = 5; m times 5 / ‖m‖ = (0, 4, 3): others moved 3, 0, 3, so v = (1, 0, 1) / √2; λ = 2 · 5."""
    found = malicious(np.array([3.0, 4, 0]), np.array([0, 8, 6], np.float32), np.array([-1, 1, 1], np.int8), 2.0)
    np.testing.assert_allclose(found, [-10 / math.sqrt(2), 0, 10 / math.sqrt(2)], rtol=1e-15)


@pytest.mark.parametrize("factor", [0.5, 8.0, 100.0])
def test_six_rounds_are_the_reference_of_the_papers_formulas(factor):
    walk, attack, sent = models(7), made(poisonedfl_factor=factor), [0.0] * D
    attack = adapted(attack, walk[0], None)
    signs = attack.memory["signs"].tolist()
    assert set(signs) == {-1, 1}
    for before, here in itertools.pairwise(walk):
        attack = adapted(attack, here, before)
        sent = reference((here.astype(float) - before.astype(float)).tolist(), sent, signs, factor)
        found = sent_by(attack)
        np.testing.assert_allclose(found.delta, sent, rtol=1e-5, atol=1e-6)
        assert found.delta.dtype == np.float32
        assert np.linalg.norm(found.delta) == pytest.approx(factor * np.linalg.norm(here - before), rel=1e-5)
        np.testing.assert_array_equal(attack.memory["signs"], signs)  # drawn once
        np.testing.assert_array_equal(found.statistics, np.full(2, 0.25, np.float32))  # as training made them
        sent = found.delta.tolist()


def test_before_the_model_has_moved_nothing_is_sent_and_where_it_stands_still_neither():
    walk = models(2)
    first = adapted(made(), walk[0], None)
    assert not sent_by(first).delta.any() and not sent_by(made()).delta.any()
    still = adapted(first, walk[0], walk[0])
    assert not sent_by(still).delta.any() and all(np.isfinite(kept).all() for kept in still.memory.values())


@pytest.mark.parametrize("d", [40, 1_001, 100_000])
def test_the_chance_is_that_of_the_binomial_distribution_over_the_weights_that_moved(d):
    rng = np.random.default_rng(d)
    change, signs = rng.normal(size=d), rng.choice([-1, 1], size=d).astype(np.int8)
    change[:5] = 0
    along = int(np.sum(np.sign(change[5:]) == signs[5:]))
    assert chance(change, signs) == pytest.approx(stats.binom.sf(along, d - 5, 0.5), rel=1e-6)
    assert chance(np.zeros(d), signs) == 1.0 and chance(signs.astype(float), signs) == 0.0
    assert chance(-signs.astype(float), signs) == pytest.approx(1 - 0.5**d)


@pytest.mark.parametrize(
    ("d", "bound"), [(1_204_682, 603_618), (139_960, 70_415), (717_924, 359_948), (145_212, 73_049)]
)
def test_the_authors_bounds_for_their_four_models_are_where_the_chance_falls_below_one_percent(d, bound):
    """Their code has them as numbers; a weight less along the signs, and the model has not followed."""
    signs = np.ones(d, np.int8)
    for along, follows in ((bound, True), (bound - 1, False)):
        change = np.where(np.arange(d) < along, 1.0, -1.0)
        assert (chance(change, signs) <= 0.01) == follows


@pytest.mark.parametrize("follows", [True, False])
def test_the_factor_shrinks_where_the_model_did_not_follow_and_not_below_its_least(follows):
    settings = {"poisonedfl_factor": 1.0, "poisonedfl_rounds": 3, "poisonedfl_shrink": 0.7, "poisonedfl_least": 0.5}
    here, seen = np.zeros(D, np.float32), []
    attack = adapted(made(**settings), here, None)
    step = attack.memory["signs"].astype(np.float32) * (1 if follows else -1)
    for _ in range(10):
        attack = adapted(attack, here + step, here)
        here = here + step
        seen.append(float(attack.memory["factor"]))
    assert seen == pytest.approx([1.0] * 10 if follows else [1.0] * 2 + [0.7] * 8)  # 0.49 would be below 0.5


def test_a_look_sees_the_change_since_the_last_look_only():
    """Two rounds against the signs, then two along them, half as far: over all four it went against them."""
    attack = adapted(made(poisonedfl_rounds=2), np.zeros(D, np.float32), None)
    signs, here = attack.memory["signs"].astype(np.float32), np.zeros(D, np.float32)
    for length in (-2, -2, 1, 1):
        attack = adapted(attack, here + length * signs, here)
        here = here + length * signs
    assert float(attack.memory["factor"]) == pytest.approx(5.6)


def cohort(rows, start):
    n = len(rows)
    state = ModelState(start, np.zeros(0, np.float32))
    return Cohort(1, np.arange(n), rows, np.zeros((n, 0), np.float32), np.full(n, 20), state)


def test_all_attackers_send_the_first_ones_weights_and_nobody_elses_count():
    rows = np.random.default_rng(0).normal(size=(5, D)).astype(np.float32)
    met = made().meet(cohort(rows, np.zeros(D, np.float32)), [1, 3])
    np.testing.assert_array_equal(met.deltas, rows[[0, 1, 2, 1, 4]])
    assert not made().omniscient


def distance(rule, *, steady, seed, rounds=40, d=200):
    """How far a model is from what its clients want after so many rounds: 8 honest ones walk towards it, 2 attack."""
    rng, here, before = np.random.default_rng(seed), np.zeros(d, np.float32), None
    wanted, attack = rng.normal(size=d), made(d)
    for number in range(rounds):
        if not steady:  # as attacks that agree within a round only: signs of this round
            attack = attack.remembering({**attack.memory, "signs": np.zeros(d, np.int8)})
        attack = adapted(attack, here, before, seed=1000 * seed + number * (not steady))
        honest = 0.1 * (wanted - here) + 0.1 * rng.normal(size=(8, d))
        rows = np.concatenate([np.tile(sent_by(attack, d=d).delta, (2, 1)), honest]).astype(np.float32)
        here, before = here + rule(cohort(rows, here)).delta, here
    return float(np.linalg.norm(here - wanted))


@pytest.mark.parametrize(
    "rule", [median, lambda c: trimmed_mean(c, trimmed_mean_trim=2, assumed_malicious=2)], ids=["median", "trimmed"]
)
@pytest.mark.parametrize("seed", range(3))
def test_the_same_signs_in_every_round_move_a_robust_rule_farther_than_other_ones_in_each(rule, seed):
    """The paper's observation: effects that are consistent only within a round cancel each other across rounds."""
    assert distance(rule, steady=True, seed=seed) > 1.5 * distance(rule, steady=False, seed=seed)


def test_it_is_built_for_the_runs_model_and_not_without_one():
    experiment = replace(SETTINGS, attack="poisonedfl")
    built = attack_of(experiment, layout=layout)
    assert built.memory["sent"].shape == (D,) and built.trigger is None
    assert built.asks >= {"memory", "start", "previous", "rng"}
    with pytest.raises(TypeError, match="layout"):
        attack_of(experiment, layout=None)


@pytest.mark.parametrize(
    "bad",
    [
        {"poisonedfl_factor": 0}, {"poisonedfl_rounds": 0}, {"poisonedfl_shrink": 1.1}, {"poisonedfl_least": -1},
        {"poisonedfl_chance": -0.1},
    ],
)  # fmt: skip
def test_settings_out_of_their_ranges_are_refused(bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        validated({"attack": "poisonedfl"} | bad, "test")


@pytest.mark.parametrize("seed", range(20))
def test_where_what_they_sent_explains_all_of_the_change_there_is_nothing_to_send(seed):
    """What is left is rounding, which would be made c times as long as the change."""
    rng = np.random.default_rng(seed)
    sent = rng.normal(size=D).astype(np.float32)
    change = sent.astype(np.float64) * rng.uniform(0.1, 30)
    assert not malicious(change, sent, np.ones(D, np.int8), 8.0).any()
    assert malicious(change + 1e-6, sent, np.ones(D, np.int8), 8.0).any()
