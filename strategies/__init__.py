"""Strategies: each file is one step of ``--strategy``: any filters, then one rule, then any finishes, joined by +.

A step is a pure function of the file's name, and the types that it declares tell its kind::

    def clip(cohort: Cohort, *, clip_norm: Literal["median"] | Positive = "median") -> Cohort      # a filter
    def krum(cohort: Cohort, *, assumed_malicious: int) -> Aggregate                               # a rule
    def rlr(aggregate: Aggregate, cohort: Cohort, *, rlr_threshold: Count = 4) -> Aggregate        # a finish

A keyword argument with a default is a setting of its own, declared right there; one without is a shared setting
(``oleander.settings.config``) or one of ``KNOWLEDGE``, what a real server may know::

    memory    what the step returned beside its result in the round before, named arrays; {} at first
    rng       a generator of its own for each round, keyed by the run's seed
    layout    which tensor the numbers of an update belong to
    root      clean images of the server's own, and the clients' local training
    answers   runs a model on images
    image     what images are: channels, side, how they are normalised

A step that asks for ``memory`` returns ``tuple[its result, Memory]``. A file may have a second function, ``voters(final, rng, *,
settings of the first)``: the models that vote at test time in the final one's place (``crfl``). The docstring's first line stands
in ``--list``. All sums of squares are in float64. A new defence is one new file (CONTRIBUTING.md); ``contract.py`` says whether it
keeps to all of this.
``flower.py`` runs any of them on Flower, ``aggregate`` on plain arrays.
"""

import sys
from dataclasses import replace
from typing import get_args, get_origin

import numpy as np
import torch

from oleander.datasets.data import Shard
from oleander.datasets.space import ImageSpace
from oleander.learning.parameters import FloatArray, Layout, ModelState
from oleander.learning.root import Root
from oleander.learning.updates import Aggregate, Cohort, Update
from oleander.settings.config import Experiment
from oleander.settings.registry import Plugin, bind, blamed, known, strategy_steps
from oleander.system.errors import UserError
from strategies._pipeline import Answers, Modules, NobodyLeftError, Passed, Pipeline, RuleError, Server, Step, Voters

__all__ = ["Answers", "Modules", "NobodyLeftError", "Passed", "Pipeline", "RuleError", "Server", "Step", "aggregate"]
KINDS = {(Cohort, Cohort): "filter", (Cohort, Aggregate): "rule", (Aggregate, Aggregate): "finish"}


def known_strategies() -> dict[str, Plugin]:
    """Name → filter, rule or finish, of every file in strategies/, and of those from outside that are in use."""
    return known("strategies")


def kind_of(plugin: Plugin) -> str:
    """Filter (Cohort → Cohort), rule (Cohort → Aggregate) or finish (Aggregate, Cohort → Aggregate).

    Raises:
        TypeError: any other types, or a memory that is asked for and not returned. A programming error.
    """
    remembers = get_origin(plugin.returns) is tuple
    returns = get_args(plugin.returns)[0] if remembers else plugin.returns
    kind = KINDS.get((plugin.takes, returns))
    if kind is None:
        raise TypeError(f"{plugin.name}: wanted Cohort → Cohort, Cohort → Aggregate, or Aggregate, Cohort → Aggregate")
    if remembers != ("memory" in plugin.asks):
        raise TypeError(f"{plugin.name}: what asks for memory returns tuple[its result, Memory], and only that")
    return kind


def pipeline_of(experiment: Experiment) -> Pipeline:
    """The pipeline that ``--strategy`` names; where it names no rule, fedavg stands between its filters and its finishes.

    Raises:
        UserError: an unknown name (lists the known), two rules, steps out of order, or too few clients for the rule.
    """
    names = strategy_steps(experiment)
    pipeline = pipeline_for(names, experiment, f"--strategy {experiment.strategy}")
    with blamed("strategies", experiment.strategy):
        _try_out(pipeline, experiment)
    return pipeline


def pipeline_for(names: list[str], experiment: Experiment, asked: str) -> Pipeline:
    """The pipeline of these steps; ``asked`` is how they were asked for.

    Raises:
        UserError: two rules, or steps out of order.
    """
    known = known_strategies()
    kinds = [kind_of(known[name]) for name in names]
    if "rule" not in kinds:
        at = len(kinds) - kinds[::-1].index("filter") if "filter" in kinds else 0
        names, kinds = [*names[:at], "fedavg", *names[at:]], [*kinds[:at], "rule", *kinds[at:]]
    order = [("filter", "rule", "finish").index(kind) for kind in kinds]
    if order != sorted(order) or kinds.count("rule") > 1:
        said = ", ".join(f"{name} ({kind})" for name, kind in zip(names, kinds, strict=True))
        raise UserError(f"{asked}: {said}: a strategy is filters, then one rule, then finishes")
    steps = [
        Step(_numbered(names, i), bind(known[name], experiment), known[name].asks, _voters(known[name], experiment))
        for i, name in enumerate(names)
    ]
    rule = kinds.index("rule")
    return Pipeline("+".join(names), tuple(steps[:rule]), steps[rule], tuple(steps[rule + 1 :]))


def _voters(plugin: Plugin, experiment: Experiment) -> Voters | None:
    """What its file says of the test, with its settings."""
    function = getattr(sys.modules[plugin.function.__module__], "voters", None)
    return None if function is None else bind(replace(plugin, function=function, asks=()), experiment)


def _numbered(names: list[str], at: int) -> str:
    """A step's name; with a number where it is there for the second time, so that each remembers by itself."""
    before = names[:at].count(names[at])
    return f"{names[at]}-{before + 1}" if before else names[at]


TRIAL = Layout(("body.weight", "linear.weight", "linear.bias", "norm.running_mean"), ((2,), (2, 2), (2,), (2,)),
               (True, True, True, False))  # fmt: skip
BARE = Layout(TRIAL.names[:-1], TRIAL.shapes[:-1], TRIAL.is_weight[:-1])
"""The same without statistics, as a model with group norm is."""


def trial_server(delta: FloatArray, layout: Layout = TRIAL) -> Server:
    """A made-up server that has everything; training on its images comes to this change (d,) of the weights."""
    image = ImageSpace(1, 2, (0.0,), (1.0,))
    shard = Shard(-1, np.zeros((1, 1, 2, 2), np.uint8), np.zeros(1, np.int64), image)
    own = Update(-1, delta, delta[: layout.statistic_count], 1)
    root = Root(shard, lambda _start, _shard, _round: own)
    return Server(0, layout, root, lambda _, pixels: torch.zeros(len(pixels), 2), image)


def _try_out(pipeline: Pipeline, experiment: Experiment) -> None:
    """Let the strategy aggregate two rounds of made-up updates: what it refuses, it refuses before anything starts."""
    n, d, s = experiment.clients_per_round, TRIAL.weight_count, TRIAL.statistic_count
    rows = np.random.default_rng(0).normal(size=(n + 2, d)).astype(np.float32)  # no two alike, none 0
    cohort = Cohort(
        1, np.arange(n), rows[:n], rows[:n, :s], np.ones(n, dtype=np.int64), ModelState(rows[n], rows[n, :s])
    )
    server = trial_server(rows[n + 1])
    try:
        first = pipeline.run(cohort, {}, server)
        others = np.arange(n) + (n < experiment.clients)  # where not all are drawn, others may be
        pipeline.run(replace(cohort, round=2, client_ids=others), first.memory, server)
    except NobodyLeftError:
        return  # of these; it may well leave some of others
    except RuleError as error:
        raise UserError(f"--strategy {experiment.strategy}: {error}") from None


from strategies._arrays import aggregate  # noqa: E402  (it needs what stands above)
