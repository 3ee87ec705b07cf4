"""The SuperLink as the gate starts it answers as Flower's own does, request by request."""

import base64

import flwr.superlink.main as flowers
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, RegisterNodeFleetRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.protobuf.translation import PROTOBUF_REQUEST_TYPES
from starlette.testclient import TestClient

from oleander.network import link
from oleander.network.internals import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
)

KEY = ec.generate_private_key(ec.SECP384R1())
PLAIN = {"content-type": PROTOBUF_MEDIA_TYPE, "accept": PROTOBUF_MEDIA_TYPE}


def superlink(monkeypatch, layers=None):
    """Flower's application, with its own layers or these."""
    if layers:
        monkeypatch.setattr(flowers, "_get_middleware", layers)
    return TestClient(flowers.create_app(), raise_server_exceptions=False)


@pytest.fixture
def both(monkeypatch):
    own = superlink(monkeypatch)
    layers = flowers._get_middleware
    return own, superlink(monkeypatch, lambda: link.lighter(layers()))


def signed(key=KEY):
    stamp = now().isoformat()
    return PLAIN | {
        FLEET_HTTP_PUBLIC_KEY_HEADER: base64.b64encode(public_key_to_bytes(key.public_key())).decode(),
        FLEET_HTTP_SIGNATURE_HEADER: base64.b64encode(sign_message(key, stamp.encode())).decode(),
        TIMESTAMP_HEADER: stamp,
    }


def test_every_path_answers_as_in_flowers_own_signed_or_not_and_to_bytes_that_are_no_message(both):
    other = ec.generate_private_key(ec.SECP384R1())
    streams = {"/v1/control/stream-logs", "/v1/control/stream-run-events"}  # the same layers in both, and no end
    paths = [(method, path) for method, path in PROTOBUF_REQUEST_TYPES if path not in streams]
    wrong = [
        ("GET", "/v1/fleet/pull-object"),
        ("POST", "/v1/fleet/none"),
        ("POST", "/v1/runtime/none"),
        ("GET", "/health"),
    ]
    for method, path in paths + wrong:
        for headers in (PLAIN, signed(), signed(other), {}):
            for body in (b"", b"\xff\xff"):
                own, ours = (app.request(method, path, headers=headers, content=body) for app in both)
                assert ours.status_code == own.status_code, (path, headers)
                assert own.is_success or ours.content == own.content, (path, headers)  # success names ids and times


def test_an_unsigned_request_of_a_node_is_refused_and_a_signed_one_taken_for_its_own_node_only(both):
    key = public_key_to_bytes(KEY.public_key())
    for app in both:
        register = RegisterNodeFleetRequest(public_key=key).SerializeToString()
        activate = ActivateNodeRequest(public_key=key, heartbeat_interval=10).SerializeToString()
        assert app.post("/v1/fleet/register-node", headers=PLAIN, content=register).status_code == 401
        answer = app.post("/v1/fleet/register-node", headers=signed(), content=register)
        node = _node_id(answer.content)
        assert app.post("/v1/fleet/activate-node", headers=signed(), content=activate).status_code == 200
        for number, headers, status in ((node, signed(), 200), (node, PLAIN, 401), (node + 1, signed(), 401)):
            pull = PullMessagesRequest(node=Node(node_id=number)).SerializeToString()
            assert app.post("/v1/fleet/pull-messages", headers=headers, content=pull).status_code == status


def _node_id(content):
    from flwr.proto.fleet_pb2 import RegisterNodeFleetResponse

    return RegisterNodeFleetResponse.FromString(content).node_id


def test_all_of_flowers_layers_are_known_and_what_checks_something_is_met():
    """A new one of Flower's is met by all; one that has another name than it had is not stepped around any more."""
    names = [getattr(layer.cls, "__name__", "") for layer in flowers._get_middleware()]
    assert set(link.IDLE) <= set(names) and len(names) == 9
    assert set(names) - set(link.IDLE) == {"BaseHTTPMiddleware", "ProtobufTranslationMiddleware"}
    assert link.FLEET not in link.IDLE["NodeAuthMiddleware"]


@pytest.mark.parametrize("told", [["--enable-event-log"], "FLWR_TRACING_ENABLED", "FLWR_ENABLE_EVENT_LOG"])
def test_who_asks_for_a_log_or_traces_has_all_of_flowers_layers(monkeypatch, told):
    import flwr.superlink.cli

    started, own = [], flowers._get_middleware
    monkeypatch.setattr(flowers, "_get_middleware", own)  # put back afterwards
    monkeypatch.setattr(flwr.superlink.cli, "flower_superlink", lambda: started.append(flowers._get_middleware))
    link.main([] if isinstance(told, str) else told, {told: "1"} if isinstance(told, str) else {})
    link.main([], {})
    assert started[0] is own and started[1] is not own
