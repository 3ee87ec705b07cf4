"""A strategy at work: its steps one after the other, each given what it asks for, and held to its contract.

Pure: what comes in is left as it is, and what a step remembers goes out as a value.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from oleander.datasets.space import ImageSpace
from oleander.learning.parameters import Layout, ModelState
from oleander.learning.root import Root
from oleander.learning.updates import MIXED, Aggregate, Cohort, Memory
from oleander.system.streams import generator

Answers = Callable[[ModelState, Tensor], Tensor]
"""A model and pixels (k, c, h, w) in [0, 1] → its logits (k, classes), float32 on the CPU."""
Modules = Callable[[ModelState], nn.Module]
"""A model → a new module with its numbers, in evaluation mode, on the server's device: normalised images to logits."""
Voters = Callable[[ModelState, np.random.Generator], Iterable[ModelState]]
"""The final model → those that vote at test time, none where there is no vote."""
TOLERANCE = 1e-6
"""How far from 1 a sum of influences or of shares may be."""


class RuleError(ValueError):
    """A cohort that a rule cannot aggregate: says the numbers and the rule they break."""


class NobodyLeftError(RuleError):
    """A filter left out every client of a cohort."""


class NotGivenError(RuleError):
    """A step asks for something that this server does not have."""


@dataclass(frozen=True)
class Server:
    """What a real server has besides its clients' replies. Steps ask for its parts by name; the seed is none of them."""

    seed: int
    layout: Layout | None = None
    root: Root | None = None
    answers: Answers | None = None
    image: ImageSpace | None = None
    """What the images are that the model is made for."""
    module: Modules | None = None


@dataclass(frozen=True)
class Step:
    """A filter, a rule or a finish, with its settings."""

    name: str
    """Its name in messages and, where it remembers, in the state; a step that is there twice has a number behind it."""
    call: Callable[..., Any]
    asks: tuple[str, ...] = ()
    """What it wants to know: ``memory``, ``rng``, and parts of ``Server``."""
    voters: Voters | None = None
    """Which models answer at test time in the final one's place; None: itself alone."""

    def __call__(self, *given: Any, round_number: int, memory: dict[str, Memory], server: Server) -> Any:
        """Do it; what it keeps for the next round is put into ``memory`` under its name.

        Raises:
            RuleError: it cannot be done with these updates, or wants what the server does not have.
        """
        known = {ask: self._known(ask, round_number, memory, server) for ask in self.asks}
        result = self.call(*given, **known)
        if "memory" in self.asks:
            result, kept = result
            memory[self.name] = _checked_memory(kept, self.name)
        return result

    def _known(self, ask: str, round_number: int, memory: Mapping[str, Memory], server: Server) -> Any:
        if ask == "memory":
            return memory.get(self.name, {})
        if ask == "rng":
            return generator(server.seed, f"strategy {self.name}", round_number)
        part = getattr(server, ask)
        if part is None:
            raise NotGivenError(f"{self.name} needs {ask}, and was given none")
        return part


@dataclass(frozen=True)
class Passed:
    """What a pipeline made of a round."""

    filtered: Cohort
    """The cohort as the rule saw it."""
    aggregate: Aggregate
    """Its influence (n,) is that of the round's clients, whatever rows the filters made of them."""
    memory: dict[str, Memory]
    """What the steps remember, by their names."""


@dataclass(frozen=True)
class Pipeline:
    """Any filters, then one rule, then any finishes."""

    name: str
    filters: tuple[Step, ...]
    rule: Step
    finishes: tuple[Step, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """All, in order."""
        return (*self.filters, self.rule, *self.finishes)

    @property
    def asks(self) -> set[str]:
        """What its steps want to know."""
        return {ask for step in self.steps for ask in step.asks}

    def voters(self, final: ModelState, seed: int) -> Iterable[ModelState]:
        """The models that vote at test time, by the last step that has some; nothing where the final one answers alone."""
        for step in reversed(self.steps):
            if step.voters is not None:
                return step.voters(final, generator(seed, f"voters {step.name}"))
        return ()

    def run(self, cohort: Cohort, memory: Mapping[str, Memory], server: Server) -> Passed:
        """All steps on one round.

        Where the rule trusts nobody, the global model stays as it is: there is nothing to finish.

        Raises:
            RuleError: a cohort that a step cannot take, or a step that does not keep its contract.
        """
        kept = dict(memory)
        said: dict[str, Any] = {"round_number": cohort.round, "memory": kept, "server": server}
        filtered = cohort
        for step in self.filters:
            after = step(filtered, **said)
            if after is not filtered:
                filtered = _in_order(_checked(after, filtered, f"the filter {step.name}"))
        try:
            aggregate = self._aggregate(filtered, said)
        except RuleError as error:
            if len(filtered) == len(cohort) or isinstance(error, NobodyLeftError | NotGivenError):
                raise
            made = (
                f"{' and '.join(step.name for step in self.filters)} made {len(filtered)} rows of {len(cohort)} clients"
            )
            raise RuleError(f"{error}; {made}") from None
        return Passed(filtered, replace(aggregate, influence=_by_client(aggregate, filtered, cohort)), kept)

    def _aggregate(self, filtered: Cohort, said: dict[str, Any]) -> Aggregate:
        """What the rule and the finishes make of what the filters left."""
        aggregate: Aggregate = self.rule(filtered, **said)
        _check_aggregate(aggregate, filtered, f"the rule {self.rule.name}")
        for step in self.finishes if aggregate.influence.any() else ():
            finished = step(aggregate, filtered, **said)
            _check_finished(finished, aggregate, f"the finish {step.name}")
            aggregate = finished
        return aggregate


def _by_client(aggregate: Aggregate, filtered: Cohort, cohort: Cohort) -> NDArray[np.float64]:
    """The rows' influence → the influence (n,) of the round's clients: 0 of whom a filter left out."""
    if filtered.sources is not None:
        return np.asarray(aggregate.influence @ filtered.sources)
    row = {client: i for i, client in enumerate(cohort.client_ids.tolist())}
    influence = np.zeros(len(cohort))
    influence[[row[client] for client in filtered.client_ids.tolist()]] = aggregate.influence
    return influence


def _checked(after: Cohort, before: Cohort, who: str) -> Cohort:
    """What a filter returned, if it may be taken for what is left of its cohort."""
    if not isinstance(after, Cohort):
        raise RuleError(f"{who} returned a {type(after).__name__}, not a cohort")
    n, d, s = len(after), before.deltas.shape[1], before.statistics.shape[1]
    if n == 0:
        raise NobodyLeftError(f"{who} left out all {len(before)} clients")
    ids = after.client_ids.tolist()
    mixed = after.sources is not None or before.sources is not None
    own = [client for client in ids if client != MIXED or not mixed]
    if len(set(own)) < len(own) or not set(own) <= set(before.client_ids.tolist()):
        raise RuleError(
            f"{who} returned the clients {ids} of {before.client_ids.tolist()}; each may be there once or not"
        )
    for rows, shape in ((after.deltas, (n, d)), (after.statistics, (n, s))):
        if rows.shape != shape or rows.dtype != np.float32:
            raise RuleError(f"{who} returned updates of {rows.dtype} {rows.shape}, not float32 {shape}")
        if not all(np.isfinite(row).all() for row in rows):
            raise RuleError(f"{who} returned values that are not finite")
    if after.num_examples.shape != (n,):
        raise RuleError(f"{who} returned {len(after.num_examples)} counts of examples for {n} clients")
    _check_sources(after, before, who)
    return after


def _check_sources(after: Cohort, before: Cohort, who: str) -> None:
    sources = after.sources
    if sources is None:
        if before.sources is not None:
            raise RuleError(f"{who} lost what its rows are made of; Cohort.only and Cohort.mixed keep it")
        return
    clients = len(before) if before.sources is None else before.sources.shape[1]
    if sources.shape != (len(after), clients):
        raise RuleError(
            f"{who} returned {len(after)} rows with sources of shape {sources.shape}, not {(len(after), clients)}; "
            "Cohort.only and Cohort.mixed keep them"
        )
    if not (sources >= 0).all() or (abs(sources.sum(axis=1) - 1) > TOLERANCE).any():
        raise RuleError(f"{who} returned rows whose shares of clients are not from 0 to 1 each, 1 together")


def _in_order(cohort: Cohort) -> Cohort:
    """The same with its rows by rising client id, as ties want it."""
    order = np.argsort(cohort.client_ids, kind="stable")
    if (order == np.arange(len(cohort))).all():
        return cohort
    rows = {name: getattr(cohort, name)[order] for name in ("client_ids", "deltas", "statistics", "num_examples")}
    return replace(cohort, **rows, sources=None if cohort.sources is None else cohort.sources[order])


def _check_aggregate(aggregate: Aggregate, cohort: Cohort, who: str) -> None:
    """Refuse an aggregate that is not one of this cohort."""
    n, influence = len(cohort), aggregate.influence
    if influence.shape != (n,):
        raise RuleError(
            f"{who} gave an influence to {len(influence)} of {n} clients; wanted: a number for each, 0 for none"
        )
    if not ((influence >= 0) & (influence <= 1 + TOLERANCE)).all() or (
        influence.any() and abs(influence.sum() - 1) > TOLERANCE
    ):
        raise RuleError(
            f"{who} gave the influences {influence.tolist()}; wanted: from 0 to 1 each, 1 together or all 0"
        )
    for what, rows in ((aggregate.delta, cohort.deltas), (aggregate.statistics, cohort.statistics)):
        if what.shape != rows.shape[1:]:
            raise RuleError(f"{who} returned an aggregate of shape {what.shape}, not {rows.shape[1:]}")
        _check_finite(what, who)
    if not influence.any() and (aggregate.delta.any() or aggregate.statistics.any()):
        raise RuleError(f"{who} trusts nobody and yet returned an aggregate that is not 0")


def _check_finished(finished: Aggregate, before: Aggregate, who: str) -> None:
    """Refuse what a finish may not do: it changes the aggregate, not whose it is."""
    if not np.array_equal(finished.influence, before.influence):
        raise RuleError(f"{who} changed the clients' influence; a finish changes the aggregate alone")
    for after, was in ((finished.delta, before.delta), (finished.statistics, before.statistics)):
        if after.shape != was.shape:
            raise RuleError(f"{who} returned an aggregate of shape {after.shape}, not {was.shape}")
        _check_finite(after, who)


def _check_finite(values: NDArray[Any], who: str) -> None:
    if not np.isfinite(values).all():
        raise RuleError(f"{who} returned an aggregate that is not finite")


def _checked_memory(kept: Memory, who: str) -> Memory:
    """What a step wants to remember, if it can be written down."""
    for name, array in kept.items():
        if "/" in name or not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            raise RuleError(
                f"{who} wants to remember {name!r}: {type(array).__name__}; wanted: named arrays of numbers"
            )
    return dict(kept)
