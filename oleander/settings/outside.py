"""Plug-ins from outside the repository: a file of the user's (``--strategy ./my_rule.py``), or an installed package's entry point.

A package names a plug-in by an entry point of the group ``oleander.strategies`` (attacks, repairs, models, datasets),
``my_rule = "my_package.my_rule"``: the module whose function of that name it is. Either is checked by its text before anything of
it is imported, and a run's settings hold its SHA-256: with another file it is another run. Only what a command line asks to be run
is used (``use``), never what a record names.
"""

import ast
import difflib
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from oleander.settings import declared as plugins
from oleander.settings.config import SETTINGS, SHARED, learn_settings
from oleander.settings.declared import (
    ALONE,
    AUTO,
    DATASETS,
    FLAGS,
    KNOWLEDGE,
    Declaration,
    Setting,
    declaration_in,
    function_in,
    outside_steps,
    set_outside,
    steps_of,
)
from oleander.settings.kinds import kind_in, kinds_of, signature_in
from oleander.settings.ranges import VOCABULARY
from oleander.settings.session import FOLDER, is_of_a_session
from oleander.settings.steps import SUFFIX, is_file, is_one_file, short, whole
from oleander.system.errors import UserError
from oleander.system.foreign import MIB, read_bytes, reason, refusing, shortened

MOST_BYTES = MIB
"""Of a plug-in's file."""
HASH = "_sha256"
"""Behind a plug-in's name: the setting that holds its file's hash."""


@dataclass(frozen=True)
class Found:
    """A plug-in's file, before it is looked into."""

    package: str
    name: str
    file: Path
    step: str
    """As a run's settings name it."""
    asked: str
    """As it was asked for, for messages."""
    module: str = ""
    """Of an installed package's."""


def use(package: str, joined: Any, *, instead: bool = False) -> None:
    """Let this process use the plug-ins from outside that these steps (joined by +) name; nothing of them is run yet.

    Args:
        package: one of FLAGS.
        joined: value of its flag, perhaps one that is not checked yet.
        instead: whether one takes the place of another of its name, as one run follows another in a process.

    Raises:
        UserError: a file that cannot be a plug-in; says the file, the rule and the known alternatives.
    """
    if not isinstance(joined, str):
        return
    found = [f for step in outside_steps(package, joined) if (f := _found(package, step)) is not None]
    for one in found:
        _take(one, instead)
    for one in found:
        _check_asks(plugins.outside(package)[one.name], one)


def forget() -> None:
    """Use none any more."""
    if any(map(plugins.outside, plugins.PACKAGES)):  # else all files were read anew, for nothing
        set_outside({})
        learn_settings()


def hashes(package: str, joined: str) -> dict[str, str]:
    """Name → SHA-256 of the plug-ins from outside among these steps, as this process has them."""
    used = plugins.outside(package)
    return {name: sha256(used[name]) for name in map(short, steps_of(package, joined)) if name in used}


def sha256(declaration: Declaration) -> str:
    """Of the plug-in's file."""
    return hashlib.sha256(declaration.source.encode()).hexdigest()


def check_recorded(settings: Iterable[tuple[str, Any]], source: str) -> None:
    """Refuse a plug-in whose file is not the one that these settings name by its hash.

    Raises:
        UserError: names the file and both hashes.
    """
    recorded = dict(settings)
    for package in plugins.PACKAGES:
        for name, declaration in plugins.outside(package).items():
            then, now = recorded.get(name + HASH, ""), sha256(declaration)
            if then and then != now and name in map(short, steps_of(package, str(recorded.get(FLAGS[package], name)))):
                raise UserError(
                    f"{source}: {declaration.step} is not the file that it was: SHA-256 {now[:12]}…, "
                    f"recorded {str(then)[:12]}…; with another file it is another run "
                    f"(without {name + HASH} the file is taken as it is)"
                )


def group_of(package: str) -> str:
    """The entry points of a package's plug-ins: ``oleander.attacks``, ``oleander.models``."""
    return f"oleander.{package.removeprefix('oleander.')}"


def entry_points(package: str) -> dict[str, list[importlib.metadata.EntryPoint]]:
    """Name → what installed packages offer under it."""
    found: dict[str, list[importlib.metadata.EntryPoint]] = {}
    for point in importlib.metadata.entry_points(group=group_of(package)):
        if point not in found.setdefault(point.name, []):
            found[point.name].append(point)
    return found


def look(package: str, step: str) -> Declaration:
    """What a plug-in from outside declares, to be shown; nothing of it is run or used.

    Raises:
        UserError: as ``use``; also for a name that no installed package has.
    """
    found = _found(package, step)
    if found is None:
        raise UserError(f"{step} is no plug-in of an installed package")
    return _declaration(found)


def _found(package: str, step: str) -> Found | None:
    """Where a step's file is; None for a name that nothing installed has, which is refused as a name."""
    asked = f"--{FLAGS[package]} {shortened(step, 200)}"
    if is_one_file(step) if package in ALONE else is_file(step):
        return Found(package, short(step), Path(whole(step)), whole(step), asked)
    points = entry_points(package).get(step, [])
    if not points:
        return None
    if len(points) > 1:
        who = " and ".join(sorted(f"{point.dist.name if point.dist else '?'} ({point.value})" for point in points))
        raise UserError(f"{asked}: two installed packages have it: {who}; a file's path names one of them")
    file = module_file(points[0].module)
    if file is None or points[0].attr not in (None, "", step):
        raise UserError(
            f"{asked}: the entry point {points[0].value} of {group_of(package)} is not a module with a function {step}"
        )
    return Found(package, step, file, step, asked, points[0].module)


def module_file(module: str) -> Path | None:
    """The file of an installed module; neither it nor the packages around it are imported."""
    path: Any = None
    spec = None
    for i in range(module.count(".") + 1):
        name = ".".join(module.split(".")[: i + 1])
        specs = (finder.find_spec(name, path) for finder in sys.meta_path)  # one that pip install -e adds among them
        spec = next((found for found in specs if found), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(SUFFIX) else None


def _take(found: Found, instead: bool) -> None:
    declaration, used = _declaration(found), {k: d for p in plugins.PACKAGES for k, d in _keyed(p)}
    key = found.package, found.name
    if (other := used.get(key)) and other.step != declaration.step and not instead:
        raise UserError(f"{found.asked}: {other.step} has the name {found.name} already; rename one of the two files")
    if used.pop(key, None) == declaration:
        return
    set_outside(used)
    _check_settings(declaration, found)
    set_outside(used | {key: declaration})
    learn_settings()


def _keyed(package: str) -> Iterable[tuple[tuple[str, str], Declaration]]:
    return (((package, name), declaration) for name, declaration in plugins.outside(package).items())


def _declaration(found: Found) -> Declaration:
    """What the file declares, its hash as one more setting. Raises as ``use``."""
    source = _text(found)
    name, asked = found.name, found.asked
    with refusing(asked):
        try:
            function = function_in(source, name)
        except SyntaxError as error:
            raise UserError(f"{asked}: {found.file}, line {error.lineno}: {error.msg}") from None
    if function is None:
        raise UserError(f"{asked}: {found.file} has no function named {name}, as its file")
    if not (ast.get_docstring(function) or "").strip():
        raise UserError(f"{asked}: {name} in {found.file} has no docstring, whose first line says what it is")
    with refusing(asked):
        takes, gives, remembers = signature_in(source, name)
        kind = kind_in(source, found.package, name)
    if kind is None:
        types = f"{', '.join(takes) or 'nothing'} → {gives}"
        raise UserError(f"{asked}: {name} takes and returns {types}; known: {kinds_of(found.package)}")
    if found.package in ALONE and function.args.kwonlyargs:
        keyword = function.args.kwonlyargs[0].arg
        raise UserError(
            f"{asked}: {keyword} of {name}: a {FLAGS[found.package]} takes no settings; write it into the file"
        )
    try:
        declaration = declaration_in(source, found.package, name, str(found.file))
    except TypeError as error:
        raise UserError(f"{asked}: {error}") from None
    if remembers != ("memory" in declaration.asks) and found.package == "strategies":
        raise UserError(f"{asked}: what asks for memory returns tuple[its result, Memory], and only that")
    known = replace(declaration, step=found.step, file=str(found.file), module=found.module)
    hash_ = sha256(known)
    own = Setting(name + HASH, name, Literal[hash_], hash_, "SHA-256 of the plug-in's file.", hidden=True)
    return replace(known, settings=(*declaration.settings, own))


def _text(found: Found) -> str:
    name = found.name
    if found.file.suffix != SUFFIX:
        raise UserError(f"{found.asked}: {found.file} is not a .py file")
    with refusing(found.asked):
        if not found.file.exists():
            raise UserError(_missing(found))
        content = read_bytes(found.file, MOST_BYTES)
    for other in plugins.PACKAGES:
        if name in plugins.built_in(other):
            raise UserError(
                f"{found.asked}: {found.file} has the name of {plugins.file_of(other, name)}, "
                f"--{FLAGS[other]} {name}; rename it"
            )
    if found.package == DATASETS and name == AUTO:
        raise UserError(
            f"{found.asked}: {found.file} has the name {AUTO}, which chooses among the sources here; rename it"
        )
    if name == "none" or name in SHARED or not name.isidentifier():
        why = (
            "is a setting's"
            if name in SHARED
            else "is no name of a plug-in"
            if name == "none"
            else "is no name of a function"
        )
        raise UserError(f"{found.asked}: {name} {why}; rename {found.file}")
    with refusing(f"{found.asked}: {found.file}"):
        return content.decode("utf-8")


def _missing(found: Found) -> str:
    file = found.file
    if not is_of_a_session(str(file)):
        return f"{found.asked}: there is no file {file}"
    return (
        f"--{FLAGS[found.package]} {found.name} was a function of a Python session: such a run cannot be resumed, nor run again "
        f"by its settings; its source is in the run's folder, {FOLDER}/{file.name}: name that file in a new run"
    )


def _check_settings(declaration: Declaration, found: Found) -> None:
    """Refuse settings of its own that are there already, or whose default is not of their type."""
    for setting in declaration.settings:
        where = f"{found.asked}: {setting.name} of {declaration.name}"
        if setting.name in SHARED:
            raise UserError(f"{where} is a shared setting; write it without a default, or give it another name")
        if other := plugins.declared().get(setting.name):
            raise UserError(
                f"{where} is {other.plugin}'s; write it without a default, or give it another name, such as "
                f"{declaration.name}_{setting.name}"
            )
        try:
            TypeAdapter(setting.type).validate_json(json.dumps(setting.default), strict=True)
        except (ValidationError, TypeError) as error:
            raise UserError(f"{where} has the default {setting.default!r}: {reason(error)}") from None


def _check_asks(declaration: Declaration, found: Found) -> None:
    """Refuse a keyword without a default that nobody could fill."""
    knows = KNOWLEDGE[found.package]
    for name in declaration.asks:
        if name not in knows and name not in SETTINGS:
            close = difflib.get_close_matches(name, [*SETTINGS, *knows], n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            known = f", nor can it be known ({', '.join(knows)})" if knows else ""
            raise UserError(
                f"{found.asked}: {name} of {declaration.name} is neither a setting nor has it a default{known}{hint}. "
                f"A setting of its own has a default and a type of {', '.join(VOCABULARY)}"
            )
