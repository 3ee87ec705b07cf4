"""Whole runs over a real network: the simulation's own result, and what becomes of a run when something fails.

Marked ``network``: ``pytest -m network``; CI runs them too.
"""

import json
import shutil
import signal
import subprocess
import time

import psutil
import pytest

from oleander.experiment.records import read_rounds, read_summary
from oleander.reports.gallery import read_samples
from tests.in_process import run_here
from tests.network.places import THREE, Place
from tests.programs import assert_nothing_left_of, run

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]


@pytest.fixture
def flags():
    return THREE


@pytest.fixture
def place(tmp_path):
    with Place(tmp_path) as place:
        yield place
    assert_nothing_left_of(tmp_path)
    assert place.port_is_free()


def finished(place: Place, clients=3, killed=False) -> str:
    """The run's hash; server and clients end by themselves, and well."""
    assert place.ended("server") == 0, place.all()
    assert [place.ended(f"client{i}", 120) for i in range(clients)] == [0] * clients, place.all()
    assert "Traceback" not in place.all()
    if not killed:
        assert not list(place.scratch.glob("oleander-*"))
    return read_summary(place.out).model_sha256


def test_a_network_comes_to_the_simulations_model(place, flags, simulated, tmp_path):
    """Programs as a user starts them; clients are there before the server, and everything that a run leaves is there."""
    run(*flags, "--actors", 1, "--out", tmp_path / "simulated")
    assert read_summary(tmp_path / "simulated").model_sha256 == simulated
    place.anew = True
    for i in range(3):
        place.client(i)
    place.wait_for("client0", "no server at")
    place.server(*flags, "--out", place.out)
    assert finished(place) == simulated
    assert "client 2 is here" in place.said("server") and "model sha256" in place.said("server")
    assert (place.out / "report.html").is_file() and len(read_rounds(place.out)) == 3
    assert "round 2: 8 images" in place.said("client0") and "the run is finished" in place.said("client1")


def test_an_attack_that_remembers_the_very_weights_that_it_sends_comes_to_it_too(place, flags, tmp_path, task):
    """In round 1 PoisonedFL sends the global model, which it also remembers: in Flower one array in two records."""
    attack = ["--attack", "poisonedfl", "--on-bad-reply", "drop"]
    run_here(*flags, *attack, out=tmp_path / "simulated")
    for i in range(3):
        place.client(i)
    place.server(*flags, *attack, "--out", place.out)
    assert finished(place) == read_summary(tmp_path / "simulated").model_sha256
    assert not any(record.dropped for record in read_rounds(place.out))


def test_attacks_that_train_otherwise_remember_and_agree_come_to_it_too(place, flags, tmp_path, task):
    """All hooks of training, a tamper, the model of the round before, and updates that the attackers agree on."""
    attack = ["--attack", "patch+constrain+neurotoxin+pgd+alie", "--pgd-radius", 0.5, "--alie-z", 0.5]
    run_here(*flags, *attack, out=tmp_path / "simulated")
    for i in range(3):
        place.client(i)
    place.server(*flags, *attack, "--out", place.out)
    assert finished(place) == read_summary(tmp_path / "simulated").model_sha256
    last = read_rounds(place.out)[-1]
    attackers = [norm for norm, bad in zip(last.norms_before, last.malicious, strict=True) if bad]
    assert len(attackers) == 2 and attackers[0] == attackers[1] and attackers[0] < 1


def test_a_trigger_that_is_optimised_from_round_to_round_comes_to_it_too(tmp_path, task):
    """Six clients on a network, two of them attackers who remember a trigger and the model of the round before."""
    attack = ["--attack", "neurotoxin+a3fl", "--a3fl-steps", 4, "--a3fl-renew", 2]
    flags = [*THREE, "--clients", 6, "--clients-per-round", 5, *attack]
    run_here(*flags, out=tmp_path / "simulated")
    with Place(tmp_path) as place:
        place.server(*flags, "--out", place.out)
        for i in range(6):
            place.client(i)
        assert finished(place, clients=6) == read_summary(tmp_path / "simulated").model_sha256
        here, there = (read_samples(folder) for folder in (place.out, tmp_path / "simulated"))
        assert (here["whole"] == there["whole"]).all() and (here["whole"] != here["clean"]).any()
        assert [r.asr for r in read_rounds(place.out)] == [r.asr for r in read_rounds(tmp_path / "simulated")]
    assert_nothing_left_of(tmp_path)


def test_with_keys_and_tls_too(place, flags, simulated, keys):
    place.server(*flags, "--out", place.out, "--keys", keys)
    for i in range(3):
        place.client(i, "--keys", keys)
    assert finished(place) == simulated


@pytest.mark.parametrize("secure", [False, True], ids=["insecure", "keys"])
def test_flowers_own_programs_come_to_it_too(place, flags, simulated, keys, secure):
    how = ["--stock", "--keys", keys] if secure else ["--stock"]
    place.server(*flags, "--out", place.out, *how)
    for i in range(3):
        place.client(i, *how)
    assert place.ended("server", 500) == 0, place.all()
    assert [place.ended(f"client{i}", 120) for i in range(3)] == [0] * 3, place.all()
    assert read_summary(place.out).model_sha256 == simulated
    assert not list(place.scratch.glob("oleander-*"))


# ---- faults -------------------------------------------------------------------------------------------------------------


def test_a_killed_client_ends_the_run_which_goes_on_with_resume(place, flags, simulated):
    """--on-bad-reply fail, the default; then the same folder again with all clients there, one of which stayed."""
    place.server(*flags, "--out", place.out)
    stayed, _ = place.client(0, "--stay"), place.client(2)
    place.faulty(1, "kill")
    assert place.ended("server") == 1
    assert "round 1, client 1" in place.said("server")
    assert place.ended("client2", 120) == 1
    for client in ("client0", "client2"):
        assert "the run failed: round 1, client 1" in place.said(client)
    assert stayed.poll() is None
    assert [record.round for record in read_rounds(place.out)] == [0]
    place.server("--resume", place.out)
    place.client(1), place.client(2)
    assert place.ended("server") == 0, place.all()
    assert [place.ended(f"client{i}", 120) for i in (1, 2)] == [0, 0], place.all()
    assert read_summary(place.out).model_sha256 == simulated
    place.wait_for("client0", "the run is finished")
    assert stayed.poll() is None
    stayed.terminate()
    assert place.ended("client0", 120) == 143
    assert place.said("client0").endswith("\nended by SIGTERM\n")  # it was part of two runs


def test_a_killed_client_is_left_out_and_one_that_comes_back_takes_part_again(place, flags):
    place.server(*flags, "--out", place.out, "--on-bad-reply", "drop", "--rounds", 3)
    place.client(0), place.client(2)
    assert place.faulty(1, "kill").wait(120) == -signal.SIGKILL
    place.client(1)  # while the server still believes in the dead one
    assert finished(place, killed=True) == read_summary(place.out).model_sha256
    rounds = read_rounds(place.out)
    assert [dropped["client"] for dropped in rounds[1].dropped] == [1]
    assert rounds[-1].client_ids == [0, 1, 2] and not rounds[-1].dropped


def test_fewer_clients_are_enough_if_so_said_and_one_that_hangs_is_left_out(place, flags):
    place.server(*flags, "--out", place.out, "--on-bad-reply", "drop", "--min-clients", 2, "--round-timeout", 20)
    place.client(0), place.faulty(2, "hang")
    assert place.ended("server") == 0, place.all()
    causes = {dropped["client"]: dropped["cause"] for dropped in read_rounds(place.out)[1].dropped}
    assert causes == {1: "it was not there", 2: "no reply within 20 s"}
    assert place.ended("client0", 120) == 0


GARBAGE = {
    "raise": "it raised: out of cheese",
    "nan": "values that are not finite",
    "shape": "its weights have shape (7,)",
    "silent": "its reply stopped halfway",
    "bomb": "it unpacks to",
    "oversize": "it is gone",  # refused by the gate, it leaves and joins again
    "impersonate": "it is gone",
}


def test_whatever_a_client_sends_the_run_goes_on_without_it(place, image_folder):
    """All at once, with messages of eleven megabytes: the server's memory stays, and the gate says what it refused."""
    flags = [*THREE, "--dataset", f"folder:{image_folder}", "--clients", 8, "--clients-per-round", 8, "--malicious", 0,
             "--attack", "none", "--rounds", 1, "--on-bad-reply", "drop", "--round-timeout", 300]  # fmt: skip
    place.server(*flags, "--out", place.out)
    for i, fault in enumerate(GARBAGE):
        place.faulty(i, fault)
    place.client(7)
    assert place.ended("server", 400) == 0, place.all()
    record = read_rounds(place.out)[1]
    assert record.client_ids == [7]
    causes = {list(GARBAGE)[dropped["client"]]: dropped["cause"] for dropped in record.dropped}
    for fault, words in GARBAGE.items():
        assert words in causes[fault], causes
    said = place.said("server")
    assert "sends a reply of more than" in said and "in the name of node" in said


def test_a_killed_server_goes_on_with_the_clients_that_waited_for_it(place, flags, tmp_path, task):
    flags = [*flags, "--rounds", 20]  # so that it is killed long before its end
    run_here(*flags, out=tmp_path / "simulated")
    process = place.server(*flags, "--out", place.out)
    for i in range(3):
        place.client(i)
    place.wait_for("client0", "round 1: 8 images")
    process.kill()
    process.wait()
    place.wait_for("client0", "no server at|sent this client away")
    deadline = time.monotonic() + 60
    while not place.port_is_free():
        assert time.monotonic() < deadline, "the gate outlived its server"
        time.sleep(0.1)
    place.server("--resume", place.out)
    assert finished(place, killed=True) == read_summary(tmp_path / "simulated").model_sha256
    assert json.loads((place.out / "environment.json").read_text())["resumed"]


def test_a_killed_gate_takes_the_superlink_with_it_and_ends_the_run(place, flags):
    place.server(*flags, "--out", place.out)
    place.wait_for("server", "nobody is here yet")
    server = psutil.Process(place.started["server"].pid)
    gate = next(child for child in server.children() if "oleander.network.gate" in child.cmdline())
    gate.kill()
    assert place.ended("server", 120) == 1 and "the gate ended" in place.said("server")


def test_ctrl_c_ends_the_server_and_all_that_it_started(place, flags):
    process = place.server(*flags, "--out", place.out)
    place.wait_for("server", "nobody is here yet")
    process.send_signal(signal.SIGINT)
    assert place.ended("server", 120) == 130
    process = place.client(0)
    place.wait_for("client0", "no server at")
    assert list(place.scratch.glob("oleander-*"))
    process.send_signal(signal.SIGTERM)
    assert place.ended("client0", 120) == 143
    assert not list(place.scratch.glob("oleander-*"))


# ---- another machine ----------------------------------------------------------------------------------------------------


def namespaces() -> str:
    """Why network namespaces cannot be had here; empty if they can."""
    if not shutil.which("ip"):
        return "needs the program ip (Debian's iproute2)"
    made = subprocess.run(["ip", "netns", "add", "oleander-try"], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", "oleander-try"], capture_output=True, check=False)
    return f"no network namespaces here: {made.stderr.strip()}" if made.returncode else ""


def test_between_hosts_with_addresses_of_their_own(tmp_path, flags, simulated):
    """The server and two hosts of clients, each a network namespace with an address, and keys between them."""
    if why := namespaces():
        pytest.skip(why)

    def ip(*words):
        subprocess.run(["ip", *words], check=True, capture_output=True)

    hosts = {"ol-server": "10.77.0.1", "ol-a": "10.77.0.2", "ol-b": "10.77.0.3"}
    try:
        ip("netns", "add", "ol-switch")
        ip("-n", "ol-switch", "link", "add", "bridge0", "type", "bridge")
        ip("-n", "ol-switch", "link", "set", "bridge0", "up")
        for name, address in hosts.items():
            ip("netns", "add", name)
            ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", name, "netns", "ol-switch")
            ip("-n", "ol-switch", "link", "set", name, "master", "bridge0", "up")
            for link in ("lo", "eth0"):
                ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        run("keys", "--clients", 3, "--out", tmp_path / "keys", "--san", "10.77.0.1", module="server")
        with Place(tmp_path, "10.77.0.1", ("ip", "netns", "exec", "ol-server")) as place:
            place.server(*flags, "--out", place.out, "--keys", tmp_path / "keys")
            for i, host in enumerate(("ol-a", "ol-a", "ol-b")):
                place.client(i, "--keys", tmp_path / "keys", prefix=("ip", "netns", "exec", host))
            assert finished(place) == simulated
    finally:
        for name in ("ol-switch", *hosts):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    assert_nothing_left_of(tmp_path)
