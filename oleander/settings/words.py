"""What is said of a word that is none of those that can be: the nearest that can, and what a setting may be.

A command line is read here before tyro reads it, so that a mistake is one line about the word, and not about Python's types.
"""

import contextlib
import difflib
import io
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

from oleander.system.console import say_error
from oleander.system.errors import UserError
from oleander.system.foreign import plain, shortened

BUILT_IN = ("help", "tyro-print-completion", "tyro-write-completion")
"""Flags of tyro's own."""
TRUE_OR_FALSE = ("true", "false")


def near(word: str, known: Iterable[str]) -> str:
    """`` (did you mean krum?)`` for ``Krum`` and ``krumm``; nothing where nothing is near."""
    close = nearest(word, known)
    return f" (did you mean {close}?)" if close else ""


def meant(word: str, known: Iterable[str]) -> str:
    """The same at a line's end, behind all that is known: ``; did you mean krum?``."""
    close = nearest(word, known)
    return f"; did you mean {close}?" if close else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, whatever its letters' size and whether - or _ joins its parts."""
    folded = {_folded(other): other for other in known}
    close = difflib.get_close_matches(_folded(shortened(word, 100)), folded, n=1)
    return folded[close[0]] if close else ""


def range_words(kind: Any) -> str:
    """A setting's type in words: ``a number, > 0``, ``median or a number, > 0``."""
    if kind is None or kind is type(None):
        return "none"
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    bounds = getattr(kind, "__metadata__", None)
    if bounds is not None:
        signs = {Ge: ("ge", "≥"), Gt: ("gt", ">"), Le: ("le", "≤"), Lt: ("lt", "<")}
        told = [f"{signs[type(b)][1]} {getattr(b, signs[type(b)][0]):,}" for b in bounds if type(b) in signs]
        told += [b for b in bounds if isinstance(b, str)]
        return ", ".join([range_words(kind.__origin__), *told])
    if get_origin(kind) is tuple:  # several of one kind
        return range_words(get_args(kind)[0])
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return words[kind] if kind in words else " or ".join(map(range_words, get_args(kind)))


def parsed(
    arguments: Sequence[str], kinds: Mapping[str, Any], prog: str, parse: Callable[[], Any],
    guess: Callable[[str], str] = lambda word: "",
) -> Any:  # fmt: skip
    """What ``parse`` makes of a command line; a word that cannot be ends the program with one line and exit code 2, as argparse does.

    Args:
        arguments: the command line.
        kinds: name → type of every flag.
        prog: the command, for messages.
        parse: tyro's parsing, which may print help and exit.
        guess: what a word that is neither a flag nor a flag's value was probably to be; "" where it is not known.
    """
    try:
        _check(arguments, kinds, prog, guess)
    except UserError as error:
        _end(str(error))
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parse()
    except SystemExit as end:
        if end.code != 2:
            raise
        text = " ".join(re.sub(r"[\u2500-\u257f]|-{3,}", " ", said.getvalue()).split())
        _end(re.sub(r"\s*(Argument helptext:|For full helptext).*", "", text))


def _end(said: str) -> NoReturn:
    say_error(UserError(said))
    raise SystemExit(2)


def _check(arguments: Sequence[str], kinds: Mapping[str, Any], prog: str, guess: Callable[[str], str]) -> None:
    """Refuse flags that are none, values that cannot be read as what they are to be, and words that belong to no flag."""
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if word == "-h":
            continue
        if not word.startswith("--"):
            raise UserError(f"{shortened(word, 200)}: {_stray(word, kinds, guess)} ({prog} --help names every flag)")
        flag, equals, value = word.partition("=")
        name = flag[2:].replace("-", "_")
        if name.replace("_", "-") in BUILT_IN:
            return
        if name not in kinds:
            others = [f"--{other.replace('_', '-')}" for other in kinds]
            raise UserError(f"{shortened(flag, 200)}: no such flag{near(flag, others)}; {prog} --help names every one")
        kind = kinds[name]
        several = _takes_several(kind)
        values = [value] if equals else []
        while waiting and not waiting[0].startswith("--") and not equals and (several or _is_bool(kind) or not values):
            if _is_bool(kind) and waiting[0] not in TRUE_OR_FALSE and values:
                break
            values.append(waiting.pop(0))
        if not values and not _is_bool(kind):
            raise UserError(f"{flag}: its value is missing: {range_words(kind)}")
        for value in values:
            if not several and not _readable(kind, value):
                hint = near(value, _choices(kind))
                raise UserError(f"{flag} {shortened(value, 200) or repr(value)}: wanted {range_words(kind)}{hint}")


def _stray(word: str, kinds: Mapping[str, Any], guess: Callable[[str], str]) -> str:
    name = word.lstrip("-").partition("=")[0]
    if meaning := guess(word):
        return f"belongs to no flag; did you mean {meaning}?"
    if word.startswith("-") or "=" in word:
        flag = nearest(name, kinds).replace("_", "-")
        if flag:
            return f"no such flag; did you mean --{flag}{word[word.index('=') :] if '=' in word else ''}?"
    return "belongs to no flag"


def _readable(kind: Any, word: str) -> bool:
    """Whether a word can be read as a value of this type, in whatever range."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _readable(kind.__origin__, word)
    if origin in (Union, types.UnionType):
        return any(_readable(part, word) for part in get_args(kind))
    if origin is Literal:
        return word in map(str, get_args(kind))
    if kind is bool:
        return word in TRUE_OR_FALSE
    if kind in (None, type(None)):
        return word == "None"
    if kind in (int, float):
        try:
            kind(word)
        except ValueError:
            return False
    return True


def _choices(kind: Any) -> list[str]:
    """The words that a type names."""
    if get_origin(kind) is Literal:
        return list(map(str, get_args(kind)))
    return [word for part in get_args(kind) for word in _choices(part)]


def _is_bool(kind: Any) -> bool:
    return kind is bool or (get_origin(kind) is Annotated and kind.__origin__ is bool)


def _takes_several(kind: Any) -> bool:
    return get_origin(kind) is tuple  # one that is given again for each of its values is Annotated


def _folded(word: str) -> str:
    return plain(word).strip().casefold().replace("-", "_").lstrip("_")
