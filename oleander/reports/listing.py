"""``--list NAME``: one plug-in whole, as its file says of it; nothing of it is run."""

import ast
from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from attacks import KNOWS
from oleander.settings import outside
from oleander.settings.config import SHARED, shown_value
from oleander.settings.declared import (
    DATASETS,
    FLAGS,
    KNOWLEDGE,
    Declaration,
    Setting,
    built_in,
    declaration,
    declared,
    file_of,
    function_in,
    shown_source,
)
from oleander.settings.help import docs_of_settings
from oleander.settings.kinds import kind_in
from oleander.settings.protocol import protocol_in
from oleander.settings.steps import is_file
from oleander.settings.words import near, range_words
from oleander.system.errors import UserError
from oleander.system.foreign import plain, shortened

PLACES = tuple(FLAGS)


def print_plugin(console: Console, name: str) -> None:
    """What a plug-in is, where it comes from, its settings, the shared ones that it uses, and what it knows.

    Raises:
        UserError: an unknown name; lists the known, the nearest first.
    """
    for number, found in enumerate(_named(name)):
        console.print() if number else None
        console.print(Group(*_lines(found)), soft_wrap=False)


def installed(package: str) -> dict[str, str]:
    """Name → first line of what installed packages offer; of what cannot be used, why."""
    found = {}
    for name in outside.entry_points(package):
        if name in built_in(package):
            found[f"{name} (unused)"] = f"an installed package's, but the name is that of a {package} plug-in here"
            continue
        try:
            found[name] = plain(outside.look(package, name).summary)
        except UserError as error:
            found[f"{name} (unused)"] = str(error)
    return found


def _named(name: str) -> list[Declaration]:
    found = [declaration(package, name) for package in PLACES if name in built_in(package)]
    if is_file(name):
        return [_from_file(name)]
    offered = {package: outside.entry_points(package) for package in FLAGS}
    found += [outside.look(package, name) for package, names in offered.items() if name in names and not found]
    if not found:
        known = [n for package in PLACES for n in (*built_in(package), *offered.get(package, ()))]
        named = shortened(name, 80) or repr(name)
        raise UserError(f"--list {named}: no such plug-in{near(name, known)}; known: {', '.join(known)}")
    return found


def _from_file(name: str) -> Declaration:
    """A file's plug-in, of whichever kind."""
    refusals = []
    for package in FLAGS:
        try:
            return outside.look(package, name)
        except UserError as error:
            refusals.append(error)
    raise next((e for e in refusals if "takes and returns" not in str(e)), refusals[-1])


def _lines(found: Declaration) -> Iterator[Any]:
    flag = FLAGS[found.package]
    ours = found.package == DATASETS and not found.step
    kind = kind_in(found.source, found.package, found.name) or (flag if ours else "plug-in")
    named = shown_source(found.name) if ours else found.step or found.name
    yield Text.from_markup(f"[bold]{escape(found.name)}[/]  {kind}, --{flag} {escape(named)}")
    yield _indented(found.summary)
    about = ast.get_docstring(ast.parse(found.source)) or ""
    yield Text("")
    for paragraph in about.split("\n\n"):
        yield _indented(paragraph if paragraph.startswith((" ", "-", "|")) else " ".join(paragraph.split()))
    yield Text(f"\n  {found.file or file_of(found.package, found.name)}", overflow="fold")
    own = [setting for setting in found.settings if not setting.hidden]
    if own:
        yield Text.from_markup("\n[bold]Settings of its own[/]")
        for setting in own:
            yield from _setting(setting)
    used = [name for name in found.asks if name not in KNOWLEDGE[found.package]]
    if used:
        yield Text.from_markup("\n[bold]Settings that it uses[/]")
        for name in used:
            yield from _used(name)
    if found.package == DATASETS and (protocol := protocol_in(found)):
        yield Text.from_markup("\n[bold]Settings that it is shown with[/]  a scenario and flags go over them")
        for name, value in protocol.items():
            yield Text(f"  --{name.replace('_', '-')} {shown_value(value)}")
    if known := knows(found):
        yield Text.from_markup("\n[bold]What it knows besides[/]")
        yield _indented(", ".join(known))


def knows(found: Declaration) -> list[str]:
    """What a plug-in asks for that is no setting; of an attack, also what its inner functions ask for."""
    names = [name for name in found.asks if name in KNOWLEDGE[found.package]]
    function = function_in(found.source, found.name)
    if found.package == "attacks" and function:
        inner = (node for node in ast.walk(function) if isinstance(node, ast.FunctionDef | ast.Lambda))
        asked = {argument.arg for node in inner if node is not function for argument in ast.walk(node.args)
                 if isinstance(argument, ast.arg)}  # fmt: skip
        names += [name for name in KNOWS if name in asked]
    return names


def _setting(setting: Setting) -> Iterator[Any]:
    default = {"None": "none", "": "''"}.get(shown_value(setting.default), shown_value(setting.default))
    yield Text(f"  --{setting.name.replace('_', '-')}  {range_words(setting.type)} (default: {default})")
    yield _indented(setting.help, 6)


def _used(name: str) -> Iterator[Any]:
    if other := declared().get(name):
        yield Text(f"  --{name.replace('_', '-')}  {other.plugin}'s")
        yield _indented(other.help, 6)
    elif name in SHARED:
        yield Text(f"  --{name.replace('_', '-')}  shared (default: {SHARED[name]})")
        yield _indented(docs_of_settings()[name], 6)


def _indented(text: str, by: int = 2) -> Padding:
    return Padding(Text("\n".join(map(plain, text.split("\n")))), (0, 0, 0, by), expand=False)
