"""Finds the plug-ins of a package: each file is one, named once (file = function = name on the command line).

Files that begin with an underscore, ``strategies/flower.py`` and ``strategies/contract.py`` are the packages' own machinery. Plug-ins
from outside, which ``oleander.settings.outside`` has found and checked, are imported here, when a run needs them.
"""

import contextlib
import functools
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from oleander.settings import outside
from oleander.settings.config import SETTINGS, Experiment
from oleander.settings.declared import (
    AUTO,
    DATASETS,
    FLAGS,
    KNOWLEDGE,
    MODELS,
    TORCHVISION,
    Declaration,
    built_in,
    knows_step,
    source_in,
    sources,
)
from oleander.settings.declared import outside as from_outside
from oleander.settings.steps import is_file, is_one_file, short, split
from oleander.settings.words import meant
from oleander.system.errors import RunError, UserError
from oleander.system.foreign import reason


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


@functools.cache
def find(package: str) -> dict[str, Plugin]:
    """Name → plug-in of every file in ``package``, by name.

    Raises:
        TypeError: a file without a public function of its own name, without a docstring or a return type, or whose
            keyword arguments have neither a default nor the name of a setting or of something that can be known. Such a file
            is a programming error.
    """
    return {name: _plugin(f"{package}.{name}", name, KNOWLEDGE[package]) for name in built_in(package)}


def known(package: str) -> dict[str, Plugin]:
    """The same with those from outside that this process uses, which are imported for it.

    Raises:
        UserError: one that cannot be imported, or is not what its text says.
    """
    return find(package) | {name: _imported(found) for name, found in from_outside(package).items()}


def strategy_steps(experiment: Experiment) -> list[str]:
    """The names that ``--strategy`` joins.

    Raises:
        UserError: an unknown name (lists the known).
    """
    return _steps(experiment, "strategies")


def attack_steps(experiment: Experiment) -> list[str]:
    """The names that ``--attack`` joins; [] for ``none``.

    Raises:
        UserError: an unknown name (lists the known), one that is there twice, or ``none`` with others.
    """
    return _steps_or_none(experiment, "attacks")


def repair_steps(experiment: Experiment) -> list[str]:
    """The names that ``--repair`` joins; [] for ``none``.

    Raises:
        UserError: as for ``--attack``.
    """
    return _steps_or_none(experiment, "repairs")


def _steps_or_none(experiment: Experiment, package: str) -> list[str]:
    joined = getattr(experiment, FLAGS[package])
    if joined == "none":
        return []
    asked = f"--{FLAGS[package]} {joined}"
    names = _steps(experiment, package, "none")
    if "none" in names:
        raise UserError(f"{asked}: none stands alone")
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{asked}: {name} is there twice")
    return names


def _steps(experiment: Experiment, package: str, *besides: str) -> list[str]:
    joined = getattr(experiment, FLAGS[package])
    outside.use(package, joined, instead=True)
    outside.check_recorded(experiment.own, f"--{FLAGS[package]} {joined}")
    names = (*besides, *built_in(package))
    for step in split(joined):
        if not (is_file(step) or step in names or step in from_outside(package)):
            flag = f"--{FLAGS[package]} {joined or repr(joined)}"
            hint = _joined(joined, names) or meant(step, names)
            raise UserError(
                f"{flag}: {step!r} is unknown; known: {', '.join(names)}, joined by +, or a file of your own (./NAME.py){hint}"
            )
    return list(map(short, split(joined)))


def _joined(joined: str, names: Collection[str]) -> str:
    """What was meant where known names are joined by something else than +."""
    steps = [step for step in re.split(r"[\s,;&|+]+", joined) if step]
    return f"; did you mean {'+'.join(steps)}?" if len(steps) > 1 and set(steps) <= set(names) else ""


def model_name(experiment: Experiment) -> str:
    """The name of the model that ``--model`` names, which this process then uses.

    Raises:
        UserError: an unknown name (lists the known), or a file that cannot be a model.
    """
    asked = f"--model {experiment.model}"
    if experiment.model.startswith(TORCHVISION):
        if experiment.model.removeprefix(TORCHVISION) not in torchvision_models():
            close = meant(experiment.model.removeprefix(TORCHVISION), torchvision_models())
            raise UserError(f"{asked}: unknown; torchvision has {', '.join(torchvision_models())}{close}")
        return experiment.model
    outside.use(MODELS, experiment.model, instead=True)
    outside.check_recorded(experiment.own, asked)
    if not knows_step(MODELS, experiment.model):
        known = ", ".join((*built_in(MODELS), f"{TORCHVISION}NAME"))
        close = meant(experiment.model, built_in(MODELS))
        asked = asked if experiment.model else "--model ''"
        raise UserError(f"{asked}: unknown; known: {known}, or a file of your own (./NAME.py){close}")
    return short(experiment.model)


@functools.cache
def torchvision_models() -> tuple[str, ...]:
    """The classification models that torchvision has, by name."""
    from torchvision import models  # here, since it takes a second to load, and most models do without

    return tuple(models.list_models(module=models))


def dataset_name(experiment: Experiment) -> str:
    """The name of the source that ``--dataset`` names; this process then uses it, if it is one from outside.

    Raises:
        UserError: an unknown name (lists the known), or a file that cannot be a source.
    """
    use_dataset(experiment.dataset)
    outside.check_recorded(experiment.own, f"--dataset {experiment.dataset}")
    return short(experiment.dataset) if is_one_file(experiment.dataset) else experiment.dataset


def use_dataset(source: str) -> bool:
    """Let this process use a source of images from outside; whether it is one, and none of ours.

    Raises:
        UserError: as ``dataset_name``.
    """
    if source == AUTO or source_in(source)[0]:
        return False
    outside.use(DATASETS, source, instead=True)
    if not source or source in built_in(DATASETS) or not knows_step(DATASETS, source):
        known = ", ".join((*sources(), *outside.entry_points(DATASETS)))
        close = meant(source, (*sources(), *outside.entry_points(DATASETS)))
        if source and Path(source).is_dir():
            close = f"; did you mean folder:{source}?"
        raise UserError(
            f"--dataset {source or repr(source)}: unknown; known: {known}, or a file of your own (./NAME.py){close}"
        )
    return True


def bind(plugin: Plugin, experiment: Experiment, **known: Any) -> Callable[..., Any]:
    """The plug-in with its keyword arguments filled from the settings of those names, and what it asks for from what is known."""
    settings = {name: getattr(experiment, name) for name in _keywords(plugin.function) if name in SETTINGS}
    asked = {name: known[name] for name in plugin.asks if name in known}
    return functools.partial(plugin.function, **settings, **asked)


@contextlib.contextmanager
def blamed(package: str, joined: str) -> Iterator[None]:
    """What goes wrong within, in code of a plug-in from outside, is a refusal that names its file and line."""
    try:
        yield
    except (UserError, RunError):
        raise
    except (Exception, SystemExit) as error:  # quit() too ends no run without a word
        files = {found.file for found in from_outside(package).values()}
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
        if not frames:
            raise
        where = f"{frames[-1].filename}, line {frames[-1].lineno}"
        raise UserError(f"--{FLAGS[package]} {joined}: {where}: {type(error).__name__}: {reason(error)}") from None


def _imported(found: Declaration) -> Plugin:
    """A plug-in from outside; from here on its code runs."""
    asked = f"--{FLAGS[found.package]} {found.step}"
    try:
        return _plugin(_module(found), found.name, KNOWLEDGE[found.package])
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever its author wrote, sys.exit() for example
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == found.file]
        at = f", line {lines[-1]}" if lines else ""
        raise UserError(
            f"{asked}: {found.file}{at}: cannot be imported: {type(error).__name__}: {reason(error)}"
        ) from None


def _module(found: Declaration) -> str:
    """The name of the module of a plug-in from outside; a file's is made of the very text that was checked and hashed."""
    if found.module:
        return found.module
    name = f"_outside_{found.package}_{found.name}_{outside.sha256(found)}"
    if name not in sys.modules:
        module = ModuleType(name)
        module.__file__ = found.file
        sys.modules[name] = module
        try:
            exec(compile(found.source, found.file, "exec"), module.__dict__)  # the user asked for it
        except BaseException:
            del sys.modules[name]
            raise
    return name


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
