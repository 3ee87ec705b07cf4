"""Min-Max: as far from the honest mean as the two honest updates that are farthest apart allow.

Shejwalkar, Houmansadr 2021, "Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for Federated Learning"
(NDSS; doi 10.14722/ndss.2021.24498), the aggregation-agnostic attacks: all attackers send m = µ - γ p, with the largest γ for which
m is no farther from any honest update than two of those are from each other. p is the mean as long as 1 (the authors' default), its
signs, or the deviations (with n - 1). γ is searched for by halving, from 10 on down to steps of 1e-5, as in the authors' code; so
it is below 20. Statistics take the same γ, and a p of their own, but for the unit mean, whose factor is the weights'. The honest
updates are those of all other clients: omniscient, which no real attacker is. With ``--min-max-knows own`` they are the attackers'
own, as honestly trained. In a round in which fewer than two are seen, attackers send their own. Untargeted: with no trigger before
it there is no ASR.
"""

from typing import Literal

from attacks import Attack
from attacks._min_max import Vector, within
from attacks._vectors import check_seen


def min_max(
    attack: Attack, *, min_max_perturbation: Literal["unit", "sign", "std"] = "unit",
    min_max_knows: Literal["all", "own"] = "all", clients: int, malicious: int,
) -> Attack:  # fmt: skip
    """Send µ - γ p, no farther from any honest update than the farthest two are apart (Shejwalkar and Houmansadr 2021); untargeted.

    Args:
        attack: the steps before this one.
        min_max_perturbation: p: unit, the mean µ as long as 1; sign, its signs; std, the deviations.
        min_max_knows: Whose updates are taken for the honest ones: the honest clients' (all), which no real attacker knows, or the
            attackers' own.
        clients: how many there are.
        malicious: how many of them attack.

    Raises:
        UserError: fewer than two clients whose updates could be seen.
    """
    check_seen("min_max", min_max_knows, clients, malicious)
    return within(attack, min_max_perturbation, min_max_knows, _no_farther)


def _no_farther(distances: Vector, apart: Vector) -> bool:
    return bool(distances.max() <= apart.max())
