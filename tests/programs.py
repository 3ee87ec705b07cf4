"""Runs the programs as a user does: in a process of their own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
TINY = [
    "--scenario", "dba", "--rounds", "2", "--samples-per-client", "8", "--batch-size", "4", "--local-epochs", "1",
    "--actors", "1",
]  # fmt: skip


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


def assert_nothing_left_of(folder: Path) -> None:
    """No process is left whose environment names this folder."""
    time.sleep(1.0)
    left = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("OLEANDER_TEST") == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process.cmdline())
        except psutil.Error:
            continue
    assert not left
