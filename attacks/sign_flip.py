"""Sign flip: the attacker trains honestly and sends the opposite of its update.

Li, Xu, Chen, Giannakis, Ling 2019, "RSA: Byzantine-Robust Stochastic Aggregation Methods for Distributed Learning from Heterogeneous
Datasets" (AAAI; arXiv 1811.03761): what would be sent, times a negative constant. Ours is -1; ``sign_flip+scaling`` makes it larger.
Theirs are gradients or models, ours updates. Statistics are turned round with the weights, as ``scaling`` multiplies them, unless
``--scale-statistics false`` leaves them as training made them. It knows its own update only; several public codes flip the mean of
everybody's, which is ``ipm`` with ε = 1. Untargeted: with no trigger before it there is no ASR.
"""

from dataclasses import replace

from attacks import Attack
from oleander.learning.updates import Update


def sign_flip(attack: Attack, *, scale_statistics: bool) -> Attack:
    """Send the opposite of the update: -Δ (Li et al. 2019); untargeted.

    Args:
        attack: the steps before this one.
        scale_statistics: whether the batch-norm statistics are turned round too.
    """

    def flip(update: Update) -> Update:
        statistics = -update.statistics if scale_statistics else update.statistics
        return replace(update, delta=-update.delta, statistics=statistics)

    return replace(attack, tampers=(*attack.tampers, flip))
