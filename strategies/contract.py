"""What every filter, rule and finish keeps, as named checks: ``failures(known_strategies()["my_rule"])`` is {} for a good one.

A file may excuse itself from a check: ``EXCEPT = {"unanimous": "noise is added"}``. An excuse that is not needed, or no longer,
is a failure too.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from oleander.learning.parameters import ModelState
from oleander.learning.updates import Cohort, Memory
from oleander.settings.config import SETTINGS, Experiment
from oleander.settings.declared import KNOWLEDGE, declaration, declared, names_in
from oleander.settings.registry import Plugin, bind
from strategies import TRIAL, RuleError, kind_of, trial_server
from strategies._pipeline import Passed, Pipeline, Server, Step
from strategies.fedavg import fedavg

CLIENTS = 9
UNKNOWABLE = ("attack", "attack_rounds", "malicious", "poison_rate", "seed", "target")
"""Settings that no real server knows, beside those that attacks declare; what is drawn at random is drawn from ``rng``."""


def failures(plugin: Plugin) -> dict[str, str]:
    """Check → what is wrong, of those that a plug-in fails; {} for one that keeps its contract."""
    excused: dict[str, str] = plugin.function.__globals__.get("EXCEPT", {})
    found = {
        f"EXCEPT {name}": f"no such check; there are {', '.join(CHECKS)}" for name in excused if name not in CHECKS
    }
    for name, check in CHECKS.items():
        wrong, excusable = _said(check, plugin)
        if wrong and not (name in excused and excusable):
            found[name] = wrong
        if not wrong and name in excused:
            found[f"EXCEPT {name}"] = f"{name} holds; its excuse ({excused[name]}) is not needed"
    return found


def _said(check: Callable[[Plugin], None], plugin: Plugin) -> tuple[str, bool]:
    """What a check finds wrong, if anything, and whether there is an excuse for it: there is none for a crash."""
    try:
        with np.errstate(divide="raise", invalid="raise"):
            check(plugin)
    except (_Wrong, RuleError) as wrong:
        return str(wrong), True
    except Exception as error:  # whatever somebody's plug-in raises
        return f"{type(error).__name__}: {error}".partition("\n")[0], False
    return "", False


# ---- what it says of itself ------------------------------------------------------------------------------------------


def check_kind(plugin: Plugin) -> None:
    """Its types make it a filter, a rule or a finish; it remembers if and only if it asks for its memory."""
    kind_of(plugin)


def check_asks(plugin: Plugin) -> None:
    """Without a default it asks for settings and for knowledge, and for nothing that a server cannot know."""
    keywords = {n: p for n, p in _parameters(plugin).items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    asked = [name for name, parameter in keywords.items() if parameter.default is inspect.Parameter.empty]
    known = (*SETTINGS, *KNOWLEDGE["strategies"])
    strange = [name for name in asked if name not in known]
    _need(not strange, f"asks for {strange}; it may ask for settings and {', '.join(KNOWLEDGE['strategies'])}")
    attackers = [name for name, setting in declared().items() if setting.plugin in names_in("attacks")]
    hidden = [name for name in asked if name in (*UNKNOWABLE, *attackers)]
    _need(not hidden, f"asks for {hidden}, which no real server knows")
    _need(
        set(plugin.asks) == set(asked) & set(KNOWLEDGE["strategies"]),
        f"is known to ask for {plugin.asks}, asks for {asked}",
    )


def check_declared(plugin: Plugin) -> None:
    """The settings read from its file are those of its signature, each with a line of help and a name that begins with its own."""
    said = declaration("strategies", plugin.name)
    signature = _parameters(plugin)
    own = {n: p for n, p in signature.items() if p.default is not inspect.Parameter.empty}
    _need(
        [s.name for s in said.settings] == list(own), f"declares {[s.name for s in said.settings]}, takes {list(own)}"
    )
    for setting in said.settings:
        parameter = own[setting.name]
        _need(
            setting.type == parameter.annotation,
            f"{setting.name}: {setting.type} in the file, {parameter.annotation} in use",
        )
        _need(
            setting.default == parameter.default,
            f"{setting.name}: {setting.default!r} in the file, {parameter.default!r} in use",
        )
        _need(bool(setting.help), f"{setting.name} has no line under Args:")
        _need(setting.name.startswith(plugin.name), f"{setting.name} does not begin with {plugin.name}")


def check_source(plugin: Plugin) -> None:
    """Its file opens with what it is and its source: somebody, and the year."""
    words = plugin.function.__globals__.get("__doc__") or ""
    _need(bool(re.search(r"[A-Z]\w+.*\b(19|20)\d\d\b", words, re.S)), "its file names no paper: authors, year, title")


# ---- what it does ----------------------------------------------------------------------------------------------------


def check_shapes(plugin: Plugin) -> None:
    """What it returns has the shapes and types of its cohort, is finite, and is accepted by the pipeline."""
    for n in (CLIENTS, CLIENTS + 1):
        cohort = _cohort(1, range(n))
        found = _run(plugin, cohort).aggregate
        for what, rows in ((found.delta, cohort.deltas), (found.statistics, cohort.statistics)):
            _need(what.dtype == np.float32, f"returns {what.dtype}, not float32")
            _need(bool(np.isfinite(what).all()), "returns numbers that are not finite")
            _need(what.shape == rows.shape[1:], f"returns {what.shape}, not {rows.shape[1:]}")


def check_inputs_left(plugin: Plugin) -> None:
    """Cohort, starting model, the aggregate before it and its memory are left as they were."""
    step, server, memory = _step(plugin), _server(), dict[str, Memory]()
    for number in (1, 2):
        cohort = _cohort(number, range(CLIENTS))
        given = (fedavg(cohort), cohort) if kind_of(plugin) == "finish" else (cohort,)
        parts = [
            cohort,
            cohort.start,
            *given,
            server.root and server.root.update(cohort.start, number),
            *memory.values(),
        ]
        arrays = [array for part in parts for array in _arrays(part)]
        copies = [array.copy() for array in arrays]
        step(*given, round_number=number, memory=memory, server=server)
        for array, copy in zip(arrays, copies, strict=True):
            _need(np.array_equal(array, copy), "changes an array that it was given")


def check_rows(plugin: Plugin) -> None:
    """The order in which clients stand in the cohort leaves no trace."""
    cohort = _cohort(1, range(CLIENTS))
    turned = np.random.default_rng(1).permutation(CLIENTS)
    names = ("client_ids", "deltas", "statistics", "num_examples")
    other = replace(cohort, **{name: getattr(cohort, name)[turned] for name in names})
    one, two = _run(plugin, cohort).aggregate, _run(plugin, other).aggregate
    _near("another delta", one.delta, two.delta)
    _near("other statistics", one.statistics, two.statistics)
    _near("another influence", one.influence[turned], two.influence)


def check_unanimous(plugin: Plugin) -> None:
    """Where all clients send the same, short or long, that comes out."""
    cohort = _cohort(1, range(CLIENTS))
    for length in (1, 100):
        deltas = length * cohort.deltas[[0] * CLIENTS]  # (n, d)
        passed = _run(plugin, replace(cohort, deltas=deltas, statistics=cohort.statistics[[0] * CLIENTS]))
        for rows in (passed.filtered.deltas, passed.aggregate.delta[None]):
            _need(bool((rows == deltas[0]).all()), "changes what all agree on")
        for rows in (passed.filtered.statistics, passed.aggregate.statistics[None]):
            _need(bool((rows == cohort.statistics[0]).all()), "changes the statistics that all agree on")


def check_zero_update(plugin: Plugin) -> None:
    """Updates of zeros, one or all, give finite numbers and no warning."""
    cohort = _cohort(1, range(CLIENTS))
    for zeros in ([0], list(range(CLIENTS))):
        deltas, statistics = cohort.deltas.copy(), cohort.statistics.copy()
        deltas[zeros] = statistics[zeros] = 0
        found = _run(plugin, replace(cohort, deltas=deltas, statistics=statistics)).aggregate
        for what in (found.delta, found.statistics, found.influence):
            _need(bool(np.isfinite(what).all()), f"{len(zeros)} updates of zeros: not finite")


def check_deterministic(plugin: Plugin) -> None:
    """The same again comes out the same, bit for bit."""
    one, two = (_straight(plugin) for _ in range(2))
    _same(one, two, "the second time")


def check_resume(plugin: Plugin) -> None:
    """Each of five rounds of changing cohorts comes to the same on what was remembered before it, read from a file."""
    straight = _straight(plugin)
    for number in (5, 4, 3, 2, 1):  # backwards: what a plug-in keeps elsewhere than in its memory is not as it was
        memory = _through_a_file(straight[number - 2].memory) if number > 1 else {}
        again = _run(plugin, _drawn(number), memory)
        _same([straight[number - 1]], [again], "on its memory from a file")


CHECKS: dict[str, Callable[[Plugin], None]] = {
    "kind": check_kind, "asks": check_asks, "declared": check_declared, "source": check_source, "shapes": check_shapes,
    "inputs_left": check_inputs_left, "rows": check_rows, "unanimous": check_unanimous, "zero_update": check_zero_update,
    "deterministic": check_deterministic, "resume": check_resume,
}  # fmt: skip


# ---- what the checks share -------------------------------------------------------------------------------------------


class _Wrong(AssertionError):
    """What a check found."""


def _need(holds: bool, why: str) -> None:
    if not holds:
        raise _Wrong(why)


def _near(what: str, one: NDArray[Any], two: NDArray[Any]) -> None:
    _need(np.allclose(one, two, rtol=1e-6, atol=1e-7), f"rows in another order: {what}")


def _same(one: Iterable[Passed], two: Iterable[Passed], when: str) -> None:
    for first, second in zip(one, two, strict=True):
        for before, after in zip(_all(first), _all(second), strict=True):
            equal = (before.dtype, before.shape, before.tobytes()) == (after.dtype, after.shape, after.tobytes())
            _need(equal, f"comes to something else {when}")


def _all(passed: Passed) -> list[NDArray[Any]]:
    """All that a round came to, what is remembered among it."""
    kept = [passed.memory[step] for step in sorted(passed.memory)]
    return [array for part in (passed.filtered, passed.aggregate, *kept) for array in _arrays(part)]


def _parameters(plugin: Plugin) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(plugin.function, eval_str=True).parameters)


def _arrays(of: Any) -> list[NDArray[Any]]:
    """The arrays in a cohort, a model, an update, an aggregate or a memory, by their names."""
    named = of if isinstance(of, Mapping) else vars(of)
    return [named[name] for name in sorted(named) if isinstance(named[name], np.ndarray)]


def _cohort(number: int, clients: Iterable[int]) -> Cohort:
    """These clients' updates of a round: made up, no two alike, none 0, and no mean of 0."""
    ids = np.array(sorted(clients), dtype=np.int64)
    d, s = TRIAL.weight_count, TRIAL.statistic_count
    draws = [np.random.default_rng([number, int(client)]) for client in ids]
    deltas = np.stack([draw.normal(0.5, 1, d) for draw in draws]).astype(np.float32)
    statistics = np.stack([draw.normal(0.5, 1, s) for draw in draws]).astype(np.float32)
    examples = np.array([int(draw.integers(1, 99)) for draw in draws])
    start = np.random.default_rng(number).normal(size=d + s).astype(np.float32)
    return Cohort(number, ids, deltas, statistics, examples, ModelState(start[:d], start[d:]))


def _server() -> Server:
    return trial_server(np.linspace(0.1, 1, TRIAL.weight_count, dtype=np.float32))


def _step(plugin: Plugin) -> Step:
    return Step(plugin.name, bind(plugin, Experiment()), plugin.asks)


def _run(plugin: Plugin, cohort: Cohort, memory: dict[str, Memory] | None = None) -> Passed:
    """One round of a pipeline that is the plug-in, and plain averaging where it is no rule."""
    kind, step, mean = kind_of(plugin), _step(plugin), Step("fedavg", fedavg)
    pipeline = Pipeline(
        plugin.name,
        filters=(step,) if kind == "filter" else (),
        rule=step if kind == "rule" else mean,
        finishes=(step,) if kind == "finish" else (),
    )
    return pipeline.run(cohort, memory or {}, _server())


def _straight(plugin: Plugin) -> list[Passed]:
    """Five rounds, one after the other."""
    passed: list[Passed] = []
    for number in range(1, 6):
        passed.append(_run(plugin, _drawn(number), passed[-1].memory if passed else {}))
    return passed


def _drawn(number: int) -> Cohort:
    """A round's cohort, in each of which other clients are there."""
    clients = np.random.default_rng(number).choice(2 * CLIENTS, size=CLIENTS, replace=False).tolist()
    return _cohort(number, clients)


def _through_a_file(memory: dict[str, Memory]) -> dict[str, Memory]:
    """As a run that is stopped and resumed has it; in C's order, which is how the file holds arrays."""
    return {step: load(save({n: np.asarray(a, order="C") for n, a in own.items()})) for step, own in memory.items()}
