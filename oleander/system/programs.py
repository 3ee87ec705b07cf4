"""Python programs that this one starts: they see the packages that it sees, and Flower's are found wherever they lie.

The packages may come from PYTHONPATH (a cluster's modules, ``pip install --target``), where nothing lies beside the interpreter
and a child would not look. The current directory, which Python puts first for ``-m`` and ``-c``, is not let in.
"""

import os
import re
import shlex
import signal
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from oleander.system.itself import ROOT

FAREWELLS = 8
"""Lines that a program may say after the one that tells what went wrong: uvicorn takes leave in two."""
_ERROR = re.compile(r"(?<!\.)error\b", re.IGNORECASE)
"""``ValueError``, ``error:``; not the name of uvicorn's logger, ``uvicorn.error``."""


def python(*arguments: str) -> list[str]:
    """A command of this interpreter that does not look for packages in the current directory."""
    return [sys.executable, "-P", *(["-S"] if sys.flags.no_site else []), *arguments]


def module_path(root: Path = ROOT) -> str:
    """PYTHONPATH for a child: this program first, then where this process finds its packages, in its order."""
    library = Path(sysconfig.get_path("stdlib"))
    own = {library, library / "lib-dynload", Path(sysconfig.get_path("platstdlib")), library.parent / _zipped()}
    here = Path.cwd()
    named = {Path(item).absolute() for item in os.environ.get("PYTHONPATH", "").split(os.pathsep) if item}
    paths = [root]
    for item in sys.path:
        path = Path(item)
        if not path.is_absolute() or path in own or (path == here and path not in named):
            continue
        paths.append(path)
    return os.pathsep.join(dict.fromkeys(map(str, paths)))


def flower(name: str) -> list[str]:
    """The command of one of Flower's programs (``flower-superlink``), by what its package says of it and not by a file's place."""
    entry = metadata.distribution("flwr").entry_points.select(group="console_scripts")[name]
    start = f"import sys; from {entry.module} import {entry.attr} as run; sys.argv[0] = {name!r}; sys.exit(run())"
    return python("-c", start)


def flower_programs(folder: Path) -> str:
    """PATH with all of them first, as files in this folder: Flower starts some of its own by name."""
    folder.mkdir(exist_ok=True)
    for entry in metadata.distribution("flwr").entry_points.select(group="console_scripts"):
        file = folder / entry.name
        file.write_text(f'#!/bin/sh\nexec {shlex.join(flower(entry.name))} "$@"\n', encoding="utf-8")
        file.chmod(0o700)
    beside = str(Path(sys.executable).parent)
    return os.pathsep.join([str(folder), beside, os.environ.get("PATH", os.defpath)])


def how_it_ended(code: int | None, log: Path) -> str:
    """A program's end in words: its exit code or signal, and what it said last, of an error if it did."""
    said = said_last(log)
    return f"{ended(code)}; it said: {said}" if said else ended(code)


def ended(code: int | None) -> str:
    """What a program's exit code says of its end."""
    if code is None:
        return "did not end"
    if code >= 0:
        return f"exit code {code}"
    return f"killed by {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"killed by signal {-code}"


def said_last(log: Path) -> str:
    """The last of a file's last lines that tells of an error, else the last that says something; cut to a sensible length."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines()]
    except OSError:
        return ""
    said = [line[:300] for line in reversed(lines) if line][:FAREWELLS]
    return next((line for line in said if _ERROR.search(line)), said[0] if said else "")


def _zipped() -> str:
    return f"python{sys.version_info.major}{sys.version_info.minor}.zip"
