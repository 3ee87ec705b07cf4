"""FLTrust: clients are trusted as far as their updates point where the server's own points.

Cao, Fang, Liu, Gong 2021, "FLTrust: Byzantine-robust Federated Learning via Trust Bootstrapping" (NDSS; arXiv 2012.13995).
The server trains on its root set as a client does on its shard. Statistics shrink by the factor of their client's weights and never
grow by it: else a tiny update, which is trusted as a long one is, would carry statistics of any size. An update of 0 has no
direction, and no trust. If nobody is trusted, the global model stays as it is.
"""

from dataclasses import replace

import numpy as np

from oleander.learning.root import Root
from oleander.learning.updates import Aggregate, Cohort
from strategies import RuleError
from strategies._exact import nearest_float
from strategies._sums import dot, exact_dot, most_rounding, squared_norms, sum_for_each, weighted

EXCEPT = {"unanimous": "every update is brought to the length of the server's own"}


def fltrust(cohort: Cohort, *, root: Root) -> Aggregate:
    """Weigh updates by their cosine with the server's own, each brought to its length (Cao et al. 2021).

    Args:
        cohort: n updates and the model that they start from.
        root: clean images that the server trains on from the same model.

    Raises:
        RuleError: the server's own update is not finite.
    """
    own = root.update(cohort.start, cohort.round).delta  # (d,)
    if wrong := int((~np.isfinite(own)).sum()):
        raise RuleError(f"fltrust: {wrong} of {len(own)} weights of the server's own update are not finite numbers")
    norms, length = np.sqrt(squared_norms(cohort.deltas)), float(np.sqrt(squared_norms(own[None])[0]))  # (n,)
    known = norms * length > 0
    products = sum_for_each(cohort.deltas, lambda delta, block: dot(delta, own[block].astype(np.float64)))  # (n,)
    for i in np.flatnonzero(known & (np.abs(products) <= most_rounding(1, len(own)) * norms * length)):
        products[i] = nearest_float(exact_dot(cohort.deltas[i], own))  # at right angles it is 0, and no trust
    cosines = np.divide(products, norms * length, out=np.zeros_like(norms), where=known)
    trust = np.maximum(cosines, 0)
    influence = trust / (trust.sum() or 1)
    factors = np.divide(length, norms, out=np.zeros_like(norms), where=known)  # (n,)
    statistics = np.einsum("i,ij->j", influence * np.minimum(factors, 1), cohort.statistics).astype(np.float32)
    return replace(weighted(cohort, influence * factors), statistics=statistics, influence=influence)
