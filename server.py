"""Run a scenario over a real network: ``python server.py --scenario dba``, and ``python -m clients`` for each client.

It takes every flag of ``simulate.py``, leaves the same folder, and comes to the same model. ``python server.py keys`` makes what
clients on other machines need to be trusted. Flower's ServerApp, for SuperLinks of one's own, is at the bottom.
"""

from __future__ import annotations

import os
import sys

for _name, _value in {  # before the imports that read them
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "THP_MEM_ALLOC_ENABLE": "1",
}.items():
    os.environ.setdefault(_name, _value)

from oleander.system.display import begin_display, close_display, display_on, doing, started
from oleander.system.output import hold_up_nothing
from oleander.system.processes import Chatter, end_now, end_on_signals, is_ending
from oleander.system.proxies import talk_to_nobody_else

talk_to_nobody_else()
if __name__ == "__main__":
    hold_up_nothing()
    end_on_signals()  # before the imports, which take seconds
    begin_display()

import contextlib
import dataclasses
import functools
import json
import logging
import shlex
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

import tyro

from oleander.experiment.asked import asked, asked_run
from oleander.experiment.records import LOG, RunFolder, is_finished, read_summary, taken_up, write_scenario
from oleander.experiment.remaining import left_of_run
from oleander.network.address import Address, check_exposure, check_free, check_host
from oleander.settings.cli import Command, Flags, is_asked
from oleander.settings.ranges import Count
from oleander.settings.run_config import experiment_of
from oleander.settings.words import parsed
from oleander.system import itself
from oleander.system.console import console_on, in_one_line, notice, say_error
from oleander.system.environment import versions_in_words
from oleander.system.errors import RunError, UserError
from oleander.system.files import absolute
from oleander.system.foreign import plain
from oleander.system.remains import leaving

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.serverapp import Grid, ServerApp
    from rich.console import Console

    from oleander.experiment.prepare import Setup
    from oleander.experiment.records import Summary
    from oleander.network.roster import NetworkRoster
    from oleander.network.superlink import Network
    from oleander.settings.config import Experiment


ENDING_SECONDS = 9.0
"""How long the end of a run that has failed may take: the clients' farewell, the scores of the round before (``--resume``
works them out else), the SuperLink's end, the gate's."""


@dataclass(frozen=True)
class ServerFlags(Flags):
    """Backdoor attacks on federated learning, and defences against them: one run over a real network."""

    part: ClassVar[itself.Part] = "server"
    host: str = "127.0.0.1"
    """Address to listen on; on any but this machine's own, --keys is required."""
    port: Count = 18000
    """Port to listen on."""
    keys: str = ""
    """Folder of keys and certificates (see above): TLS, and only clients whose keys are in it."""
    insecure: bool = False
    """Let others in without keys and TLS."""
    stock: bool = False
    """Let Flower's own programs run the server's part; slow, but by their public interface alone."""


@dataclass(frozen=True)
class KeysFlags:
    """Make an authority, a server's certificate, and a key pair for each client."""

    clients: Count
    """How many clients."""
    out: str
    """Folder for the files; none of them may be there."""
    san: tuple[str, ...] = ("localhost", "127.0.0.1")
    """Names and addresses by which clients call the server."""


def main(arguments: list[str]) -> int:
    """Run what the arguments ask for; returns the exit code: 0, 1 (the run failed) or 2 (it cannot be)."""
    try:
        if arguments[:1] == ["keys"]:
            return _make_keys(arguments[1:])
        if is_asked("version", arguments):
            print(versions_in_words())
            return 0
        command, plan = asked(arguments, lambda text: notice(console_on(), text), ServerFlags)
        flags = command.flags
        assert isinstance(flags, ServerFlags)
        other = next((name for name in ("report", "dry_run") if getattr(flags, name)), None)
        if plan or other:
            what = f"--{other.replace('_', '-')}: " if other else ""
            raise UserError(
                f"{what}{itself.command('server')} runs one experiment at a time; {itself.command()} runs studies and says the rest"
            )
        if flags.stock and flags.resume is not None:
            raise UserError("--stock with --resume: Flower's own programs cannot take a run up again")
        started()
        _serve(command, flags)
    except (UserError, RunError) as error:
        say_error(error)
        return error.exit_code
    finally:
        close_display()
    return 0


def _make_keys(arguments: list[str]) -> int:
    from oleander.network.keys import make_keys

    prog = f"{itself.command('server')} keys"
    kinds = get_type_hints(KeysFlags, include_extras=True)
    flags = parsed(arguments, kinds, prog, lambda: tyro.cli(KeysFlags, prog=prog, args=arguments))
    files = make_keys(absolute(flags.out), flags.clients, list(flags.san))
    print(f"{len(files)} files in {plain(flags.out)}, mode 0600, for a server called {', '.join(flags.san)}.")
    print(
        "The server needs ca.crt, server.crt, server.key and client-*.pub; client I needs ca.crt and client-I.key only."
    )
    return 0


def _serve(command: Command, flags: ServerFlags) -> None:
    check_host(flags.host, "--host")
    address = Address(flags.host, flags.port)
    if flags.port > 65535:
        raise UserError(f"--port {flags.port}: wanted 1 to 65535")
    check_exposure(address, flags.keys, insecure=flags.insecure)
    check_free(address)
    experiment, stopped = taken_up(command) if flags.resume is not None else (flags.experiment, None)
    with doing("importing PyTorch and Flower"):
        from oleander.experiment.prepare import Sources, prepare
        from oleander.experiment.runner import told_of_failure
        from oleander.network.superlink import Credentials
        from oleander.reports.tables import print_results

    if stopped and is_finished(stopped.path):
        stopped.release()
        print_results(console_on(), stopped.path, read_summary(stopped.path))
        return
    if flags.keys:
        Credentials.of(flags.keys, experiment.clients)  # refused before anything is written
    with Chatter() as chatter, display_on(console_on(chatter.out)), contextlib.ExitStack() as under_way:
        console = console_on(chatter.out)
        left = functools.partial(left_of_run, part="server", flags=network_flags(flags))
        if stopped:
            under_way.enter_context(leaving(functools.partial(left, stopped.path, experiment.rounds)))
        try:
            setup = prepare(experiment, Sources(lambda text: notice(console, text)), stopped.path if stopped else None)
        except OSError as error:
            raise UserError.of(error) from None
        folder = stopped or RunFolder.of(setup.experiment)
        under_way.enter_context(leaving(functools.partial(left, folder.path, setup.experiment.rounds)))
        with told_of_failure(folder.path / LOG, folder.path, None):
            chatter.keep_in(folder.path / LOG)
            network = _network(setup, flags, address, folder, console, chatter)
            (_run_stock if flags.stock else _run_warm)(setup, flags, folder, network, console)
        folder.release()


def _network(
    setup: Setup, flags: ServerFlags, address: Address, folder: RunFolder, console: Console, chatter: Chatter
) -> Network:
    from oleander.network.superlink import Credentials, Network

    credentials = Credentials.of(flags.keys, setup.experiment.clients) if flags.keys else None

    def died(text: str) -> None:
        if is_ending():
            return  # it was ended, and with it all that it had started
        say_error(RunError(text), chatter.error)
        end_now(RunError.exit_code)

    return Network(
        address, credentials, setup.experiment.clients, setup.reply_bytes,
        folder.path / "superlink.txt", stock=flags.stock,
        told=lambda text: _line(console, f"refused: {text}"), died=died,
    )  # fmt: skip


def _run_warm(setup: Setup, flags: ServerFlags, folder: RunFolder, network: Network, console: Console) -> None:
    """The server's part in this process."""
    from oleander.network.roster import FAREWELL_SECONDS, NetworkRoster
    from oleander.network.superlink import app_folder
    from oleander.network.task import server_task, submit
    from oleander.reports.tables import print_results

    with ending_in_time(network.died) as failed, contextlib.ExitStack() as up:
        with doing("starting Flower's SuperLink"):
            up.enter_context(network)
            trusted = network.trusted()
            submit(str(network.inner), network.ca, app_folder(network.scratch))
        roster = NetworkRoster(setup, lambda text: _line(console, text), trusted, how_to_start(flags, setup.experiment),
                               network)  # fmt: skip
        with server_task(str(network.inner), network.ca, network.reply_limit) as grid:
            summary = _federated(grid, setup, folder, roster, console, FAREWELL_SECONDS, failed)
    print_results(console, folder.path, summary)


def _run_stock(setup: Setup, flags: ServerFlags, folder: RunFolder, network: Network, console: Console) -> None:
    """The server's part in a process that Flower starts, from a copy of the code without checkpoints and pictures."""
    from oleander.experiment.prepare import with_files
    from oleander.network.superlink import run_stock
    from oleander.reports.tables import print_results

    scenario = folder.path / "scenario.toml"
    write_scenario(scenario, with_files(setup))
    folder.release()
    with network, doing("Flower's programs run the server's part"):
        roster = {"trusted": network.trusted(), "start": how_to_start(flags, setup.experiment)}
        out = f"--out {shlex.quote(str(folder.path))}"
        told = network.scratch / "roster.json"  # not in the run's settings, which Flower shows to every client
        told.write_text(json.dumps(roster), encoding="utf-8")
        status = run_stock(network, scenario, out, told, lambda text: _line(console, text))
    if status != "finished:completed" or not is_finished(folder.path):
        raise RunError(
            f"Flower's run ended as {status}; {folder.path} has what was done, and superlink.txt what Flower said"
        )
    print_results(console, folder.path, read_summary(folder.path))


@contextlib.contextmanager
def ending_in_time(end: Callable[[str], None]) -> Iterator[Callable[[Exception], None]]:
    """Gives a function that is told of the run's failure; from then on the context has ENDING_SECONDS, else ``end`` is called.

    Clients, a SuperLink that hangs: whatever may still be waited for, the process ends with its exit code.
    """
    timers: list[threading.Timer] = []

    def failed(error: Exception) -> None:
        timers.append(threading.Timer(ENDING_SECONDS, end, [str(error)]))
        timers[-1].daemon = True
        timers[-1].start()

    try:
        yield failed
    finally:
        for timer in timers:
            timer.cancel()


def _federated(
    grid: Grid, setup: Setup, folder: RunFolder, roster: NetworkRoster, console: Console, patience: float,
    failed: Callable[[Exception], None] = lambda error: None,
) -> Summary:  # fmt: skip
    """The whole run, and its folder finished; the clients hear how it ended, in either case, within ``patience`` seconds."""
    from oleander.experiment.federation import federate
    from oleander.experiment.progress import ProgressListener
    from oleander.reports.tables import DRAWING, finish_run

    failures: list[Exception] = []

    def over(error: Exception) -> None:
        if failures:
            return  # the clients have heard
        failures.append(error)
        failed(error)
        with contextlib.suppress(Exception):  # what fails in telling is nothing beside what has failed
            roster.dismiss(grid, f"the run failed: {error}", 1, patience)

    try:
        with display_on(console) as display:
            listener = ProgressListener(console, setup.experiment, display)
            summary = federate(grid, setup, folder, listener, roster=roster, failed=over)
            listener.over()
            with doing(DRAWING):
                finish_run(folder, summary)
    except Exception as error:
        over(error)
        raise
    with doing("telling the clients that the run is finished"):
        roster.dismiss(grid, "the run is finished", 0, patience)
    return summary


def network_flags(flags: ServerFlags) -> list[str]:
    """Those by which clients find the same server again."""
    own = {"host": flags.host, "port": flags.port, "keys": flags.keys}
    given = {name: str(value) for name, value in own.items() if value != getattr(ServerFlags, name)}
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    return [*words, "--insecure"] if flags.insecure else words


def how_to_start(flags: ServerFlags, experiment: Experiment) -> str:
    """The command that starts a client, with {client} for its number."""
    host = "SERVER" if flags.host in ("0.0.0.0", "::") else flags.host
    words = [*itself.command("client").split(), "--server", str(Address(host, flags.port)), "--client-id", "{client}"]
    if flags.keys:
        words += ["--keys", "DIR"]
    elif flags.insecure:
        words += ["--insecure"]
    return " ".join([*words, "--stock"] if flags.stock else words)


def _line(console: Console, text: str) -> None:
    from rich.markup import escape

    from oleander.transport.replies import shown

    console.print(escape(shown(text)), soft_wrap=True)


@functools.cache
def _server_app() -> ServerApp:
    from flwr.serverapp import ServerApp

    app = ServerApp()  # under this name, by which Flower looks for it in the file's text
    app.main()(serve_app)
    return app


def __getattr__(name: str) -> Any:
    """``app``, when Flower asks for it: neither ``--help`` nor a refusal should have to wait for its import."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _server_app()


def serve_app(grid: Grid, context: Context) -> None:
    """Run what ``flwr run . -c "scenario='dba' strategy='krum' rounds=3"`` asks for, with whatever nodes the SuperLink has."""
    from oleander.experiment.prepare import Sources, prepare
    from oleander.network.roster import STOCK_FAREWELL_SECONDS, NetworkRoster
    from oleander.reports.tables import print_results

    logging.getLogger("flwr").addFilter(in_one_line)
    config = context.run_config
    told = json.loads(Path(str(config["network"])).read_text("utf-8")) if config["network"] else {}  # from --stock
    console = console_on()
    experiment = asked_run(functools.partial(experiment_of, config), lambda text: notice(console, text))
    setup = prepare(experiment, Sources(lambda text: notice(console, text)), Path(experiment.out) if told else None)
    folder = RunFolder(Path(experiment.out), again=True) if told else RunFolder.of(experiment)
    trusted = {int(node): client for node, client in told["trusted"].items()} if told.get("trusted") else None
    roster = NetworkRoster(setup, lambda text: _line(console, text), trusted)
    roster = dataclasses.replace(roster, how_to_start=told["start"]) if told else roster
    summary = _federated(grid, setup, folder, roster, console, STOCK_FAREWELL_SECONDS)
    print_results(console, folder.path, summary)
    folder.release()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
