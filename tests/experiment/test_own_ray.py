"""Who gets into a Ray of our own, where its files are, and how its death is noticed; without a Ray."""

import inspect
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from oleander.experiment import own_ray
from oleander.experiment.own_ray import (
    LONGEST_SOCKET,
    SOCKET_IN_FOLDER,
    Watch,
    folders_for_ray,
    set_login,
    watch_processes,
    without_observers,
)
from oleander.system.errors import RunError, UserError
from tests.programs import short_folder

NAMES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")


@pytest.fixture
def environment(monkeypatch):
    """Without anything of Ray's; what is set is unset afterwards."""
    for name in (*NAMES, "RAY_ENABLE_K8S_TOKEN_AUTH"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return monkeypatch


def test_each_run_has_a_token_of_its_own_and_stays_on_loopback(environment):
    tokens = []
    for _ in range(2):
        os.environ.pop("RAY_AUTH_TOKEN", None)
        assert set_login(None) == ""
        tokens.append(os.environ["RAY_AUTH_TOKEN"])
    assert len(set(tokens)) == 2 and all(len(token) == 64 for token in tokens)
    assert os.environ["RAY_AUTH_MODE"] == "token" and os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


def test_ray_starts_without_its_observers_where_they_are_called_as_they_were():
    """Ray's own names, written against one version: where they move, this fails."""
    from ray._private.node import Node

    before = Node.start_api_server, Node.start_log_monitor, Node.start_monitor
    assert list(inspect.signature(before[0]).parameters) == ["self", "include_dashboard", "raise_on_failure"]
    assert all(list(inspect.signature(start).parameters) == ["self"] for start in before[1:])
    assert "self._webui_url" in inspect.getsource(before[0])
    node = object.__new__(Node)
    with without_observers():
        node.start_api_server(include_dashboard=False, raise_on_failure=False)
        node.start_log_monitor()
        node.start_monitor()
    assert node.webui_url == ""
    assert (Node.start_api_server, Node.start_log_monitor, Node.start_monitor) == before


@pytest.mark.parametrize("address", [None, "h:1"])
def test_a_token_that_the_user_set_is_used_with_and_without_a_cluster(address, environment, tmp_path):
    environment.setenv("RAY_AUTH_TOKEN", "mine")
    set_login(address)
    assert (os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"]) == ("token", "mine")
    environment.delenv("RAY_AUTH_TOKEN")
    environment.delenv("RAY_AUTH_MODE")
    (tmp_path / "token").write_text("mine\n")
    environment.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    set_login(address)
    assert os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN" not in os.environ


def test_a_cluster_keeps_its_own_login_where_no_token_is_set(environment):
    set_login("h:1")
    assert not set(NAMES) & set(os.environ)


def test_a_user_who_wants_no_login_is_told_what_that_means_and_stays_on_loopback(environment):
    environment.setenv("RAY_AUTH_MODE", "disabled")
    assert "can run code as you" in set_login(None)
    assert "RAY_AUTH_TOKEN" not in os.environ and os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RAY_AUTH_MODE", "on", "RAY_AUTH_MODE=on: unknown to Ray; known: token, disabled"),
        ("RAY_AUTH_TOKEN", " \n", "RAY_AUTH_TOKEN: no token"),
        ("RAY_AUTH_TOKEN", "two\nlines", "RAY_AUTH_TOKEN: no token"),
        ("RAY_AUTH_TOKEN", "t\u00f6ken", "RAY_AUTH_TOKEN: no token"),
        ("RAY_AUTH_TOKEN_PATH", "/nowhere/token", "RAY_AUTH_TOKEN_PATH=/nowhere/token: cannot be read"),
        ("RAY_AUTH_TOKEN_PATH", "/dev/null", "RAY_AUTH_TOKEN_PATH=/dev/null: no token"),
        ("RAY_AUTH_TOKEN_PATH", "/", "RAY_AUTH_TOKEN_PATH=/: cannot be read"),
    ],
)
@pytest.mark.parametrize("address", [None, "h:1"])
def test_a_login_that_ray_would_misread_is_refused_without_showing_the_token(name, value, words, address, environment):
    environment.setenv(name, value)
    with pytest.raises(UserError, match=words) as refused:
        set_login(address)
    assert value.strip() in words or value.strip() not in str(refused.value)


def test_ray_that_read_its_login_too_early_is_refused(environment):
    environment.setenv("RAY_AUTH_MODE", "token")
    script = (
        "import os; os.environ.pop('RAY_AUTH_MODE'); import ray; os.environ['RAY_AUTH_MODE'] = 'token'\n"
        "from oleander.experiment.own_ray import check_login; check_login()"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "imported before its login was set" in ended.stderr


def test_a_path_too_long_for_a_socket_leaves_only_large_objects_in_tmpdir(environment, tmp_path):
    long, short = tmp_path / ("x" * 100), short_folder()
    long.mkdir()
    environment.setattr(tempfile, "tempdir", str(long))
    environment.setenv("XDG_RUNTIME_DIR", str(short))
    with folders_for_ray() as folders:
        sockets, spilling = Path(folders["_temp_dir"]), Path(folders["object_spilling_directory"])
        assert sockets.parent.parent == short and spilling.parent == long
        assert sockets.parent.stat().st_mode & 0o077 == spilling.stat().st_mode & 0o077 == 0
        assert len(os.fsencode(str(short) + SOCKET_IN_FOLDER)) <= LONGEST_SOCKET
    assert not list(long.iterdir()) and not list(short.iterdir())


def test_a_short_tmpdir_has_all_and_one_that_takes_no_socket_is_passed_over(environment):
    first, second = short_folder(), short_folder()
    environment.setattr(tempfile, "tempdir", str(first))
    environment.setenv("XDG_RUNTIME_DIR", str(second))
    with folders_for_ray() as folders:
        assert list(folders) == ["_temp_dir"] and Path(folders["_temp_dir"]).parent.parent == first

    def no_sockets(path: Path) -> None:
        if path.is_relative_to(first):
            raise PermissionError(1, "Operation not permitted")

    environment.setattr(own_ray, "_try_socket", no_sockets)
    with folders_for_ray() as folders:
        assert Path(folders["_temp_dir"]).parent.parent == second
    environment.setattr(own_ray, "scratch_folder", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(UserError, match=r"No space left.*set TMPDIR to a folder of at most"), folders_for_ray():
        pass
    assert not list(first.iterdir()) and not list(second.iterdir())


@pytest.mark.parametrize("name", own_ray.VITAL)
def test_a_vital_process_that_dies_is_named_with_its_number_and_not_after_the_end(name):
    word = own_ray.VITAL[name][0]
    script = f"import sys; print('here', flush=True); sys.stdin.read()  # {word}"
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"here\n"  # a process has its command line only a moment after Popen returns
    try:
        watch, quiet = watch_processes(), watch_processes()
        said, heard = [], threading.Event()
        watch.start(lambda error: (said.append(error), heard.set()))
        quiet.start(lambda error: pytest.fail("the end came first"))
        quiet.end()
        assert watch.missing() is None
        child.kill()
        assert heard.wait(20)
        assert isinstance(said[0], RunError) and str(said[0]) == f"Ray's {name} (process {child.pid}) died"
    finally:
        child.kill()
        child.communicate()


def test_a_cluster_that_is_gone_is_missed(monkeypatch):
    import socket

    monkeypatch.setattr(own_ray.time, "sleep", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        watch = own_ray.watch_cluster(address)
        assert watch.missing() is None
    assert watch.missing() == f"the head of the Ray cluster at {address} died, or cannot be reached"
    assert isinstance(watch, Watch)
