"""A server's network: a SuperLink on loopback, the gate in front of it, and an end of both with nothing left behind."""

import contextlib
import dataclasses
import json
import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import tomli_w

from oleander.network.address import Address, free_port, is_taken
from oleander.network.filter import SMALL
from oleander.network.gate import start_gate
from oleander.network.keys import CA, SERVER, SERVER_KEY, Public, certificates, read, read_public
from oleander.network.orders import Orders
from oleander.settings.run_config import KEYS
from oleander.system import itself
from oleander.system.errors import RunError, UserError
from oleander.system.files import absolute
from oleander.system.processes import remove_scratch, scratch_folder
from oleander.system.programs import flower, flower_programs, how_it_ended, module_path, python
from oleander.system.proxies import talk_to_nobody_else, without_proxies

START_SECONDS = 60.0
PORTS = 5
"""How many are tried where another program listens on the SuperLink's before it does."""


@dataclass(frozen=True)
class Credentials:
    """What --keys DIR holds for a server."""

    folder: Path
    clients: list[Public]

    @classmethod
    def of(cls, folder: str, clients: int) -> Self:
        """Read it.

        Raises:
            UserError: something is missing, or no key.
        """
        path = absolute(folder)
        for name in (CA, SERVER, SERVER_KEY):
            read(path / name)
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(path / SERVER, path / SERVER_KEY, password="")  # a key with one must not ask for it
        except (ssl.SSLError, OSError, ValueError) as error:
            raise UserError(f"--keys {path}: {SERVER} and {SERVER_KEY} do not go together ({error})") from None
        return cls(path, read_public(path, clients))


class Network:
    """A SuperLink and its gate, while the context lasts."""

    def __init__(
        self, address: Address, credentials: Credentials | None, clients: int, reply_bytes: int, log: Path,
        *, stock: bool, told: Callable[[str], None], died: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Take what the network is like.

        Args:
            address: where clients find it.
            credentials: keys and certificates; None: anybody may come, without TLS.
            clients: of the run.
            reply_bytes: of a reply with a whole model and what attackers remember.
            log: file for what the SuperLink says.
            stock: let Flower start the server's process.
            told: called, in another thread, with what the gate refused.
            died: the same when the SuperLink or the gate has ended by itself.
        """
        self.address, self.credentials, self.clients = address, credentials, clients
        self.reply_limit = reply_bytes + reply_bytes // 8 + SMALL
        self.log, self.stock, self.told, self.died = log, stock, told, died
        self.inner = Address("127.0.0.1", free_port())
        self.parted: set[int] = set()
        """Nodes that have heard the run's farewell from the gate, or that it does not see poll any more."""
        self.ca: bytes | None = None
        """What the SuperLink's own certificate is checked with; None: it has none."""

    def __enter__(self) -> Self:
        """Start both and wait until clients can come in.

        Raises:
            RunError: they did not start.
        """
        talk_to_nobody_else()
        tried = 1
        while failure := self._start():
            self.__exit__()
            if tried == PORTS or not is_taken(self.inner.host, self.inner.port):
                raise RunError(failure)
            self.inner, tried = Address("127.0.0.1", free_port()), tried + 1
        return self

    def _start(self) -> str:
        """Start both; returns why they do not run, or nothing."""
        self.scratch = scratch_folder()
        self._closing = False
        self._open = threading.Event()
        self._failure = ""
        self._said = self.scratch / "gate.txt"
        with self._said.open("wb") as said:
            self.gate = start_gate(self._orders(), self.environment(), said)
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        if self._open.wait(START_SECONDS):
            return self._failure
        return self._failure or f"no network after {START_SECONDS:g} s; {self.log} has what the SuperLink said"

    def __exit__(self, *_: object) -> None:
        """End both."""
        self._closing = True
        with contextlib.suppress(OSError):
            self.gate.stdin.close()  # type: ignore[union-attr]
        try:
            self.gate.wait(10)
        except subprocess.TimeoutExpired:
            self.gate.kill()
        self._listening.join(10)
        remove_scratch(self.scratch)

    def part(self, nodes: Iterable[int], why: str, code: int) -> None:
        """Let the gate say farewell to these nodes; ``parted`` has those that it is done with."""
        line = json.dumps({"nodes": list(nodes), "why": why, "code": code}) + "\n"
        with contextlib.suppress(OSError, ValueError):  # it has died; that is told elsewhere
            self.gate.stdin.write(line)  # type: ignore[union-attr]
            self.gate.stdin.flush()  # type: ignore[union-attr]

    def environment(self) -> dict[str, str]:
        """For Flower's programs: a home of this run's own, with the way to its SuperLink."""
        ours = {
            "FLWR_HOME": str(self.scratch),
            "PATH": flower_programs(self.scratch / "bin"),
            "PYTHONPATH": module_path(),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        }
        return without_proxies(os.environ) | ours

    def trusted(self) -> dict[int, int] | None:
        """Node id → client id by the clients' keys, made known to the SuperLink now; None without keys."""
        from oleander.network.task import register_nodes

        if self.credentials is None:
            return None
        nodes = register_nodes(str(self.inner), self.ca, self.credentials.clients)
        return {node: client for client, node in enumerate(nodes)}

    def _orders(self) -> Orders:
        """Flower's node authentication wants TLS, on loopback too: its certificate is made for this run."""
        from oleander.network.internals import public_bytes

        link = flower("flower-superlink") if self.stock else python("-m", "oleander.network.link")
        command = [*link, "--host", self.inner.host,
                   "--port", str(self.inner.port), "--disable-runtime-dependency-installation",
                   "--isolation", "subprocess" if self.stock else "process"]  # fmt: skip
        orders = Orders(
            command, f"http://{self.inner}", "", str(self.log), self.address.host, self.address.port,
            self.reply_limit, 16 * self.clients + 64,
        )  # fmt: skip
        config = f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "{self.inner}"\n'
        if self.credentials is None:
            orders.superlink.append("--insecure")
            config += "insecure = true\n"
        else:
            authority, own = certificates([self.inner.host], days=30)
            files = {"inner-ca.crt": authority.certificate, "inner.crt": own.certificate, "inner.key": own.key}
            for name, content in files.items():
                (self.scratch / name).touch(mode=0o600)
                (self.scratch / name).write_bytes(content)
            self.ca = authority.certificate
            ca, certificate, key = (str(self.scratch / name) for name in files)
            orders.superlink.extend(["--ssl-ca-certfile", ca, "--ssl-certfile", certificate, "--ssl-keyfile", key,
                                     "--enable-supernode-auth"])  # fmt: skip
            config += f'root-certificates = "{ca}"\n'
            orders = dataclasses.replace(
                orders, upstream=f"https://{self.inner}", ca=ca, keys=[public_bytes(k).decode() for k in self.credentials.clients],
                certificate=str(self.credentials.folder / SERVER), private_key=str(self.credentials.folder / SERVER_KEY),
            )  # fmt: skip
        (self.scratch / "config.toml").write_text(config, encoding="utf-8")
        return orders

    def _listen(self) -> None:
        """Pass on what the gate tells, until it ends."""
        for line in self.gate.stdout:  # type: ignore[union-attr]
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event["event"] == "open":
                    self._open.set()
                elif event["event"] in ("heard", "silent"):
                    self.parted.add(int(event["text"]))
                elif event["event"] == "refused":
                    with contextlib.suppress(OSError):  # nobody reads what is printed
                        self.told(event["text"])
                elif event["event"] == "died":
                    self._failure = event["text"]
        if not self._closing:
            self._failure = self._failure or self._why_the_gate_ended()
            if self._open.is_set():
                self.died(self._failure)
            self._open.set()

    def _why_the_gate_ended(self) -> str:
        """What it said itself, which is kept in the log: its own file goes with the run."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.gate.wait(5)
        with contextlib.suppress(OSError), self.log.open("ab") as log:
            log.write(b"\n---- what the gate said\n" + self._said.read_bytes())
        return f"the gate ended ({how_it_ended(self.gate.returncode, self._said)}); {self.log} has the rest"


def app_folder(scratch: Path) -> Path:
    """The folder of the Flower app for a SuperLink: the source tree, or one made in ``scratch`` that leads to what is installed."""
    if itself.project():
        return itself.ROOT
    folder = scratch / "app"
    folder.mkdir(exist_ok=True)
    (folder / "server_app.py").write_text("from server import app  # noqa: F401\n", encoding="utf-8")
    (folder / "client_app.py").write_text("from clients.app import app  # noqa: F401\n", encoding="utf-8")
    project = {"name": itself.NAME, "version": itself.version(), "description": itself.NAME, "license": "Apache-2.0"}
    parts = {"serverapp": "server_app:app", "clientapp": "client_app:app"}
    config = dict.fromkeys(KEYS, "")
    app = {"publisher": itself.NAME, "components": parts, "config": config}
    (folder / "pyproject.toml").write_text(
        tomli_w.dumps({"project": project, "tool": {"flwr": {"app": app}}}), encoding="utf-8"
    )
    return folder


# ---- stock --------------------------------------------------------------------------------------------------------------


def run_stock(network: Network, scenario: Path, flags: str, roster: Path, out: Callable[[str], None]) -> str:
    """Let Flower itself run the app by its public commands; returns how it ended, ``finished:completed`` if well.

    Raises:
        RunError: it could not be submitted.
    """

    def flwr(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*flower("flwr"), *words],
            env=network.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    config = network.scratch / "run.toml"
    config.write_text(
        tomli_w.dumps({"scenario": str(scenario), "flags": flags, "network": str(roster)}), encoding="utf-8"
    )
    submitted = flwr("run", str(app_folder(network.scratch)), "here", "--format", "json", "-c", str(config))
    try:
        run = str(json.loads(submitted.stdout)["run-id"])
    except (ValueError, KeyError):
        raise RunError(f"flwr run failed: {(submitted.stderr or submitted.stdout).strip()[-300:]}") from None
    for line in _log_of(network, run):
        out(line)
    while True:
        listed = json.loads(flwr("ls", "here", "--run-id", run, "--format", "json").stdout)["runs"][0]
        if listed["status"].startswith("finished"):
            details = listed.get("status-details", "")
            return str(listed["status"]) + (f" ({details})" if details not in ("", "N/A") else "")


def _log_of(network: Network, run: str) -> Iterator[str]:
    command = [*flower("flwr"), "log", run, "here", "--stream"]
    with subprocess.Popen(
        command, env=network.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as stream:
        yield from (line.rstrip("\n") for line in stream.stdout or [])
