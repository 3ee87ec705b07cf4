"""What clients and the gate take from Flower beside its public interface. ``tests/network/test_internals.py`` fails when one moves.
What the server takes is in ``task.py``, and what ``link.py`` knows of a SuperLink from inside in that file. Nowhere else is any.

Flower's own way starts a Python process for every message. Here the server and each client are one process that lives as long
as the run does: the server takes its task from the SuperLink itself (``task.server_task``), and a client speaks the protocol of a
SuperNode (``Node``). ``gate.py`` needs the names and types of the requests that nodes make. Written against flwr 1.41.
"""

import base64
import contextlib
import datetime
import time
from collections.abc import Callable
from typing import Any, cast

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Error, Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import (
    HEARTBEAT_MIN_INTERVAL,
    SYSTEM_TIME_TOLERANCE,
    TIMESTAMP_HEADER,
    TIMESTAMP_TOLERANCE,
    ErrorCode,
)
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
    UnregisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    PullObjectRequest,
    PullObjectResponse,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node as NodeProto
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.date import now
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_and_inflate_object_from_tree,
    push_objects,
)
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import (
    bytes_to_public_key,
    generate_key_pairs,
    public_key_to_bytes,
    verify_signature,
)
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE as PROTOBUF
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from oleander.network.parting import GONE, HEADER

__all__ = [
    "FLEET",
    "HEALTH",
    "PROTOBUF",
    "ConfirmMessageReceivedRequest",
    "FarewellError",
    "Node",
    "NodeRefusedError",
    "PullMessagesRequest",
    "PullMessagesResponse",
    "PullObjectRequest",
    "PullObjectResponse",
    "PushMessagesRequest",
    "PushObjectRequest",
    "public_bytes",
    "signed_by",
]  # fmt: skip

FLEET = {
    f"/v1/fleet/{name}"
    for name in (
        "register-node", "activate-node", "deactivate-node", "unregister-node", "send-node-heartbeat", "pull-messages",
        "push-messages", "get-run", "get-fab", "push-object", "pull-object", "confirm-message-received",
    )
}  # fmt: skip
"""What a node may ask of a SuperLink."""
HEALTH = "/health"
HEARTBEAT_SECONDS = HEARTBEAT_MIN_INTERVAL
"""How often a node says that it lives; twice as long without a word, and the SuperLink counts it as gone."""

PART_AGAIN_SECONDS, PART_LATEST_SECONDS = 0.05, 1.0
"""How soon a client asks again for a part of its message that the server is still sending, and how rarely at last. (A message is
announced before its parts come; Flower waits 1 s first, and that in nearly every round.)"""
KNOCK_SECONDS, KNOCK_AGAIN_SECONDS = 60.0, 0.5
"""How long a client whose connection is cut off asks again, and how often."""
public_bytes = public_key_to_bytes


# ---- a client -----------------------------------------------------------------------------------------------------------


class NodeRefusedError(Exception):
    """The SuperLink does not take this node; says why."""

    def __init__(self, response: httpx.Response | None, why: str = "") -> None:
        super().__init__(why or _said(cast(httpx.Response, response)))
        self.status = response.status_code if response is not None else 0
        self.unknown_key = self.status == httpx.codes.UNAUTHORIZED


class FarewellError(Exception):
    """The gate's answer once the run is over; it is given once, and stands for the rest of a node's time."""

    def __init__(self, why: str, code: int) -> None:
        super().__init__(why)
        self.why, self.code = why, code


class _Direct(httpx.HTTPTransport):
    """The way to the server, by nobody else's proxy, kept open; and what has once got in knocks again when it is cut off.

    The gate throws out strangers to let others in, and a connection is a stranger's until its first request is read: then the
    request was not taken, and is sent again. Certificates that do not fit and a server that is not there are told at once.
    """

    def __init__(self, verify: Any) -> None:
        """``verify`` as httpx takes it."""
        super().__init__(verify=verify, trust_env=False, limits=httpx.Limits(keepalive_expiry=None))
        self.known = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Ask; again for KNOCK_SECONDS, where it has answered before and there is somebody."""
        deadline = time.monotonic() + KNOCK_SECONDS
        while True:
            try:
                response = super().handle_request(request)
            except (httpx.NetworkError, httpx.ConnectTimeout, httpx.RemoteProtocolError) as error:
                if not self.known or time.monotonic() > deadline or not _cut_off(error):
                    raise
                time.sleep(KNOCK_AGAIN_SECONDS)
            else:
                self.known = self.known or response.is_success
                return response


def _cut_off(error: httpx.TransportError) -> bool:
    """Whether there was somebody, who hung up."""
    words = str(error)
    nobody = isinstance(error, httpx.ConnectError) and not any(how in words for how in ("EOF", "reset", "Errno 104"))
    return not nobody and "CERTIFICATE" not in words


class _Fleet(FleetHttpClient):
    """Flower's client of a server; its own goes by the environment's proxies, raises at odd ones, and follows redirects."""

    def __init__(self, base_url: str, *, interceptors: Any = (), verify: Any = True, **_: Any) -> None:
        """As ``ProtobufClient``'s, whose place it takes."""
        self._base_url, self._interceptors, self._retry_invoker = base_url.rstrip("/"), tuple(interceptors), None
        self._client = httpx.Client(transport=_Direct(verify), timeout=30.0, trust_env=False, headers={HEADER: "1"})


class Node:
    """A node of the network: joins, takes messages, answers them, and says every few seconds that it is alive."""

    def __init__(self, address: str, ca: bytes | None, key: ec.EllipticCurvePrivateKey | None) -> None:
        """A node that is to join the SuperLink at ``address``; without a ``key`` of its own it makes one up and registers it."""
        self._registers = key is None
        pair: tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey] = (
            (key, key.public_key()) if key else generate_key_pairs()
        )
        private, self._public = pair
        self._fleet = _Fleet.from_server_address(
            address, ca is None, ca,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                          NodeAuthHttpInterceptor(private, self._public)],
        )  # fmt: skip
        self._node: NodeProto | None = None
        self._lost = False
        self._farewell: FarewellError | None = None

    def join(self) -> None:
        """Become a node of the network.

        Raises:
            NodeRefusedError: an unknown key, or one that a node uses that is there.
            httpx.HTTPError: no SuperLink, or none that answers.
        """
        key = public_key_to_bytes(self._public)
        try:
            if self._registers:
                self._fleet.RegisterNode(RegisterNodeFleetRequest(public_key=key))
            activation = ActivateNodeRequest(public_key=key, heartbeat_interval=HEARTBEAT_SECONDS)
            self._node = NodeProto(node_id=self._fleet.ActivateNode(activation).node_id)
        except httpx.HTTPStatusError as error:
            if error.response.status_code < 500:
                raise NodeRefusedError(error.response) from None
            raise
        self._heartbeat = HeartbeatSender(self._alive)
        self._beat()

    def _beat(self) -> None:
        """Flower's sender with a shorter pause than its 30 s, which is a constant of its module."""
        import flwr.supercore.heartbeat as module

        module.HEARTBEAT_DEFAULT_INTERVAL = HEARTBEAT_SECONDS
        self._heartbeat.start()

    def _alive(self) -> bool:
        try:
            request = SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT_SECONDS)
            self._lost = not self._fleet.SendNodeHeartbeat(request).success
        except httpx.TransportError:
            return False
        except httpx.HTTPStatusError as error:
            self._lost = error.response.status_code < 500
            return self._lost
        return True

    def receive(self) -> Message | None:
        """The next message, if there is one.

        Raises:
            FarewellError: the run is over.
            NodeRefusedError: the SuperLink does not know this node any more.
            httpx.HTTPError: no answer.
        """
        if self._farewell:
            raise self._farewell
        if self._lost:
            raise NodeRefusedError(None, "the server does not know this client any more")
        try:
            answer = self._fleet.PullMessages(PullMessagesRequest(node=self._node))
            if not answer.messages_list:
                return None
            message, tree = message_from_proto(answer.messages_list[0]), answer.message_object_trees[0]
            run = message.metadata.run_id
            TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 0, run, self._node.node_id  # type: ignore[union-attr]
            whole = pull_and_inflate_object_from_tree(
                tree,
                make_pull_object_fn_protobuf(self._fleet.PullObject, self._node, run),
                make_confirm_message_received_fn_protobuf(self._fleet.ConfirmMessageReceived, self._node, run),
                return_type=Message,
                initial_backoff=PART_AGAIN_SECONDS,
                backoff_cap=PART_LATEST_SECONDS,
                max_tries_per_object=None,
            )
        except httpx.HTTPStatusError as error:
            raise self._refusal(error.response) from None
        except (ObjectPullError, ObjectPushError, ValueError) as error:  # the server has given the message up
            raise NodeRefusedError(None, str(error)) from None
        whole.metadata.__dict__["_message_id"] = tree.object_id
        return whole

    def last_word(self, seconds: float = 2.0) -> Message | None:
        """What the server still says after it has not taken an answer: mostly that the run is over, for whose end it was too late."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                message = self.receive()
            except (httpx.HTTPError, NodeRefusedError):
                return None
            if message or time.monotonic() > deadline:
                return message
            time.sleep(0.2)

    @property
    def node_id(self) -> int:
        """As the SuperLink knows this node."""
        return int(self._node.node_id) if self._node else 0

    def answer(self, reply: Message, seconds: float) -> None:
        """Send a reply, after so many seconds of work.

        Raises:
            FarewellError: the run is over, so nobody would take it.
            NodeRefusedError: it is not taken.
            httpx.HTTPError: no answer.
        """
        if self._farewell:
            raise self._farewell
        run = reply.metadata.run_id
        try:
            with no_object_id_recompute():  # each part is hashed once
                reply.metadata.__dict__["_message_id"] = reply.object_id
                taken = self._fleet.PushMessages(
                    PushMessagesRequest(
                        node=self._node,
                        messages_list=[message_to_proto(remove_content_from_message(reply))],
                        message_object_trees=[get_object_tree(reply)],
                        clientapp_runtime_list=[seconds],
                    )
                )
                push = make_push_object_fn_protobuf(self._fleet.PushObject, self._node, run, taken.session_id)
                push_objects(get_all_nested_objects(reply), push, object_ids_to_push=set(taken.objects_to_push))
        except httpx.HTTPStatusError as error:
            raise self._refusal(error.response) from None
        except (ObjectPullError, ObjectPushError, ValueError) as error:  # the server has given the message up
            raise NodeRefusedError(None, str(error)) from None

    def _refusal(self, response: httpx.Response) -> Exception:
        """What a status says; a farewell is kept, since it is said once, in whatever thread asked."""
        if response.status_code == GONE:
            with contextlib.suppress(ValueError, TypeError, KeyError):
                word = response.json()["farewell"]
                self._farewell = FarewellError(str(word["why"]), int(word["code"]))
                return self._farewell
        return NodeRefusedError(response)

    def leave(self) -> None:
        """Say goodbye, if anybody listens."""
        if self._node is not None:
            if self._heartbeat.is_running:
                self._heartbeat.stop()
            with contextlib.suppress(httpx.HTTPError):
                self._fleet.DeactivateNode(
                    DeactivateNodeRequest(node_id=self._node.node_id),
                )
                if self._registers:
                    self._fleet.UnregisterNode(UnregisterNodeFleetRequest(node_id=self._node.node_id))
        self._fleet.close()


def failed(message: Message, error: BaseException) -> Message:
    """The reply to a message whose work raised, in the form that Flower's own nodes give it."""
    reason = f"{type(error)}:<'{error}'>"
    return Message(Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason), reply_to=message)


def _said(response: httpx.Response) -> str:
    """A refusal in words."""
    try:
        content = response.json()
        return str(content.get("public_details") or content.get("message") or content.get("detail") or content)
    except (ValueError, AttributeError):
        return response.text.strip()[:300] or f"status {response.status_code}"


# ---- the gate between them ----------------------------------------------------------------------------------------------


def signed_by(header: Callable[[str], str | None]) -> bytes | None:
    """The public key (PEM) that a request's headers are signed with, freshly; None if they are not, or not rightly."""
    try:
        key = base64.b64decode(header(FLEET_HTTP_PUBLIC_KEY_HEADER) or "", validate=True)
        signature = base64.b64decode(header(FLEET_HTTP_SIGNATURE_HEADER) or "", validate=True)
        signed_at = header(TIMESTAMP_HEADER) or ""
        age = (now() - datetime.datetime.fromisoformat(signed_at)).total_seconds()
        if not -SYSTEM_TIME_TOLERANCE < age < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE:
            return None
        return key if verify_signature(bytes_to_public_key(key), signed_at.encode("ascii"), signature) else None
    except (ValueError, TypeError, UnicodeError):
        return None
