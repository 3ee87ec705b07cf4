"""FoolsGold: clients whose updates point the same way, round after round, get little or no weight.

Fung, Yoon, Beschastnikh 2020, "The Limitations of Federated Learning in Sybil Settings" (RAID; arXiv 1808.04866), algorithm 1,
on the output layer, its indicative features. The authors sum α_i Δ_i, which grows with n; ours is the mean with the weights
α_i / Σ α, unless ``foolsgold_sum`` (then of the weights only: summed changes of batch-norm statistics would overshoot). As in their
code, similarities below 0 count as 0. If no weight is left, the global model stays as it is.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import Layout
from oleander.learning.updates import MIXED, Aggregate, Cohort, Memory
from oleander.settings.ranges import Positive
from strategies import RuleError
from strategies._sums import weighted

EXCEPT = {"unanimous": "clients that all point the same way are what it takes for sybils: none keeps any weight"}
ROUNDING = 1e-9
"""A similarity that is so near to 1 is 1: what is left may be no more than rounding, and would be blown up to full weight."""


def foolsgold(
    cohort: Cohort, *, memory: Memory, layout: Layout, foolsgold_kappa: Positive = 1.0, foolsgold_sum: bool = False
) -> tuple[Aggregate, Memory]:
    """Give a client less weight the more its summed updates resemble another client's (Fung et al. 2020).

    Args:
        cohort: n updates, each a client's own.
        memory: "clients" (N,) the ids seen so far, rising, and "sums" (N, k) of their updates of the output layer.
        layout: where the output layer is.
        foolsgold_kappa: Confidence κ, the steepness of the logit that spreads the weights (> 0).
        foolsgold_sum: Add the weighted updates up, as the authors do, in place of their mean.

    Raises:
        RuleError: rows that are mixtures of clients.
    """
    if mixed := int((cohort.client_ids == MIXED).sum()):
        raise RuleError(
            f"foolsgold keeps a history of each client, but {mixed} of {len(cohort)} rows mix several clients'"
        )
    memory = _added(memory, cohort.client_ids, cohort.deltas[:, layout.output_layer()])
    sums = memory["sums"][np.searchsorted(memory["clients"], cohort.client_ids)]  # (n, k)
    alpha = _weights(_similarities(sums), foolsgold_kappa)  # (n,)
    mean = weighted(cohort, alpha / (alpha.sum() or 1))
    return (replace(mean, delta=weighted(cohort, alpha).delta) if foolsgold_sum else mean), memory


def _added(memory: Memory, clients: NDArray[np.int64], updates: NDArray[np.float32]) -> Memory:
    """The history with this round's updates in it, by rising client id."""
    before = memory.get("clients", np.zeros(0, np.int64))
    known = np.union1d(before, clients)
    sums = np.zeros((len(known), updates.shape[1]))
    sums[np.searchsorted(known, before)] = memory.get("sums", 0)
    sums[np.searchsorted(known, clients)] += updates
    return {"clients": known, "sums": sums}


def _similarities(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of each pair, at least 0, and 0 of a row with itself and with one that is 0: (n, k) → (n, n)."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]  # (n, 1)
    unit = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    similar = np.maximum(np.einsum("ik,jk->ij", unit, unit), 0)  # no BLAS, whose last bits depend on its threads
    similar[similar > 1 - ROUNDING] = 1
    np.fill_diagonal(similar, 0)
    return similar


def _weights(similar: NDArray[np.float64], kappa: float) -> NDArray[np.float64]:
    """Pardoning, then the logit: (n, n) → the weights α (n,) in [0, 1]."""
    most = similar.max(axis=1)  # (n,)
    pardoned = np.where(most[:, None] < most, similar * most[:, None] / np.where(most > 0, most, 1), similar)
    alpha = 1 - pardoned.max(axis=1)
    if not alpha.any():
        return alpha
    alpha = np.minimum(alpha / alpha.max(), 0.99)  # 1 has no logit
    with np.errstate(divide="ignore"):  # of 0 it is −∞, which is 0 in the end
        return np.clip(kappa * (np.log(alpha / (1 - alpha)) + 0.5), 0, 1)
