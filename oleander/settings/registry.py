"""Finds the plug-ins of a package: each file is one, named once (file = function = name on the command line).

Files that begin with an underscore, ``strategies/flower.py`` and ``strategies/contract.py`` are the packages' own machinery.
"""

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from oleander.settings.config import SETTINGS, Experiment
from oleander.settings.declared import names_in
from oleander.system.errors import UserError


@dataclass(frozen=True)
class Plugin:
    """One attack step, filter or rule."""

    name: str
    function: Callable[..., Any]
    summary: str
    """First line of its docstring."""
    returns: Any
    """The type it is declared to return; with ``takes`` it tells a filter from a rule."""
    takes: Any = None
    """The type of its first argument."""
    asks: tuple[str, ...] = ()
    """What it wants to know that is no setting: its keyword arguments out of ``KNOWLEDGE``."""


MODELS = "oleander.models"
KNOWLEDGE = {
    "strategies": ("memory", "rng", "layout", "root", "answers"),
    "attacks": ("image",),
    "repairs": ("rng", "layout", "root", "answers"),
    MODELS: (),
}
"""What a package's plug-ins may ask for by name besides settings."""


@functools.cache
def find(package: str) -> dict[str, Plugin]:
    """Name → plug-in of every file in ``package``, by name.

    Raises:
        TypeError: a file without a public function of its own name, without a docstring or a return type, or whose
            keyword arguments have neither a default nor the name of a setting or of something that can be known. Such a file
            is a programming error.
    """
    return {name: _plugin(f"{package}.{name}", name, KNOWLEDGE[package]) for name in names_in(package)}


def strategy_steps(experiment: Experiment) -> list[str]:
    """The names that ``--strategy`` joins.

    Raises:
        UserError: an unknown name (lists the known).
    """
    return _steps(f"--strategy {experiment.strategy}", experiment.strategy, names_in("strategies"))


def attack_steps(experiment: Experiment) -> list[str]:
    """The names that ``--attack`` joins; [] for ``none``.

    Raises:
        UserError: an unknown name (lists the known), one that is there twice, or ``none`` with others.
    """
    return _steps_or_none("attack", experiment.attack, "attacks")


def repair_steps(experiment: Experiment) -> list[str]:
    """The names that ``--repair`` joins; [] for ``none``.

    Raises:
        UserError: as for ``--attack``.
    """
    return _steps_or_none("repair", experiment.repair, "repairs")


def _steps_or_none(flag: str, joined: str, package: str) -> list[str]:
    if joined == "none":
        return []
    asked = f"--{flag} {joined}"
    names = _steps(asked, joined, ("none", *names_in(package)))
    if "none" in names:
        raise UserError(f"{asked}: none stands alone")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{asked}: {name} is there twice")
    return names


def _steps(asked: str, joined: str, known: tuple[str, ...]) -> list[str]:
    names = joined.split("+")
    for name in names:
        if name not in known:
            raise UserError(f"{asked}: {name!r} is unknown; known: {', '.join(known)}, joined by +")
    return names


def model_name(experiment: Experiment) -> str:
    """The file that ``--model`` names.

    Raises:
        UserError: an unknown name (lists the known).
    """
    known = names_in(MODELS)
    if experiment.model not in known:
        raise UserError(f"--model {experiment.model}: unknown; known: {', '.join(known)}")
    return experiment.model


def bind(plugin: Plugin, experiment: Experiment, **known: Any) -> Callable[..., Any]:
    """The plug-in with its keyword arguments filled from the settings of those names, and what it asks for from what is known."""
    settings = {name: getattr(experiment, name) for name in _keywords(plugin.function) if name in SETTINGS}
    asked = {name: known[name] for name in plugin.asks if name in known}
    return functools.partial(plugin.function, **settings, **asked)


def _plugin(module_name: str, name: str, knowledge: tuple[str, ...]) -> Plugin:
    function = getattr(importlib.import_module(module_name), name, None)
    where = f"{module_name.replace('.', '/')}.py"
    if not callable(function):
        raise TypeError(f"{where}: wanted a function named {name}, as the file")
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    types = get_type_hints(function)
    takes, returns = next(iter(types.values()), None), types.get("return")
    if not summary or returns is None:
        raise TypeError(f"{where}: {name} wants a docstring and a declared return type")
    asks = []
    for keyword, parameter in _keywords(function).items():
        if keyword in knowledge:
            asks.append(keyword)
        elif keyword not in SETTINGS and parameter.default is inspect.Parameter.empty:
            known = f", nor can it be known ({', '.join(knowledge)})" if knowledge else ""
            raise TypeError(f"{where}: {keyword} of {name} is neither a setting nor has it a default{known}")
    return Plugin(name, function, summary, returns, takes, tuple(asks))


def _keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters
    return {name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
