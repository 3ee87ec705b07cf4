"""Fit norm: the update as long as one wants it, or as long as an honest one would have been.

No paper's own: it is what clipping and filters of norms have to face. Close to it is the norm-bounded attacker of Sun, Kairouz,
Suresh, McMahan 2019, "Can You Really Backdoor Federated Learning?" (arXiv 1911.07963), whose update is scaled to the server's
bound. The update is scaled, up or down, to a number, or to the length of the update that the attacker's own honest training
comes to: on its shard as it is, from the same model, in the same order of batches, which doubles its work. The norm is over all
weights together; statistics take the same factor, unless ``--scale-statistics false`` leaves them as training made them. An
update of length 0 has no direction and stays. What is sent is float32: the server, who takes G off again, sees the norm but for
that rounding. A step after this one may change it again (``fit_norm+scaling``).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from attacks import Attack
from oleander.datasets.data import Shard
from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Update
from oleander.settings.ranges import Positive


def fit_norm(attack: Attack, *, fit_norm_to: Literal["honest"] | Positive = "honest", scale_statistics: bool) -> Attack:
    """Scale the update, up or down, to the norm that honest training would give, or to a given one.

    Args:
        attack: the steps before this one.
        fit_norm_to: L2 norm over all weights that is sent (> 0), or honest: that of an honest training of the same shard.
        scale_statistics: whether the batch-norm statistics take the same factor.
    """

    def to_honest(update: Update, shard: Shard, train: Callable[[Shard], Update]) -> Update:
        return _scaled(update, _length(train(shard).delta), scale_statistics)

    def to_number(update: Update) -> Update:
        return _scaled(update, float(fit_norm_to), scale_statistics)

    return replace(attack, tampers=(*attack.tampers, to_honest if fit_norm_to == "honest" else to_number))


def _scaled(update: Update, norm: float, with_statistics: bool) -> Update:
    """The update at this norm, in its own direction."""
    own = _length(update.delta)
    if not own:
        return update
    factor = norm / own
    delta, statistics = ((factor * part).astype(np.float32) for part in _wide(update))
    return replace(update, delta=delta, statistics=statistics if with_statistics else update.statistics)


def _wide(update: Update) -> tuple[FloatArray, ...]:
    return tuple(part.astype(np.float64) for part in (update.delta, update.statistics))


def _length(delta: FloatArray) -> float:
    """L2 norm in float64, which no float32 number is too large for."""
    return float(np.linalg.norm(delta.astype(np.float64)))
