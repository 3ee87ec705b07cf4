"""What Min-Max and Min-Sum share: the mean less the largest multiple of a perturbation that keeps within a bound.

Whose updates are seen is the caller's; everything is in float64 until it is sent. That a multiple γ keeps the bound is told by
the inner products of the updates less their mean µ, of which the perturbation's follow: ‖µ - γ p - x‖² = ‖x - µ‖² + 2 γ p·(x -
µ) + γ² ‖p‖².
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from attacks import Attack
from attacks._vectors import blocks, deviation_of, mean_of, products
from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Cohort

Vector = NDArray[np.float64]
Bound = Callable[[Vector, Vector], bool]
"""Squared distances (n,) of a candidate to the updates seen, and theirs to each other (n, n) → whether it keeps the bound."""
FIRST, LAST = 10.0, 1e-5
"""Where the search for γ begins, and the step at which it ends."""


def within(attack: Attack, perturbation: str, knows: str, keeps: Bound) -> Attack:
    """The attack that sends µ - γ p, γ as large as ``keeps`` allows; of everybody's updates or the attackers' own."""

    def agree(own: Cohort) -> Cohort:
        return replace_all(own, own, perturbation, keeps)

    def agree_on(own: Cohort, others: Cohort) -> Cohort:
        return replace_all(own, others, perturbation, keeps)

    if knows == "own":
        return replace(attack, colludes=(*attack.colludes, agree))
    return replace(attack, omniscient=(*attack.omniscient, agree_on))


def replace_all(own: Cohort, seen: Cohort, perturbation: str, keeps: Bound) -> Cohort:
    """Every attacker's row becomes µ - γ p of the updates seen; of fewer than two, between which nothing lies, their own stay."""
    if len(seen) < 2:
        return own
    mean = mean_of(seen.deltas)
    length = float(np.linalg.norm(mean))
    step = _perturbation(perturbation, seen.deltas, mean, length)
    gamma = largest(_judge(seen.deltas, mean, step, keeps))
    mean_s = mean_of(seen.statistics)
    step_s = _perturbation(perturbation, seen.statistics, mean_s, length)
    deltas, statistics = (np.asarray(m - gamma * p, np.float32) for m, p in ((mean, step), (mean_s, step_s)))
    return replace(own, deltas=np.tile(deltas, (len(own), 1)), statistics=np.tile(statistics, (len(own), 1)))


def largest(keeps: Callable[[float], bool]) -> float:
    """The largest γ that keeps the bound, found by halving a step from 10 on, as the authors do; 0 where none does."""
    gamma, step, kept = FIRST, FIRST, 0.0
    while abs(kept - gamma) > LAST:
        step /= 2
        if keeps(gamma):
            kept, gamma = gamma, gamma + step
        else:
            gamma -= step
    return kept


def _judge(rows: FloatArray, mean: Vector, step: Vector, keeps: Bound) -> Callable[[float], bool]:
    """Whether a γ keeps the bound."""
    inner = products(rows, mean)  # (n, n)
    norms = np.diagonal(inner)
    apart = np.maximum(norms[:, None] + norms[None, :] - 2 * inner, 0)  # (n, n) squared distances
    along = np.zeros(len(rows))  # p · (x - µ)
    for part in blocks(rows.shape[1]):
        along += (rows[:, part] - mean[part]) @ step[part]
    square = float(step @ step)
    return lambda gamma: keeps(norms + 2 * gamma * along + gamma**2 * square, apart)


def _perturbation(name: str, rows: FloatArray, mean: Vector, length: float) -> Vector:
    """p: the mean as long as 1 (``length`` is the weights' mean's), its signs, or the deviations."""
    if name == "sign":
        return np.sign(mean)
    if name == "std":
        return deviation_of(rows)
    return mean / length if length else mean
