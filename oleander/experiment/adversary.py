"""All attackers of a run, on the server's side of the transport: what they tell each other, agree on and remember.

A rule sees a round's updates after the attackers have met, and so do the records: the norms "before" are of what reached the rule.
"""

from collections.abc import Mapping

import numpy as np
from flwr.app import Message, RecordDict

from attacks import Attack
from oleander.learning.parameters import FloatArray
from oleander.learning.updates import Cohort, Memory
from oleander.settings.config import Experiment
from oleander.system.errors import RunError, UserError
from oleander.transport.attackers import Told, read_memory, records_of

ATTACKERS, SEEN = "attackers", "attackers-seen"
"""Names of what they remember together, and of the last global model that any of them was sent."""


class Attackers:
    """The malicious clients of a run (``oleander.transport.adversary.Adversary``); ``attack`` is what they do as it is now."""

    def __init__(self, experiment: Experiment, attack: Attack, remembered: Mapping[str, Memory] | None = None) -> None:
        """``remembered`` is what they and others remember where a stopped run goes on.

        Raises:
            UserError: it is another attack's memory.
        """
        self.experiment, self.attack = experiment, attack
        kept = (remembered or {}).get(ATTACKERS)
        if kept is not None:
            if _kinds(kept) != _kinds(attack.memory):
                raise UserError(
                    f"--resume: the run's attackers remember {_kinds(kept)}, today's {_kinds(attack.memory)}"
                )
            self.attack = attack.remembering(kept)
        self._previous: FloatArray | None = (remembered or {}).get(SEEN, {}).get("previous")
        self._adapted: Memory | None = None
        self._adapts: int | None = None
        self._looks = False
        """Whether any of them was sent this round's model."""

    def told(self, round_number: int, drawn: list[int]) -> Mapping[int, RecordDict]:
        """Beside the model, if the attack asks: what they remember, the model seen before, and who of them adapts the attack.

        That is the round's first attacker, by client id.
        """
        self._adapted = self._adapts = None
        self._looks = not set(self.experiment.malicious_clients).isdisjoint(drawn)  # attacking or not, they look
        adapts, asks = self.attack.adapt is not None, "previous" in self.attack.asks
        if not (adapts or asks):
            return {}
        theirs = sorted(self.experiment.attackers_in(round_number) & set(drawn))
        self._adapts = theirs[0] if adapts and theirs else None
        memory, previous = self.attack.memory if adapts else None, self._previous if asks else None
        return {client: records_of(Told(memory, previous, adapts=client == self._adapts)) for client in theirs}

    def read(self, reply: Message, client: int, _round_number: int) -> None:
        """Take the memory that the round's first attacker has adapted; nobody else is asked for one.

        Raises:
            BadReply: it is no such memory. It stays as it was then, as where the first attacker does not answer.
        """
        if client == self._adapts:
            self._adapted = read_memory(reply, self.attack.memory)

    def met(self, cohort: Cohort) -> Cohort:
        """The updates once the round's attackers have agreed on theirs; from now on they remember what the first one adapted.

        Raises:
            RunError: the attack makes numbers that are not finite.
        """
        met = self.attack.meet(cohort, self.experiment.attackers_in(cohort.round))
        if met is not cohort and not (np.isfinite(met.deltas).all() and np.isfinite(met.statistics).all()):
            raise RunError(
                f"round {cohort.round}: --attack {self.experiment.attack} agrees on updates that are not finite"
            )
        if self._adapted is not None:
            self.attack = self.attack.remembering(self._adapted)
        if self._looks and "previous" in self.attack.asks:
            self._previous = cohort.start.weights
        return met

    def memory(self) -> Mapping[str, Memory]:
        """What a stopped run needs to go on."""
        kept: dict[str, Memory] = {}
        if self.attack.adapt:
            kept[ATTACKERS] = self.attack.memory
        if self._previous is not None:
            kept[SEEN] = {"previous": self._previous}
        return kept


def _kinds(memory: Memory) -> str:
    return ", ".join(f"{name} {kept.dtype} {kept.shape}" for name, kept in sorted(memory.items())) or "nothing"
