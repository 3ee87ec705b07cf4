"""Attacks: each file is one step of ``--attack``; joined by + they build up what the attackers do.

A step is a function of the file's name that takes the attack so far and returns it extended::

    def blend(attack: Attack, *, blend_image: str, blend_alpha: float) -> Attack

Its keyword arguments are the settings (``oleander.settings.config``) of those names, its docstring's first line stands in
``--list``. What an attack can change are the fields of ``Attack``. A new attack is one new file (CONTRIBUTING.md).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from oleander.datasets.data import Shard
from oleander.learning.updates import Update
from oleander.settings.config import Experiment
from oleander.settings.registry import Plugin, attack_steps, bind, find

Stamp = Callable[[Tensor], Tensor]
"""Pixels (k, 3, h, w) in [0, 1], after augmentation → the same with a trigger on them."""
Tamper = Callable[[Update], Update]
"""An honest update of the attacker's → the one it sends."""


@dataclass(frozen=True)
class Attack:
    """What the malicious clients do. The default does nothing."""

    trigger: Stamp | None = None
    """The whole trigger, as the test stamps it and, without parts, every attacker trains on it."""
    parts: tuple[Stamp, ...] = ()
    """What attacker j trains on where the trigger is split among the attackers."""
    tampers: tuple[Tamper, ...] = ()
    """Changes of the update after training, in this order."""

    def part(self, attacker: int) -> Stamp | None:
        """The stamp that attacker j = 0, 1 … trains on."""
        return self.parts[attacker] if self.parts else self.trigger

    def tamper(self, update: Update) -> Update:
        """The update that the attacker sends."""
        for change in self.tampers:
            update = change(update)
        return update


@dataclass(frozen=True)
class PoisonedShard:
    """A shard in which some images carry the trigger and the target's label."""

    shard: Shard
    """Images as they were (the trigger comes after augmentation), labels with the target's."""
    poisoned: NDArray[np.bool_]
    """(m,) which images are to be stamped."""


def poison(shard: Shard, rate: float, target: int, rng: np.random.Generator) -> PoisonedShard:
    """Choose round(rate · m) images of any class, to be stamped, and relabel them to the target.

    Args:
        shard: the attacker's own m images; left as it is.
        rate: share of the images, 0 to 1.
        target: class that the backdoor leads to.
        rng: keyed by seed and client only, so that the choice is the same every round.
    """
    count = round(rate * len(shard.labels))
    poisoned = np.zeros(len(shard.labels), dtype=bool)  # (m,)
    poisoned[rng.choice(len(shard.labels), size=count, replace=False)] = True
    return PoisonedShard(replace(shard, labels=np.where(poisoned, target, shard.labels)), poisoned)


def known_attacks() -> dict[str, Plugin]:
    """Name → step, of every file in attacks/."""
    return find("attacks")


def attack_of(experiment: Experiment) -> Attack:
    """The attack that ``--attack`` names, built from its steps.

    Raises:
        UserError: an unknown step (lists the known), or one that cannot follow those before it.
    """
    known = known_attacks()
    attack = Attack()
    for name in attack_steps(experiment):
        attack = bind(known[name], experiment)(attack)
    return attack
