"""What others reach of the Ray that a run starts: from another host, and as another user of the same machine."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.programs import DIGITS, ROOT, command, kill_tree, short_folder, wait_for_rounds

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]
STRANGER = Path(__file__).with_name("stranger.py")
CLOSED = {"UNAUTHENTICATED", "UNAVAILABLE", "UNIMPLEMENTED"}
"""What gRPC says where one gets nothing: no login, no gRPC, no such service."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def two_hosts():
    """Two network namespaces with a wire between them: 10.78.0.1, where a run is started, and 10.78.0.2."""
    home, away = f"ol-home-{os.getpid()}", f"ol-away-{os.getpid()}"
    try:
        ip("netns", "add", home)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', None) or error}")
    try:
        ip("netns", "add", away)
        ip("link", "add", "eth0", "netns", home, "type", "veth", "peer", "name", "eth0", "netns", away)
        for name, address in ((home, "10.78.0.1"), (away, "10.78.0.2")):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")
            ip("-n", name, "route", "add", "default", "dev", "eth0")
        yield home, away
    finally:
        for name in (home, away):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.fixture(scope="module")
def a_run(two_hosts, tmp_path_factory):
    """A run that lasts, on the first host, for all who try: its process, its folder and its listeners (program, address, port).

    It stands still in its third round, when the first one is on record, so that the strangers have the processor.
    """
    host, out = two_hosts[0], tmp_path_factory.mktemp("run") / "out"
    words = command("2=sit", *DIGITS, "--rounds", 4, "--out", out, module="tests.faulty")
    process = subprocess.Popen(["ip", "netns", "exec", host, *words], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        wait_for_rounds(process, out, 2)
        yield process, out, listeners(host)
    finally:
        kill_tree(process)


LISTENERS = """
import json, psutil
found = [(psutil.Process(c.pid).name(), c.laddr.ip.removeprefix("::ffff:"), c.laddr.port)
         for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
print(json.dumps(found))
"""


def listeners(netns: str) -> list[tuple[str, str, int]]:
    """All that listen in a namespace: program, address, port."""
    words = ["ip", "netns", "exec", netns, sys.executable, "-c", LISTENERS]
    return [tuple(found) for found in json.loads(subprocess.check_output(words))]


def stranger(netns: str, host: str, found, marker: Path, login: dict[str, str]) -> dict:
    gcs = next(port for name, _, port in found if name == "gcs_server")
    ports = [str(port) for _, _, port in found]
    home = short_folder()
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home)} | login
    words = ["ip", "netns", "exec", netns, sys.executable, str(STRANGER), str(marker), str(gcs), host, *ports]
    result = subprocess.run(words, env=env, cwd="/", capture_output=True, text=True, timeout=500, check=False)
    assert result.returncode == 0, result.stderr
    print(result.stderr[-3000:])
    return json.loads(result.stdout.splitlines()[-1])


def test_a_stranger_on_another_host_reaches_no_port_and_joins_nothing(two_hosts, a_run, tmp_path):
    process, _, found = a_run
    assert {"gcs_server", "raylet"} <= {name for name, _, _ in found} and len(found) >= 6
    got = stranger(two_hosts[1], "10.78.0.1", found, tmp_path / "marker", {})
    assert process.poll() is None
    assert not (tmp_path / "marker").exists(), "a stranger's code ran"
    assert got == {"answers": {}, "driver": False, "node": False}
    assert {address for _, address, _ in found} == {"127.0.0.1"}


LOGINS = {"no token": {}, "a wrong token": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}}


@pytest.mark.parametrize("login", ["no token", "a wrong token"])
def test_on_the_same_machine_nobody_gets_an_answer_without_the_token_or_joins(login, two_hosts, a_run, tmp_path):
    process, _, found = a_run
    got = stranger(two_hosts[0], "127.0.0.1", found, tmp_path / "marker", LOGINS[login])
    assert process.poll() is None
    assert not (tmp_path / "marker").exists(), "a stranger's code ran"
    assert len(got["answers"]) == len({port for _, _, port in found})
    for port, answers in got["answers"].items():
        assert set(answers["grpc"]) <= CLOSED, (port, answers)
        assert not [code for code in answers["http"] if code.startswith("2")], (port, answers)
    assert any("UNAUTHENTICATED" in answers["grpc"] for answers in got["answers"].values())
    assert (got["driver"], got["node"]) == (False, False)


def test_the_token_is_on_no_command_line_and_in_no_record_and_the_sockets_are_nobody_elses(a_run):
    process, out, _ = a_run
    us = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    raylet = next(p for p in us if p.name() == "raylet")
    token = raylet.environ()["RAY_AUTH_TOKEN"]
    assert len(token) == 64 and token != os.environ.get("RAY_AUTH_TOKEN")
    assert not [p for p in us if token in " ".join(p.cmdline())]
    sockets = [word.partition("=")[2] for word in raylet.cmdline() if word.startswith("--raylet_socket_name")]
    session = Path(sockets[0]).parents[1]
    private = next(p for p in session.parents if p.name.startswith("oleander-"))
    assert private.stat().st_mode & 0o077 == 0
    time.sleep(1)
    written = [*session.rglob("*"), *out.rglob("*")]
    assert not [p for p in written if p.is_file() and not p.is_symlink() and token.encode() in p.read_bytes()]


def test_ray_runs_nothing_that_nobody_asks(a_run):
    """No server of a dashboard, for which ``ray.init`` waits; nothing that carries output to nobody, or would start machines."""
    us = " ".join(" ".join(p.cmdline()) for p in psutil.Process(a_run[0].pid).children(recursive=True))
    assert "raylet/raylet" in us
    assert "dashboard/dashboard.py" not in us and "monitor.py" not in us
