"""Min-Sum: as far from the honest mean as the sum of squared distances of one honest update to the others allows.

Shejwalkar, Houmansadr 2021, "Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for Federated Learning"
(NDSS; doi 10.14722/ndss.2021.24498): as ``min_max``, but for the bound: the squared distances of m = µ - γ p to the honest updates
sum to no more than those of one of them to all, of the one with the largest sum (as we remember the paper). The authors' code takes
the one with the least sum (``--min-sum-bound min``), which allows less. All else is as in ``min_max``: p, γ, statistics and who is
looked at.
"""

from typing import Literal

from attacks import Attack
from attacks._min_max import Vector, within
from attacks._vectors import check_seen


def min_sum(
    attack: Attack, *, min_sum_perturbation: Literal["unit", "sign", "std"] = "unit",
    min_sum_bound: Literal["max", "min"] = "max", min_sum_knows: Literal["all", "own"] = "all", clients: int, malicious: int,
) -> Attack:  # fmt: skip
    """Send µ - γ p; its squared distances sum to at most those of an honest update (Shejwalkar and Houmansadr 2021); untargeted.

    Args:
        attack: the steps before this one.
        min_sum_perturbation: p: unit, the mean µ as long as 1; sign, its signs; std, the deviations.
        min_sum_bound: Whose sum is the bound: that of the honest update with the largest (max), or, as the authors' code, with the
            least (min).
        min_sum_knows: Whose updates are taken for the honest ones: the honest clients' (all), which no real attacker knows, or the
            attackers' own.
        clients: how many there are.
        malicious: how many of them attack.

    Raises:
        UserError: fewer than two clients whose updates could be seen.
    """
    check_seen("min_sum", min_sum_knows, clients, malicious)

    def no_more(distances: Vector, apart: Vector) -> bool:
        sums = apart.sum(axis=1)  # (n,)
        return bool(distances.sum() <= (sums.max() if min_sum_bound == "max" else sums.min()))

    return within(attack, min_sum_perturbation, min_sum_knows, no_more)
