"""PoisonedFL: the global model is pushed the same way in every round, as far as its last change lets it be pushed.

Xie, Fang, Gong 2025, "Model Poisoning Attacks to Federated Learning via Multi-Round Consistency" (CVPR; arXiv 2404.15611). Signs s
are drawn once, for the whole run, and each round all attackers send λ v ⊙ s. With g the last change of the global model and m
what they sent last, v is |g - m ‖g‖/‖m‖| made as long as 1, an estimate of how far honest updates move each weight, and
λ = c ‖g‖. Every ``poisonedfl_rounds`` rounds they look how the model has moved since the last look: where chance (½ for each
weight) would move still more weights along s with a probability above ``poisonedfl_chance``, c is multiplied by
``poisonedfl_shrink``, unless that took it below ``poisonedfl_least``. Nothing of any honest client is known.

Read in the paper were its abstract and the form of the problem; v, λ, the look and the numbers 50, 0.7, 0.5 and 1 % are those of
copies of the authors' code, c = 8 of its README (10 in the code). What differs: theirs are fake clients without data; ours
train, and their statistics stay as training made them (theirs have none). g spans the rounds since any attacker was last sent a
model, and rounds count in which an attacker takes part. A weight that did not move counts for theirs by its own sign, for ours
not at all. The round's first attacker works the update out for all; if its reply is lost, the others send what they sent last.
Before there is a g they send 0, as theirs do. An average follows so well that its steps grow from round to round. Untargeted:
with no trigger before it there is no ASR.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc

from attacks import Attack
from attacks._tensors import flat
from oleander.learning.parameters import Layout
from oleander.learning.training import Tensors
from oleander.learning.updates import Cohort, Memory, Update
from oleander.settings.ranges import Count, NotNegative, Positive, Rate

Vector = NDArray[np.float64]
EXPLAINED = 1e-12
"""Less than this share of the global model's last change is left by rounding alone."""


def poisonedfl(
    attack: Attack, *, poisonedfl_factor: Positive = 8.0, poisonedfl_rounds: Count = 50, poisonedfl_shrink: Rate = 0.7,
    poisonedfl_least: NotNegative = 0.5, poisonedfl_chance: Rate = 0.01, layout: Layout,
) -> Attack:  # fmt: skip
    """Push the global model along the same random signs in every round (Xie et al. 2025); untargeted.

    Args:
        attack: the steps before this one.
        poisonedfl_factor: How many times as long as the global model's last change the update is at first, c (> 0).
        poisonedfl_rounds: Rounds with attackers after which they look whether the model followed, e.
        poisonedfl_shrink: What c is multiplied by where it did not (0 to 1).
        poisonedfl_least: c does not become smaller than this (>= 0).
        poisonedfl_chance: It followed where chance moves still more weights along the signs with at most this probability (0 to 1).
        layout: which tensors the model has.
    """

    def adapt(memory: Memory, start: Tensors, previous: Tensors | None, rng: np.random.Generator) -> Memory:
        here = _numbers(start)
        if not memory["signs"].any():
            signs = rng.choice(np.array([-1, 1], np.int8), size=len(here))  # (d,)
            memory = {**memory, "signs": signs, "looked": here.astype(np.float32)}
        if previous is None:
            return memory
        factor, rounds = float(memory["factor"]), int(memory["rounds"]) + 1
        if rounds % poisonedfl_rounds == 0:
            smaller = factor * poisonedfl_shrink
            if smaller >= poisonedfl_least and chance(here - memory["looked"], memory["signs"]) > poisonedfl_chance:
                factor = smaller
            memory = {**memory, "looked": here.astype(np.float32)}
        sent = malicious(here - _numbers(previous), memory["sent"], memory["signs"], factor)
        return {**memory, "sent": sent.astype(np.float32), "factor": np.array(factor), "rounds": np.array(rounds)}

    def send(update: Update, memory: Memory) -> Update:
        return replace(update, delta=np.array(memory["sent"]))

    def agree(own: Cohort) -> Cohort:
        return replace(own, deltas=np.tile(own.deltas[0], (len(own), 1)))

    d = layout.weight_count
    memory: Memory = {
        "signs": np.zeros(d, np.int8), "sent": np.zeros(d, np.float32), "looked": np.zeros(d, np.float32),
        "factor": np.array(poisonedfl_factor), "rounds": np.array(0),
    }  # fmt: skip
    return replace(
        attack, memory=memory, adapt=adapt, tampers=(*attack.tampers, send), colludes=(*attack.colludes, agree)
    )


def malicious(change: Vector, sent: NDArray[np.float32], signs: NDArray[np.int8], factor: float) -> Vector:
    """λ v ⊙ s, of the global model's last change and what attackers sent last; 0 where what they sent explains all of it."""
    long, last = float(np.linalg.norm(change)), float(np.linalg.norm(sent.astype(np.float64)))
    others = np.abs(change - sent.astype(np.float64) * (long / last if last else 0.0))  # (d,)
    length = float(np.linalg.norm(others))
    if length < EXPLAINED * long:
        return np.zeros_like(others)
    return np.asarray(others * signs * (factor * long / length if length else 0.0), dtype=np.float64)


def chance(change: Vector, signs: NDArray[np.int8]) -> float:
    """The probability that more of the weights that moved move along the signs, were each as likely to go either way."""
    along = np.sign(change) * signs  # (d,)
    return float(bdtrc(np.sum(along > 0), np.sum(along != 0), 0.5)) if along.any() else 1.0


def _numbers(tensors: Tensors) -> Vector:
    """(d,)"""
    return np.asarray(flat(tensors).cpu().numpy(), dtype=np.float64)
