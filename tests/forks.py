"""Programs with their imports behind them: a process that has imported everything forks itself for each one that is asked for.

PyTorch and Flower cost every start three seconds of a core. Where it is not the start that is tested, ``Forked`` is what
``subprocess.Popen`` of ``python -m MODULE`` would be: a process of its own, whose folder, environment and output are those asked for.
"""

import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent


RUNNING: list["Forked"] = []
"""Those of which it is not known that they have ended. (/proc shows the environment that a process was begun with, not theirs.)"""


ORDERING = threading.Lock()


class Forked:
    """A program that runs: as much of ``subprocess.Popen`` as the tests use; what it says goes to ``log``."""

    def __init__(self, module: str, arguments: list[str], environment: dict[str, str], log: IO[str]) -> None:
        self.args, self.environment = [module, *arguments], environment
        self.returncode: int | None = None
        self._told, telling = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        order = json.dumps({"module": module, "arguments": arguments, "environment": environment})
        with telling, ORDERING:
            socket.send_fds(_ready(), [order.encode()], [log.fileno(), telling.fileno()])
        self.pid = int(self._told.recv(100))
        RUNNING.append(self)

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = int(self._told.recv(100))
            self._told.close()
            RUNNING.remove(self)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@functools.cache
def _ready() -> socket.socket:
    """The way to the process that has imported everything; it ends when this one does."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        words = [sys.executable, "-m", "tests.forks", str(there.fileno())]
        subprocess.Popen(words, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[there.fileno()])
    return here


# ---- the process that has imported everything ----------------------------------------------------------------------------


MODULES = (
    "server", "clients.app", "oleander.experiment.federation", "oleander.network.client", "oleander.network.roster",
    "oleander.network.superlink", "oleander.reports.tables", "oleander.reports.plots", "sklearn.datasets",
)  # fmt: skip
"""What servers and clients import; the first one sets the environment, and puts proxies aside."""


def import_everything() -> None:
    """Nothing is computed meanwhile, so that no thread is running. Ray is not for forks, and stays out."""
    for name in MODULES:
        importlib.import_module(name)


def serve(orders: socket.socket) -> None:
    """Fork for each order, until whoever gives them is gone."""
    while True:
        order, (*files,), _, _ = socket.recv_fds(orders, 1 << 20, 2)
        if not order:
            return
        log, telling = files
        if not os.fork():
            orders.close()
            if (program := os.fork()) == 0:
                os.close(telling)
                become(json.loads(order), log)
                return  # to the interpreter's end, as that of any program
            os.close(log)
            keep(program, telling)
        for file in files:
            os.close(file)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def keep(program: int, telling: int) -> None:
    """Tell its number, wait for its end and tell that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    os.write(telling, str(program).encode())
    code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    with contextlib.suppress(OSError):  # nobody waits for it any more
        os.write(telling, str(code).encode())
    os._exit(0)


def become(order: dict, log: int) -> None:
    """This process is the program from here on."""
    for number in (1, 2):
        os.dup2(log, number)
    os.close(log)
    os.environ.clear()
    os.environ.update(order["environment"])
    tempfile.tempdir = None  # by another TMPDIR
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115
    sys.argv = ["", *order["arguments"]]
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    import_everything()
    gc.freeze()  # what is shared stays shared
    serve(socket.socket(fileno=int(sys.argv[1])))
