"""From the keywords of a call in Python to what is to be run: what ``cli`` is for a command line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from oleander.settings import outside, session
from oleander.settings.cli import Command, Flags, Scenario, as_a_whole, check_names, load_scenario_file
from oleander.settings.config import validated
from oleander.settings.declared import ALONE, FLAGS, built_in
from oleander.settings.protocol import whole
from oleander.settings.sweeps import Axis
from oleander.system.errors import UserError


@dataclass(frozen=True)
class Call:
    """A call, as plain data that another process can read."""

    name: str
    """``run`` or ``study``."""
    text: str
    """As it was written, for records."""
    scenario: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    sweep: dict[str, Any] = field(default_factory=dict)
    repeats: Any = None
    resume: str | None = None


def call_of(name: str, folder: Path, scenario: Any, settings: Mapping[str, Any], sweep: Any = None,
            repeats: Any = None, resume: Any = None) -> Call:  # fmt: skip
    """What a call asks for, its functions written to files in this folder.

    Raises:
        UserError: a function that cannot be written down, or a sweep that is none.
    """
    if scenario == "":
        raise UserError(f"{name}: scenario = '': no scenario is called so; leave it out, or name one")
    given = {"scenario": scenario or None, **settings, "sweep": sweep, "repeats": repeats, "resume": resume}
    said = ", ".join(f"{key}={_shown(value)}" for key, value in given.items() if value is not None)
    if sweep is not None and not isinstance(sweep, Mapping):
        raise UserError(f"{name}: sweep = {sweep!r}; wanted a dictionary of settings and lists of their values")
    plain = {key: _plain(key, value, folder) for key, value in settings.items()}
    axes = {}
    for key, values in (sweep or {}).items():
        listed = list(values) if isinstance(values, list | tuple | range | np.ndarray) else values
        axes[str(key)] = [_plain(key, v, folder) for v in listed] if isinstance(listed, list) else listed
    told = None if resume is None else str(resume)
    return Call(name, f"{name}({said})", str(scenario or ""), plain, axes, _plain("repeats", repeats, folder), told)


def command_of(call: Call, auto: str = "auto") -> Command:
    """The command that a call is; each setting is checked. ``auto`` as ``cli.parse_command`` takes it.

    Raises:
        UserError: an unknown scenario or setting, a value of the wrong type or out of its range.
    """
    outside.forget()  # what a call before this one had asked for
    for package, flag in FLAGS.items():
        swept = call.sweep.get(flag)
        for value in (call.settings.get(flag), *(swept if isinstance(swept, list) else ())):
            outside.use(package, value)
    start = Scenario({"scenario": "custom"}, {}, "", auto)
    scenario = load_scenario_file(call.scenario, auto) if call.scenario else start
    check_names(call.settings, call.name)
    repeats = call.repeats
    if repeats is not None and (not isinstance(repeats, int) or isinstance(repeats, bool) or repeats < 1):
        raise UserError(f"{call.name}: repeats = {repeats!r}: wanted a whole number, 1 or more")
    if call.name == "run" and scenario.study:
        raise UserError(f"run: --scenario {call.scenario} is a study of several runs; call study(…)")
    if call.name == "study" and not (scenario.study or call.sweep or repeats):
        repeats = 1
    settings = whole(scenario.said | call.settings, auto) | {"scenario": scenario.experiment.scenario}
    experiment = validated(settings, call.name)
    axes = cast(Any, tuple(Axis(name, values) for name, values in call.sweep.items()))
    given = {name: value for name, value in call.settings.items() if name not in ("scenario", "out")}
    return as_a_whole(scenario, Flags(experiment, axes, repeats, call.resume), given)


def _plain(name: str, value: Any, folder: Path) -> Any:
    """A value as a setting has it: NumPy's numbers are numbers, paths texts, functions files, and lists of steps are joined."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    package = next((package for package, flag in FLAGS.items() if flag == name), "")
    if package and isinstance(value, list | tuple) and package not in ALONE:
        return "+".join(str(_step(package, step, folder)) for step in value)
    return _step(package, value, folder) if package and callable(value) else value


def _step(package: str, step: Any, folder: Path) -> Any:
    """A step by its name; a function's file is written."""
    if not callable(step):
        if not isinstance(step, str):
            raise UserError(f"{FLAGS[package]}: {step!r} is neither a step's name nor a function")
        return step
    name = getattr(step, "__name__", type(step).__name__)
    if name in built_in(package) and getattr(step, "__module__", "") == f"{package}.{name}":
        return name
    file = folder / session.FOLDER / f"{name}.py"
    text = session.source_of(step, f"{FLAGS[package]}={name}")
    if file.exists() and file.read_text("utf-8") != text:
        raise UserError(f"{FLAGS[package]}={name}: two functions have the name {name}; rename one of them")
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, "utf-8")
    return str(file)


def _shown(value: Any) -> str:
    """A value as it stands in a call."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {_shown(v)}' for key, v in value.items())}}}"
    return str(getattr(value, "__name__", None) or repr(str(value) if isinstance(value, Path) else value))
