"""Runs the programs as a user does: in a process of their own."""

import atexit
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.forks import RUNNING

ROOT = Path(__file__).parent.parent
TINY = [
    "--scenario", "dba", "--rounds", "2", "--samples-per-client", "8", "--batch-size", "4", "--local-epochs", "1",
    "--actors", "1",
]  # fmt: skip
DIGITS = [*TINY, "--dataset", "digits"]
"""A run whose start is nearly all that it costs."""


def command(*arguments, module="simulate"):
    return [sys.executable, "-m", module, *map(str, arguments)]


def run(*arguments, module="simulate", code=0, seconds=200, mark=""):
    result = subprocess.run(
        command(*arguments, module=module), capture_output=True, text=True, timeout=seconds, cwd=ROOT, check=False,
        env=os.environ | {"OLEANDER_TEST": str(mark)},
    )  # fmt: skip
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    return result


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def assert_nothing_left_of(folder: Path, seconds: float = 60) -> None:
    """No process is left whose environment names this folder, within some time."""
    time.sleep(1.0)
    deadline = time.monotonic() + seconds
    while (left := _processes_of(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left


def _processes_of(folder: Path) -> list[list[str]]:
    found = [
        fork.args for fork in RUNNING if fork.environment.get("OLEANDER_TEST") == str(folder) and fork.poll() is None
    ]
    for process in psutil.process_iter():
        try:
            if process.environ().get("OLEANDER_TEST") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


def wait_for_rounds(process: subprocess.Popen, out: Path, rounds: int, seconds: float = 200) -> None:
    """Until a run that goes on has recorded so many rounds, the start among them."""
    deadline = time.monotonic() + seconds
    file = out / "rounds.jsonl"
    while not file.exists() or len(file.read_text().splitlines()) < rounds:
        assert process.poll() is None, f"ended with {process.returncode}: {process.stderr and process.stderr.read()}"
        assert time.monotonic() < deadline
        time.sleep(0.1)


def kill_tree(process: subprocess.Popen) -> None:
    """Kill a program and all that it started, but its guardian, which removes what it leaves and ends then."""
    with contextlib.suppress(psutil.Error):
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            with contextlib.suppress(psutil.Error):
                if child is process or not any(word.endswith("guardian.py") for word in child.cmdline()):
                    child.kill()
    process.wait(60)


def short_folder() -> Path:
    """A new folder whose path is short enough for sockets; pytest's are not. Gone when the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="ol", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
