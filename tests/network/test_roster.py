"""Who is let in: nodes that say the wrong thing, come twice, go, or never say anything."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict

from clients.farewell import read_farewell, take_leave
from clients.introduction import introduce
from oleander.experiment.prepare import Sources, prepare
from oleander.network import roster as module
from oleander.network.roster import NetworkRoster
from oleander.settings.config import Experiment
from oleander.system.environment import versions
from oleander.system.errors import RunError

pytestmark = pytest.mark.usefixtures("task")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)


def small(image_folder, malicious, round_timeout):
    """Three clients of eight images, two of them a round."""
    settings = {
        "clients": 3,
        "clients_per_round": 2,
        "samples_per_client": 8,
        "attack": "patch",
        "malicious": malicious,
        "round_timeout": round_timeout,
    }
    return prepare(Experiment(dataset=f"folder:{image_folder}", weights="fresh", **settings), Sources(print))


@pytest.fixture(scope="module")
def setup(image_folder):
    return small(image_folder, malicious=1, round_timeout=0.3)


class Nodes:
    """A grid: node id → what it says of itself (None: nothing, ever)."""

    def __init__(self, setup, **said):
        self.setup, self.online, self.pending, self.farewells, self.greeted = setup, {}, {}, {}, []
        self.count = 0

    def join(self, node, client, **changed):
        self.online[node] = (client, changed)

    def get_node_ids(self):
        return list(self.online)

    def push_messages(self, messages):
        ids = []
        for message in messages:
            self.count += 1
            message.metadata.__dict__["_message_id"] = f"m{self.count}"
            node = message.metadata.dst_node_id
            if "farewell" in message.content:
                self.farewells[node] = dict(message.content["farewell"])
            else:
                self.greeted.append(node)
                client, changed = self.online[node]
                if client is not None:
                    self.pending[f"m{self.count}"] = self._introduced(message, client, changed)
            ids.append(f"m{self.count}")
        return ids

    def _introduced(self, message, client, changed):
        hello = {k: str(v) for k, v in message.content["hello"].items()}
        experiment = Experiment.from_json(hello["experiment"])
        said = {"partition-id": client, **introduce(client, hello, lambda: experiment, lambda e: self.setup.dataset)}
        said |= changed
        return Message(RecordDict({"identity": ConfigRecord(said)}), reply_to=message)

    def pull_messages(self, ids):
        return [self.pending.pop(i) for i in list(ids) if i in self.pending]


def roster_of(setup, **named):
    said = []
    return NetworkRoster(setup, said.append, **named), said


def full(setup):
    nodes = Nodes(setup)
    for client in range(3):
        nodes.join(100 + client, client)
    return nodes


def test_all_that_are_there_are_greeted_once_and_begin(setup):
    nodes = full(setup)
    roster, said = roster_of(setup)
    assert roster.nodes(nodes) == {0: 100, 1: 101, 2: 102} == roster.nodes(nodes)
    assert sorted(nodes.greeted) == [100, 101, 102] and not nodes.farewells
    assert roster.client_of(101) == 1 and roster.client_of(7) is None
    assert "client 0 is here" in said


REFUSED = {
    "a number that is none of the run's": ({"client": 3}, {}, "it says it is client 3; the clients are 0 to 2"),
    "a negative one": ({"client": -1}, {}, "client -1"),
    "one that is here": ({"client": 0}, {}, "client 0 is here already"),
    "another version of ours": ({"client": 2}, {"versions": json.dumps(versions() | {"oleander": "9.9.9"})}, "has oleander 9.9.9, "),
    "another Flower": ({"client": 2}, {"versions": json.dumps(versions() | {"flwr": "1.40.0"})}, "has flwr 1.40.0"),
    "no version": ({"client": 2}, {"versions": "nonsense"}, "has oleander None"),
    "nonsense without end": ({"client": 2}, {"versions": "[" * 100_000}, "has oleander None"),
    "lines of its own": ({"client": 2}, {"problem": "x\nclient 3 is here\x1b[2J" + "y" * 9000}, "x client 3 is here [2Jyyy"),
    "other data": ({"client": 2}, {"shard-sha256": "ab" * 32}, "has other data than the server"),
    "copies of plug-ins that are nonsense": ({"client": 3}, {"plugins": "[" * 100_000}, "it says it is client 3"),
    "a problem": ({"client": 2}, {"problem": "--dataset folder:x: not a folder"}, "cannot take part: --dataset folder:x"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_who_does_not_fit_is_told_why_and_so_is_the_server(setup, case):
    who, changed, words = REFUSED[case]
    nodes = Nodes(setup)
    nodes.join(100, 0), nodes.join(101, 1)
    roster, said = roster_of(setup)
    with pytest.raises(RunError, match=r"clients \[2\] did not join"):
        roster.nodes(nodes)
    nodes.join(200, who["client"], **changed)
    with pytest.raises(RunError, match=r"clients \[2\] did not join"):
        roster.nodes(nodes)
    assert words in nodes.farewells[200]["why"] and nodes.farewells[200]["code"] == 2
    assert any(words in line and line.startswith("refused") for line in said)
    assert nodes.greeted.count(200) == 1
    assert all(len(line) < 450 and line.isprintable() for line in said)
    nodes.join(300, 2)
    assert roster.nodes(nodes) == {0: 100, 1: 101, 2: 300}


ERRORS = {
    "": "it failed without a word",
    None: "it failed without a word",
    "\x00": "it raised",
    "x" * 10**6: "it raised: xxx",
}


@pytest.mark.parametrize("reason", ERRORS, ids=["empty", "none", "control", "long"])
def test_an_error_as_the_answer_to_the_hello_is_a_refusal_whatever_its_text(setup, reason):
    """An empty text comes as None, and ended the server."""
    nodes = full(setup)
    nodes._introduced = lambda message, client, changed: (
        Message(Error(code=2, reason=reason), reply_to=message) if client == 2 else introduced(message, client, changed)
    )
    introduced = Nodes(setup)._introduced
    roster, said = roster_of(setup)
    with pytest.raises(RunError, match=r"clients \[2\] did not join"):
        roster.nodes(nodes)
    assert f"it did not say which client it is: {ERRORS[reason]}" in nodes.farewells[102]["why"]
    assert any(line.startswith("refused: it did not say") and len(line) < 450 for line in said)


def test_who_leaves_just_when_it_is_greeted_is_passed_over(setup):
    """The SuperLink gives a message to a node that has left no id."""
    nodes = full(setup)
    push = nodes.push_messages
    nodes.push_messages = lambda messages: ["" if m.metadata.dst_node_id == 102 else push([m])[0] for m in messages]
    pulled = []
    pull = nodes.pull_messages
    nodes.pull_messages = lambda ids: pulled.extend(ids) or pull(ids)
    roster, _ = roster_of(setup)
    with pytest.raises(RunError, match=r"clients \[2\] did not join"):
        roster.nodes(nodes)
    roster.dismiss(nodes, "over", 0, patience=0.01)
    assert all(pulled)


@pytest.mark.parametrize("client", [True, 1.0, "1", [1], 10**30])
def test_only_a_whole_number_is_a_client(setup, client):
    nodes = Nodes(setup)
    nodes.join(100, 0), nodes.join(101, 1, **{"partition-id": client})
    nodes._introduced = lambda message, client, changed: spoilt(nodes, message, client, changed)
    roster, _ = roster_of(setup)
    with pytest.raises(RunError, match=r"\[1, 2\] did not join"):
        roster.nodes(nodes)
    assert "the clients are 0 to 2" in nodes.farewells[101]["why"]


def spoilt(nodes, message, client, changed):
    reply = Nodes(nodes.setup)._introduced(message, client, {})
    reply.content["identity"].__dict__["_data"].update(changed)
    return reply


def test_an_attacker_with_another_trigger_is_refused(setup):
    nodes = full(setup)
    nodes.join(100, 0, **{"trigger-sha256": "00" * 32})
    roster, _ = roster_of(setup)
    with pytest.raises(RunError):
        roster.nodes(nodes)
    assert "stamps another trigger" in nodes.farewells[100]["why"]


def test_with_keys_the_key_says_who_a_node_is(setup):
    nodes = full(setup)
    roster, _ = roster_of(setup, trusted={100: 0, 101: 2, 102: 1})
    with pytest.raises(RunError):
        roster.nodes(nodes)
    assert nodes.farewells[101]["why"] == "it says it is client 1, but its key is client 2's"
    assert set(nodes.farewells) == {101, 102}


def test_all_hear_of_the_end_but_those_who_were_sent_away(setup):
    """With keys, the node that was refused under a wrong number may come again under its own."""
    nodes = full(setup)
    nodes.join(101, 2)  # the key of client 1, as client 2
    roster, _ = roster_of(setup, trusted={100: 0, 101: 1, 102: 2})
    with pytest.raises(RunError):
        roster.nodes(nodes)
    del nodes.online[101]
    with pytest.raises(RunError):
        roster.nodes(nodes)
    nodes.farewells.clear()
    nodes.join(101, 1)
    roster.nodes(nodes)
    nodes.join(555, None)  # has just come, and not said who it is
    nodes.join(666, 9), roster._look(nodes)
    nodes.farewells.clear()
    roster.dismiss(nodes, "over", 0, patience=0.01)
    assert set(nodes.farewells) == {100, 101, 102, 555}


def test_who_leaves_is_missed_and_may_come_back_as_another_node(setup):
    nodes = full(setup)
    roster, said = roster_of(setup)
    roster.nodes(nodes)
    del nodes.online[101]
    with pytest.raises(RunError, match=r"\[1\]"):
        roster.nodes(nodes)
    nodes.join(555, 1)
    assert roster.nodes(nodes) == {0: 100, 1: 555, 2: 102}
    assert "client 1 has left" in said and roster.client_of(101) == 1


def test_a_node_that_never_says_who_it_is_holds_nobody_up(setup):
    nodes = full(setup)
    nodes.join(999, None)
    roster, _ = roster_of(setup)
    assert set(roster.nodes(nodes)) == {0, 1, 2}


def test_fewer_are_enough_if_so_said_but_those_who_just_came_are_waited_for_a_moment(image_folder, monkeypatch):
    experiment = Experiment(
        dataset=f"folder:{image_folder}", weights="fresh", clients=3, clients_per_round=2, samples_per_client=8, min_clients=2,
        round_timeout=5,
    )  # fmt: skip
    setup = prepare(experiment, Sources(print))
    monkeypatch.setattr(module, "GREETING_SECONDS", 2.0)
    nodes = Nodes(setup)
    nodes.join(100, 0), nodes.join(101, 1), nodes.join(999, None)
    roster, said = roster_of(setup)
    assert roster.nodes(nodes) == {0: 100, 1: 101}
    assert any("missing: 2. To start one: python -m clients" in line for line in said)


def test_the_shard_is_the_servers_to_the_last_pixel(setup, image_folder):
    images = np.array(setup.dataset.train_images)
    images[:, 0, 0, 0] ^= 1
    other = replace(setup.dataset, train_images=images, fingerprint="other")
    nodes = Nodes(SimpleNamespace(dataset=other))
    nodes.join(100, 0)
    roster, _said = roster_of(setup)
    with pytest.raises(RunError):
        roster.nodes(nodes)
    assert "has other data than the server" in nodes.farewells[100]["why"]


def test_a_farewell_is_read_once(tmp_path):
    box = tmp_path / "box.json"
    assert read_farewell(box) is None
    take_leave({"why": "over", "code": 0, "again": 0.0}, {"mailbox": str(box)})
    assert read_farewell(box) == {"why": "over", "code": 0, "again": 0.0} and read_farewell(box) is None
    take_leave({"why": "over"}, {})
