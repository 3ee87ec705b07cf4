"""Mimic: all attackers copy one honest client, so that it counts as often as they are, and others hardly.

Karimireddy, He, Jaggi 2022, "Byzantine-Robust Learning on Heterogeneous Datasets via Bucketing" (ICLR; arXiv 2006.09365),
section 3: it takes clients that differ. The one copied is the farthest from the mean along the direction z in which the honest
updates vary most: the largest |z·(x - µ)|, of equal ones the lowest client id. Statistics are copied with the weights. The
paper learns z over the first rounds and copies the same client from then on; ours looks at each round by itself, since a client
need not be drawn again. The authors' code takes the largest z·x, with a z whose sign is chance's, by steps towards z; ours is
computed. Public codes copy a client of a fixed number, which may be an attacker. Omniscient: no real attacker knows everybody's
updates. In a round without an honest client attackers send their own. Untargeted: with no trigger before it there is no ASR.
"""

from dataclasses import replace

import numpy as np

from attacks import Attack
from attacks._vectors import mean_of, products
from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Cohort
from oleander.system.errors import UserError

EQUAL = 1e-9
"""Relative difference below which two clients are as far along the direction: rounding, which is the machine's own."""


def mimic(attack: Attack, *, clients: int, malicious: int) -> Attack:
    """Copy the honest update that is farthest along the direction of most variance (Karimireddy et al. 2022); untargeted.

    Args:
        attack: the steps before this one.
        clients: how many there are.
        malicious: how many of them attack.

    Raises:
        UserError: there is no honest client.
    """
    if malicious >= clients:
        raise UserError(
            f"--attack mimic: {malicious} of {clients} clients are malicious, so that there is nobody to copy"
        )

    def copy(own: Cohort, others: Cohort) -> Cohort:
        if not len(others):
            return own
        row = _farthest(others.deltas)
        deltas, statistics = (np.tile(rows[row], (len(own), 1)) for rows in (others.deltas, others.statistics))
        return replace(own, deltas=deltas, statistics=statistics)

    return replace(attack, omniscient=(*attack.omniscient, copy))


def _farthest(rows: FloatArray) -> int:
    """The row of (n, d) farthest from the mean along the first principal direction.

    Its coordinates along it are √λ u, of the largest eigenvalue λ of the centred rows' inner products and its vector u.
    """
    values, vectors = np.linalg.eigh(products(rows, mean_of(rows)))  # eigenvalues rise
    along = np.abs(vectors[:, -1]) if values[-1] > 0 else np.ones(len(rows))  # (n,) all are equal: as far as each other
    return int(np.flatnonzero(along >= (1 - EQUAL) * along.max())[0])
