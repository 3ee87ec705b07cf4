"""Run somebody's rules on the vectors. NumPy and the standard library only: it runs in other projects' environments too.

What is tried is one function, ``aggregate(rule, updates, examples, settings, more)``: the rule's name as in ``vectors/``, float32
updates (n, d), whole numbers (n,), the vector's settings, and what else a rule may want: ``server_update`` (d,), ``global_model``
(d,), of which the updates are changes, and ``output_layer`` (first number, one past the last). It returns the aggregate (d,). It
raises ``NotImplementedError`` for a rule or settings that it has not; a programming error (``PROGRAMMING``) ends the run, and any
other exception is a refusal.
"""

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

VECTORS = Path(__file__).parent / "vectors"
NEAR = 1e-5
"""Of the aggregate's largest number: what float32 results may be off."""
STEP = 2.0**-23
"""Float32's relative step."""
DENORMAL = 2.0**-149
"""Float32's smallest number: no result can be told nearer than that."""

PROGRAMMING = (ImportError, AttributeError, NameError, TypeError)

Aggregate = Callable[[str, Any, Any, dict[str, Any], dict[str, Any]], Any]


@dataclass(frozen=True)
class Verdict:
    """What one vector came to."""

    rule: str
    cohort: str
    settings: dict[str, Any]
    kind: str
    """agrees, rounding (off by no more than float32 sums of these updates are), differs, accepts (no refusal where the rule is not
    defined), refuses (a refusal where it is) or absent."""
    why: str = ""


def cases(rules: list[str] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """(rule, vector), the vector with its cohort in it."""
    cohorts = json.loads((VECTORS / "cohorts.json").read_text("utf-8"))
    for file in sorted(VECTORS.glob("*.json")):
        content = json.loads(file.read_text("utf-8"))
        if file.stem != "cohorts" and (not rules or file.stem in rules):
            for case in content["cases"]:
                yield file.stem, case | {"given": cohorts[case["cohort"]]}


def verdict(rule: str, case: dict[str, Any], aggregate: Aggregate) -> Verdict:
    """Try one vector."""
    given = case["given"]
    updates = np.asarray(given["updates"], np.float32)
    more = {name: np.asarray(given[name], np.float32) for name in ("server_update", "global_model")}
    more["output_layer"] = given.get("output_layer")

    def found(kind: str, why: str = "") -> Verdict:
        return Verdict(rule, case["cohort"], case["settings"], kind, why)

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            answer = aggregate(rule, updates, np.asarray(given["examples"]), dict(case["settings"]), more)
        result = np.asarray(answer, np.float64).reshape(-1)
    except PROGRAMMING:
        raise  # no refusal: what was to be tried was not
    except NotImplementedError as error:
        return found("absent", str(error))
    except Exception as error:  # whatever a rule refuses with
        said = f"{type(error).__name__}: {error}".partition("\n")[0][:200]
        return found("agrees" if "refused" in case else "refuses", said)
    if "refused" in case:
        return found("accepts", f"not defined: {case['refused']}; it gives {shown(result)}")
    return found(*_compared(result, case, updates))


def _compared(result: Any, case: dict[str, Any], updates: Any) -> tuple[str, str]:
    ways = [np.asarray(way, np.float64) for way in (case["aggregate"], *case.get("ties", ()))]
    if result.shape != ways[0].shape:
        return "differs", f"{result.shape} numbers, not {ways[0].shape}"
    why = f"it gives {shown(result)}; by the definition {shown(ways[0])}"
    if any(_off(result, way) <= NEAR * np.abs(way).max() + DENORMAL for way in ways):
        return "agrees", ""
    room = 4 * len(updates) * STEP * np.abs(updates.astype(np.float64)).max()
    return ("rounding" if any(_off(result, way) <= room for way in ways) else "differs"), why


def _off(result: Any, way: Any) -> float:
    distance = float(np.abs(result - way).max())
    return distance if np.isfinite(distance) else np.inf


def shown(vector: Any) -> str:
    """A vector for people."""
    return "[" + ", ".join(f"{x:.6g}" for x in vector) + "]"


def tried(aggregate: Aggregate, rules: list[str] | None = None) -> list[Verdict]:
    """All vectors, or those of some rules."""
    return [verdict(rule, case, aggregate) for rule, case in cases(rules)]


def loaded(name: str) -> Aggregate:
    """``module:function``.

    Raises:
        ValueError: not of this form, or nothing there.
    """
    import importlib

    module, colon, function = name.partition(":")
    if not (colon and module and function):
        raise ValueError(f"{name}: wanted module:function")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name}: {error}") from error
    if not callable(found):
        raise ValueError(f"{name}: a {type(found).__name__}, not a function")
    return found
