"""Gaussian: noise in the place of an update.

Blanchard, El Mhamdi, Guerraoui, Stainer 2017, "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent"
(NeurIPS; arXiv 1703.02757), section 5: the attackers draw what they send from N(0, σ²) in each coordinate, whatever they have
learned. Theirs is σ = 200 on gradients; ours 1 on updates. The draw is each attacker's own, anew in every round. Statistics
stay as training made them: a noise of σ = 1 would make variances negative, which breaks a model without any attack on its
weights. Some public codes add the noise to the update, or give it the honest updates' mean and deviation. Untargeted: with no
trigger before it there is no ASR.
"""

from dataclasses import replace

import numpy as np

from attacks import Attack
from oleander.learning.updates import Update
from oleander.settings.ranges import Positive


def gaussian(attack: Attack, *, gaussian_std: Positive = 1.0) -> Attack:
    """Send noise instead of the update: N(0, σ²) in each coordinate (Blanchard et al. 2017); untargeted.

    Args:
        attack: the steps before this one.
        gaussian_std: Deviation σ of the noise in each weight (> 0).
    """

    def drawn(update: Update, rng: np.random.Generator) -> Update:
        noise = rng.normal(scale=gaussian_std, size=update.delta.shape)  # (d,)
        return replace(update, delta=noise.astype(np.float32))

    return replace(attack, tampers=(*attack.tampers, drawn))
