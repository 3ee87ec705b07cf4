"""Strategies: each file is one filter or one rule of ``--strategy``; any filters, then one rule, joined by +.

A *rule* is a pure function of the file's name from a round's cohort to its aggregate, a *filter* from cohort to cohort;
the declared return type tells which::

    def krum(cohort: Cohort, *, assumed_malicious: int) -> Aggregate
    def clip(cohort: Cohort, *, clip_norm: float | Literal["median"]) -> Cohort

Keyword arguments are the settings (``experiment.config``) of those names; the docstring's first line stands in ``--list``.
All sums of squares are in float64. A new defence is one new file (CONTRIBUTING.md). ``flower.py`` runs any of them on Flower.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from experiment.config import Experiment
from experiment.errors import UserError
from experiment.registry import Plugin, bind, find, strategy_steps
from learning.parameters import ModelState
from learning.updates import Aggregate, Cohort

Filter = Callable[[Cohort], Cohort]
Rule = Callable[[Cohort], Aggregate]


class RuleError(ValueError):
    """A cohort that a rule cannot aggregate: says the numbers and the rule they break."""


@dataclass(frozen=True)
class Pipeline:
    """Any filters, then one rule."""

    name: str
    filters: tuple[Filter, ...]
    rule: Rule

    def filtered(self, cohort: Cohort) -> Cohort:
        """The cohort as the rule sees it."""
        for step in self.filters:
            cohort = step(cohort)
        return cohort


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
    """Let the strategy aggregate a cohort of zeros of the right size: what it refuses, it refuses before anything starts."""
    n = experiment.clients_per_round
    nothing = np.zeros((n, 1), dtype=np.float32)
    cohort = Cohort(0, np.arange(n), nothing, nothing, np.ones(n, dtype=np.int64), ModelState(nothing[0], nothing[0]))
    try:
        pipeline.rule(pipeline.filtered(cohort))
    except RuleError as error:
        raise UserError(f"--strategy {experiment.strategy}: {error}") from None
