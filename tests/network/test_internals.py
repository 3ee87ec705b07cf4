"""Flower's internal modules are as internals.py and task.py in oleander/network take them to be, written against one version."""

import collections
import contextlib
import hashlib
import inspect
import subprocess
import sys
import threading
from importlib import metadata
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, no_object_id_recompute

from oleander.network import internals
from oleander.network import task as servers
from oleander.network.internals import FLEET, HEARTBEAT_SECONDS
from oleander.network.task import _CarefulGrid, _unpacked_size

pytestmark = pytest.mark.usefixtures("task")


def test_flower_is_the_version_that_it_is_written_against():
    assert metadata.version("flwr").startswith("1.41.")


def test_flowers_fleet_interface_has_the_paths_that_nodes_use_and_no_others():
    from flwr.superlink.routers.fleet import router

    paths = getattr(router, "router", router).routes
    assert {route.path for route in paths} == FLEET


def test_a_client_does_not_load_what_only_a_server_needs():
    """Flower's grid and its builder of apps, 32 MB."""
    loaded = "import sys, oleander.network.internals; print(*(name for name in sys.modules if name.startswith('flwr')))"
    modules = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    assert "flwr.supernode.fleet_http_client" in modules
    assert not {"flwr.superlink.grid", "flwr.cli.build"} & set(modules)


def test_flowers_senders_pause_is_where_it_is_shortened_and_may_be_as_short():
    import flwr.supercore.heartbeat as module
    from flwr.server.superlink.linkstate.utils import check_node_availability_for_in_message as late
    from flwr.superlink.servicer.fleet.fleet_handlers import _validate_heartbeat_interval

    assert "HEARTBEAT_DEFAULT_INTERVAL" in inspect.getsource(module.HeartbeatSender._run)
    _validate_heartbeat_interval(HEARTBEAT_SECONDS)
    assert (
        "online_until" in inspect.signature(late).parameters
        or "node_id_to_online_until" in inspect.signature(late).parameters
    )


def test_flowers_own_grid_is_what_the_careful_one_stands_in_for():
    grid = inspect.getsource(servers.HttpGrid)
    for name in ("self.node", "_runtime_client", "ConfirmMessageReceived", "inflate_object_from_contents", "_run"):
        assert name in grid
    assert list(inspect.signature(servers.HttpGrid.__init__).parameters)[1:] == [
        "runtime_api_address", "insecure", "root_certificates", "token",
    ]  # fmt: skip


class Link:
    """A SuperLink's runtime interface that has one reply, part by part."""

    def __init__(self, reply=None, hold=()):
        self.hold = set(hold)
        if reply is not None:
            reply.metadata.__dict__["_message_id"] = reply.object_id
            with no_object_id_recompute():
                self.tree = get_object_tree(reply)
                self.parts = {key: value.deflate() for key, value in get_all_nested_objects(reply).items()}
            self.reply = reply
        self.confirmed, self.nodes = [], [7, 8]
        self.delivered = False

    def PullMessages(self, request):  # noqa: N802
        from flwr.common.serde import message_to_proto
        from flwr.proto.runtime_pb2 import PullAppMessagesResponse

        if self.delivered:
            return PullAppMessagesResponse()
        self.delivered = True
        proto = message_to_proto(internals.remove_content_from_message(self.reply))
        return PullAppMessagesResponse(messages_list=[proto], message_object_trees=[self.tree])

    def PullObject(self, request):  # noqa: N802
        from flwr.proto.message_pb2 import PullObjectResponse

        there = request.object_id not in self.hold
        content = self.parts[request.object_id] if there else b""
        return PullObjectResponse(object_found=True, object_available=there, object_content=content)

    def GetNodes(self, _request):  # noqa: N802
        from flwr.proto.node_pb2 import NodeInfo
        from flwr.proto.runtime_pb2 import GetNodesResponse

        return GetNodesResponse(nodes=[NodeInfo(node_id=number) for number in self.nodes])

    def ConfirmMessageReceived(self, request):  # noqa: N802
        self.confirmed.append(request.message_object_id)


@pytest.fixture
def asked():
    message = Message(RecordDict(), dst_node_id=7, message_type="train")
    message.metadata.__dict__["_message_id"] = "asked"
    return message


def grid_on(link, limit=100_000):
    class Grid(_CarefulGrid):
        _runtime_client = link
        run = type("Run", (), {"run_id": 1})()

    grid = Grid("nowhere", True, None, token="t")
    grid.limit = limit
    return grid


def answer(asked, *arrays):
    content = RecordDict({"arrays": ArrayRecord(list(arrays)), "metrics": MetricRecord({"loss": 0.5})})
    return Message(content, reply_to=asked)


def test_a_reply_comes_through_whole(asked):
    link = Link(answer(asked, np.arange(5, dtype=np.float32)))
    (reply,) = grid_on(link).pull_messages(["asked"])
    np.testing.assert_array_equal(reply.content["arrays"].to_numpy_ndarrays()[0], np.arange(5))
    assert reply.metadata.reply_to_message_id == "asked" and link.confirmed == [link.reply.object_id]


def test_a_reply_whose_parts_are_late_holds_nobody_up(asked):
    link = Link(answer(asked, np.arange(5, dtype=np.float32)))
    late = list(link.parts)[-1]
    link.hold = {late}
    grid = grid_on(link)
    assert grid.pull_messages(["asked"]) == [] and grid.pull_messages(["asked"]) == []
    link.hold = set()
    assert len(grid.pull_messages(["asked"])) == 1 and grid.pull_messages([]) == []


def test_a_sender_that_goes_or_falls_silent_in_the_midst_of_its_reply_is_not_waited_for(asked, monkeypatch):
    link = Link(answer(asked, np.arange(5, dtype=np.float32)))
    link.hold = {list(link.parts)[-1]}
    grid = grid_on(link)
    assert grid.pull_messages(["asked"]) == []
    link.nodes = [8]
    assert grid.pull_messages(["asked"]) == []  # not looked again so soon
    monkeypatch.setattr(servers, "LOOK_SECONDS", 0.0)
    (reply,) = grid.pull_messages(["asked"])
    assert "Node Unavailable" in reply.error.reason and link.confirmed == [link.reply.object_id]
    silent = Link(answer(asked, np.arange(5, dtype=np.float32)))
    silent.hold = {list(silent.parts)[-1]}
    grid = grid_on(silent)
    assert grid.pull_messages(["asked"]) == []
    monkeypatch.setattr(servers, "STALLED_SECONDS", 0.0)
    (reply,) = grid.pull_messages(["asked"])
    assert "stopped halfway" in reply.error.reason and not grid._arriving


def test_a_reply_that_is_too_large_or_unpacks_to_too_much_is_its_senders_error(asked, monkeypatch):
    big = answer(asked, np.random.default_rng(0).standard_normal(50_000).astype(np.float32))
    (reply,) = grid_on(Link(big)).pull_messages(["asked"])
    assert reply.has_error() and "more than 100000 bytes" in reply.error.reason
    monkeypatch.setattr("flwr.app.message.array.FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE", 1000)
    zeros = answer(asked, np.zeros(100_000, dtype=np.float32))  # one part, named 400 times
    link = Link(zeros)
    assert sum(map(len, link.parts.values())) < 10_000 < 400_000 <= _unpacked_size(link.parts)
    (reply,) = grid_on(link).pull_messages(["asked"])
    assert reply.has_error() and "it unpacks to" in reply.error.reason
    assert reply.metadata.reply_to_message_id == "asked"


@pytest.mark.parametrize("spoil", [lambda p: p[:10], lambda p: b"", lambda p: b"Message  3\x00abc", lambda p: p[::-1]])
def test_whatever_cannot_be_unpacked_is_its_senders_error(asked, spoil):
    whole = answer(asked, np.arange(5, dtype=np.float32))
    for index in range(len(Link(whole).parts)):
        spoilt = Link(whole)
        key = list(spoilt.parts)[index]
        spoilt.parts[key] = spoil(spoilt.parts[key])
        (reply,) = grid_on(spoilt).pull_messages(["asked"])
        assert reply.has_error() and reply.metadata.src_node_id == 7


class Fleet:
    """A SuperLink's fleet interface: it has one message, whose parts come only when they are asked for a second time."""

    def __init__(self, message):
        link = Link(message)
        self.tree, self.parts, self.proto = link.tree, link.parts, link.reply
        self.asked, self.pushed = [], {}

    def PullMessages(self, _request):  # noqa: N802
        from flwr.common.serde import message_to_proto
        from flwr.proto.fleet_pb2 import PullMessagesResponse

        proto = message_to_proto(internals.remove_content_from_message(self.proto))
        return PullMessagesResponse(messages_list=[proto], message_object_trees=[self.tree])

    def PullObject(self, request):  # noqa: N802
        from flwr.proto.message_pb2 import PullObjectResponse

        there = request.object_id in self.asked
        self.asked.append(request.object_id)
        content = self.parts[request.object_id] if there else b""
        return PullObjectResponse(object_found=True, object_available=there, object_content=content)

    def ConfirmMessageReceived(self, _request):  # noqa: N802
        return None

    def PushMessages(self, request):  # noqa: N802
        from flwr.proto.fleet_pb2 import PushMessagesResponse

        found = {part.object_id for part in servers.iterate_object_tree(request.message_object_trees[0])}
        return PushMessagesResponse(objects_to_push=found, session_id="s")

    def PushObject(self, request):  # noqa: N802
        from flwr.proto.message_pb2 import PushObjectResponse

        self.pushed[request.object_id] = request.object_content
        return PushObjectResponse(stored=True)


def node_on(fleet):
    node = internals.Node("nowhere:1", None, None)
    node._fleet, node._node = fleet, internals.NodeProto(node_id=7)
    return node


def test_a_client_does_not_sleep_a_second_for_parts_that_the_server_is_still_sending(asked, monkeypatch):
    import flwr.supercore.inflatable.inflatable_utils as flowers

    waits = []

    class Event(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            return self.is_set()

    monkeypatch.setattr(flowers, "threading", SimpleNamespace(Event=Event, Lock=threading.Lock))
    fleet = Fleet(Message(RecordDict({"arrays": ArrayRecord([np.arange(5)])}), dst_node_id=7, message_type="train"))
    message = node_on(fleet).receive()
    np.testing.assert_array_equal(message.content["arrays"].to_numpy_ndarrays()[0], np.arange(5))
    assert len(waits) == len(fleet.parts) and max(waits) < 0.1


def test_a_client_hashes_each_part_of_its_answer_once(asked, monkeypatch):
    import flwr.supercore.inflatable.inflatable_object as flowers

    hashed = collections.Counter()

    def counted(content):
        hashed[bytes(content)] += 1
        return hashlib.sha256(content).hexdigest()

    fleet = Fleet(asked)
    monkeypatch.setattr(flowers, "get_object_id", counted)
    reply = answer(asked, np.arange(5, dtype=np.float32), np.ones(9, dtype=np.float32))
    node_on(fleet).answer(reply, 1.0)
    assert reply.metadata.message_id == reply.object_id in fleet.pushed
    assert {hashed[content] for content in fleet.pushed.values() if content.startswith(b"ArrayChunk")} == {1}


def test_numbers_that_are_no_arrays_are_limited_more_narrowly(asked):
    content = RecordDict({"metrics": MetricRecord({"x": [1] * 300_000})})
    (reply,) = grid_on(Link(Message(content, reply_to=asked)), limit=10**7).pull_messages(["asked"])
    assert reply.has_error() and "a MetricRecord of" in reply.error.reason


def test_what_nobody_waits_for_any_more_is_freed_when_it_comes_and_before(asked):
    link = Link(answer(asked, np.arange(5, dtype=np.float32)))
    grid = grid_on(link)
    link.hold = {list(link.parts)[-1]}
    assert grid.pull_messages(["asked"]) == []
    grid.forget(["asked"])  # here in part
    assert link.confirmed == ["asked", link.reply.object_id] and not grid._arriving
    late = Link(answer(asked, np.arange(5, dtype=np.float32)))
    grid = grid_on(late)
    grid.forget(["asked"])  # not here yet
    assert grid.pull_messages(["another"]) == [] and late.confirmed == ["asked", late.reply.object_id]
    assert not grid._late


def test_a_connection_that_breaks_is_no_clients_error(asked):
    link = Link(answer(asked, np.arange(5, dtype=np.float32)))

    def breaks(_request):
        raise httpx.ConnectError("gone")

    link.PullObject = breaks
    with pytest.raises(httpx.ConnectError):
        grid_on(link).pull_messages(["asked"])


def test_a_part_that_the_superlink_will_not_give_is_its_senders_error(asked):
    link = Link(answer(asked, np.arange(5, dtype=np.float32)))

    def refuses(request):
        raise httpx.HTTPStatusError("no", request=httpx.Request("POST", "http://x"), response=httpx.Response(400))

    link.PullObject = refuses
    (reply,) = grid_on(link).pull_messages(["asked"])
    assert "a part of it cannot be had (400)" in reply.error.reason


def test_when_the_run_is_over_nothing_is_asked_of_a_superlink_that_may_have_ended(asked):
    """Flower would ask it again and again, and raise a SIGINT when it hears that the task is over."""
    link = Link(answer(asked, np.arange(5, dtype=np.float32)))
    link.ConfirmMessageReceived = None
    grid = grid_on(link)
    grid.ended = True
    grid.forget(["asked"])


def test_a_task_ends_in_the_order_that_flower_bears(monkeypatch):
    """No sign of life after the task's end, no confirmation either; a run that the SuperLink has ended is an Exception."""
    from flwr.supercore.run import RunNotRunningException

    did = []
    task = SimpleNamespace(
        PullTaskInput=lambda r: SimpleNamespace(
            task_id=1, run=SimpleNamespace(run_id=1), context=SimpleNamespace(node_id=1)
        ),
        PushTaskOutput=lambda r: did.append("output"),
        ConfirmMessageReceived=lambda r: did.append("confirm"),
    )
    runtime = contextlib.nullcontext(SimpleNamespace(AcquireTask=lambda r: SimpleNamespace(token="t")))
    monkeypatch.setattr(servers, "RuntimeHttpClient", SimpleNamespace(from_server_address=lambda **named: runtime))
    monkeypatch.setattr(servers._CarefulGrid, "_runtime_client", task)
    monkeypatch.setattr(servers._CarefulGrid, "set_run", lambda grid, run: None)
    monkeypatch.setattr(servers, "run_from_proto", lambda proto: proto)
    monkeypatch.setattr(servers, "make_task_heartbeat_fn_http", lambda client: lambda: True)
    monkeypatch.setattr(servers.HeartbeatSender, "stop", lambda sender: did.append("silent"))
    with pytest.raises(ConnectionError, match="has ended the run"), servers.server_task("h:1", None, 10) as grid:
        raise RunNotRunningException
    grid.forget(["late"])
    assert did == ["silent", "output"]
