"""A server and its clients as a user starts them: each a process of its own, on a free port of this machine."""

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from oleander.network.address import free_port, is_taken
from tests.forks import Forked
from tests.programs import ROOT

THREE = [
    "--scenario", "dba", "--clients", "3", "--clients-per-round", "3", "--malicious", "2", "--rounds", "2",
    "--samples-per-client", "8", "--batch-size", "4", "--local-epochs", "1", "--dataset", "digits",
]  # fmt: skip
"""A run on digits: of a model as large as ResNet18Light, a message alone would be eleven megabytes."""


class Place:
    """One run of the network; ends whatever is left when the context does."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", prefix: tuple[str, ...] = ()) -> None:
        self.folder, self.host, self.port, self.prefix = folder, host, free_port(), prefix
        self.logs = folder / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.scratch = folder / "tmp"
        self.scratch.mkdir(exist_ok=True)
        self.out = folder / "run"
        self.anew = False
        self.started: dict[str, subprocess.Popen | Forked] = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.started.values():
            process.terminate()
        for process in self.started.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    def start(self, name: str, *words, prefix: tuple[str, ...] | None = None) -> subprocess.Popen | Forked:
        """A process whose output is in logs/NAME; ``anew`` and behind a prefix, one that makes its imports itself."""
        module, *arguments = map(str, words)
        before = self.prefix if prefix is None else prefix
        env = os.environ | {"OLEANDER_TEST": str(self.folder), "PYTHONUNBUFFERED": "1", "TMPDIR": str(self.scratch)}
        with (self.logs / name).open("a") as log:
            self.started[name] = (
                subprocess.Popen([*before, sys.executable, "-m", module, *arguments], cwd=ROOT, env=env, stdout=log,
                                 stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
                if before or self.anew else Forked(module, arguments, env, log)
            )  # fmt: skip
        return self.started[name]

    def server(self, *flags) -> subprocess.Popen | Forked:
        return self.start("server", "server", "--host", self.host, "--port", self.port, *flags)

    def client(self, number, *flags, module="clients", name="", **named) -> subprocess.Popen | Forked:
        where = ("--server", f"{self.host}:{self.port}", "--client-id", number)
        return self.start(name or f"client{number}", module, *where, *flags, **named)

    def faulty(self, number, fault: str, *flags) -> subprocess.Popen | Forked:
        """A client that misbehaves in round 1: ``tests/network/faulty.py``."""
        where = ("--server", f"{self.host}:{self.port}", "--client-id", number)
        return self.start(f"client{number}", "tests.network.faulty", fault, *where, *flags)

    def said(self, name: str) -> str:
        file = self.logs / name
        return file.read_text() if file.exists() else ""

    def wait_for(self, name: str, words: str, seconds: float = 200) -> None:
        deadline = time.monotonic() + seconds
        while not re.search(words, self.said(name)):
            assert time.monotonic() < deadline, f"{name} never said {words!r}:\n{self.all()}"
            time.sleep(0.1)

    def ended(self, name: str, seconds: float = 300) -> int:
        try:
            return self.started[name].wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{name} did not end:\n{self.all()}") from None

    def all(self) -> str:
        files = [*self.logs.iterdir(), *(self.out / name for name in ("log.txt",))]
        with contextlib.suppress(OSError):
            return "\n".join(f"---- {file.name}\n{file.read_text()[-3000:]}" for file in files if file.exists())
        return ""

    def port_is_free(self) -> bool:
        return not is_taken(self.host, self.port)
