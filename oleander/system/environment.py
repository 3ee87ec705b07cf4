"""What a run ran on: versions, commit, machine."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from oleander.system import itself
from oleander.system.itself import ROOT
from oleander.system.machine import cpu_name

PACKAGES = ("flwr", "ray", "torch", "torchvision", "numpy", "matplotlib", "safetensors", "oleander")


def environment(device: str, gpu: str | None, threads: int) -> dict[str, Any]:
    """Versions, commit and machine, for environment.json; ``gpu`` in words, None without one."""
    return {
        "python": platform.python_version(),
        "packages": versions(),
        "commit": _commit(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "device": device,
        "server_threads": threads,
        "gpu": gpu,
        "command": call() or shlex.join(sys.argv),
    }


def called_as(text: str) -> None:
    """From here on, what this process was asked for is a call in Python, not its command line."""
    _CALL[:] = [text]


def call() -> str:
    """The call in Python that this process carries out; nothing, where it is a command line."""
    return "".join(_CALL)


_CALL: list[str] = []


def versions() -> dict[str, str | None]:
    """Of the packages that a result depends on; None for one that is not installed."""
    return {name: _version(name) for name in PACKAGES}


def versions_in_words() -> str:
    """For --version: this program's, and those of what its results depend on."""
    others = {name: version for name, version in versions().items() if name != itself.NAME}
    own = f"{itself.NAME} {itself.version() or 'of no known version'}"
    return f"{own} (Python {platform.python_version()}, {', '.join(f'{n} {v or None}' for n, v in others.items())})"


def differences(then: dict[str, Any], now: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Which of these are not alike in two environments."""
    return [name for name in names if then.get(name) != now[name]]


def _version(package: str) -> str | None:
    if package == itself.NAME:  # what runs is this tree, whatever else is installed
        return itself.version()
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of this source tree, with + where files differ from it; None outside a git checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != ROOT.resolve():
            return None
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None
