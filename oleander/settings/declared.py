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
from typing import Any, Literal, Union, get_args

import docstring_parser

from oleander.settings.ranges import VOCABULARY, ClassName, FilePath, FolderPath
from oleander.settings.steps import is_file, is_one_file, short, split, whole

MODELS, DATASETS = "oleander.models", "oleander.datasets"
FLAGS = {"attacks": "attack", "strategies": "strategy", "repairs": "repair", MODELS: "model", DATASETS: "dataset"}
"""Package → the setting that names its plug-ins."""
PACKAGES = tuple(FLAGS)
ALONE = (MODELS, DATASETS)
"""Packages of which a run has one plug-in, and joins none."""
MACHINERY = ("strategies.flower", "strategies.contract")
AUTO = "auto"
"""What --dataset names and no file is: it chooses one."""
TORCHVISION = "torchvision:"
"""Begins the models that --model takes from torchvision; they are no plug-ins."""
KNOWLEDGE = {
    "strategies": ("memory", "rng", "layout", "root", "answers", "image"),
    "attacks": ("image", "layout"),
    "repairs": ("rng", "layout", "root", "answers", "image", "module"),
    MODELS: (),
    DATASETS: (),
}
"""What a package's plug-ins may ask for by name besides settings."""
ATTACKER_KNOWS = ("memory", "start", "previous", "model", "shard", "rng", "attacker", "train")
"""What the inner functions of an attack may ask for: ``attacks.KNOWS``, where each is told."""


@dataclass(frozen=True)
class Setting:
    """A setting that a plug-in declares for itself."""

    name: str
    plugin: str
    type: Any
    default: Any
    help: str
    hidden: bool = False
    """Whether it is there for records alone, and no flag for users."""

    @property
    def is_path(self) -> bool:
        """Whether it names a file or a folder of the user's."""
        return self.type in (FilePath, FolderPath)

    @property
    def is_folder(self) -> bool:
        """Whether it names a folder."""
        return self.type is FolderPath

    @property
    def is_class(self) -> bool:
        """Whether it names a class of the dataset."""
        return ClassName in get_args(self.type)


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
    source: str = ""
    """The file's text."""
    step: str = ""
    """Of one from outside: how it is named in a run's settings, by the absolute path of its file or by its entry point."""
    file: str = ""
    """Of one from outside: its file."""
    module: str = ""
    """Of an installed one: its module."""

    @property
    def uses(self) -> tuple[str, ...]:
        """Every name that it is given, settings of its own among them."""
        return (*(setting.name for setting in self.settings), *self.asks)


_OUTSIDE: dict[tuple[str, str], Declaration] = {}
"""(package, name) → plug-in from outside the repository that this process has been told to use (``oleander.settings.outside``)."""


@functools.cache
def names_in(package: str) -> tuple[str, ...]:
    """The plug-ins of a package, by their files, in order; those from outside behind them."""
    return (*built_in(package), *(name for where, name in _OUTSIDE if where == package))


def built_in(package: str) -> tuple[str, ...]:
    """Those of the repository."""
    return tuple(sorted(_files(package)))


def file_of(package: str, name: str) -> Path:
    """The file of one of the repository's."""
    return _files(package)[name]


def outside(package: str) -> dict[str, Declaration]:
    """Name → plug-in from outside that this process has been told to use."""
    return {name: found for (where, name), found in _OUTSIDE.items() if where == package}


def set_outside(found: dict[tuple[str, str], Declaration]) -> None:
    """Use these plug-ins from outside from now on, and no others."""
    _OUTSIDE.clear()
    _OUTSIDE.update(found)
    forget()


@functools.cache
def _files(package: str) -> dict[str, Path]:
    """Name → file of each plug-in; the package itself is not imported."""
    spec = importlib.util.find_spec(package)
    folders = (spec.submodule_search_locations if spec else None) or []
    found = {path.stem: path for folder in folders for path in Path(folder).glob("*.py")}
    found = {n: path for n, path in found.items() if not n.startswith("_") and f"{package}.{n}" not in MACHINERY}
    return {n: path for n, path in found.items() if package != DATASETS or _makes_images(n, path)}


def _makes_images(name: str, path: Path) -> bool:
    """Whether a file of the datasets' room is a source: it has a function of its name that gives Images."""
    text = path.read_text(encoding="utf-8")
    function = function_in(text, name) if f"def {name}(" in text else None
    return function is not None and function.returns is not None and ast.unparse(function.returns) == "Images"


@functools.cache
def word_of(name: str) -> str:
    """What one of the repository's sources is told behind a colon, as its function names it: ``DIR``; nothing for most."""
    function = function_in(declaration(DATASETS, name).source, name)
    arguments = function.args.args if function else []
    return arguments[1].arg.upper() if len(arguments) > 1 else ""


def sources() -> tuple[str, ...]:
    """What --dataset names of its own: auto, cifar10, folder:DIR …"""
    return (AUTO, *map(shown_source, built_in(DATASETS)))


def shown_source(name: str) -> str:
    """How --dataset names one of the repository's sources: ``toy``, ``folder:DIR``."""
    return f"{name}:{word_of(name)}" if word_of(name) else name


def source_in(value: str) -> tuple[str, str]:
    """Which of the repository's sources a value of --dataset names, and what stands behind its colon; two times nothing if none."""
    name, colon, told = value.partition(":")
    if name not in built_in(DATASETS) or bool(word_of(name)) != bool(colon) or bool(colon) != bool(told):
        return "", ""
    return name, told


def forget() -> None:
    """Look for plug-ins anew: there are others now."""
    for remembered in (names_in, _files, word_of, declaration, declared):
        remembered.cache_clear()


@functools.cache
def declaration(package: str, name: str) -> Declaration:
    """What the plug-in of this name declares.

    Raises:
        TypeError: no function of the file's name, or a setting whose type or default cannot be one: a programming error.
    """
    if (package, name) in _OUTSIDE:
        return _OUTSIDE[package, name]
    return declaration_in(_files(package)[name].read_text(encoding="utf-8"), package, name, f"{package}/{name}.py")


def function_in(source: str, name: str) -> ast.FunctionDef | None:
    """The function of this name that a file's text defines."""
    return next((n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == name), None)


def declaration_in(source: str, package: str, name: str, where: str) -> Declaration:
    """What this text of a plug-in's file declares; ``where`` it is, for messages. Raises as ``declaration`` does."""
    function = function_in(source, name)
    if function is None:
        raise TypeError(f"{where}: wanted a function named {name}, as the file")
    text = ast.get_docstring(function) or ""
    own = any(function.args.kw_defaults)  # where it has no settings, a slow reading for nothing
    params = docstring_parser.parse(text).params if own else []
    words = {p.arg_name: (p.description or "").replace("\n", " ") for p in params}
    settings, asks = [], []
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if default is None:
            asks.append(argument.arg)
        else:
            settings.append(_setting(argument, default, name, words.get(argument.arg, ""), where))
    return Declaration(package, name, text.partition("\n")[0], tuple(settings), tuple(asks), source)


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


def is_built_in(setting: str) -> bool:
    """Whether a plug-in of the repository declares this setting."""
    found = declared().get(setting)
    return found is not None and all((package, found.plugin) not in _OUTSIDE for package in PACKAGES)


def users_of(setting: str) -> tuple[str, ...]:
    """The plug-ins that are given this setting, its owner among them."""
    return tuple(
        name for package in PACKAGES for name in names_in(package) if setting in declaration(package, name).uses
    )


def steps_of(package: str, value: str) -> list[str]:
    """The plug-ins that a setting names; [] for ``none``."""
    steps = [value] if package in ALONE else split(value)
    if package == DATASETS:
        steps = [] if value == AUTO else [source_in(value)[0] or value]
    if package == MODELS and value.startswith(TORCHVISION):
        steps = []
    return [step for step in steps if step not in ("", "none")]


def outside_steps(package: str, value: str) -> list[str]:
    """Those of them that are none of the repository's, known to this process or not."""
    return [step for step in steps_of(package, value) if step not in built_in(package)]


def knows_step(package: str, step: str) -> bool:
    """Whether this process has the plug-in that a step of --attack or --strategy names."""
    found = _OUTSIDE.get((package, short(step)))
    if is_one_file(step) if package in ALONE else is_file(step):
        return found is not None and found.step == whole(step)
    return step in _files(package) or (found is not None and found.step == step)


def in_use(*named: str) -> dict[str, Setting]:
    """Name → setting, of those that plug-ins declare and that these values of FLAGS, in its order, use; unknown steps use none."""
    steps = [(package, step) for package, value in zip(FLAGS, named, strict=False) for step in steps_of(package, value)]
    known = [(package, short(step)) for package, step in steps if knows_step(package, step)]
    used = {name for package, step in (*known, ("strategies", "fedavg")) for name in declaration(package, step).uses}
    return {name: setting for name, setting in declared().items() if name in used}


def has_outside_steps(*named: str) -> bool:
    """Whether these values of FLAGS, in its order, name what is none of the repository's, known to this process or not."""
    return any(outside_steps(package, value) for package, value in zip(FLAGS, named, strict=False))


def has_unknown_steps(*named: str) -> bool:
    """Whether there are steps that this process does not know: files that it has not been told to use, for example."""
    steps = [(package, step) for package, value in zip(FLAGS, named, strict=False) for step in steps_of(package, value)]
    return not all(knows_step(package, step) for package, step in steps)
