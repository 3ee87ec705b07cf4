"""What ``--attack`` and ``--strategy`` join: names of plug-ins, and files of the user's own (``clip+./my_rule.py``).

``--model`` and ``--dataset`` name one, and join nothing.
"""

from pathlib import Path
from typing import Any

from oleander.system.files import absolute

SUFFIX = ".py"


def split(joined: str) -> list[str]:
    """The steps, in their order; a + in the path of a file does not divide it."""
    steps: list[str] = []
    pieces = joined.split("+")
    while pieces:
        end = 1
        if "/" in pieces[0]:
            ends = [i for i, piece in enumerate(pieces, start=1) if piece.endswith(SUFFIX)]
            end = next(iter(ends), 1)
        steps.append("+".join(pieces[:end]))
        pieces = pieces[end:]
    return steps


def is_file(step: str) -> bool:
    """Whether a step is the path of a file."""
    return "/" in step or step.endswith(SUFFIX)


def is_one_file(value: str) -> bool:
    """Whether a value of --model or --dataset names a file of the user's; ``folder:DIR`` never does."""
    return value.endswith(SUFFIX) and not value.startswith("folder:")


def short(step: str) -> str:
    """The plug-in's name: its file's without folder and ending."""
    return Path(step).name.removesuffix(SUFFIX) if is_file(step) else step


def shown(joined: str) -> str:
    """The same steps by their names alone, for tables, figures and folders."""
    return "+".join(map(short, split(joined)))


def short_value(name: str, value: Any) -> Any:
    """A setting's value in tables and figures: steps by their names alone, anything else as it is."""
    if not isinstance(value, str) or name not in ("attack", "strategy", "repair", "model", "dataset"):
        return value
    if name in ("attack", "strategy", "repair"):
        return shown(value)
    return short(value) if is_one_file(value) else value


def whole(step: str) -> str:
    """A step with its file's path absolute; the file itself may be a link, since its name is the plug-in's.

    Raises:
        UserError: a path that cannot be.
    """
    if not is_file(step):
        return step
    path = Path(step)
    return str(absolute(str(path.parent)) / path.name)


def whole_steps(joined: str) -> str:
    """All steps with absolute paths, so that they can be named from anywhere."""
    return "+".join(map(whole, split(joined)))
