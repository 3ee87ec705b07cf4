"""A Ray of a run's own: nobody else gets into it, it is missed at once when it dies, and nothing of it is left behind.

Ray by itself listens on every address of the machine, asks nobody who they are, and runs whatever code it is sent. Ours listens on
loopback and wants a token, which is random, new for each run, and known to its processes by their environment alone. What it writes
and its sockets are in a folder of this user's alone.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from oleander.system.errors import RunError, UserError
from oleander.system.processes import remove_scratch, scratch_folder

LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""Bytes that the path of a Unix socket may have."""
SOCKET_IN_FOLDER = f"/oleander-12345678/r/session_2026-01-31_12-00-00_123456_{'9' * 7}/sockets/plasma_store"
"""The longest path of a socket of Ray's, below the folder in which ours is made."""
VITAL = {
    "raylet": ("raylet/raylet",),
    "GCS": ("gcs/gcs_server",),
    "dashboard agent": ("dashboard/agent.py", "ray::DashboardAgent"),
    "runtime-env agent": ("runtime_env/agent/main.py", "ray::RuntimeEnvAgent"),
}
"""Ray's processes without which a run cannot go on, and words of their command lines."""


def set_login(address: str | None) -> str:
    """Set the environment by which Ray decides who gets in. Ray reads it when it is imported, so this comes first.

    Args:
        address: of a cluster that is to be joined; None for a Ray of our own.

    Returns:
        What the user must know, in a sentence; mostly nothing.

    Raises:
        UserError: the user's own RAY_AUTH_… is none of Ray's.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "").lower()
    if mode not in ("", "token", "disabled"):  # Ray would take it for disabled, without a word
        raise UserError(f"RAY_AUTH_MODE={os.environ['RAY_AUTH_MODE']}: unknown to Ray; known: token, disabled")
    given = _own_token() if mode != "disabled" else False
    if address:
        if given:
            os.environ["RAY_AUTH_MODE"] = "token"
        return ""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray's switch for staying on loopback, on every system
    if mode == "disabled":
        return "RAY_AUTH_MODE=disabled: whoever has an account on this machine can run code as you while this run lasts"
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.pop("RAY_ENABLE_K8S_TOKEN_AUTH", None)  # would ask Kubernetes in place of the token
    if not given:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return ""


@contextlib.contextmanager
def without_observers() -> Iterator[None]:
    """While Ray starts: without its dashboard's server, its log monitor and its autoscaler, which take a second of a run's start-up.

    ``ray.init`` waits for the first even where no dashboard is wanted. The second carries what clients print to a driver that does
    not listen; the third has no machines to start.
    """
    from unittest.mock import patch  # slow to import

    from ray._private.node import Node

    def no_server(node: Node, **_: object) -> None:
        node._webui_url = ""

    def nothing(_: Node) -> None: ...

    with patch.multiple(Node, start_api_server=no_server, start_log_monitor=nothing, start_monitor=nothing):
        yield


def _own_token() -> bool:
    """Whether the user has set a token. One that Ray cannot use would end it later, in an assertion of its own."""
    name = "RAY_AUTH_TOKEN" if os.environ.get("RAY_AUTH_TOKEN") else "RAY_AUTH_TOKEN_PATH"
    value = os.environ.get(name)
    if not value:
        return False
    where = name if name == "RAY_AUTH_TOKEN" else f"{name}={value}"
    try:
        token = value if name == "RAY_AUTH_TOKEN" else Path(value).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: cannot be read ({getattr(error, 'strerror', None) or 'no text'})") from None
    if not token.strip() or not all(0x20 < ord(sign) < 0x7F for sign in token.strip()):
        raise UserError(
            f"{where}: no token; wanted one word of printable ASCII (`ray get-auth-token --generate` makes one)"
        )
    return True


def check_login() -> None:
    """Raise a RunError if Ray was imported before ``set_login`` had its say."""
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token" and not is_token_auth_enabled():
        raise RunError("Ray was imported before its login was set, and would let everybody in")


def check_loopback() -> None:
    """Raise a RunError if the Ray that runs is to be reached from elsewhere."""
    import ray

    host = ray.util.get_node_ip_address()
    if host not in ("127.0.0.1", "::1"):
        raise RunError(f"Ray listens on {host}, not on loopback alone")


@contextlib.contextmanager
def folders_for_ray() -> Iterator[dict[str, str]]:
    """Where a Ray of our own keeps its sockets and files, as arguments of ``ray.init``; gone when the context ends.

    Sockets have short paths, so TMPDIR may be too long for them; large objects that find no room in memory still go there.
    """
    folder, spilling = _short_folder(), None
    arguments = {"_temp_dir": str(folder / "r")}  # Ray opens this folder to everybody; the one around it is closed
    if folder.parent != Path(tempfile.gettempdir()):
        spilling = scratch_folder()
        arguments["object_spilling_directory"] = str(spilling)
    os.environ.setdefault(
        "TORCHINDUCTOR_CACHE_DIR", str((spilling or folder) / "torch")
    )  # else a folder in TMPDIR that stays
    try:
        yield arguments
    finally:
        for used in (folder, spilling):
            if used:
                remove_scratch(used)


def _short_folder() -> Path:
    """A private folder in which Ray's sockets find room: in TMPDIR, else in another usual place."""
    places = [
        tempfile.gettempdir(),
        os.environ.get("XDG_RUNTIME_DIR", ""),
        "/tmp",
        "/var/tmp",
        "/dev/shm",
        str(Path.home()),
    ]
    refused = []
    for place in dict.fromkeys(filter(os.path.isabs, places)):
        if len(os.fsencode(place + SOCKET_IN_FOLDER)) > LONGEST_SOCKET:
            refused.append(f"{place} is too long")
            continue
        try:
            folder = scratch_folder(place)
        except OSError as error:
            refused.append(f"{place}: {error.strerror}")
            continue
        try:
            _try_socket(folder / "try")
        except OSError as error:
            refused.append(f"{place}: no sockets there ({error.strerror})")
            remove_scratch(folder)
        else:
            return folder
    most = LONGEST_SOCKET - len(SOCKET_IN_FOLDER)
    raise UserError(
        f"no place for Ray's sockets ({'; '.join(refused)}); set TMPDIR to a folder of at most {most} bytes"
    )


def _try_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.bind(str(path))
    path.unlink()


class Watch:
    """Misses what a run cannot do without, as soon as it dies.

    Ray itself would wait for it for half a minute and longer, or end this process without a word.
    """

    def __init__(self, missing: Callable[[], str | None], wait: Callable[[float], object] = time.sleep) -> None:
        """Watch something.

        Args:
            missing: says what has died, in words; None while all is well.
            wait: returns after so many seconds, or when there may be news.
        """
        self.missing, self._wait = missing, wait
        self._over = threading.Event()

    def start(self, died: Callable[[RunError], None]) -> None:
        """From now until ``end``, call ``died`` in a thread of its own once something is missing."""

        def look() -> None:
            while not self._over.is_set():
                what = self.missing()
                if what and not self._over.is_set():
                    died(RunError(what))
                    return
                self._wait(0.5)

        threading.Thread(target=look, name="watch-ray", daemon=True).start()

    def end(self) -> None:
        """What dies from now on may."""
        self._over.set()


def watch_processes() -> Watch:
    """Of those of Ray's processes that this one has started and that a run needs."""
    vital = dict(_vital_processes())

    def missing() -> str | None:
        dead = [f"{name} (process {process.pid})" for name, process in vital.items() if not _lives(process)]
        return f"Ray's {' and '.join(dead)} died" if dead else None

    if not hasattr(os, "pidfd_open"):
        return Watch(missing)
    news = select.poll()
    for process in vital.values():
        with contextlib.suppress(ProcessLookupError):  # dead already, as will be seen
            news.register(os.pidfd_open(process.pid), select.POLLIN)
    return Watch(missing, lambda seconds: news.poll(seconds * 1000))


def watch_cluster(address: str) -> Watch:
    """Of the head of a cluster that was joined, and of this machine's node of it."""
    from ray._private.worker import _global_node as node

    watched = {f"the head of the Ray cluster at {address}": address}
    if node is not None and node.node_manager_port:
        watched["this machine's node of the Ray cluster"] = f"{node.node_ip_address}:{node.node_manager_port}"

    def missing() -> str | None:
        gone = [name for name, where in watched.items() if not _answers(where)]
        return f"{' and '.join(gone)} died, or cannot be reached" if gone else None

    return Watch(missing, lambda seconds: time.sleep(4 * seconds))


def _answers(address: str, tries: int = 3) -> bool:
    host, _, port = address.rpartition(":")
    for left in reversed(range(tries)):
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return True
        except OSError:
            time.sleep(1.0 if left else 0.0)
    return False


def _vital_processes() -> Iterator[tuple[str, psutil.Process]]:
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline()[:3])
            for name, words in VITAL.items():
                if any(word in line for word in words):
                    yield name, process


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
