"""Attacks: each file is one step of ``--attack``; joined by + they build up what the attackers do.

A step is a function of the file's name that takes the attack so far and returns it extended::

    def blend(attack: Attack, *, blend_image: str, blend_alpha: float) -> Attack

Its keyword arguments are the settings (``oleander.settings.config``) of those names, and ``image: ImageSpace`` where it wants to know
what the dataset's images are: how many channels, how large, how normalised; ``layout: Layout`` says which tensors the model has.
Its docstring's first line stands in ``--list``. What an attack can change are the fields of ``Attack``. A new attack is one new
file (CONTRIBUTING.md).
"""

import hashlib
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from oleander.datasets.data import Dataset, Shard
from oleander.datasets.space import ImageSpace
from oleander.learning.evaluation import Victims, probe_hash
from oleander.learning.parameters import Layout
from oleander.learning.training import Hooks
from oleander.learning.updates import Cohort, Memory, Update
from oleander.settings.config import SETTINGS, Experiment
from oleander.settings.declared import ATTACKER_KNOWS
from oleander.settings.registry import Plugin, attack_steps, bind, blamed, known
from oleander.system.errors import UserError

Stamp = Callable[[Tensor], Tensor]
"""Pixels (k, c, h, w) in [0, 1], after augmentation → the same with a trigger on them."""
Tamper = Callable[..., Update]
"""An update of the attacker's, and by name what it asks for out of ``KNOWS`` → the one it sends."""
Training = Callable[..., Hooks]
"""What an attacker knows, by name → what it changes in this round's local training."""
Choose = Callable[..., "PoisonedShard"]
"""What an attacker knows, and settings, by name → what it trains on: as many images as its shard has, since the server counts them.
Its ``rng`` is the same in every round."""
Collude = Callable[[Cohort], Cohort]
"""The updates of a round's attackers → those that they send. They know each other's, and nobody else's."""
Omniscient = Callable[[Cohort, Cohort], Cohort]
"""The attackers' updates and everybody else's → what the attackers send. No real attacker knows so much."""
Adapt = Callable[..., Memory]
"""What an attacker knows, by name → what the attackers remember from now on."""

KNOWS = ATTACKER_KNOWS
"""What an attacker knows, and a step may ask for by the name of an argument without a default; a tamper after its update.

``memory``: what the attackers remember together. ``start``: the weights of the global model that it was sent, tensors in the model's
order, on its device. ``previous``: those of the global model that any attacker was sent before, None at first. ``model``: the
model to train, not to be changed (before training it holds the global model, for tampers the trained one). ``shard``: its own.
``rng``: a generator of its own, for this step and round. ``attacker``: its number 0 … µ−1 among the attackers. ``train``: an
honest client's training from the global model, ``train(shard) -> Update``."""


@dataclass(frozen=True)
class Attack:
    """What the malicious clients do. The default does nothing.

    Raises:
        TypeError: a step asks for what no attacker knows, or memory and its steps do not fit. A programming error.
    """

    trigger: Stamp | None = None
    """The whole trigger, as the test stamps it and, without parts, every attacker trains on it."""
    parts: tuple[Stamp, ...] = ()
    """What attacker j trains on where the trigger is split among the attackers."""
    choose: Choose | None = None
    """Which images are stamped and how they are labelled; None: as ``poison`` does where there is a trigger, else none."""
    training: tuple[Training, ...] = ()
    """Changes of the local training, in this order."""
    tampers: tuple[Tamper, ...] = ()
    """Changes of the update after training, in this order."""
    colludes: tuple[Collude, ...] = ()
    """What the attackers of a round do with their updates together, after tampering."""
    omniscient: tuple[Omniscient, ...] = ()
    """The same with everybody's updates before them; after ``colludes``."""
    memory: Memory = field(default_factory=dict, compare=False)
    """What the attackers remember together before the first round; names and shapes stay. Numbers are arrays () of one."""
    adapt: Adapt | None = None
    """What they remember after a look at the model that they were sent: the round's first attacker does it for all, before it
    trains; the others know it from the next round on."""
    shaped: Callable[[Memory], Stamp] | None = None
    """The trigger as this memory has it."""
    material: str = ""
    """SHA-256 of pictures of the user's that it is made of and its trigger does not show."""
    victims: Callable[[Dataset], Victims] | None = None
    """Which images the ASR is measured on; None: all stamped test images that are not of the target class."""

    def __post_init__(self) -> None:
        """Refuse what could only fail in the middle of a run."""
        for step, allowed, given in (
            *((step, KNOWS, 0) for step in (*self.training, *filter(None, [self.adapt]))),
            *((step, KNOWS, 1) for step in self.tampers),
            *((step, (*KNOWS, *SETTINGS), 0) for step in filter(None, [self.choose])),
        ):
            _check_asks(step, allowed, given)
        if (self.adapt or self.shaped) and not self.memory:
            raise TypeError("an attack that adapts or shapes its trigger wants a memory to begin with")
        if any("/" in name for name in self.memory):
            raise TypeError(f"an attack's memory has names without /, not {', '.join(self.memory)}")

    def remembering(self, memory: Memory) -> "Attack":
        """The attack as it is with this memory."""
        return replace(self, memory=memory, trigger=self.shaped(memory) if self.shaped else self.trigger)

    @property
    def asks(self) -> set[str]:
        """What its steps want to know, so that nothing else is sent."""
        steps = [*self.training, *filter(None, [self.adapt, self.choose])]
        return {name for step in steps for name in asked(step)} | {n for step in self.tampers for n in asked(step, 1)}

    def part(self, attacker: int) -> Stamp | None:
        """The stamp that attacker j = 0, 1 … trains on."""
        return self.parts[attacker] if self.parts else self.trigger

    def tamper(self, update: Update, know: Callable[[str], Any] = lambda name: None) -> Update:
        """The update that an attacker sends; ``know`` gives what its tampers ask for."""
        for change in self.tampers:
            update = change(update, **{name: know(name) for name in asked(change, 1)})
        return update

    def meet(self, cohort: Cohort, attackers: Collection[int]) -> Cohort:
        """The round's updates once its attackers have agreed on theirs: their rows change, and nobody else's."""
        theirs = np.isin(cohort.client_ids, list(attackers))  # (n,)
        if not theirs.any() or not (self.colludes or self.omniscient):
            return cohort
        own, others = _rows(cohort, theirs), _rows(cohort, ~theirs)
        for agree in self.colludes:
            own = agree(own)
        for agree_on in self.omniscient:
            own = agree_on(own, others)
        deltas, statistics = cohort.deltas.copy(), cohort.statistics.copy()
        deltas[theirs], statistics[theirs] = own.deltas, own.statistics
        return replace(cohort, deltas=deltas, statistics=statistics)


def asked(step: Callable[..., Any], given: int = 0) -> tuple[str, ...]:
    """What a step asks for by name: its arguments without a default, after those that it is ``given`` in any case."""
    parameters = list(inspect.signature(step).parameters.values())[given:]
    return tuple(p.name for p in parameters if p.default is inspect.Parameter.empty)


def ask(step: Callable[..., Any], know: Callable[[str], Any]) -> Any:
    """Call a step with what it asks for, and with nothing else."""
    return step(**{name: know(name) for name in asked(step)})


def _check_asks(step: Callable[..., Any], allowed: Collection[str], given: int) -> None:
    unknown = [name for name in asked(step, given) if name not in allowed]
    if unknown:
        name = getattr(step, "__qualname__", step)
        raise TypeError(f"{name} asks for {', '.join(unknown)}; what an attacker knows is {', '.join(KNOWS)}")


def _rows(cohort: Cohort, rows: NDArray[np.bool_]) -> Cohort:
    """The part of a cohort that one side sees."""
    return replace(
        cohort, client_ids=cohort.client_ids[rows], deltas=cohort.deltas[rows], statistics=cohort.statistics[rows],
        num_examples=cohort.num_examples[rows],
    )  # fmt: skip


@dataclass(frozen=True)
class PoisonedShard:
    """What an attacker trains on."""

    shard: Shard
    """Images without the trigger, which comes after augmentation, and the labels that they are given."""
    poisoned: NDArray[np.bool_]
    """(m,) which images are to be stamped."""
    disturb: Callable[[Tensor, np.random.Generator], Tensor] | None = None
    """What is done to the augmented pixels (m, c, h, w) of images that are not, each time that they are augmented. Its generator goes
    on through a round and is another in the next."""


def poison(shard: Shard, poison_rate: float, target: int, rng: np.random.Generator) -> PoisonedShard:
    """Choose round(poison_rate · m) images of any class, to be stamped, and relabel them to the target.

    Args:
        shard: the attacker's own m images; left as it is.
        poison_rate: share of the images, 0 to 1.
        target: class that the backdoor leads to.
        rng: keyed by seed and client only, so that the choice is the same every round.
    """
    count = round(poison_rate * len(shard.labels))
    poisoned = np.zeros(len(shard.labels), dtype=bool)  # (m,)
    poisoned[rng.choice(len(shard.labels), size=count, replace=False)] = True
    return PoisonedShard(replace(shard, labels=np.where(poisoned, target, shard.labels)), poisoned)


def check_alone(attack: Attack, name: str) -> None:
    """Refuse a step that poisons images after another that does: what would be stamped and relabelled, and what measured?

    Raises:
        UserError: names the step.
    """
    if attack.trigger is not None:
        raise UserError(f"--attack: {name} is a second trigger; one attack has one trigger")
    if attack.choose is not None:
        raise UserError(f"--attack: {name} poisons images in its own way, and so does a step before it")


def fingerprint(attack: Attack, dataset: Dataset) -> str:
    """SHA-256 by which an attack's trigger and pictures are known again, whatever files they came from."""
    found = probe_hash(dataset, attack.trigger)
    return hashlib.sha256(f"{found} {attack.material}".encode()).hexdigest() if attack.material else found


def known_attacks() -> dict[str, Plugin]:
    """Name → step, of every file in attacks/, and of those from outside that are in use."""
    return known("attacks")


def attack_of(experiment: Experiment, image: ImageSpace, layout: Callable[[], Layout] | None = None) -> Attack:
    """The attack that ``--attack`` names, built from its steps for images of this space.

    ``layout`` gives the model's, and is called only where a step asks for it: an attack that does cannot be built without.

    Raises:
        UserError: an unknown step (lists the known), or one that cannot follow those before it.
    """
    steps, attack = attack_steps(experiment), Attack()
    known, agreed = known_attacks(), ""
    for name in steps:
        asked: dict[str, Any] = {"layout": layout()} if layout and "layout" in known[name].asks else {}
        with blamed("attacks", experiment.attack):
            before, attack = attack, bind(known[name], experiment, image=image, **asked)(attack)
        tampers = attack.tampers != before.tampers
        if tampers and agreed:
            raise UserError(
                f"--attack {experiment.attack}: {name} changes what each attacker would send, and so it does before they agree "
                f"({agreed}), who may send something else altogether; wanted {name} before {agreed}"
            )
        if not tampers and (attack.colludes, attack.omniscient) != (before.colludes, before.omniscient):
            agreed = name
    return attack
