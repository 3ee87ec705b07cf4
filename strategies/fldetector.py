"""FLDetector: clients whose updates do not follow from their last ones, by the curvature that all rounds so far show, are left out.

Zhang, Cao, Jia, Gong 2022, "FLDetector: Defending Federated Learning Against Model Poisoning Attacks via Detecting Malicious
Clients" (KDD; arXiv 2207.09209): client i's update is predicted as its last one + Ĥ (w_t − w_{t−1}), Ĥ by L-BFGS from the last N
pairs of the global model's and the global update's changes; a client's distance from its prediction, divided by the sum of all
clients', is averaged over the last N rounds; if the gap statistic sees more than one cluster in these scores, k-means makes two,
and the one with the greater mean is left out. The rest is averaged plainly. Theirs predicts gradients and waits until N rounds are
over (50 in their code), then starts the training anew without the detected; ours predicts updates, which a step against the
gradient makes them up to a factor, judges from the third round on, where there is a first pair, and leaves out round by round. What
the global update was is what this rule came to, whatever a finish made of it. Statistics take no part in it. It remembers every
client's last update: as many bytes as a round's updates have, and 2 N models, written down after each round.
"""

import numpy as np
from numpy.typing import NDArray

from oleander.learning.parameters import FloatArray
from oleander.learning.updates import MIXED, Aggregate, Cohort, Memory
from oleander.settings.ranges import Count
from strategies import RuleError
from strategies._choices import mean_of
from strategies._gap import cluster_count, kmeans
from strategies._sums import by_columns, dot, sum_for_each

OTHERS = "it predicts each client's update from that client's last: all are needed in every round"
EXCEPT = {"rows": OTHERS, "deterministic": OTHERS, "resume": OTHERS}


def fldetector(
    cohort: Cohort, *, memory: Memory, rng: np.random.Generator, fldetector_rounds: Count = 10
) -> tuple[Aggregate, Memory]:
    """Mean of the updates close to what the client's last one and the model's curvature predict (Zhang et al. 2022).

    Args:
        cohort: n updates, of the same clients in each round.
        memory: "clients" (n,), "updates" (n, d) their last ones, "model" (d,), "mean" (d,) the last aggregate, "steps" and "turns"
            (≤ N, d), by how much model and aggregate changed, "scores" (≤ N, n).
        rng: of k-means and of the gap statistic's references.
        fldetector_rounds: Over how many rounds curvature is estimated and scores are averaged, N (at least 1).

    Raises:
        RuleError: other clients than in the round before, or rows that are mixtures of clients.
    """
    order = np.argsort(cohort.client_ids, kind="stable")
    _check_clients(cohort.client_ids[order], memory, int((cohort.client_ids == MIXED).sum()))
    model, updates = cohort.start.weights, cohort.deltas[order]
    scores = memory.get("scores", np.zeros((0, len(order))))
    steps, turns = (memory.get(name, np.zeros((0, len(model)), np.float32)) for name in ("steps", "turns"))
    kept = np.ones(len(order), dtype=bool)
    if len(turns):
        moved = model - memory["model"]
        scores = np.concatenate([scores, [_distances(updates, memory["updates"], _product(steps, turns, moved))]])
        scores = scores[-fldetector_rounds:]
        kept[order] = _trusted(scores.mean(axis=0), rng)
    found = mean_of(cohort, kept)
    if memory:
        steps = np.concatenate([steps, [model - memory["model"]]])[-fldetector_rounds:]
        turns = np.concatenate([turns, [found.delta - memory["mean"]]])[-fldetector_rounds:]
    return found, {
        "clients": cohort.client_ids[order], "updates": updates, "model": model.copy(), "mean": found.delta,
        "steps": steps, "turns": turns, "scores": scores,
    }  # fmt: skip


def _check_clients(clients: NDArray[np.int64], memory: Memory, mixed: int) -> None:
    if mixed:
        raise RuleError(
            f"fldetector keeps a history of each client, but {mixed} of {len(clients)} rows mix several clients'"
        )
    before = memory.get("clients", clients)
    if not np.array_equal(before, clients):
        raise RuleError(
            f"fldetector needs all clients in every round (--clients-per-round as --clients), but after {before.tolist()} came "
            f"{clients.tolist()}"
        )


def _product(steps: FloatArray, turns: FloatArray, vector: FloatArray) -> NDArray[np.float64]:
    """Ĥ · vector by L-BFGS in its compact form, from pairs S, Y (m, d), the oldest first (Byrd, Nocedal, Schnabel 1994): (d,)."""
    m, pairs = len(steps), np.concatenate([steps, turns])
    products = np.array(
        [_products(pairs, row) for row in (*steps, vector)]
    ).T  # S·S, Y·S, and of both with the vector: (2m, m + 1)
    within, across = products[:m, :m], products[m:, :m].T  # Sᵀ S, Sᵀ Y
    sigma = across[-1, -1] / (within[-1, -1] or 1)
    lower = np.tril(across, -1)
    middle = np.block([[sigma * within, lower], [lower.T, -np.diag(np.diag(across))]])
    shares = np.linalg.pinv(middle) @ np.concatenate([sigma * products[:m, m], products[m:, m]])  # (2m,)
    weights, result = np.concatenate([sigma * shares[:m], shares[m:]]), np.zeros(len(vector))

    def part(block: slice) -> None:
        result[block] = sigma * vector[block].astype(np.float64) - np.einsum("i,ij->j", weights, pairs[:, block])

    by_columns(len(vector), part)
    return result


def _products(rows: FloatArray, vector: FloatArray) -> NDArray[np.float64]:
    """⟨row, vector⟩ of each row: (k, d), (d,) → (k,)."""
    return sum_for_each(rows, lambda row, block: dot(row, vector[block].astype(np.float64)))


def _distances(updates: FloatArray, before: FloatArray, turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """‖update − (the one before + turn)‖ of each client, divided by the sum: (n,); all alike where all are met."""

    def part(block: slice) -> list[float]:
        rows = zip(updates[:, block], before[:, block], strict=True)
        return [_square(row.astype(np.float64) - last - turn[block]) for row, last in rows]

    apart = np.sqrt(np.sum(by_columns(len(turn), part), axis=0))  # (n,)
    return np.asarray(apart / apart.sum() if apart.any() else np.full(len(apart), 1 / len(apart)))


def _square(vector: NDArray[np.float64]) -> float:
    return dot(vector, vector)


def _trusted(scores: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Who is not in the worse of two clusters, if there is more than one: (n,)."""
    points = scores.round(12)[:, None]
    if cluster_count(points, rng) == 1:
        return np.ones(len(scores), dtype=bool)
    labels = kmeans(points[None], 2, rng)[0][0]
    worse = max((0, 1), key=lambda label: float(points[labels == label].mean()))
    return np.asarray(labels != worse)
