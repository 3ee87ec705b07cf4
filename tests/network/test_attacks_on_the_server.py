"""One run with keys, and everybody who has no business there: each is refused with a line of the server's, the run is unharmed.

The table of what is tried stands in docs/network.md.
"""

import contextlib
import os
import socket
import ssl
import time

import httpx
import pytest
from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest, StopRunRequest
from flwr.proto.runtime_pb2 import AcquireTaskRequest

from oleander.experiment.records import read_rounds, read_summary
from oleander.network.internals import Node, NodeRefusedError
from oleander.network.keys import make_keys, read
from tests.network.places import THREE, Place
from tests.programs import assert_nothing_left_of

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]


def raw(place, data, secure):
    """What the port answers to these bytes."""
    with socket.create_connection((place.host, place.port), timeout=60) as plain:
        connection = plain
        if secure:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = context.wrap_socket(plain)
        with contextlib.suppress(OSError):
            connection.sendall(data)
            connection.settimeout(3)
            return connection.recv(1000)
        return b""


def post(place, keys, path, message):
    with httpx.Client(verify=str(keys / "ca.crt") if keys else False) as client:
        scheme = "https" if keys else "http"
        return client.post(f"{scheme}://{place.host}:{place.port}{path}", content=message.SerializeToString())


def test_nobody_who_should_not_gets_in_and_the_run_comes_to_its_end(tmp_path, keys, simulated):
    flags = THREE
    make_keys(tmp_path / "strangers", 3, ["127.0.0.1"])
    with Place(tmp_path) as place:
        place.server(*flags, "--out", place.out, "--keys", keys)
        place.client(0, "--keys", keys)
        place.wait_for("server", "client 0 is here")
        where = f"{place.host}:{place.port}"
        ca = read(keys / "ca.crt")

        # a key that the run does not know
        place.client(1, "--keys", keys, "--key", tmp_path / "strangers" / "client-1.key", name="unknown")
        assert place.ended("unknown", 120) == 2
        assert "signed by a key that this run does not know" in place.said("unknown")
        place.wait_for(
            "server", "refused: POST /v1/fleet/activate-node.*signed by a key that this run does not know", 5
        )

        # no key: TLS alone, and not even that
        with pytest.raises(NodeRefusedError):
            Node(where, ca, None).join()  # its own key, made up
        assert post(place, keys, "/v1/fleet/pull-messages", AcquireTaskRequest()).status_code == 401
        place.wait_for("server", "no signature, or not a valid one")
        with pytest.raises(httpx.HTTPError):
            Node(where, None, None).join()
        place.wait_for("server", "refused: no TLS")

        plain = place.client(1, name="plain")
        place.wait_for("plain", "it may want --keys DIR", 120)
        plain.terminate()
        place.client(1, "--keys", tmp_path / "strangers", name="elsewhere")
        assert place.ended("elsewhere", 120) == 2 and "not the server of --keys" in place.said("elsewhere")

        # another client's number
        place.client(2, "--keys", keys, "--key", keys / "client-1.key", name="thief")
        assert place.ended("thief", 120) == 2
        assert "it says it is client 2, but its key is client 1's" in place.said("thief")
        place.wait_for("server", "refused: it says it is client 2, but its key is client 1's")

        # the same client a second time
        place.client(0, "--keys", keys, name="twin")
        place.wait_for("twin", "a client with this key is here already", 120)
        place.wait_for("server", "refused: /v1/fleet/activate-node from 127.0.0.1, by the SuperLink")

        # the control and runtime interfaces, from a client's position
        for path, message in (
            ("/v1/control/start-run", StartRunRequest()), ("/v1/control/register-node", RegisterNodeRequest(public_key=b"x")),
            ("/v1/control/stop-run", StopRunRequest(run_id=1)), ("/v1/runtime/acquire-task", AcquireTaskRequest()),
        ):  # fmt: skip
            assert post(place, keys, path, message).status_code == 403
            place.wait_for("server", f"refused: POST {path} from 127.0.0.1: not for clients")

        # bytes that are nothing
        for secure in (True, False):
            raw(place, os.urandom(2000) + b"\r\n\r\n", secure)
            raw(place, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 30_000, secure)
            raw(place, b"POST /v1/fleet/push-object HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\ncut", secure)
            raw(place, b"", secure)
        assert raw(place, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", secure=True).startswith(b"HTTP/1.1 403")
        place.wait_for("server", "Invalid HTTP request")

        # and the run, once the twin has given up: with client 0 gone at the end, it could join
        assert place.ended("twin", 120) == 2 and "joined" not in place.said("twin")
        assert place.started["server"].poll() is None
        place.client(1, "--keys", keys), place.client(2, "--keys", keys)
        assert place.ended("server") == 0, place.all()
        assert [place.ended(f"client{i}", 120) for i in range(3)] == [0, 0, 0]
    assert read_summary(place.out).model_sha256 == simulated
    assert not any(record.dropped for record in read_rounds(place.out))
    assert "Traceback" not in place.said("server")
    assert_nothing_left_of(tmp_path)


def test_without_keys_a_second_client_of_a_number_is_refused_and_an_oversize_reply_too(tmp_path, image_folder):
    """The size limit is the gate's: what is beyond it never reaches the SuperLink."""
    flags = [
        *THREE,
        "--dataset",
        f"folder:{image_folder}",
        "--on-bad-reply",
        "drop",
        "--rounds",
        1,
        "--round-timeout",
        240,
    ]
    with Place(tmp_path) as place:
        place.server(*flags, "--out", place.out)
        place.client(0)
        place.wait_for("server", "client 0 is here")
        place.client(0, name="twin")
        place.wait_for("twin", "client 0 is here already; trying again", 120)
        place.wait_for("server", "refused: client 0 is here already")
        place.client(7, name="seventh")
        assert place.ended("seventh", 120) == 2
        assert place.ended("twin", 120) == 2
        place.faulty(1, "oversize"), place.client(2)
        assert place.ended("server") == 0, place.all()
        said = place.said("server")
        assert "it says it is client 7; the clients are 0 to 2" in said and "sends a reply of more than" in said
    assert read_rounds(place.out)[1].client_ids == [0, 2]
    assert_nothing_left_of(tmp_path)


def test_connections_that_say_nothing_are_closed_and_take_nobodys_place(tmp_path):
    with Place(tmp_path) as place:
        place.server(*THREE, "--out", place.out)
        place.wait_for("server", "nobody is here yet")
        with socket.create_connection((place.host, place.port)) as silent:
            silent.settimeout(40)
            began = time.monotonic()
            assert silent.recv(10) == b"" and 10 < time.monotonic() - began < 35
        many = [socket.create_connection((place.host, place.port)) for _ in range(150)]
        for _ in range(20):
            said = raw(place, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n", secure=False)
            assert said.startswith(b"HTTP/1.1 200") and b"connection: close" in said
        for connection in many:
            connection.close()
    assert_nothing_left_of(tmp_path)
