"""What plug-ins declare, read from their files without importing them: their settings, and what else they ask for.

A plug-in is one function, named as its file. A keyword-only argument with a default is a setting of its own: the annotation
says what it may be (``oleander.settings.ranges``), its entry under ``Args:`` what it is. One without a default is a shared setting,
another plug-in's, or something that the plug-in knows. Imported, attacks would bring PyTorch, for which neither ``--help`` nor a
refusal should have to wait.
"""

import ast
import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union

import docstring_parser

from oleander.settings.ranges import VOCABULARY, FilePath

PACKAGES = ("attacks", "strategies", "repairs")
MACHINERY = ("strategies.flower", "strategies.contract")


@dataclass(frozen=True)
class Setting:
    """A setting that a plug-in declares for itself."""

    name: str
    plugin: str
    type: Any
    default: Any
    help: str

    @property
    def is_path(self) -> bool:
        """Whether it names a file of the user's."""
        return self.type is FilePath


@dataclass(frozen=True)
class Declaration:
    """What a plug-in's file says of it."""

    package: str
    name: str
    summary: str
    """First line of the docstring."""
    settings: tuple[Setting, ...]
    """Its own."""
    asks: tuple[str, ...]
    """Keyword arguments without a default: settings of others, or what it knows."""

    @property
    def uses(self) -> tuple[str, ...]:
        """Every name that it is given, settings of its own among them."""
        return (*(setting.name for setting in self.settings), *self.asks)


@functools.cache
def names_in(package: str) -> tuple[str, ...]:
    """The plug-ins of a package, by their files, in order."""
    return tuple(sorted(_files(package)))


@functools.cache
def _files(package: str) -> dict[str, Path]:
    """Name → file of each plug-in; the package itself is not imported."""
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations if spec else None) or []
    found = {path.stem: path for folder in folders for path in Path(folder).glob("*.py")}
    return {n: path for n, path in found.items() if not n.startswith("_") and f"{package}.{n}" not in MACHINERY}


def forget() -> None:
    """Look for plug-ins anew: there are others now."""
    for remembered in (names_in, _files, declaration, declared):
        remembered.cache_clear()


@functools.cache
def declaration(package: str, name: str) -> Declaration:
    """What the plug-in of this name declares.

    Raises:
        TypeError: no function of the file's name, or a setting whose type or default cannot be one: a programming error.
    """
    where = f"{package}/{name}.py"
    tree = ast.parse(_files(package)[name].read_text(encoding="utf-8"))
    function = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name), None)
    if function is None:
        raise TypeError(f"{where}: wanted a function named {name}, as the file")
    text = ast.get_docstring(function) or ""
    words = {p.arg_name: (p.description or "").replace("\n", " ") for p in docstring_parser.parse(text).params}
    settings, asks = [], []
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if default is None:
            asks.append(argument.arg)
        else:
            settings.append(_setting(argument, default, name, words.get(argument.arg, ""), where))
    return Declaration(package, name, text.partition("\n")[0], tuple(settings), tuple(asks))


def _setting(argument: ast.arg, default: ast.expr, plugin: str, words: str, where: str) -> Setting:
    try:
        kind, value = _type(argument.annotation), ast.literal_eval(default)
    except (ValueError, KeyError) as error:
        raise TypeError(
            f"{where}: {argument.arg} wants a type of {', '.join(VOCABULARY)}, and a plain default ({error})"
        ) from None
    return Setting(argument.arg, plugin, kind, value, words)


def _type(annotation: ast.expr | None) -> Any:
    """The type that an annotation names: a word of the vocabulary, ``Literal[…]``, None, or several of them joined by ``|``."""
    match annotation:
        case ast.Constant(value=None):
            return None
        case ast.Name(id=name):
            return VOCABULARY[name]
        case ast.Subscript(value=ast.Name(id="Literal"), slice=values):
            words = ast.literal_eval(values)
            return Literal[words]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return Union[_type(left), _type(right)]  # noqa: UP007  # built at run time
    raise ValueError(ast.unparse(annotation) if annotation else "no type")


@functools.cache
def declared() -> dict[str, Setting]:
    """Name → setting, of all plug-ins.

    Raises:
        TypeError: two that declare the same name: a programming error, since what is shared stands in config.py, and a
            second user of a plug-in's setting names it without a default.
    """
    found: dict[str, Setting] = {}
    for package in PACKAGES:
        for plugin in names_in(package):
            for setting in declaration(package, plugin).settings:
                if setting.name in found:
                    raise TypeError(f"{setting.name}: declared by {found[setting.name].plugin} and by {plugin}")
                found[setting.name] = setting
    return found


def users_of(setting: str) -> tuple[str, ...]:
    """The plug-ins that are given this setting, its owner among them."""
    return tuple(
        name for package in PACKAGES for name in names_in(package) if setting in declaration(package, name).uses
    )


def in_use(attack: str, strategy: str, repair: str = "none") -> dict[str, Setting]:
    """Name → setting, of those that plug-ins declare and that these steps (joined by +) are given; unknown steps use none."""
    steps = [("attacks", name) for name in attack.split("+")]
    steps += [("strategies", name) for name in (*strategy.split("+"), "fedavg")]
    steps += [("repairs", name) for name in repair.split("+")]
    used = {name for package, step in steps if step in names_in(package) for name in declaration(package, step).uses}
    return {name: setting for name, setting in declared().items() if name in used}
