"""What the environment says of proxies, and where packages lie: nobody is led astray, and whoever is started finds its packages."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from oleander.network import client
from oleander.network.address import Address, free_port
from oleander.network.internals import HEALTH
from oleander.system import proxies
from oleander.system.errors import RunError
from oleander.system.programs import flower, flower_programs, how_it_ended, module_path, python
from oleander.system.proxies import ASIDE, for_a_download, talk_to_nobody_else, without_proxies
from tests.programs import ROOT

JUNK = ["http://127.0.0.1:9", "socks://127.0.0.1:9", "socks5h://x", "http://[::1", "junk", "://", " "]
UNBOUND = "ERROR [uvicorn.error] [Errno 98] error while attempting to bind on address ('127.0.0.1', 1): address already in use"
NAMES = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "FTP_PROXY"]


@pytest.fixture
def environment(monkeypatch):
    """A copy of the environment that a test may spoil."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in ("NO_PROXY", "no_proxy"):  # server.py sets them when it is imported, as other tests do
        os.environ.pop(name, None)
    return os.environ


@pytest.mark.parametrize("junk", JUNK)
@pytest.mark.parametrize("name", NAMES)
def test_no_proxy_of_the_environment_reaches_anybody(name, junk):
    clean = without_proxies({"PATH": "/bin", name: junk, "NO_PROXY": "[::1", "SSLKEYLOGFILE": "/nowhere/at/all"})
    assert clean == {"PATH": "/bin", "NO_PROXY": "*", "no_proxy": "*", ASIDE: clean[ASIDE]}
    assert json.loads(clean[ASIDE]) == {name: junk, "NO_PROXY": "[::1"}
    assert without_proxies(clean) == clean


def test_authorities_of_the_environment_are_put_aside_too_and_rays_settings_are_not():
    given = dict.fromkeys(["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"], "/nowhere")
    clean = without_proxies({**given, "RAY_grpc_enable_http_proxy": "0"})
    assert not clean.keys() & given.keys() and clean["RAY_grpc_enable_http_proxy"] == "0"


@pytest.mark.parametrize("junk", JUNK[1:4])
def test_flowers_clients_come_to_be_where_the_environment_would_not_have_let_them(environment, junk):
    from flwr.supercore.control import ControlHttpClient

    environment["ALL_PROXY"] = junk
    with pytest.raises((ValueError, ImportError, httpx.InvalidURL)):
        ControlHttpClient.from_server_address("127.0.0.1:1", True, None, interceptors=[])
    talk_to_nobody_else()
    with ControlHttpClient.from_server_address("127.0.0.1:1", True, None, interceptors=[]) as client:
        assert not client._client._mounts


def test_a_node_goes_straight_to_its_server_and_follows_nobody_elsewhere(environment):
    from oleander.network.internals import Node

    environment |= {"ALL_PROXY": "socks://x", "HTTP_PROXY": "http://127.0.0.1:9", "SSL_CERT_FILE": "/nowhere"}
    client = Node("127.0.0.1:1", None, None)._fleet._client
    assert not client._mounts and not client.follow_redirects and not client.trust_env


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_no_client_calls_at_the_proxy_that_the_environment_names(environment, nobodys_address, name):
    """One that listens; the server's address is one where nobody does."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0.1)
        environment |= {name: f"http://127.0.0.1:{proxy.getsockname()[1]}", "NO_PROXY": "", "no_proxy": ""}
        assert client.main(["--server", nobodys_address, "--client-id", "0", "--wait", "0"]) == 1
        with pytest.raises(TimeoutError):
            proxy.accept()


@pytest.fixture
def nobodys_address():
    """An address of this machine that is no server's, and that no rule takes from a proxy."""
    return f"127.0.0.3:{free_port()}"


def test_a_download_has_the_users_proxies_and_nobody_after_it(environment):
    for name in proxies.NOBODY:
        environment.pop(name, None)
    environment |= {"HTTPS_PROXY": "http://proxy:1", "no_proxy": "inside"}
    talk_to_nobody_else()
    with for_a_download():
        assert environment["HTTPS_PROXY"] == "http://proxy:1" and environment["no_proxy"] == "inside"
        assert "NO_PROXY" not in environment
    assert "HTTPS_PROXY" not in environment and environment["no_proxy"] == "*"
    with pytest.raises(ZeroDivisionError), for_a_download():
        raise ZeroDivisionError
    assert "HTTPS_PROXY" not in environment
    environment[ASIDE] = "junk"
    with for_a_download():
        pass


@pytest.mark.parametrize("module", ["simulate", "server", "clients"])
def test_programs_start_whatever_the_environment_says_of_proxies(module):
    env = os.environ | dict.fromkeys(NAMES, "socks://[") | {"NO_PROXY": "[", "SSL_CERT_FILE": "/nowhere"}
    shown = subprocess.run(
        [sys.executable, "-m", module, "--help"], env=env, cwd=ROOT, capture_output=True, check=False
    )
    assert shown.returncode == 0, shown.stderr


# ---- packages -----------------------------------------------------------------------------------------------------------


def asked(command, tmp_path, **env):
    """What a child says, started in a folder that has modules of the packages' names in it."""
    for name in ("httpx", "json", "uvicorn", "flwr"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('from the current directory')")
    done = subprocess.run(command, env=os.environ | env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> str:
    """An interpreter without packages."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin" / "python")


def packages() -> str:
    return str(Path(httpx.__file__).parent.parent)


def test_a_child_sees_the_packages_that_its_parent_has_from_pythonpath_and_not_the_current_directory(bare, tmp_path):
    words = (
        "import json, os, subprocess\n"
        "from oleander.system.programs import flower, module_path, python\n"
        "env = os.environ | {'PYTHONPATH': module_path()}\n"
        "for command in (python('-c', 'import httpx, uvicorn, oleander.network.gate; print(httpx.__file__)'),"
        " [*flower('flower-superlink'), '--help']):\n"
        "    done = subprocess.run(command, env=env, capture_output=True, text=True)\n"
        "    print(done.returncode, (done.stdout + done.stderr)[:100])"
    )
    said = asked([bare, "-P", "-c", words], tmp_path, PYTHONPATH=f"{ROOT}{os.pathsep}{packages()}")
    assert said.startswith(f"0 {packages()}") and "0 usage: flower-superlink" in said


def test_the_current_directory_is_passed_on_only_where_it_was_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for first in ("", str(tmp_path), "."):
        monkeypatch.setattr(sys, "path", [first, *sys.path])
    assert str(tmp_path) not in module_path().split(os.pathsep) and "" not in module_path().split(os.pathsep)
    monkeypatch.setenv("PYTHONPATH", f".{os.pathsep}/elsewhere")
    assert str(tmp_path) in module_path().split(os.pathsep)
    monkeypatch.setenv("PYTHONPATH", f"{os.pathsep}/elsewhere")  # an empty item is the current directory, by mistake
    assert str(tmp_path) not in module_path().split(os.pathsep)


def test_flower_finds_its_own_programs_by_name_where_none_lie_beside_the_interpreter(tmp_path):
    path = flower_programs(tmp_path / "bin folder")
    for name in ("flower-superexec", "flwr-serverapp", "flwr-clientapp"):
        file = Path(path.split(os.pathsep)[0]) / name
        assert file.stat().st_mode & 0o777 == 0o700
    shown = asked(["flwr-clientapp", "--help"], tmp_path, PATH=path, PYTHONPATH=module_path())
    assert "usage: flwr-clientapp" in shown
    assert flower("flwr")[0] == sys.executable == python()[0]


def test_an_end_is_told_with_its_signal_or_code_and_the_last_line(tmp_path):
    log = tmp_path / "log"
    log.write_text("first\nModuleNotFoundError: No module named 'uvicorn'\n\n")
    assert how_it_ended(1, log) == "exit code 1; it said: ModuleNotFoundError: No module named 'uvicorn'"
    log.write_text(
        f"{UNBOUND}\nINFO [uvicorn.error] Waiting for application shutdown.\nINFO [uvicorn.error] complete.\n"
    )
    assert how_it_ended(1, log) == f"exit code 1; it said: {UNBOUND}"
    log.write_text("an error\n" + "more\n" * 20 + "the end\n")
    assert how_it_ended(1, log) == "exit code 1; it said: the end"
    assert how_it_ended(-9, tmp_path / "none") == "killed by SIGKILL"
    assert len(how_it_ended(1, Path("/proc/self/environ"))) < 400


def network_in(folder):
    """A server's, of two clients without keys."""
    from oleander.network.superlink import Network

    where = Address("127.0.0.1", free_port())
    return Network(where, None, 2, 1000, folder / "superlink.txt", stock=False, told=print, died=print)


def test_a_gate_that_cannot_start_says_why(monkeypatch, tmp_path):
    from oleander.network import superlink

    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "uvicorn.py").write_text("raise ModuleNotFoundError('No module named uvicorn')")
    monkeypatch.setattr(superlink, "module_path", lambda: f"{ROOT}{os.pathsep}{tmp_path / 'packages'}")
    network = network_in(tmp_path)
    with pytest.raises(RunError, match=r"the gate ended \(exit code 1; it said: ModuleNotFoundError: No module"):
        network.__enter__()
    assert "Traceback" in (tmp_path / "superlink.txt").read_text()


def test_a_superlink_whose_port_another_took_meanwhile_starts_on_the_next(monkeypatch, tmp_path):
    from oleander.network import superlink

    with socket.create_server(("127.0.0.1", 0)) as another:
        taken = another.getsockname()[1]
        found = [taken, free_port()]
        monkeypatch.setattr(superlink, "free_port", lambda: found.pop(0))
        with network_in(tmp_path) as network:
            assert network.inner.port != taken and not found
            httpx.get(f"http://{network.inner}{HEALTH}", trust_env=False).raise_for_status()


def test_a_superlink_that_finds_no_port_at_all_ends_with_what_it_said(monkeypatch, tmp_path):
    from oleander.network import superlink

    with socket.create_server(("127.0.0.1", 0)) as another:
        monkeypatch.setattr(superlink, "free_port", lambda: another.getsockname()[1])
        monkeypatch.setattr(superlink, "PORTS", 2)
        with pytest.raises(RunError, match=r"the SuperLink did not start .*address already in use"):
            network_in(tmp_path).__enter__()


def test_a_free_port_is_none_that_the_system_gives_to_others():
    system = Path("/proc/sys/net/ipv4/ip_local_port_range")
    low, high = map(int, system.read_text().split()) if system.exists() else (49_152, 65_535)
    assert not any(low <= free_port() <= high for _ in range(20))
