"""Connections without end, and readers who do not read: the clients of a run come in, train and finish all the same."""

import fcntl
import os
import re
import signal
import subprocess
import sys

import httpx
import pytest

from oleander.experiment.records import read_rounds, read_summary
from tests.in_process import run_here
from tests.network.places import THREE, Place
from tests.programs import ROOT, assert_nothing_left_of

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]
SIX = [*THREE, "--clients", "6", "--clients-per-round", "6"]


def figures(place):
    """Connections that the flood opened, and answers that it got."""
    return tuple(map(int, re.findall(r"flood: (\d+) opened, (\d+) answered", place.said("flood"))[-1]))


@pytest.mark.parametrize("secure", [True, False], ids=["keys", "loopback"])
def test_six_clients_join_train_and_finish_in_a_flood_of_300_pollers_and_700_who_say_nothing(
    tmp_path, keys, secure, task
):
    flags = SIX
    how = ["--keys", keys] if secure else []
    run_here(*flags, out=tmp_path / "simulated")
    with Place(tmp_path) as place:
        place.server(*flags, "--out", place.out, *how)
        place.wait_for("server", "nobody is here yet")
        place.start("flood", "tests.network.flood", place.port, "tls" if secure else "plain", "-", 300, 700)
        place.wait_for("server", "that had signed nothing, to make room for another")
        for number in range(6):
            place.client(number, *how)
        assert place.ended("server", 500) == 0, place.all()
        assert [place.ended(f"client{number}", 120) for number in range(6)] == [0] * 6, place.all()
        opened, answered = figures(place)
        print(f"{opened} connections, {answered} answers")
        assert opened > 600 and answered > 100
    assert read_summary(place.out).model_sha256 == read_summary(tmp_path / "simulated").model_sha256
    assert not any(record.dropped for record in read_rounds(place.out))
    assert_nothing_left_of(tmp_path)


def test_a_client_of_the_run_that_floods_with_its_own_key_harms_nobody_but_itself(tmp_path, keys):
    flags = [*THREE, "--min-clients", 2, "--on-bad-reply", "drop"]
    with Place(tmp_path) as place:
        place.server(*flags, "--out", place.out, "--keys", keys)
        place.wait_for("server", "nobody is here yet")
        place.start("flood", "tests.network.flood", place.port, "tls", keys / "client-2.key", 300, 0)
        place.wait_for("flood", "flood: [1-9][0-9][0-9]+ opened")
        for number in range(2):
            place.client(number, "--keys", keys)
        assert place.ended("server", 500) == 0, place.all()
        assert [place.ended(f"client{number}", 120) for number in range(2)] == [0] * 2, place.all()
        print(figures(place))
    assert [record.client_ids for record in read_rounds(place.out)[1:]] == [[0, 1]] * 2
    assert_nothing_left_of(tmp_path)


# ---- readers ------------------------------------------------------------------------------------------------------------


def unread() -> tuple[int, int]:
    """A pipe that is full, and whose reader does not read."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write, b"." * 4095 + b"\n")
    return read, write


def rest_of(read: int) -> str:
    said = b""
    while part := os.read(read, 1 << 16):
        said += part
    os.close(read)
    return said.decode()


def started(place, write, *words):
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, words)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=write, stderr=write,
        env=os.environ | {"OLEANDER_TEST": str(place.folder), "TMPDIR": str(place.scratch)},
    )  # fmt: skip


def test_a_run_whose_output_nobody_reads_comes_to_its_end_and_can_be_read_afterwards(tmp_path, simulated):
    flags = THREE
    with Place(tmp_path) as place:
        read, write = unread()
        server = started(place, write, "server", "--port", place.port, *flags, "--out", place.out)
        os.close(write)
        place.started["server"] = server
        place.client(2)
        place.wait_for("client2", "introduced itself")
        with httpx.Client(trust_env=False) as stranger:
            for _ in range(100):
                assert stranger.get(f"http://127.0.0.1:{place.port}/v1/control/start-run").status_code == 403
        pipes = []
        for number in range(2):
            where, to = unread()
            pipes.append(where)
            words = ("clients", "--server", f"127.0.0.1:{place.port}", "--client-id", number)
            place.started[f"client{number}"] = started(place, to, *words)
            os.close(to)
        assert place.ended("server", 200) == 0
        assert [place.ended(f"client{number}", 120) for number in range(3)] == [0] * 3
        said = rest_of(read)
    assert read_summary(place.out).model_sha256 == simulated
    assert "model sha256" in said and "refused: " in said and (place.out / "report.html").is_file()
    assert ["the run is finished" in rest_of(pipe) for pipe in pipes] == [True, True]
    assert_nothing_left_of(tmp_path)


def test_ctrl_c_ends_a_server_whose_output_nobody_reads(tmp_path):
    with Place(tmp_path) as place:
        read, write = unread()
        server = started(place, write, "server", "--port", place.port, *THREE, "--out", place.out)
        os.close(write)
        place.started["server"] = server
        client = place.client(0)
        place.wait_for("client0", "introduced itself")
        server.send_signal(signal.SIGINT)
        assert place.ended("server", 120) == 130
        said = rest_of(read)
        assert f"ended by SIGINT\n0 of 2 rounds are finished; finished rounds are in {place.out}\nto go on: " in said
        assert said.endswith(f" -m server --resume {place.out} --port {place.port}\n")
        client.terminate()
    assert_nothing_left_of(tmp_path)


@pytest.mark.parametrize(
    "way", ['"$@" >&- 2>&-', '"$@" >/dev/full 2>/dev/full', 'set -o pipefail; "$@" 2>&1 | head -1']
)
@pytest.mark.parametrize("study", [False, True], ids=["run", "study"])
def test_a_simulation_ends_as_it_would_whatever_becomes_of_its_output(tmp_path, way, study):
    flags = [*THREE, "--rounds", "1", "--actors", "1", "--out", tmp_path / "run"]
    words = [sys.executable, "-m", "simulate", *flags, *(["--repeats", "2"] if study else [])]
    done = subprocess.run(
        ["bash", "-c", way, "bash", *map(str, words)], cwd=ROOT, capture_output=True, check=False, timeout=200,
        env=os.environ | {"OLEANDER_TEST": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "run" / "report.html").is_file()
    if not study:  # a refusal is the same for both
        failing = [*words[:3], *flags, "--out", tmp_path / "none", "--resume", tmp_path / "none"]
        done = subprocess.run(["bash", "-c", way, "bash", *map(str, failing)], cwd=ROOT, check=False, timeout=100)
        assert done.returncode == 2
    assert_nothing_left_of(tmp_path)
