"""What every filter, rule and finish keeps, as named checks: ``python -m strategies.contract krum ./my_rule.py``.

``failures`` says the same from Python; {} of a good one. A file may excuse itself from a check: ``EXCEPT = {"unanimous":
"noise is added"}``. An excuse that is not needed, or no longer, is a failure too.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oleander.learning.updates import Memory
from oleander.settings.config import SETTINGS
from oleander.settings.declared import KNOWLEDGE, declaration, declared, names_in
from oleander.settings.outside import HASH, use
from oleander.settings.registry import Plugin
from oleander.settings.steps import short
from oleander.system.errors import UserError
from strategies import RuleError, kind_of, known_strategies
from strategies._made_up import (
    CLIENTS,
    arrays_of,
    cohort_of,
    drawn,
    five_rounds,
    run_alone,
    server,
    step_of,
    through_a_file,
    without_statistics,
)
from strategies._pipeline import Passed
from strategies.fedavg import fedavg

UNKNOWABLE = ("attack", "attack_rounds", "malicious", "poison_rate", "seed", "target")
"""Settings that no real server knows, beside those that attacks declare; what is drawn at random is drawn from ``rng``."""


def failures(step: str) -> dict[str, str]:
    """Check → what is wrong, of those that a plug-in fails; {} for one that keeps its contract.

    Args:
        step: its name, or the path of its file.

    Raises:
        UserError: no such plug-in, or a file that cannot be one.
    """
    use("strategies", step, instead=True)
    known = known_strategies()
    if short(step) not in known:
        raise UserError(f"{step!r} is unknown; known: {', '.join(known)}, or the path of a file")
    plugin = known[short(step)]
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
    except (Exception, SystemExit) as error:  # whatever somebody's plug-in raises
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
    settings = [setting for setting in said.settings if setting.name != plugin.name + HASH]
    signature = _parameters(plugin)
    own = {n: p for n, p in signature.items() if p.default is not inspect.Parameter.empty}
    _need([s.name for s in settings] == list(own), f"declares {[s.name for s in settings]}, takes {list(own)}")
    for setting in settings:
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
        _need(f"{setting.name}_".startswith(f"{plugin.name}_"), f"{setting.name} does not begin with {plugin.name}")


def check_source(plugin: Plugin) -> None:
    """Its file opens with what it is and its source: somebody, and the year."""
    words = plugin.function.__globals__.get("__doc__") or ""
    _need(bool(re.search(r"[A-Z]\w+.*\b(19|20)\d\d\b", words, re.S)), "its file names no paper: authors, year, title")


# ---- what it does ----------------------------------------------------------------------------------------------------


def check_shapes(plugin: Plugin) -> None:
    """What it returns has the shapes and types of its cohort, is finite, and is accepted by the pipeline."""
    for n in (CLIENTS, CLIENTS + 1):
        cohort = cohort_of(1, range(n))
        found = run_alone(plugin, cohort).aggregate
        for what, rows in ((found.delta, cohort.deltas), (found.statistics, cohort.statistics)):
            _need(what.dtype == np.float32, f"returns {what.dtype}, not float32")
            _need(bool(np.isfinite(what).all()), "returns numbers that are not finite")
            _need(what.shape == rows.shape[1:], f"returns {what.shape}, not {rows.shape[1:]}")


def check_inputs_left(plugin: Plugin) -> None:
    """Cohort, starting model, the aggregate before it and its memory are left as they were."""
    step, known, memory = step_of(plugin), server(), dict[str, Memory]()
    for number in (1, 2):
        cohort = cohort_of(number, range(CLIENTS))
        given = (fedavg(cohort), cohort) if kind_of(plugin) == "finish" else (cohort,)
        parts = [
            cohort,
            cohort.start,
            *given,
            known.root and known.root.update(cohort.start, number),
            *memory.values(),
        ]
        arrays = [array for part in parts for array in arrays_of(part)]
        copies = [array.copy() for array in arrays]
        step(*given, round_number=number, memory=memory, server=known)
        for array, copy in zip(arrays, copies, strict=True):
            _need(np.array_equal(array, copy), "changes an array that it was given")


def check_rows(plugin: Plugin) -> None:
    """The order in which clients stand in the cohort leaves no trace."""
    turned = np.random.default_rng(1).permutation(CLIENTS)
    names = ("client_ids", "deltas", "statistics", "num_examples")
    cohort = drawn(2)
    other = replace(cohort, **{name: getattr(cohort, name)[turned] for name in names})
    for memory in ({}, run_alone(plugin, drawn(1)).memory):
        one, two = (run_alone(plugin, rows, memory).aggregate for rows in (cohort, other))
        _near("another delta", one.delta, two.delta)
        _near("other statistics", one.statistics, two.statistics)
        _near("another influence", one.influence[turned], two.influence)


def check_unanimous(plugin: Plugin) -> None:
    """Where all clients send the same, short or long, that comes out."""
    cohort = cohort_of(1, range(CLIENTS))
    for length in (1, 100):
        deltas = length * cohort.deltas[[0] * CLIENTS]  # (n, d)
        passed = run_alone(plugin, replace(cohort, deltas=deltas, statistics=cohort.statistics[[0] * CLIENTS]))
        for rows in (passed.filtered.deltas, passed.aggregate.delta[None]):
            _need(bool((rows == deltas[0]).all()), "changes what all agree on")
        for rows in (passed.filtered.statistics, passed.aggregate.statistics[None]):
            _need(bool((rows == cohort.statistics[0]).all()), "changes the statistics that all agree on")


def check_zero_update(plugin: Plugin) -> None:
    """Updates of zeros, one or all, give finite numbers and no warning."""
    cohort = cohort_of(1, range(CLIENTS))
    for zeros in ([0], list(range(CLIENTS))):
        deltas, statistics = cohort.deltas.copy(), cohort.statistics.copy()
        deltas[zeros] = statistics[zeros] = 0
        found = run_alone(plugin, replace(cohort, deltas=deltas, statistics=statistics)).aggregate
        for what in (found.delta, found.statistics, found.influence):
            _need(bool(np.isfinite(what).all()), f"{len(zeros)} updates of zeros: not finite")


def check_no_statistics(plugin: Plugin) -> None:
    """Two rounds of a model without statistics, as one with group norm is, come to weights, and to no statistics."""
    memory: dict[str, Memory] = {}
    for number in (1, 2):
        passed = run_alone(plugin, without_statistics(cohort_of(number, range(CLIENTS))), memory)
        memory = passed.memory
        _need(passed.aggregate.statistics.shape == (0,), "makes statistics where the model has none")
        _need(bool(np.isfinite(passed.aggregate.delta).all()), "without statistics: numbers that are not finite")


def check_deterministic(plugin: Plugin) -> None:
    """The same again comes out the same, bit for bit."""
    one, two = (five_rounds(plugin) for _ in range(2))
    _same(one, two, "the second time")


def check_resume(plugin: Plugin) -> None:
    """Each of five rounds of changing cohorts comes to the same on what was remembered before it, read from a file."""
    straight = five_rounds(plugin)
    for number in (5, 4, 3, 2, 1):  # backwards: what a plug-in keeps elsewhere than in its memory is not as it was
        memory = through_a_file(straight[number - 2].memory) if number > 1 else {}
        again = run_alone(plugin, drawn(number), memory)
        _same([straight[number - 1]], [again], "on its memory from a file")


CHECKS: dict[str, Callable[[Plugin], None]] = {
    "kind": check_kind, "asks": check_asks, "declared": check_declared, "source": check_source, "shapes": check_shapes,
    "inputs_left": check_inputs_left, "rows": check_rows, "unanimous": check_unanimous, "zero_update": check_zero_update,
    "no_statistics": check_no_statistics, "deterministic": check_deterministic, "resume": check_resume,
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
    return [array for part in (passed.filtered, passed.aggregate, *kept) for array in arrays_of(part)]


def _parameters(plugin: Plugin) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(plugin.function, eval_str=True).parameters)


def main(steps: list[str]) -> int:
    """Print a line for each failure; how many steps have any."""
    wrong = {step: failures(step) for step in steps or known_strategies()}
    for step, found in wrong.items():
        print(f"{step}: {'keeps its contract' if not found else ''}")
        for check, why in found.items():
            print(f"  {check}: {why}")
    return sum(map(bool, wrong.values()))


if __name__ == "__main__":
    try:
        sys.exit(min(main(sys.argv[1:]), 1))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
