"""The server's way into its SuperLink, on modules of Flower's that are not public: it registers nodes, starts the run, and takes the
run's ServerApp upon its own process. A client needs none of this, and Flower's grid alone is 32 MB.

``tests/network/test_internals.py`` fails when one of them moves. Written against flwr 1.41.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Error, Message, Metadata
from flwr.app.message import make_message
from flwr.cli.build import build_fab_from_disk
from flwr.common.constant import ErrorCode, SubStatus
from flwr.common.serde import fab_to_proto, run_from_proto
from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest, ObjectTree, PullObjectRequest
from flwr.proto.runtime_pb2 import (
    AcquireTaskRequest,
    PullAppMessagesRequest,
    PullTaskInputRequest,
    PushTaskOutputRequest,
)
from flwr.serverapp import Grid
from flwr.supercore.constant import TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.date import now
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.inflatable.inflatable_object import (
    get_object_head_values_from_object_content,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

MOST_OF_A_RECORD = 256 * 1024
"""Bytes of a part that is not a piece of an array: numbers unpack to twenty times what they are."""

STALLED_SECONDS = 60.0
"""How long the next part of a reply that was announced may take, 5 MB at most; so long a silent client holds up a round."""
LOOK_SECONDS = 2.0
"""How often, while parts are awaited, it is looked whether their senders are still there."""


def register_nodes(address: str, ca: bytes | None, public_keys: Iterable[ec.EllipticCurvePublicKey]) -> list[int]:
    """Tell the SuperLink which keys are nodes'; returns the node id of each."""
    with ControlHttpClient.from_server_address(address, ca is None, ca, interceptors=[]) as control:
        return [
            control.RegisterNode(RegisterNodeRequest(public_key=public_key_to_bytes(key))).node_id
            for key in public_keys
        ]


def submit(address: str, ca: bytes | None, app: Path) -> int:
    """Give the SuperLink a run of this app, as ``flwr run`` does; returns the run's id."""
    content = build_fab_from_disk(app)
    fab = fab_to_proto(Fab(hashlib.sha256(content).hexdigest(), content, {}))
    with ControlHttpClient.from_server_address(address, ca is None, ca, interceptors=[]) as control:
        return int(control.StartRun(StartRunRequest(fab=fab)).run_id)


@contextlib.contextmanager
def server_task(address: str, ca: bytes | None, limit: int, patience: float = 60.0) -> Iterator[Grid]:
    """Take the submitted run's ServerApp upon this process: the grid that leads to its clients.

    Args:
        address: HOST:PORT of the SuperLink's own interface.
        ca: what its certificate is checked with; None: no TLS.
        limit: bytes that a reply may unpack to.
        patience: seconds that the run may take to get to the SuperLink.

    Raises:
        TimeoutError: the SuperLink has no run.
    """
    where: dict[str, Any] = {"server_address": address, "insecure": ca is None, "root_certificates": ca}
    wanted = AcquireTaskRequest(supported_task_types={TaskType.SERVER_APP}, agentapp_fab_hashes=set())
    with RuntimeHttpClient.from_server_address(
        **where, interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec")]
    ) as runtime:
        deadline = time.monotonic() + patience
        while not (token := runtime.AcquireTask(wanted).token):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the SuperLink at {address} has had no run for {patience:g} s")
            time.sleep(0.05)
    grid = _CarefulGrid(address, ca is None, ca, token=token)
    grid.limit = limit
    task = grid._runtime_client
    heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(task))
    heartbeat.start()
    outcome = SubStatus.FAILED
    try:
        given = task.PullTaskInput(PullTaskInputRequest())
        TaskIdentity.task_id, TaskIdentity.run_id = given.task_id, given.run.run_id
        TaskIdentity.node_id = given.context.node_id
        grid.set_run(run_from_proto(given.run))
        yield grid
        outcome = SubStatus.COMPLETED
    except RunNotRunningException as error:  # which Flower lets pass by every "except Exception"
        raise ConnectionError("the SuperLink has ended the run") from error
    finally:
        grid.ended = True
        if heartbeat.is_running:  # before the task's end: a sign of life after it makes Flower raise a SIGINT here
            heartbeat.stop()
        with contextlib.suppress(httpx.HTTPError, RunNotRunningException):  # the SuperLink may be what failed
            task.PushTaskOutput(PushTaskOutputRequest(context=None, sub_status=outcome, details=""))
        grid.close()


@dataclass
class _Arriving:
    """A reply that was announced."""

    about: Any
    """Its metadata, as the sender tells them."""
    tree: ObjectTree
    parts: dict[str, bytes] = field(default_factory=dict)
    """Those that are here, by object id."""
    since: float = field(default_factory=time.monotonic)
    """When the last of them came."""


class _CarefulGrid(HttpGrid):
    """Flower's grid, but no client can hold it up, fill its memory, or end it with a reply that cannot be unpacked.

    ``HttpGrid`` waits up to two hours for parts of a reply that were announced and never sent; it unpacks an array that
    names one chunk a million times; and an error in unpacking one reply is an exception for all.
    """

    limit = 2**31
    """Bytes that a reply may unpack to."""
    ended = False
    """Whether the run is over: Flower asks a SuperLink that has ended again and again, without end."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._arriving: dict[str, _Arriving] = {}
        """Message asked → its reply, as far as it is here."""
        self._looked = 0.0
        self._late: set[str] = set()
        """Messages whose replies nobody waits for any more."""

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies that are here whole; one that cannot be unpacked is an error of its sender."""
        wanted = set(message_ids)
        asked_for = (wanted | self._late) - self._arriving.keys()
        answer = self._runtime_client.PullMessages(PullAppMessagesRequest(message_ids=asked_for))
        for proto, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
            if proto.metadata.reply_to_message_id in self._late:
                self._late.discard(proto.metadata.reply_to_message_id)
                self._confirm(proto.metadata.message_id)  # which frees it
                continue
            self._arriving[proto.metadata.reply_to_message_id] = _Arriving(proto.metadata, tree)
        found, gone = [], self._gone()
        for asked in [asked for asked in self._arriving if asked in wanted]:
            about = self._arriving[asked].about
            try:
                if not self._complete(self._arriving[asked]):
                    if about.src_node_id in gone:
                        raise ValueError("Node Unavailable")
                    if time.monotonic() - self._arriving[asked].since > STALLED_SECONDS:
                        raise ValueError(f"its reply stopped halfway, for more than {STALLED_SECONDS:g} s")
                    continue
                self._confirm(about.message_id)
                message = self._unpacked(about.message_id, self._arriving[asked].parts)
                if (message.metadata.reply_to_message_id, message.metadata.src_node_id) != (asked, about.src_node_id):
                    raise ValueError("it is not the reply that it was announced as")
            except (httpx.TransportError, httpx.HTTPStatusError):
                raise
            except Exception as error:  # whatever a hostile client may have packed
                self._confirm(about.message_id)
                message = _error(asked, about.src_node_id, f"{type(error).__name__}: {error}"[:400])
            del self._arriving[asked]
            found.append(message)
        return found

    def _gone(self) -> set[int]:
        """The nodes that replies are awaited from and that are no longer there; looked at every LOOK_SECONDS, else none."""
        if not self._arriving or time.monotonic() - self._looked < LOOK_SECONDS:
            return set()
        self._looked = time.monotonic()
        return {arriving.about.src_node_id for arriving in self._arriving.values()} - set(self.get_node_ids())

    def _complete(self, arriving: _Arriving) -> bool:
        """Fetch the parts that are there; whether all are."""
        parts = arriving.parts
        for part in iterate_object_tree(arriving.tree):
            if part.object_id not in parts:
                request = PullObjectRequest(node=self.node, run_id=self.run.run_id, object_id=part.object_id)
                try:
                    answer = self._runtime_client.PullObject(request)
                except httpx.HTTPStatusError as error:  # it is this part that the SuperLink will not give
                    raise ValueError(f"a part of it cannot be had ({error.response.status_code})") from None
                if not answer.object_found:
                    raise ValueError("a part of it is gone")
                if not answer.object_available:
                    return False
                parts[part.object_id], arriving.since = answer.object_content, time.monotonic()
                if sum(map(len, parts.values())) > self.limit:
                    raise ValueError(f"more than {self.limit} bytes")
        return True

    def forget(self, message_ids: Iterable[str]) -> None:
        """Free what is kept for messages that nobody waits for: they themselves, and replies that are here in part."""
        for asked in [] if self.ended else list(message_ids):
            self._late.add(asked)
            self._confirm(asked)
            if asked in self._arriving:
                self._late.discard(asked)
                self._confirm(self._arriving.pop(asked).about.message_id)

    def _confirm(self, message_id: str) -> None:
        """Let the SuperLink delete a message's parts."""
        with contextlib.suppress(httpx.HTTPStatusError):  # it has none
            self._runtime_client.ConfirmMessageReceived(
                ConfirmMessageReceivedRequest(node=self.node, run_id=self.run.run_id, message_object_id=message_id)
            )

    def _unpacked(self, reply_id: str, parts: dict[str, bytes]) -> Message:
        if (size := _unpacked_size(parts)) > self.limit:
            raise ValueError(f"it unpacks to {size} bytes, more than {self.limit}")
        message = cast(Message, inflate_object_from_contents(reply_id, parts))
        if not isinstance(message, Message):
            raise ValueError(f"a {type(message).__name__}, not a message")
        message.metadata.__dict__["_message_id"] = reply_id
        return message


def _unpacked_size(parts: dict[str, bytes]) -> int:
    """Bytes of all arrays among these parts: an array may name a chunk many times."""
    total = 0
    for content in parts.values():
        kind, children, _ = get_object_head_values_from_object_content(content)
        if kind != "ArrayChunk" and len(content) > MOST_OF_A_RECORD:
            raise ValueError(f"a {kind} of {len(content)} bytes")
        if kind == "Array":
            chunks = json.loads(content[content.index(b"\x00") + 1 :])["arraychunk_ids"]
            total += sum(len(parts[children[index]]) for index in chunks)
    return total


def _error(asked: str, sender: int, reason: str) -> Message:
    """The reply of a client whose own could not be unpacked."""
    metadata = Metadata(TaskIdentity.run_id, "", sender, 0, asked, "", now().timestamp(), 0, "system")
    return make_message(metadata=metadata, error=Error(ErrorCode.MESSAGE_UNAVAILABLE, reason))
