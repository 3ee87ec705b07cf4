"""Strategies: each file is one filter or one rule of ``--strategy``; any filters, then one rule, joined by +.

A *rule* is a pure function of the file's name from a round's cohort to its aggregate, a *filter* from cohort to cohort;
the declared return type tells which::

    def krum(cohort: Cohort, *, assumed_malicious: int) -> Aggregate
    def clip(cohort: Cohort, *, clip_norm: float | Literal["median"]) -> Cohort

Keyword arguments are the settings (``oleander.settings.config``) of those names; the docstring's first line stands in ``--list``.
All sums of squares are in float64. A new defence is one new file (CONTRIBUTING.md). ``flower.py`` runs any of them on Flower.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from oleander.learning.parameters import ModelState
from oleander.learning.updates import Aggregate, Cohort
from oleander.settings.config import Experiment
from oleander.settings.registry import Plugin, bind, find, strategy_steps
from oleander.system.errors import UserError

Filter = Callable[[Cohort], Cohort]
Rule = Callable[[Cohort], Aggregate]
TOLERANCE = 1e-6
"""How far from 1 the sum of the influences may be."""


class RuleError(ValueError):
    """A cohort that a rule cannot aggregate: says the numbers and the rule they break."""


class NobodyLeftError(RuleError):
    """A filter left out every client of a cohort."""


@dataclass(frozen=True)
class Pipeline:
    """Any filters, then one rule."""

    name: str
    filters: tuple[Filter, ...]
    rule: Rule

    def filtered(self, cohort: Cohort) -> Cohort:
        """The cohort as the rule sees it: perhaps fewer clients, by rising id.

        Raises:
            RuleError: a filter left nobody, or returned what is no part of its cohort.
        """
        for step in self.filters:
            after = step(cohort)
            if after is not cohort:
                cohort = _in_order(_checked(after, cohort, f"the filter {_name(step)}"))
        return cohort

    def aggregated(self, cohort: Cohort) -> tuple[Cohort, Aggregate]:
        """The cohort as the rule sees it, and the aggregate with the influence of all clients: 0 of whom a filter left out.

        Raises:
            RuleError: a cohort that a step cannot take, or a step that does not keep the contract.
        """
        filtered = self.filtered(cohort)
        aggregate = self.rule(filtered)
        _check_aggregate(aggregate, filtered, f"the rule {_name(self.rule)}")
        row = {client: i for i, client in enumerate(cohort.client_ids.tolist())}
        influence = np.zeros(len(cohort))
        influence[[row[client] for client in filtered.client_ids.tolist()]] = aggregate.influence
        return filtered, replace(aggregate, influence=influence)


def _name(step: Callable[..., object]) -> str:
    return str(getattr(getattr(step, "func", step), "__name__", step))


def _checked(after: Cohort, before: Cohort, who: str) -> Cohort:
    """What a filter returned, if it may be taken for a part of its cohort."""
    if not isinstance(after, Cohort):
        raise RuleError(f"{who} returned a {type(after).__name__}, not a cohort")
    n, d, s = len(after), before.deltas.shape[1], before.statistics.shape[1]
    if n == 0:
        raise NobodyLeftError(f"{who} left out all {len(before)} clients")
    ids = after.client_ids.tolist()
    if len(set(ids)) < n or not set(ids) <= set(before.client_ids.tolist()):
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
    return after


def _in_order(cohort: Cohort) -> Cohort:
    """The same with its clients by rising id, as ties want it."""
    order = np.argsort(cohort.client_ids)
    if (order == np.arange(len(cohort))).all():
        return cohort
    rows = {name: getattr(cohort, name)[order] for name in ("client_ids", "deltas", "statistics", "num_examples")}
    return replace(cohort, **rows)


def _check_aggregate(aggregate: Aggregate, cohort: Cohort, who: str) -> None:
    """Refuse an aggregate that is not one of this cohort."""
    n, influence = len(cohort), aggregate.influence
    if influence.shape != (n,):
        raise RuleError(
            f"{who} gave an influence to {len(influence)} of {n} clients; wanted: a number for each, 0 for none"
        )
    if not ((influence >= 0) & (influence <= 1 + TOLERANCE)).all() or abs(influence.sum() - 1) > TOLERANCE:
        raise RuleError(f"{who} gave the influences {influence.tolist()}; wanted: from 0 to 1 each, 1 together")
    for what, rows in ((aggregate.delta, cohort.deltas), (aggregate.statistics, cohort.statistics)):
        if what.shape != rows.shape[1:]:
            raise RuleError(f"{who} returned an aggregate of shape {what.shape}, not {rows.shape[1:]}")


def known_strategies() -> dict[str, Plugin]:
    """Name → filter or rule, of every file in strategies/."""
    return find("strategies")


def is_filter(plugin: Plugin) -> bool:
    """Whether this plug-in maps cohort to cohort."""
    return plugin.returns is Cohort


def pipeline_of(experiment: Experiment) -> Pipeline:
    """The pipeline that ``--strategy`` names; filters alone are followed by fedavg.

    Raises:
        UserError: an unknown name (lists the known), two rules, a rule before a filter, or too few clients for the rule.
    """
    known = known_strategies()
    names = strategy_steps(experiment)
    if is_filter(known[names[-1]]):
        names.append("fedavg")
    early = [name for name in names[:-1] if not is_filter(known[name])]
    if early:
        raise UserError(
            f"--strategy {experiment.strategy}: the rule {early[0]} must come last; a strategy is filters, then one rule"
        )
    steps = [bind(known[name], experiment) for name in names]
    pipeline = Pipeline("+".join(names), tuple(steps[:-1]), steps[-1])
    _try_out(pipeline, experiment)
    return pipeline


def _try_out(pipeline: Pipeline, experiment: Experiment) -> None:
    """Let the strategy aggregate made-up updates of the right number: what it refuses, it refuses before anything starts."""
    n = experiment.clients_per_round
    rows = np.random.default_rng(0).normal(size=(n + 1, 8)).astype(np.float32)  # no two alike, none 0
    cohort = Cohort(0, np.arange(n), rows[:n], rows[:n], np.ones(n, dtype=np.int64), ModelState(rows[n], rows[n]))
    try:
        pipeline.aggregated(cohort)
    except NobodyLeftError:
        return  # of these; it may well leave some of others
    except RuleError as error:
        raise UserError(f"--strategy {experiment.strategy}: {error}") from None
