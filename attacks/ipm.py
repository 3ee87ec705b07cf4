"""IPM, inner-product manipulation: all attackers send the honest mean turned round, so small that no distance gives it away.

Xie, Koyejo, Gupta 2019, "Fall of Empires: Breaking Byzantine-Tolerant SGD by Inner Product Manipulation" (UAI; arXiv 1903.03936):
-ε times the mean of the honest updates (theirs are gradients), so that the inner product of aggregate and honest mean can become
negative. The mean is plain, whatever examples they have; statistics likewise. Omniscient: everybody's updates, which no
real attacker has. With ``--ipm-knows own`` the attackers' own updates stand for the honest ones. In a round in which everybody is an
attacker there is no honest mean, and they send their own. Untargeted: with no trigger before it there is no ASR.
"""

from dataclasses import replace
from typing import Literal

import numpy as np

from attacks import Attack
from attacks._vectors import mean_of
from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Cohort
from oleander.settings.ranges import Positive
from oleander.system.errors import UserError


def ipm(
    attack: Attack,
    *,
    ipm_epsilon: Positive = 0.1,
    ipm_knows: Literal["all", "own"] = "all",
    clients: int,
    malicious: int,
) -> Attack:
    """Send -ε times the mean of the honest updates, all attackers the same (Xie et al. 2019); untargeted.

    Args:
        attack: the steps before this one.
        ipm_epsilon: Factor ε (> 0): small ones hide among honest updates, large ones turn an average round.
        ipm_knows: Whose updates the mean is of: the honest clients' (all), which no real attacker knows, or the attackers' own.
        clients: how many there are.
        malicious: how many of them attack.

    Raises:
        UserError: there is no honest client.
    """
    if malicious >= clients and ipm_knows == "all":
        raise UserError(
            f"--attack ipm: {malicious} of {clients} clients are malicious, so that there is no honest mean; --ipm-knows own"
        )

    def turned(seen: Cohort, own: Cohort) -> Cohort:
        deltas, statistics = (_sent(getattr(seen, name), ipm_epsilon) for name in ("deltas", "statistics"))
        return replace(own, deltas=np.tile(deltas, (len(own), 1)), statistics=np.tile(statistics, (len(own), 1)))

    def agree(own: Cohort) -> Cohort:
        return turned(own, own)

    def agree_on(own: Cohort, others: Cohort) -> Cohort:
        return turned(others, own) if len(others) else own

    if ipm_knows == "own":
        return replace(attack, colludes=(*attack.colludes, agree))
    return replace(attack, omniscient=(*attack.omniscient, agree_on))


def _sent(rows: FloatArray, epsilon: float) -> FloatArray:
    """(n, d) → (d,), in float64 until it is sent."""
    return np.asarray(-epsilon * mean_of(rows), dtype=np.float32)
