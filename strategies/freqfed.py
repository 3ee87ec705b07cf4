"""FreqFed: the plain mean of those whose updates have most others' low frequencies.

Fereidooni, Pegoraro, Rieger, Dmitrienko, Sadeghi 2024, "FreqFed: A Frequency Analysis-Based Approach for Mitigating Poisoning
Attacks in Federated Learning" (NDSS; arXiv 2312.04432): the discrete cosine transform (II, orthonormal) of each update as one
vector, its lower half of coefficients, their cosine distances, HDBSCAN, the mean of the largest cluster. From memory of the paper:
what it leaves open is taken as FLAME has it, a cluster of more than half, one allowed, and all where all are noise. (Other codes
transform the last layer alone, each tensor, or matrices in two dimensions, and keep a twentieth, a fifth or a half.)
"""

import numpy as np

from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.ranges import Rate
from strategies._choices import mean_of, share_of
from strategies._clusters import majority
from strategies._cosine_transform import cosine_transform
from strategies._cosines import cosine_distances
from strategies._sums import by_columns


def freqfed(cohort: Cohort, *, freqfed_share: Rate = 0.5) -> Aggregate:
    """Mean of the largest cluster of updates, clustered by their low frequencies (Fereidooni et al. 2024).

    Args:
        cohort: n updates.
        freqfed_share: Share of the coefficients, the lowest frequencies, that are compared (0 to 1; one at least).
    """
    count = share_of(freqfed_share, cohort.deltas.shape[1])
    return mean_of(cohort, majority(cosine_distances(_low_frequencies(cohort.deltas, count))))


def _low_frequencies(rows: FloatArray, count: int) -> FloatArray:
    """The first coefficients of each row's transform, up to a factor of each row's own: (n, d) → (n, count)."""
    low, transformed = np.empty((len(rows), count), np.float32), cosine_transform(rows.shape[1], count)

    def transform(row: slice) -> None:
        wide = rows[row.start].astype(np.float64)
        wide /= np.abs(wide).max() or 1  # a cosine does not see it, and float32 holds what comes out
        low[row.start] = transformed(wide)

    by_columns(len(rows), transform, width=1)
    return low
