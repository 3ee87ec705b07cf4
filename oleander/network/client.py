"""One client process of a real network: joins, trains when it is asked, and leaves when the run is over.

The process is warm: PyTorch, images and model stay from round to round. ``--stock`` runs Flower's own ``flower-supernode``
in its place, which starts a Python process for every message.
"""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import tyro

from oleander.network.address import Address, is_loopback, parse_address
from oleander.network.stock import serve_stock
from oleander.network.visit import ClientFlags, Patience, Told, credentials, say
from oleander.settings.cli import is_asked
from oleander.settings.steps import is_one_file, whole
from oleander.settings.words import parsed
from oleander.system import itself
from oleander.system.environment import versions_in_words
from oleander.system.errors import RunError, UserError
from oleander.system.files import absolute
from oleander.system.processes import remove_scratch, scratch_folder
from oleander.system.proxies import talk_to_nobody_else

if TYPE_CHECKING:
    from flwr.app import Message

    from oleander.network.internals import Node

POLL_SECONDS = 0.3
"""How often an idle client asks whether there is something to do."""
LISTEN_SECONDS = 1.0
"""How often one that works does; less than a server takes to say farewell."""
NEXT_RUN_SECONDS = 8.0
"""How long a server may take to end once it has said farewell; a client that stays for the next run is not back before."""
MOST_CLIENTS = 1_000_000
"""As many as a server's --clients may say."""
TAKEN = 412
"""Flower's status for a node that is to be activated and is there."""
NODE_CONFIG = ("dataset", "data_dir", "blend_image", "edge_case_images")


def main(arguments: list[str]) -> int:
    """Be a client; returns the exit code: 0 the run is finished, 1 it failed, 2 refused or cannot be as asked."""
    if is_asked("version", arguments):
        print(versions_in_words())
        return 0
    try:
        prog, kinds = itself.command("client"), get_type_hints(ClientFlags, include_extras=True)
        off = (tyro.conf.FlagCreatePairsOff,)
        flags = parsed(arguments, kinds, prog, lambda: tyro.cli(ClientFlags, prog=prog, args=arguments, config=off))
        return _run(flags)
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _run(flags: ClientFlags) -> int:
    talk_to_nobody_else()
    address = parse_address(flags.server, "--server")
    if not 0 <= flags.client_id < MOST_CLIENTS:
        raise UserError(f"--client-id {flags.client_id}: wanted 0 to {MOST_CLIENTS - 1}")
    if not flags.wait >= 0:
        raise UserError(f"--wait {flags.wait:g}: wanted seconds, 0 or more")
    if not flags.keys and not flags.insecure and not is_loopback(address.host):
        raise UserError(
            f"--server {flags.server}: not on this machine, so --keys DIR is required ({itself.command('server')} keys makes it), "
            "or --insecure, which lets anybody on the way read and change what is sent"
        )
    config = {name.replace("_", "-"): _absolute(getattr(flags, name), name) for name in NODE_CONFIG}
    scratch = scratch_folder()
    mailbox = scratch / "farewell.json"
    node_config = {"partition-id": flags.client_id, "mailbox": str(mailbox)} | {k: v for k, v in config.items() if v}
    if flags.plugin:
        node_config["plugins"] = json.dumps(_own_plugins(flags.plugin))
    if is_loopback(address.host):
        node_config["same-machine"] = 1
    serve = serve_stock if flags.stock else _warm
    try:
        while True:
            told = _until_sent_away(lambda patience: serve(patience, address, node_config, mailbox, scratch), flags)
            say(flags, told.why)
            if not (flags.stay and told.code != 2):
                return told.code
            time.sleep(NEXT_RUN_SECONDS)
    finally:
        remove_scratch(scratch)


def _own_plugins(files: tuple[Path, ...]) -> list[str]:
    """The copies that --plugin names, absolute.

    Raises:
        UserError: one that is not there or no .py file, or two of one name.
    """
    found = [absolute(str(file.parent)) / file.name for file in files]
    for file in found:
        if file.suffix != ".py" or not file.is_file():
            raise UserError(f"--plugin {file}: {'is not a .py file' if file.exists() else 'there is no such file'}")
        if [other.name for other in found].count(file.name) > 1:
            raise UserError(f"--plugin {file}: {file.name} is there twice")
    return [str(file) for file in found]


def _until_sent_away(serve: Callable[[Patience], Told], flags: ClientFlags) -> Told:
    """Serve; again where the place may only seem to be taken (this client may have died and come back)."""
    patience = Patience(flags)
    while True:
        told = serve(patience)
        patience.refuse(told)
        left = patience.left()
        if left <= 0:
            return told
        say(flags, f"{told.why}; trying again for {left:.0f} s")
        time.sleep(min(5.0, left))


def _absolute(path: str, name: str) -> str:
    """A path of the command line, as it will be understood wherever the work is done."""
    if name == "dataset" and path.startswith("folder:"):
        return "folder:" + str(absolute(path.removeprefix("folder:")))
    if name == "dataset":
        return whole(path) if is_one_file(path) else path
    return str(absolute(path)) if path else path


def _warm(patience: Patience, address: Address, node_config: dict[str, Any], mailbox: Path, _scratch: Path) -> Told:
    """One time with a server, in this process; a lost connection is taken up again, but not by one who was refused."""
    import httpx

    from clients.farewell import read_farewell
    from oleander.network.internals import FarewellError, Node, NodeRefusedError

    flags = patience.flags
    ca, key = credentials(flags)
    while True:
        node = Node(str(address), ca, key)
        patience.ask()
        try:
            node.join()
            say(flags, f"joined {address}")
            _work(node, node_config, lambda: read_farewell(mailbox), patience)
        except _SentAwayError as told:
            return patience.end(told.told)
        except FarewellError as told:
            return patience.end(Told(told.why, told.code))
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
        patience.lost()
        if patience.refused and patience.left() <= 0:
            return patience.refused  # who has the place stayed to the end of the run
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


def _work(
    node: "Node", node_config: dict[str, Any], farewell: Callable[[], dict[str, Any] | None], patience: Patience
) -> None:
    """Answer messages.

    Raises:
        _SentAwayError: the server said farewell.
        FarewellError: its gate did.
    """
    import httpx
    from flwr.app import Context, RecordDict

    from oleander.network.internals import FarewellError, NodeRefusedError

    waiting: list[Message] = []  # what came while this process worked
    while True:
        message = waiting.pop(0) if waiting else node.receive()
        patience.answered()
        if message is None:
            time.sleep(POLL_SECONDS)
            continue
        context = Context(message.metadata.run_id, node.node_id, node_config, RecordDict(), {})
        began = time.monotonic()
        with _listening(node, waiting):
            reply = _answer(message, context)
        seconds = time.monotonic() - began
        if told := farewell():
            # the server may be gone already
            with contextlib.suppress(httpx.HTTPError, NodeRefusedError, FarewellError):
                node.answer(reply, seconds)
            raise _SentAwayError(Told(str(told["why"]), int(told["code"]), float(told["again"])))
        if any("farewell" in other.content for other in waiting):
            continue  # the run has ended while this client worked for it, and with it whoever would take the answer
        try:
            node.answer(reply, seconds)
        except (httpx.HTTPError, NodeRefusedError):  # the run may have ended while the answer was under way
            if not (last := node.last_word()):
                raise
            waiting.append(last)
            continue
        patience.introduce()
        say(patience.flags, _what_was_done(message, reply, seconds))


@contextlib.contextmanager
def _listening(node: "Node", heard: "list[Message]") -> Iterator[None]:
    """While this process works: hear what the server says, such as that the run is over; it does not stay to say it again."""
    import httpx

    from oleander.network.internals import FarewellError, NodeRefusedError

    done = threading.Event()

    def listen() -> None:
        while not done.wait(LISTEN_SECONDS):
            with contextlib.suppress(httpx.HTTPError, NodeRefusedError, FarewellError):  # the node remembers a farewell
                if message := node.receive():
                    heard.append(message)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        done.set()
        listener.join()


def _answer(message: "Message", context: Any) -> "Message":
    from clients.app import app
    from oleander.network.internals import failed

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
        return "introduced itself; waiting for the server"
    metrics = reply.content["metrics"]
    return (
        f"round {message.content['config']['server-round']}: {metrics['num-examples']} images, "
        f"loss {float(metrics['loss']):.3f} ({seconds:.1f} s)"
    )


def _short(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:120].rstrip(".") or type(error).__name__
