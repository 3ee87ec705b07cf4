"""ALIE, "a little is enough": all attackers send the same update, as far from the mean as enough honest clients are anyway.

Baruch, Baruch, Goldberg 2019, "A Little Is Enough: Circumventing Defenses For Distributed Learning" (NeurIPS; arXiv 1902.06156),
algorithm 3: µ - z σ in each coordinate, of the attackers' own updates (theirs are gradients); statistics likewise, coordinate by
coordinate. n and m are the settings', so z is the same in every round; in one in which a single attacker is drawn, it sends its own
update. σ is with n - 1 (the authors' code: with n). Public codes differ in the sign, in z and in who is looked at: several give the
attackers everybody's updates, as ``alie_knows`` all does here, which no real attacker has.
"""

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Literal

import numpy as np

from attacks import Attack
from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Cohort
from oleander.settings.ranges import Positive
from oleander.system.errors import UserError


def alie(
    attack: Attack, *, alie_z: Positive | None = None, alie_knows: Literal["own", "all"] = "own", clients_per_round: int,
    malicious: int,
) -> Attack:  # fmt: skip
    """Send the mean update minus z standard deviations, the same from all attackers (Baruch et al. 2019).

    Args:
        attack: the steps before this one.
        alie_z: Standard deviations z from the mean (default: Φ⁻¹((n - m - s) / (n - m)) with s = ⌊n/2 + 1⌋ - m supporters).
        alie_knows: Whose updates mean and deviation are of: the attackers' own, or everybody's (all), which no real attacker knows.
        clients_per_round: n.
        malicious: m.

    Raises:
        UserError: one attacker who knows no updates but its own, or n and m for which there is no z.
    """
    if malicious == 1 and alie_knows == "own":
        raise UserError("--attack alie: malicious = 1; it takes 2 or more, whose updates deviate, or --alie-knows all")
    z = alie_z or (_z(clients_per_round, malicious) if malicious else 0.0)

    def agree(own: Cohort, others: Cohort | None = None) -> Cohort:
        known = [own] if others is None else [own, others]
        if sum(map(len, known)) < 2:
            return own
        deltas, statistics = (_shifted([getattr(part, name) for part in known], z) for name in ("deltas", "statistics"))
        return replace(own, deltas=np.tile(deltas, (len(own), 1)), statistics=np.tile(statistics, (len(own), 1)))

    if alie_knows == "all":
        return replace(attack, omniscient=(*attack.omniscient, agree))
    return replace(attack, colludes=(*attack.colludes, agree))


def _z(n: int, m: int) -> float:
    """The largest z at which s honest clients are expected to be farther from the mean, on the attackers' side."""
    supporters = n // 2 + 1 - m
    if m >= n or supporters <= 0:
        z = math.inf  # the attackers are a majority without supporters
    else:
        share = (n - m - supporters) / (n - m)
        z = NormalDist().inv_cdf(share) if share else -math.inf
    if not 0 < z < math.inf:
        raise UserError(
            f"--attack alie: z = {z:g} for n = {n} clients a round and m = {m} malicious, and is to be above 0 and finite; "
            "give --alie-z"
        )
    return z


def _shifted(parts: list[FloatArray], z: float) -> FloatArray:
    """Mean less z deviations of all rows: (…, d) → (d,), row by row, so that no second copy is made."""
    rows = [row for part in parts for row in part]
    mean = sum(row.astype(np.float64) for row in rows) / len(rows)  # (d,)
    squares = sum(np.square(row - mean) for row in rows)  # (d,)
    return np.asarray(mean - z * np.sqrt(squares / (len(rows) - 1)), dtype=np.float32)
