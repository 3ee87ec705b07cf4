"""A function of a Python session, such as one that a notebook's cell defines, as the file of a plug-in.

A run is a process of its own, so it is given a text and no live object: the function's source, and above it what it uses of
the session: imports, plain values, and the session's own functions and classes in the same way. The text is the plug-in's
file: it is hashed and checked as any other. What cannot be written down is refused by its name, and never left out: what a
function around it holds (a closure), arrays, models, lists that others may change.
"""

import ast
import builtins
import dis
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from oleander.settings.steps import short, split
from oleander.system.errors import UserError

FOLDER = "python-session"
"""Where the file of such a plug-in lies, while its run goes on; and in the run's folder, where its text is kept."""
PLAIN = (type(None), bool, int, float, complex, str, bytes)
LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
RANGES = "oleander.settings.ranges"
"""Its types have no name of their own, and are found under many."""
OF_THE_PROMPT = ("display", "get_ipython", "exit", "quit")
"""Names that IPython adds to those of every program."""
TAKES = (
    "it takes along imports, functions, classes, numbers, texts and tuples of the session; make anything else inside"
)


def is_of_a_session(file: str) -> bool:
    """Whether a plug-in's file is the text of a function of a session."""
    return Path(file).parent.name == FOLDER


def without_folders(value: Any) -> Any:
    """A setting's value with functions of a session by their names alone: where their files lie is new in each call."""
    if not isinstance(value, str) or FOLDER not in value:
        return value
    return "+".join(short(step) if is_of_a_session(step) else step for step in split(value))


def source_of(function: Callable[..., Any], asked: str) -> str:
    """The text of a file that defines this function, and before it all that it uses of its session.

    Args:
        function: of the session, or of a module.
        asked: how it was asked for, for messages.

    Raises:
        UserError: no function with a name and a source, or one that uses what cannot be written down; names it.
    """
    if not isinstance(function, FunctionType) or not function.__name__.isidentifier():
        named = getattr(function, "__name__", type(function).__name__)
        raise UserError(f"{asked}: {named} is no function with a name of its own (def NAME(…): …)")
    text = _Text(asked, function.__module__, function.__globals__)
    text.define(function.__name__, function)
    return "\n".join([*sorted(text.imports), *text.values, *(f"\n\n{part}" for part in text.definitions)])


@dataclass
class _Text:
    """What has been written so far."""

    asked: str
    module: str
    scope: dict[str, Any]
    imports: set[str] = field(default_factory=set)
    values: list[str] = field(default_factory=list)
    definitions: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def define(self, name: str, what: Any) -> None:
        """Add a function or a class, what it uses before it."""
        self.seen.add(name)
        source = self._source(name, what)
        tree = ast.parse(source)
        if getattr(tree.body[0], "name", None) != name:
            raise UserError(f"{self.asked}: {name} is another name of {getattr(what, '__name__', what)}; use that")
        self._check_itself(name, what, source)
        for used in dict.fromkeys((*_names(compile(source, name, "exec", dont_inherit=True)), *_annotated(tree))):
            if used not in self.seen and not used.startswith("__"):
                self.seen.add(used)
                self._add(used, name)
        self.definitions.append(source)

    def _source(self, name: str, what: Any) -> str:
        try:
            return textwrap.dedent(inspect.getsource(what))
        except (OSError, TypeError):
            raise UserError(
                f"{self.asked}: the source of {name} cannot be found; write it to a file and name that (./{name}.py)"
            ) from None

    def _check_itself(self, name: str, what: Any, source: str) -> None:
        """Refuse a closure, a function that changes the session, and a source that is not what runs."""
        if not isinstance(what, FunctionType):
            return
        code = what.__code__
        if code.co_freevars:
            around = " and ".join(code.co_freevars)
            raise UserError(f"{self.asked}: {name} uses {around} of the function around it; hand it in as a setting")
        for nested in _codes(code):
            for step in dis.get_instructions(nested):
                if step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                    raise UserError(
                        f"{self.asked}: {name} changes {step.argval} of the session, which a run cannot reach"
                    )
        flags = code.co_flags & _FUTURE
        compiled = next((c for c in _codes(compile(source, name, "exec", flags, True)) if c.co_name == name), None)
        if compiled is None or (compiled.co_code, compiled.co_names) != (code.co_code, code.co_names):
            raise UserError(f"{self.asked}: the source of {name} is no longer what it was made of; run it again")

    def _add(self, name: str, user: str) -> None:
        """Add what a name stands for."""
        if name not in self.scope:
            if hasattr(builtins, name) and name not in OF_THE_PROMPT:
                return
            raise UserError(f"{self.asked}: {user} uses {name}, which a run does not have; {TAKES}")
        value = self.scope[name]
        if isinstance(value, ModuleType):
            self.imports.add(f"import {value.__name__} as {name}")
        elif _is_plain(value):
            self.values.append(f"{name} = {value!r}")
        elif isinstance(value, FunctionType | type) and value.__module__ == self.module:
            self.define(name, value)
        elif where := _importable(name, value, self.module):
            self.imports.add(f"from {where[0]} import {where[1]} as {name}")
        else:
            kind = type(value).__name__
            raise UserError(f"{self.asked}: {user} uses {name} of the session, a {kind}; {TAKES} {user}")


_FUTURE = 0x1000000  # CO_FUTURE_ANNOTATIONS


def _codes(code: CodeType) -> Iterator[CodeType]:
    """This code and all within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _names(code: CodeType) -> list[str]:
    """Names that a text takes from around it."""
    found: list[str] = []
    for one in _codes(code):
        own = {step.argval for step in dis.get_instructions(one) if step.opname == "STORE_NAME"}
        loaded = [step.argval for step in dis.get_instructions(one) if step.opname in LOADS]
        found += [name for name in loaded if name not in own]
    return found


def _annotated(tree: ast.Module) -> list[str]:
    """Names in its annotations, which may be written as strings."""
    found: list[str] = []
    for node in ast.walk(tree):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                part = ast.parse(part.value, mode="eval")
            found += [n.id for n in ast.walk(part) if isinstance(n, ast.Name)] if part else []
    return found


def _is_plain(value: Any) -> bool:
    """Whether a value is one that nobody can change, and comes out of its own text as it is."""
    if type(value) is tuple:
        return all(map(_is_plain, value))
    try:
        return type(value) in PLAIN and ast.literal_eval(repr(value)) == value
    except (ValueError, SyntaxError):
        return False  # NaN, for one


def _importable(name: str, value: Any, besides: str) -> tuple[str, str] | None:
    """Module and name by which another process gets the very same object; not the module that the name was used in."""
    module, own = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if isinstance(module, str) and isinstance(own, str) and _has(module, own, value):
        return module, own
    if isinstance(value, list | dict | set):
        return None
    others = (place for place in sys.modules if not place.startswith("_") and place != besides)
    places = [place for place in others if _has(place, name, value)]
    return (min(places, key=lambda place: (place != RANGES, place.count("."), place)), name) if places else None


def _has(module: str, name: str, value: Any) -> bool:
    found = sys.modules.get(module)
    return module != "__main__" and isinstance(found, ModuleType) and vars(found).get(name) is value
