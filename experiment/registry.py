"""Finds the plug-ins of a package: each file is one, named once (file = function = name on the command line).

Files that begin with an underscore, and ``strategies/flower.py``, are the package's own machinery.
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from experiment.config import SETTINGS, Experiment

MACHINERY = ("strategies.flower",)


@dataclass(frozen=True)
class Plugin:
    """One attack step, filter or rule."""

    name: str
    function: Callable[..., Any]
    summary: str
    """First line of its docstring."""
    returns: Any
    """The type it is declared to return; it tells a filter from a rule."""


@functools.cache
def find(package: str) -> dict[str, Plugin]:
    """Name → plug-in of every file in ``package``, by name.

    Raises:
        TypeError: a file without a public function of its own name, without a docstring or a return type, or whose
            keyword arguments have neither a setting of that name nor a default. Such a file is a programming error.
    """
    folder = importlib.import_module(package).__path__
    names = sorted(info.name for info in pkgutil.iter_modules(folder))
    return {
        name: _plugin(f"{package}.{name}", name)
        for name in names
        if not name.startswith("_") and f"{package}.{name}" not in MACHINERY
    }


def bind(plugin: Plugin, experiment: Experiment) -> Callable[..., Any]:
    """The plug-in with its keyword arguments filled from the settings of those names."""
    settings = {name: getattr(experiment, name) for name in _keywords(plugin.function) if name in SETTINGS}
    return functools.partial(plugin.function, **settings)


def _plugin(module_name: str, name: str) -> Plugin:
    function = getattr(importlib.import_module(module_name), name, None)
    where = f"{module_name.replace('.', '/')}.py"
    if not callable(function):
        raise TypeError(f"{where}: wanted a function named {name}, as the file")
    summary = (inspect.getdoc(function) or "").partition("\n")[0]
    returns = get_type_hints(function).get("return")
    if not summary or returns is None:
        raise TypeError(f"{where}: {name} wants a docstring and a declared return type")
    for keyword, parameter in _keywords(function).items():
        if keyword not in SETTINGS and parameter.default is inspect.Parameter.empty:
            raise TypeError(f"{where}: {keyword} of {name} is neither a setting nor has it a default")
    return Plugin(name, function, summary, returns)


def _keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters
    return {name: p for name, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
