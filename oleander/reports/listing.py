"""``--list``: what there is to run; after ``--list NAME`` one plug-in whole. Files are read, and nothing of them is run."""

import ast
from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from oleander.settings import outside
from oleander.settings.cli import known_scenarios, load_scenario_file
from oleander.settings.config import SHARED, shown_value
from oleander.settings.declared import (
    ATTACKER_KNOWS,
    AUTO,
    DATASETS,
    FLAGS,
    KNOWLEDGE,
    MODELS,
    TORCHVISION,
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
from oleander.settings.threats import ATTACKERS_KNOW, DEFENCES_NEED, known_besides, needed_besides
from oleander.settings.words import near, range_words
from oleander.system import itself
from oleander.system.errors import UserError
from oleander.system.foreign import plain, shortened

PLACES = tuple(FLAGS)
AUTO_IS = "CIFAR-10 if it is on disk or can be downloaded, else digits."
MODELS_BESIDE = {
    f"{TORCHVISION}NAME": "A classification model of torchvision's (resnet50 …), untrained, fitted to the images."
}


def print_list(console: Console) -> None:
    """All scenarios, attacks and strategies, a line each."""
    console.print(f"[bold]Scenarios[/]  {itself.command()} --scenario NAME (or PATH.toml), any flag over it")
    scenarios = {name: load_scenario_file(name) for name in known_scenarios()}
    single = {name: s.experiment.description for name, s in scenarios.items() if not s.study}
    studies = {name: s.experiment.description for name, s in scenarios.items() if s.study}
    own = {package: installed(package) for package in FLAGS}
    attacks = {"none": "Malicious clients there are none."} | _summaries("attacks")
    console.print(_two_columns(single))
    console.print(
        "\n[bold]Studies[/]  the same, many runs each; --repeats N for N seeds, --sweep NAME=VALUE,… for one of your own"
    )
    console.print(_two_columns(studies))
    console.print(
        f"\n[bold]Attacks[/]  --attack NAME, steps joined by + (dba+scaling). Attackers know {ATTACKERS_KNOW}, "
        "and what else a line says."
    )
    console.print(_two_columns(attacks | own["attacks"]))
    console.print(
        "\n[bold]Strategies[/]  --strategy NAME; filters, then one rule, then finishes, joined by + (clip+krum+noise). "
        f"The server needs {DEFENCES_NEED}, and what else a line says."
    )
    console.print(_two_columns(_strategies() | own["strategies"]))
    console.print("\n[bold]Models[/]  --model NAME; --norm group for group norm in place of their batch norms")
    console.print(_two_columns(_summaries(MODELS) | MODELS_BESIDE | own[MODELS]))
    console.print("\n[bold]Datasets[/]  --dataset NAME")
    images = {AUTO: AUTO_IS} | {shown_source(n): summary for n, summary in _summaries(DATASETS).items()}
    console.print(_two_columns(images | own[DATASETS]))
    repairs = {"none": "The final model stays as it is."} | _summaries("repairs")
    console.print("\n[bold]Repairs[/]  --repair NAME, of the final model, steps joined by +")
    console.print(_two_columns(repairs | own["repairs"]))
    console.print(f"\nEvery setting is a flag: {itself.command()} --help; --list NAME shows a plug-in whole")


def _summaries(package: str) -> dict[str, str]:
    return {name: _with_threats(declaration(package, name)) for name in built_in(package)}


def _with_threats(found: Declaration) -> str:
    """What it does, and what an attack knows or a defence needs besides what all do."""
    known = f"Knows {more}." if found.package == "attacks" and (more := known_besides(found)) else ""
    needed = f"Needs {', '.join(needs)}." if (needs := needed_besides(found)) else ""
    return " ".join(filter(None, [found.summary, known, needed]))


def _strategies() -> dict[str, str]:
    """Rules first, which need no word for their kind, then filters, then finishes."""
    found: dict[str, dict[str, str]] = {"rule": {}, "filter": {}, "finish": {}}
    for name in built_in("strategies"):
        step = declaration("strategies", name)
        kind = kind_in(step.source, "strategies", name) or ""
        found[kind][name if kind == "rule" else f"{name} ({kind})"] = _with_threats(step)
    return found["rule"] | found["filter"] | found["finish"]


def _two_columns(rows: dict[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for name, text in rows.items():
        table.add_row(f"  {escape(name)}", escape(text))
    return table


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
        names += [name for name in ATTACKER_KNOWS if name in asked]
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
