"""This program itself: where it lies, its version, and the commands by which it is called.

Its rooms lie side by side, in a source tree (``python simulate.py``) and where a wheel was installed (``oleander``) alike.
"""

import functools
import shutil
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

NAME = "oleander"
ROOT = Path(__file__).parent.parent.parent
"""The folder in which the rooms lie: the source tree, or the site-packages that a wheel was installed to."""
Part = Literal["simulate", "server", "client"]
IN_THE_TREE: dict[Part, str] = {
    "simulate": "python simulate.py",
    "server": "python server.py",
    "client": "python -m clients",
}
INSTALLED: dict[Part, str] = {"simulate": NAME, "server": f"{NAME} server", "client": f"{NAME} client"}


@functools.cache
def project() -> dict[str, Any]:
    """The [project] table of the source tree; empty where this is no source tree."""
    try:
        found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    except (OSError, ValueError, KeyError):
        return {}
    return found if found.get("name") == NAME else {}  # site-packages may hold somebody else's


def version() -> str | None:
    """As pyproject.toml has it, which is the only place that says it; None where it is neither there nor installed."""
    try:
        return str(project()["version"]) if project() else metadata.version(NAME)
    except (KeyError, metadata.PackageNotFoundError):
        return None


def called(part: Part = "simulate") -> list[str]:
    """The words that start this program again just as the user has started it: the interpreter and the file that were named.

    Those of ``command`` where they cannot be told, as in a process that a library has started.
    """
    script, orders = Path(sys.argv[0]), sys.orig_argv
    if script.stem == NAME and script.suffix in (
        "",
        ".exe",
    ):  # the console script: what a shell finds by its name, or where it is
        start = [NAME if shutil.which(NAME) == str(script) else str(script)]
        return [*start, *INSTALLED[part].split()[1:]]
    given = len(orders) - len(sys.argv) + 1
    is_ours = script.name == f"{part}.py" or (script.name == "__main__.py" and script.parent.name == NAME)
    if not is_ours or given < 2 or orders[given:] != sys.argv[1:]:
        return command(part).split()
    return [*orders[:given], *(INSTALLED[part].split()[1:] if script.name == "__main__.py" else [])]


def command(part: Part = "simulate") -> str:
    """The command that a message names: as the user has called this program, else as it can be called here."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py" and called.parent.name == NAME:
        return f"python -m {INSTALLED[part]}"
    return INSTALLED[part] if called.stem == NAME or not project() else IN_THE_TREE[part]
