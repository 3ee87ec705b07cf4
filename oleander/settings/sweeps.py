"""Settings that a study varies: --sweep NAME=VALUE,VALUE… and the [sweep] table of a scenario file."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from oleander.settings.cli import RESUMABLE, check_names
from oleander.settings.config import SETTINGS, Experiment, checked
from oleander.system.errors import UserError

NOT_SWEPT = (
    "scenario",
    "description",
    "out",
    "keep",
    "pages",
    "runs_at_once",
    "seed",
    "data_dir",
    "no_cache",
    "round_timeout",
    "min_clients",
    *RESUMABLE,
)


@dataclass(frozen=True)
class Axis:
    """A setting and the values that it takes."""

    name: str
    values: list[Any] = field(default_factory=list)


def varied(experiments: Sequence[Experiment]) -> list[str]:
    """The settings in which these runs differ, but for the seed; a plug-in's own among those of its runs that have it."""
    runs = [e.settings() for e in experiments]
    return [n for n in SETTINGS if n not in NOT_SWEPT and len({str(run[n]) for run in runs if n in run}) > 1]


def words(name: str) -> str:
    """A setting's name in tables and figures."""
    return {
        "malicious": "malicious clients",
        "clients_per_round": "clients per round",
        "gamma": "scaling factor γ",
    }.get(name, name.replace("_", " "))


SPEAKING = ("attack", "strategy", "repair", "dataset", "model")
"""Settings whose values are names that say what they are of."""


def told(title: str, value: str) -> str:
    """A value as it stands in a sentence: ``krum``, but ``augment once`` and ``malicious clients 3``.

    Args:
        title: what the axis is called: a setting's name in words, or a scenario's own heading, whose labels say all.
        value: the value, or the label.
    """
    by_name = title in SPEAKING and value != "none"
    alone = value in ("true", "false") or re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", value)
    return f"{title} {value}" if title and not by_name and (alone or title in map(words, SETTINGS)) else value


def axis_of(text: str | Axis) -> Axis:
    """``NAME=VALUE,VALUE`` of --sweep; values are read as TOML and JSON have them, else as words. (An axis is one already.)"""
    if isinstance(text, Axis):
        return text
    name, equals, values = text.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    if not equals or not values.strip():
        raise UserError(f"--sweep {text}: wanted NAME=VALUE,VALUE…, such as malicious=1,2,3")
    check_names({name: None}, f"--sweep {text}")
    return Axis(name, [_value(word.strip()) for word in values.split(",")])


def _value(word: str) -> Any:
    try:
        value = json.loads(word)
    except (ValueError, RecursionError):
        return word
    return value if isinstance(value, int | float | bool) else word


def check_values(axis: Axis, source: str) -> None:
    """Refuse values that the setting cannot have, where they were given: by the flag, whatever the scenario's file says.

    Raises:
        UserError: names the sweep, the value and the rule.
    """
    for value in axis.values if isinstance(axis.values, list) else ():
        if axis.name in SETTINGS and axis.name not in NOT_SWEPT:
            try:
                checked(SETTINGS | {axis.name: value}, source)
            except UserError as error:
                raise UserError(f"{error}; wanted NAME=VALUE,VALUE…{_meant(axis.name, value)}") from None


def _meant(name: str, value: Any) -> str:
    """What a range was to be: a sweep's values are named one by one."""
    found = re.fullmatch(r"(\d{1,4})\s*(?:-|\.\.|:)\s*(\d{1,4})", value) if isinstance(value, str) else None
    numbers = range(int(found[1]), int(found[2]) + 1) if found else range(0)
    return f" (did you mean {name}={','.join(map(str, numbers))}?)" if 1 < len(numbers) <= 20 else ""


def check_axis(axis: Axis, said: str) -> None:
    """Refuse what cannot be swept.

    Raises:
        UserError: not a setting, one that changes no result, no list of values, or a value that is there twice.
    """
    check_names({axis.name: None}, said)
    if axis.name in NOT_SWEPT:
        raise UserError(f"{said}: {'--repeats gives several seeds' if axis.name == 'seed' else 'it changes no result'}")
    if not isinstance(axis.values, list) or not axis.values:
        raise UserError(f"{said}: wanted a list of values, not {axis.values!r}")
    if any(value == other for i, value in enumerate(axis.values) for other in axis.values[:i]):
        raise UserError(f"{said}: a value is there twice in {axis.values}")


def check_axes(axes: list[Axis], source: str) -> None:
    """The same of all that a file sweeps.

    Raises:
        UserError: as of one, or the same twice.
    """
    for axis in axes:
        check_axis(axis, f"{source}: sweep of {axis.name}")
    check_once(axes, source)


def check_once(axes: list[Axis], source: str) -> None:
    """Refuse a setting that is swept twice."""
    names = [axis.name for axis in axes]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{source}: {name} is swept twice")
