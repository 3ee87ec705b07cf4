"""Where a round's attackers meet: between the transport and the strategy, which never sees it.

No client can tell another anything on the wire within a round; what attackers agree on is worked out here, at the server's side of
the transport, from their own replies. So a simulation and a real network run the same code.
"""

from collections.abc import Mapping
from typing import Protocol

from flwr.app import Message, RecordDict

from oleander.learning.updates import Cohort, Memory


class Adversary(Protocol):
    """All attackers of a run; it alone knows who they are."""

    def told(self, round_number: int, drawn: list[int]) -> Mapping[int, RecordDict]:
        """What attackers among the drawn clients are sent beside the model; nobody else sees it."""

    def read(self, reply: Message, client: int, round_number: int) -> None:
        """Take what an attacker says beside its update, out of a reply that is otherwise in order.

        Raises:
            BadReply: it is not what was asked for.
        """

    def met(self, cohort: Cohort) -> Cohort:
        """The round's updates once its attackers have agreed on theirs."""

    def memory(self) -> Mapping[str, Memory]:
        """What attackers take into the next round, by names that no step of a strategy has."""


class Nobody:
    """No attackers, or such as agree on nothing and remember nothing."""

    def told(self, _round_number: int, _drawn: list[int]) -> Mapping[int, RecordDict]:
        """Nothing."""
        return {}

    def read(self, _reply: Message, _client: int, _round_number: int) -> None:
        """Nothing is expected."""

    def met(self, cohort: Cohort) -> Cohort:
        """As it came."""
        return cohort

    def memory(self) -> Mapping[str, Memory]:
        """Nothing."""
        return {}
