"""One client process of a real network: joins, trains when it is asked, and leaves when the run is over.

The process is warm: PyTorch, images and model stay from round to round. ``--stock`` runs Flower's own ``flower-supernode``
in its place, which starts a Python process for every message.
"""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from experiment.config import CountOrZero
from experiment.errors import RunError, UserError
from experiment.processes import remove_scratch, scratch_folder
from network.address import Address, is_loopback, parse_address

if TYPE_CHECKING:
    from flwr.app import Message

    from network.internals import Node

POLL_SECONDS = 0.3
"""How often an idle client asks whether there is something to do."""
TRY_AGAIN_SECONDS = 1.0
TAKEN = 412
"""Flower's status for a node that is to be activated and is there."""
SAY_AGAIN_SECONDS = 30.0
NODE_CONFIG = ("dataset", "data_dir", "blend_image")


@dataclass(frozen=True)
class ClientFlags:
    """One client of a federated network over a real network; the server says what it trains."""

    server: str
    """HOST:PORT of the server."""
    client_id: CountOrZero
    """Which client this is, 0 to the server's --clients minus 1."""
    keys: str = ""
    """Folder with ca.crt and this client's own client-ID.key; required where the server is not on this machine."""
    key: str = ""
    """File of this client's private key (default: client-ID.key in --keys)."""
    insecure: bool = False
    """Speak without TLS and keys to a server on another machine."""
    dataset: str = ""
    """This machine's copy of the server's dataset, where it lies elsewhere: cifar10, folder:DIR or toy."""
    data_dir: str = ""
    """Folder that CIFAR-10 is in on this machine."""
    blend_image: str = ""
    """This machine's copy of the picture that a blend attacker mixes in."""
    stay: bool = False
    """Stay for the next run when one is over."""
    wait: float = float("inf")
    """Seconds that the server may be away, before the run and during it."""
    stock: bool = False
    """Run Flower's own SuperNode; slow, but by its public interface alone."""


@dataclass(frozen=True)
class Told:
    """How a client's time with a server ended."""

    why: str
    code: int
    """0 the run is finished, 1 it failed, 2 this client is refused."""
    again: float = 0.0
    """Seconds for which it may try again."""


def main(arguments: list[str]) -> int:
    """Be a client; returns the exit code: 0 the run is finished, 1 it failed, 2 refused or cannot be as asked."""
    try:
        flags = tyro.cli(ClientFlags, prog="python -m clients", args=arguments, config=(tyro.conf.FlagCreatePairsOff,))
        return _run(flags)
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _run(flags: ClientFlags) -> int:
    address = parse_address(flags.server, "--server")
    if flags.client_id < 0:
        raise UserError(f"--client-id {flags.client_id}: wanted 0 or more")
    if not flags.keys and not flags.insecure and not is_loopback(address.host):
        raise UserError(
            f"--server {flags.server}: not on this machine, so --keys DIR is required (python server.py keys makes it), "
            "or --insecure, which lets anybody on the way read and change what is sent"
        )
    config = {name.replace("_", "-"): _absolute(getattr(flags, name), name) for name in NODE_CONFIG}
    scratch = scratch_folder()
    mailbox = scratch / "farewell.json"
    node_config = {"partition-id": flags.client_id, "mailbox": str(mailbox)} | {k: v for k, v in config.items() if v}
    serve = _stock if flags.stock else _warm
    try:
        while True:
            told = _until_sent_away(lambda: serve(flags, address, node_config, mailbox, scratch), flags)
            _say(flags, told.why)
            if not (flags.stay and told.code != 2):
                return told.code
    finally:
        remove_scratch(scratch)


def _until_sent_away(serve: Callable[[], Told], flags: ClientFlags) -> Told:
    """Serve; again where the place may only seem to be taken (this client may have died and come back)."""
    first_refused = 0.0
    while True:
        told = serve()
        now = time.monotonic()
        first_refused = first_refused or now
        left = first_refused + told.again - now
        if left <= 0:
            return told
        _say(flags, f"{told.why}; trying again for {left:.0f} s")
        time.sleep(min(5.0, left))


def _absolute(path: str, name: str) -> str:
    """A path of the command line, as it will be understood wherever the work is done."""
    if name == "dataset" and path.startswith("folder:"):
        return "folder:" + str(Path(path.removeprefix("folder:")).expanduser().resolve())
    return path if name == "dataset" or not path else str(Path(path).expanduser().resolve())


def _say(flags: ClientFlags, text: str) -> None:
    print(f"client {flags.client_id}: {text}", flush=True)


# ---- warm ---------------------------------------------------------------------------------------------------------------


def _warm(flags: ClientFlags, address: Address, node_config: dict[str, Any], mailbox: Path, _scratch: Path) -> Told:
    """One time with a server, in this process; a lost connection is taken up again."""
    import httpx

    from clients.farewell import read_farewell
    from network.internals import Node, NodeRefusedError

    ca, key = _credentials(flags)
    patience = _Patience(flags, address)
    while True:
        node = Node(str(address), ca, key)
        try:
            node.join()
            _say(flags, f"joined {address}")
            _work(node, node_config, lambda: read_farewell(mailbox), flags, patience)
        except _SentAwayError as told:
            return told.told
        except NodeRefusedError as error:
            if error.unknown_key:
                return Told(f"refused: {error}", 2)
            if key and not patience.joined and error.status == TAKEN:
                # a process that died with this key is known to be gone after 20 s
                return Told(f"refused: a client with this key is here already ({error})", 2, again=25.0)
            why = f"the server sent this client away ({error})"
        except httpx.HTTPError as error:
            why = _why_no_answer(error, flags, address, first=not patience.joined)
        finally:
            node.leave()  # before the pause: it is longer than the server takes to see that this node was gone
        patience.wait(why)


def _why_no_answer(error: Exception, flags: ClientFlags, address: Address, *, first: bool) -> str:
    """Why the server does not answer, in words.

    Raises:
        UserError: what can never be: the server's certificate is another's, or it speaks no TLS.
    """
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        raise UserError(f"--server {address}: not the server of --keys {flags.keys}: {_short(error)}")
    if "WRONG_VERSION_NUMBER" in str(error) or "RECORD_LAYER" in str(error):
        raise UserError(f"--server {address}: it speaks no TLS, and --keys {flags.keys} asks for it")
    hint = "; it may want --keys DIR" if first and not flags.keys and "disconnected without" in str(error) else ""
    return f"no server at {address} ({_short(error)}{hint})"


class _SentAwayError(Exception):
    def __init__(self, told: Told) -> None:
        super().__init__(told.why)
        self.told = told


class _Patience:
    """Waits for a server that is away, and says so now and then."""

    def __init__(self, flags: ClientFlags, address: Address) -> None:
        self.flags, self.address = flags, address
        self.joined, self.away_since, self.said = False, 0.0, float("-inf")

    def answered(self) -> None:
        """The server is there."""
        self.joined, self.away_since = True, 0.0

    def wait(self, why: str) -> None:
        """A moment.

        Raises:
            RunError: it is away for too long.
        """
        now = time.monotonic()
        self.away_since = self.away_since or now
        if now - self.away_since > self.flags.wait:
            raise RunError(f"client {self.flags.client_id}: {why}, for {self.flags.wait:g} s (--wait)")
        if now - self.said > SAY_AGAIN_SECONDS:
            self.said = now
            _say(self.flags, f"{why}; trying again")
        time.sleep(TRY_AGAIN_SECONDS)


def _work(
    node: "Node", node_config: dict[str, Any], farewell: Callable[[], dict[str, Any] | None], flags: ClientFlags,
    patience: _Patience,
) -> None:  # fmt: skip
    """Answer messages.

    Raises:
        _SentAwayError: the server said farewell.
    """
    import httpx
    from flwr.app import Context, RecordDict

    from network.internals import NodeRefusedError

    while True:
        message = node.receive()
        patience.answered()
        if message is None:
            time.sleep(POLL_SECONDS)
            continue
        context = Context(message.metadata.run_id, node.node_id, node_config, RecordDict(), {})
        began = time.monotonic()
        reply = _answer(message, context)
        seconds = time.monotonic() - began
        if told := farewell():
            with contextlib.suppress(httpx.HTTPError, NodeRefusedError):  # the server may be gone already
                node.answer(reply, seconds)
            raise _SentAwayError(Told(str(told["why"]), int(told["code"]), float(told["again"])))
        node.answer(reply, seconds)
        _say(flags, _what_was_done(message, reply, seconds))


def _answer(message: "Message", context: Any) -> "Message":
    from clients.app import app
    from network.internals import failed

    try:
        return app(message=message, context=context)
    except Exception as error:  # the server decides what a failing client means
        import traceback

        traceback.print_exc()
        return failed(message, error)


def _what_was_done(message: "Message", reply: "Message", seconds: float) -> str:
    if reply.has_error():
        return f"failed: {reply.error.reason[:300]}"
    if "config" not in message.content:
        return "introduced itself; waiting to be drawn"
    metrics = reply.content["metrics"]
    return (
        f"round {message.content['config']['server-round']}: {metrics['num-examples']} images, "
        f"loss {float(metrics['loss']):.3f} ({seconds:.1f} s)"
    )


def _credentials(flags: ClientFlags) -> tuple[bytes | None, Any]:
    """The server's authority and this client's key; None without."""
    from network.keys import CA, read, read_private

    if not flags.keys:
        if flags.key:
            raise UserError(f"--key {flags.key}: goes with --keys DIR, which has the server's ca.crt")
        return None, None
    folder = Path(flags.keys).expanduser()
    return read(folder / CA), read_private(_key_file(flags))


def _key_file(flags: ClientFlags) -> Path:
    return Path(flags.key or f"{flags.keys}/client-{flags.client_id}.key").expanduser()


def _short(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:120].rstrip(".") or type(error).__name__


# ---- stock --------------------------------------------------------------------------------------------------------------


def _stock(flags: ClientFlags, address: Address, node_config: dict[str, Any], mailbox: Path, scratch: Path) -> Told:
    """One time with a server by Flower's own SuperNode; it ends when a farewell lies in the mailbox."""
    from clients.farewell import read_farewell
    from network.address import free_port

    _credentials(flags)  # checked before anything starts
    words = " ".join(
        f"{name}={value if isinstance(value, int) else _quoted(value)}" for name, value in node_config.items()
    )
    command = [
        str(Path(sys.executable).parent / "flower-supernode"), "--superlink", str(address), "--host", "127.0.0.1",
        "--port", str(free_port()), "--node-config", words,
    ]  # fmt: skip
    if flags.keys:
        folder = Path(flags.keys).expanduser()
        command += [
            "--root-certificates",
            str(folder / "ca.crt"),
            "--auth-supernode-private-key",
            str(_key_file(flags)),
        ]
    else:
        command.append("--insecure")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    env = os.environ | {"FLWR_HOME": str(scratch / "flwr"), "PATH": path, "FLWR_DISABLE_UPDATE_CHECK": "1",
                        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1"}  # fmt: skip
    patience = _Patience(flags, address)
    while True:
        _say(flags, shlex.join(command))
        node = subprocess.Popen(command, env=env)
        try:
            while node.poll() is None:
                if told := read_farewell(mailbox):
                    time.sleep(5.0)  # Flower's node sends the answer within that
                    return Told(str(told["why"]), int(told["code"]), float(told["again"]))
                time.sleep(0.2)
        finally:
            _end(node)
        shutil.rmtree(scratch / "flwr", ignore_errors=True)
        patience.wait(f"flower-supernode ended with {node.returncode}")


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all that it has started."""
    import psutil

    if process.poll() is not None:
        return
    started = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
    for child in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
