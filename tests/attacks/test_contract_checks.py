"""The checks of attacks themselves: a small attack of each kind passes them all, and each finds one that is wrong."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from attacks import Attack, PoisonedShard
from oleander.learning.evaluation import Victims
from oleander.learning.training import Hooks
from tests.attacks.checks import CHECKS

COUNT = itertools.count()


def scaled(update, *, train):
    return replace(update, delta=update.delta * np.float32(2))


def masked(start, previous):
    if previous is None:
        return Hooks(loss=lambda loss, weights: loss + sum((w * w).sum() for w in weights))
    return Hooks(
        gradients=lambda g: [x * 0.5 for x in g], weights=lambda w: [x + p for x, p in zip(w, previous, strict=True)]
    )


def agreed(own):
    return replace(own, deltas=np.repeat(own.deltas.mean(axis=0, keepdims=True), len(own), axis=0))


def against(own, others):
    return replace(own, deltas=np.repeat(-others.deltas.mean(axis=0, keepdims=True), len(own), axis=0))


def shaped(memory):
    return lambda pixels: pixels.clone().index_fill_(3, torch.tensor([0]), float(memory["shade"]))


def darker(memory, model):
    return {"shade": memory["shade"] * np.float32(0.5)}


def flipped(shard, rng, target):
    rows = rng.random(len(shard.labels)) < 0.5
    return PoisonedShard(replace(shard, labels=np.where(rows, target, shard.labels)), np.zeros(len(rows), dtype=bool))


MEMORY = {"shade": np.array(0.5, np.float32)}
RIGHT = {
    "trigger": Attack(trigger=shaped(MEMORY)),
    "tampers": Attack(tampers=(scaled,)),
    "hooks": Attack(training=(masked,)),
    "colludes": Attack(colludes=(agreed,)),
    "omniscient": Attack(omniscient=(against,)),
    "adapts": Attack(trigger=shaped(MEMORY), memory=MEMORY, shaped=shaped, adapt=darker),
    "chooses": Attack(choose=flipped),
    "source to target": Attack(choose=flipped, victims=lambda data: Victims(np.where(data.test_labels == 3, 5, -1), stamped=False)),
    "no ASR": Attack(choose=flipped, victims=lambda data: Victims(np.full(len(data.test_labels), -1), stamped=False)),
    "held out": Attack(choose=flipped, victims=lambda data: Victims(np.zeros(4, int), stamped=False, images=data.test_images[:4])),
}  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("kind", RIGHT)
def test_a_right_attack_of_each_kind_passes_every_check(kind, check):
    CHECKS[check](RIGHT[kind])


def in_place(value):
    """Whatever it is asked for, changed where it stands."""
    return lambda start: value(start[0].add_(1)) or Hooks()


def spoiling(gradients):
    gradients[0].mul_(0)
    return gradients


def forgets(memory):
    memory["shade"] *= 2
    return {"shade": np.array(0.1, np.float32)}


def trains_it(memory, model):
    next(model.parameters()).data.add_(1)
    return memory


def relabels(shard):
    shard.labels[:] = 0
    return PoisonedShard(shard, np.zeros(len(shard.labels), dtype=bool))


def fewer(shard):
    short = replace(shard, images=shard.images[:-1], labels=shard.labels[:-1])
    return PoisonedShard(short, np.zeros(len(short.labels), dtype=bool))


def peeked(own):
    own.deltas[:] = 0
    return own


def adapting(adapt):
    return replace(RIGHT["adapts"], adapt=adapt)


def spying() -> Attack:
    """It says that it colludes, and looks at everybody's updates."""

    class Spy(Attack):
        def meet(self, cohort, attackers):
            theirs = np.isin(cohort.client_ids, list(attackers))
            deltas = cohort.deltas.copy()
            deltas[theirs] = cohort.deltas[~theirs].mean(axis=0)
            return replace(cohort, deltas=deltas)

    return Spy(colludes=(agreed,))


WRONG = [
    ("does_something", Attack()),
    ("trigger_is_pixels", Attack(trigger=lambda pixels: pixels + 1)),
    ("trigger_is_pixels", Attack(trigger=lambda pixels: pixels.mul_(0.5))),
    ("trigger_is_pixels", Attack(trigger=lambda pixels: pixels)),
    ("tampers_keep_shapes", Attack(tampers=(lambda update: replace(update, delta=update.delta[:3]),))),
    ("tampers_keep_shapes", Attack(tampers=(lambda update: replace(update, delta=update.delta.astype(float) * 2),))),
    ("tampers_keep_shapes", Attack(tampers=(lambda update: replace(update, delta=update.delta + np.float32(next(COUNT))),))),
    ("tampers_keep_shapes", Attack(tampers=(lambda update: replace(update, num_examples=10**6, delta=update.delta * 2),))),
    ("hooks_are_pure", Attack(training=(in_place(lambda tensor: None),))),
    ("hooks_are_pure", Attack(training=(lambda: Hooks(gradients=spoiling),))),
    ("hooks_are_pure", Attack(training=(lambda: Hooks(weights=lambda w: [x + next(COUNT) for x in w]),))),
    ("hooks_are_pure", Attack(training=(lambda: Hooks(weights=lambda w: [x[:1] for x in w]),))),
    ("first_round_has_no_previous", Attack(training=(lambda previous: Hooks(weights=lambda w, p=previous[0]: w),))),
    ("adapt_is_pure", adapting(forgets)),
    ("adapt_is_pure", adapting(trains_it)),
    ("adapt_is_pure", adapting(lambda memory: {"other": memory["shade"]})),
    ("adapt_is_pure", adapting(lambda memory: {"shade": np.array(0.5)})),
    ("adapt_is_pure", adapting(lambda memory: {"shade": np.array(next(COUNT) / 1e6, np.float32)})),
    ("adapt_is_pure", adapting(lambda memory: {"shade": np.array(3.0, np.float32)})),
    ("colluders_change_their_own", Attack(colludes=(lambda own: own,))),
    ("colluders_change_their_own", Attack(omniscient=(lambda own, others: replace(own, deltas=own.deltas * np.nan),))),
    ("colluders_change_their_own", Attack(colludes=(lambda own: replace(own, deltas=own.deltas + next(COUNT)),))),
    ("colluders_change_their_own", spying()),
    ("choice_keeps_the_number", Attack(choose=relabels)),
    ("choice_keeps_the_number", Attack(choose=fewer)),
    ("victims_have_a_wanted_label", Attack(victims=lambda data: Victims(data.test_labels))),
    ("victims_have_a_wanted_label", Attack(victims=lambda data: Victims(np.full(len(data.test_labels), 10)))),
    ("victims_have_a_wanted_label", Attack(victims=lambda data: Victims(np.full(3, 1)))),
]  # fmt: skip


@pytest.mark.parametrize(("check", "attack"), WRONG, ids=[f"{check}-{i}" for i, (check, _) in enumerate(WRONG)])
def test_each_check_finds_what_is_wrong(check, attack):
    with pytest.raises((AssertionError, TypeError, IndexError)):
        CHECKS[check](attack)


@pytest.mark.parametrize(
    "make",
    [
        lambda step: Attack(training=(step,)),
        lambda step: Attack(tampers=(lambda update, everybody: update,)),
        lambda step: Attack(adapt=step, memory=MEMORY),
        lambda step: Attack(choose=step),
    ],
)
def test_a_step_that_asks_for_what_nobody_knows_is_a_type_error_that_names_it_and_the_list(make):
    def step(everybody):
        return everybody

    with pytest.raises(
        TypeError,
        match=r"asks for everybody; what an attacker knows is memory, start, previous, model, shard, rng, attacker, train",
    ):
        make(step)


def test_memory_and_its_steps_must_fit():
    for wrong in ({"adapt": darker}, {"shaped": shaped}, {"memory": {"a/b": np.zeros(1)}}):
        with pytest.raises(TypeError, match="memory"):
            Attack(**wrong)
