"""Finishes work in the order in which they stand, each remembers and draws by itself, and none touches influence."""

from dataclasses import replace

import numpy as np
import pytest

from oleander.learning.updates import Aggregate, Cohort, Memory
from oleander.settings.config import Experiment
from oleander.system.errors import UserError
from strategies import Pipeline, RuleError, Server, Step, pipeline_of
from strategies.fedavg import fedavg
from strategies.rlr import rlr
from strategies.server_lr import server_lr
from tests.cohorts import random_cohort

COHORT = random_cohort(5, d=8)
PLAIN = fedavg(COHORT)


def finished(strategy: str, number: int = 1, **settings) -> Aggregate:
    pipeline = pipeline_of(Experiment(strategy=strategy).changed(**settings))
    return pipeline.run(replace(COHORT, round=number), {}, Server(0)).aggregate


def counting(aggregate: Aggregate, cohort: Cohort, *, memory: Memory) -> tuple[Aggregate, Memory]:
    """Adds how often it was there."""
    count = memory.get("count", np.array(0)) + 1
    return replace(aggregate, delta=aggregate.delta + np.float32(count)), {"count": np.asarray(count)}


def test_where_no_rule_is_named_fedavg_stands_before_the_finishes():
    assert pipeline_of(Experiment(strategy="noise")).name == "fedavg+noise"
    assert pipeline_of(Experiment(strategy="clip+server_lr+noise")).name == "clip+fedavg+server_lr+noise"
    np.testing.assert_array_equal(
        finished("server_lr", server_lr=0.5).delta, server_lr(PLAIN, COHORT, server_lr=0.5).delta
    )


def test_they_work_in_order():
    one, two = finished("server_lr+noise", server_lr=0.5), finished("noise+server_lr", server_lr=0.5)
    drawn = one.delta.astype(float) - PLAIN.delta * 0.5
    np.testing.assert_allclose(two.delta, (PLAIN.delta + drawn) * 0.5, rtol=1e-4, atol=1e-6)


def test_two_of_a_kind_work_twice_and_draw_and_remember_each_for_itself():
    np.testing.assert_allclose(finished("server_lr+server_lr", server_lr=0.5).delta, PLAIN.delta / 4, rtol=1e-6)
    steps = Step("counting", counting, ("memory",)), Step("counting-2", counting, ("memory",))
    pipeline, memory = Pipeline("x", (), Step("fedavg", fedavg), steps), {}
    for number in (1, 2, 3):
        found = pipeline.run(COHORT, memory, Server(0))
        memory = found.memory
        np.testing.assert_allclose(found.aggregate.delta, PLAIN.delta + 2 * number, rtol=1e-5)
    assert {name: int(kept["count"]) for name, kept in memory.items()} == {"counting": 3, "counting-2": 3}
    named = pipeline_of(Experiment(strategy="noise+noise")).finishes
    assert [step.name for step in named] == ["noise", "noise-2"]


def test_a_finish_sees_the_cohort_as_the_rule_saw_it():
    """RLR's signs are those of the clipped updates, which are the updates' own: the same comes out."""
    np.testing.assert_array_equal(finished("clip+rlr", clip_norm=1e6).delta, rlr(PLAIN, COHORT).delta)
    with pytest.raises(UserError, match="theta = 4 and n = 3"):
        finished("bucketing+rlr")


@pytest.mark.parametrize("strategy", ["krum+noise", "krum+rlr", "krum+server_lr", "median+rlr+server_lr+noise"])
def test_influence_is_the_rules(strategy):
    np.testing.assert_array_equal(finished(strategy).influence, finished(strategy.partition("+")[0]).influence)


@pytest.mark.parametrize("wrong", ["noise+krum", "noise+clip+krum", "krum+noise+clip", "rlr+krum+noise", "noise+clip"])
def test_steps_out_of_order_are_refused(wrong):
    with pytest.raises(UserError, match="a strategy is filters, then one rule, then finishes"):
        pipeline_of(Experiment(strategy=wrong))


def test_a_finish_that_claims_influence_or_another_shape_is_refused_by_name():
    greedy = Step("greedy", lambda a, c: replace(a, influence=np.eye(len(c))[0]))
    wide = Step("wide", lambda a, c: replace(a, delta=np.zeros(99, np.float32)))
    endless = Step("endless", lambda a, c: replace(a, statistics=a.statistics * np.float32("nan")))
    for step, words in ((greedy, "changed the clients' influence"), (wide, r"\(99,\)"), (endless, "not finite")):
        with pytest.raises(RuleError, match=f"the finish {step.name} .*{words}"):
            Pipeline("x", (), Step("fedavg", fedavg), (step,)).run(COHORT, {}, Server(0))
