"""DeepSight: clusters of clients whose output layers and answers are alike; those with many suspicious members are left out.

Rieger, Nguyen, Miettinen, Sadeghi 2022, "DeepSight: Mitigating Backdoor Attacks in Federated Learning Through Deep Model
Inspection" (NDSS; arXiv 2201.00763). Of the output layer, for each class c: energy E_c = |Δb_c| + Σ |ΔW_c|, NEUP_c = E_c² / Σ E².
A client whose number of NEUPs above max(0.01, 1/classes) · the greatest is at most half the median, and below it, is suspicious:
its training data had few classes. DDif_c: the mean over random images of p_c(x) by the client's model over that by G, softmax
both, with three draws of images. HDBSCAN clusters the cosines of Δb, the NEUPs, and each draw's DDifs; how often two clients are
apart, averaged over the three kinds, is clustered again; clusters of which a third or more is suspicious go, and who is in none
is one of its own. The rest is cut to the median norm of all and averaged. From memory in details: images are uniform in [0, 1];
HDBSCAN's least cluster is of two, with ``min_samples`` 2 as scikit-learn counts, and may be the only one. A client whose model
answers with what is no number is in no cluster by its answers.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from oleander.datasets.space import ImageSpace
from oleander.learning.parameters import FloatArray, Layout, ModelState
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import Count
from strategies import Answers, RuleError
from strategies._choices import clipped_mean
from strategies._cosines import cosine_distances

BATCH = 1 << 22
"""Numbers in the random images that a model is asked about at a time."""


def deepsight(
    cohort: Cohort, *, rng: np.random.Generator, layout: Layout, answers: Answers, image: ImageSpace,
    deepsight_images: Count = 20_000, deepsight_draws: Count = 3,
) -> Aggregate:  # fmt: skip
    """Mean of the clusters with few suspicious updates, by output layers and predictions on noise (Rieger et al. 2022).

    Args:
        cohort: n updates and the model that they start from.
        rng: draws the images.
        layout: where the output layer is.
        answers: runs a model on images.
        image: what images are: channels and side.
        deepsight_images: Random images in a draw.
        deepsight_draws: How often they are drawn, each a clustering of its own.

    Raises:
        RuleError: an output layer without a bias.
    """
    weights, biases = _output_layer(cohort.deltas, layout)  # (n, classes, k), (n, classes)
    energies = np.abs(biases).astype(np.float64) + np.abs(weights).sum(axis=2, dtype=np.float64)
    neups = _shares(energies)  # (n, classes)
    most = max(0.01, 1 / neups.shape[1]) * neups.max(axis=1, keepdims=True)
    exceeding = (neups > most).sum(axis=1)  # (n,)
    usual = np.median(exceeding)  # where it is 0, as with no change of the layer, nobody is suspicious
    suspicious = (exceeding <= usual / 2) & (exceeding < usual)
    by_answers = [
        _apart(_clusters(ratios))
        for ratios in _ratios(cohort, layout, answers, image, (deepsight_draws, deepsight_images), rng)
    ]
    apart = (
        _apart(_clusters(cosine_distances(biases), "precomputed"))
        + _apart(_clusters(neups))
        + np.mean(by_answers, axis=0)
    ) / 3
    kept = _trusted(_clusters(apart, "precomputed"), suspicious)
    return clipped_mean(cohort, kept, over=np.ones(len(cohort), dtype=bool))


def _output_layer(rows: FloatArray, layout: Layout) -> tuple[FloatArray, FloatArray]:
    """The updates of the last layer's weight (n, classes, k) and bias (n, classes)."""
    names = [(name, shape) for name, shape, w in zip(layout.names, layout.shapes, layout.is_weight, strict=True) if w]
    (name, shape), (last, classes) = names[-2:] if len(names) > 1 else [("", ()), names[-1]]
    if name.rpartition(".")[0] != last.rpartition(".")[0] or len(classes) != 1 or shape[:1] != classes:
        raise RuleError(
            f"deepsight needs an output layer with a bias, but the model's last tensors are {name} and {last}"
        )
    own = np.ascontiguousarray(rows[:, layout.output_layer()])
    size = own.shape[1] - classes[0]
    return own[:, :size].reshape(len(rows), classes[0], -1), own[:, size:]


def _shares(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """E² / Σ E² of each row; 0 of one of zeros."""
    most = energies.max(axis=1, keepdims=True)
    squares = np.divide(energies, most, out=np.zeros_like(energies), where=most > 0) ** 2
    total = squares.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(squares, total, out=np.zeros_like(squares), where=total > 0))


def _ratios(
    cohort: Cohort,
    layout: Layout,
    answers: Answers,
    image: ImageSpace,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """DDif: the mean of p_i(x) / p_G(x) over each draw's images: (draws, n, classes)."""
    draws, count = shape
    batch = max(1, BATCH // (image.channels * image.side**2))
    found = []
    for _ in range(draws):
        total: NDArray[np.float64] | float = 0.0
        for begin in range(0, count, batch):
            size = min(batch, count - begin)
            pixels = torch.from_numpy(rng.random((size, image.channels, image.side, image.side), np.float32))
            base = _log_softmax(answers(cohort.start, pixels))
            own = [_log_softmax(answers(_model(cohort, layout, i), pixels)) for i in range(len(cohort))]
            with np.errstate(over="ignore", invalid="ignore"):  # of who answers with what is no number
                total = total + np.stack([np.exp(one - base).sum(axis=0) for one in own])
        found.append(np.asarray(total) / count)
    return np.stack(found)


def _log_softmax(logits: torch.Tensor) -> NDArray[np.float64]:
    """(k, classes), in NumPy: for so few classes PyTorch's takes ten times as long."""
    wide = logits.numpy().astype(np.float64)
    with np.errstate(invalid="ignore"):
        wide -= wide.max(axis=1, keepdims=True)
        return np.asarray(wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)))


def _model(cohort: Cohort, layout: Layout, i: int) -> ModelState:
    """A client's local model; a variance is not negative."""
    statistics = cohort.start.statistics + cohort.statistics[i]
    if len(statistics):  # plain arrays come without
        statistics[layout.variances] = np.maximum(statistics[layout.variances], 0)
    return ModelState(cohort.start.weights + cohort.deltas[i], statistics)


def _clusters(rows: NDArray[np.float64], metric: str = "euclidean") -> NDArray[np.intp]:
    """HDBSCAN's cluster of each row, −1 where it is in none: (n,)."""
    from sklearn.cluster import HDBSCAN  # here, since it takes a second to load

    labels = np.full(len(rows), -1)
    finite = np.flatnonzero(np.isfinite(rows).all(axis=1))
    if len(finite) > 1:
        rounded = rows[finite].astype(np.float32).astype(np.float64)  # no cluster should hang on a sum's last bits
        labels[finite] = HDBSCAN(min_cluster_size=2, min_samples=2, allow_single_cluster=True, metric=metric,
                                 copy=True).fit_predict(rounded)  # fmt: skip
    return labels


def _apart(labels: NDArray[np.intp]) -> NDArray[np.float64]:
    """1 for each pair that shares no cluster, else 0: (n, n)."""
    apart = (labels[:, None] != labels) | (labels < 0)
    np.fill_diagonal(apart, False)
    return apart.astype(np.float64)


def _trusted(labels: NDArray[np.intp], suspicious: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Who is in a cluster of which less than a third is suspicious; one alone, if it is not: (n,)."""
    kept = (labels < 0) & ~suspicious
    for label in set(labels[labels >= 0].tolist()):
        members = labels == label
        kept[members] = 3 * np.count_nonzero(suspicious & members) < np.count_nonzero(members)
    return kept
