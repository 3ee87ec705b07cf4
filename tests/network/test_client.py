"""A client process's patience, with a server that is played and a clock that is wound forward."""

import contextlib
import re
import sys
from types import SimpleNamespace

import httpx
import pytest

from oleander.network import client, internals, stock, visit
from oleander.network.address import Address
from oleander.system.errors import RunError


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        assert self.now < 2000, "it waits without end"


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(client, "time", clock)
    monkeypatch.setattr(visit, "time", clock)
    return clock


@pytest.fixture
def joins(monkeypatch):
    """What becomes of each of the client's attempts to join; the last one of all further ones too.

    One that is no error is what happens once it has joined (``visit``).
    """
    outcomes = []
    joined = []

    class PlayedNode:
        def __init__(self, address, ca, key):
            pass

        def join(self):
            outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
            if isinstance(outcome, Exception):
                raise outcome
            joined.append(outcome)

        def leave(self):
            pass

    monkeypatch.setattr(internals, "Node", PlayedNode)
    monkeypatch.setattr(client, "_work", lambda node, config, farewell, patience: joined.pop(0)(patience))
    return outcomes


def visit_of(clock, *, introduced, end):
    """A client has joined, has perhaps said who it is, and a second later this happens."""

    def work(patience):
        patience.answered()
        if introduced:
            patience.introduce()
        clock.sleep(1.0)
        raise end

    return work


def sent_away(*words):
    return client._SentAwayError(visit.Told(*words))


def taken():
    return internals.NodeRefusedError(httpx.Response(client.TAKEN, json={"detail": "Failed to activate SuperNode."}))


def arguments(keys, *flags):
    return ["--server", "127.0.0.1:9092", "--client-id", "0", "--keys", str(keys), *flags]


@pytest.mark.parametrize("then", [taken(), httpx.ConnectError("refused")], ids=["still taken", "server gone"])
def test_who_finds_its_place_taken_ends_in_half_a_minute_even_where_the_server_ends_before(
    clock, joins, keys, capsys, then
):
    joins += [taken(), then]
    assert client.main(arguments(keys)) == 2
    assert 25 <= clock.now - 1000 < 30
    assert capsys.readouterr().out.splitlines()[-1].startswith("client 0: refused: a client with this key is here")


def test_who_finds_its_place_taken_by_what_it_says_it_is_ends_in_half_a_minute_too(clock, joins, capsys):
    """Without keys each attempt is a node of its own, which says who it is and is refused for it."""
    joins.append(visit_of(clock, introduced=True, end=sent_away("client 0 is here already", 2, 25.0)))
    assert client.main(["--server", "127.0.0.1:9092", "--client-id", "0"]) == 2
    assert 25 <= clock.now - 1000 < 32
    assert capsys.readouterr().out.splitlines()[-1] == "client 0: client 0 is here already"


@pytest.mark.parametrize("end", [sent_away("the run is finished", 0), sent_away("the run failed", 1),
                                 internals.FarewellError("the run is finished", 0)])  # fmt: skip
def test_who_joins_only_when_the_run_of_another_in_its_place_is_over_was_refused(clock, joins, keys, capsys, end):
    joins += [taken(), visit_of(clock, introduced=False, end=end)]
    assert client.main(arguments(keys)) == 2
    assert capsys.readouterr().out.splitlines()[-1].startswith("client 0: refused: a client with this key is here")


def test_who_got_its_place_at_the_second_try_ends_as_its_run_does(clock, joins, keys):
    joins += [taken(), visit_of(clock, introduced=True, end=sent_away("the run is finished", 0))]
    assert client.main(arguments(keys)) == 0


def test_who_got_its_place_and_lost_the_connection_has_half_a_minute_anew(clock, joins, keys):
    """The server may take it for here still, as at the first time."""
    lost = visit_of(clock, introduced=True, end=httpx.ReadError("gone"))
    later = visit_of(clock, introduced=True, end=sent_away("the run is finished", 0))
    joins += [taken(), *[taken()] * 4, lost, *[taken()] * 4, later]
    assert client.main(arguments(keys)) == 0


def test_who_was_never_refused_waits_for_the_server_as_long_as_it_was_told_to(clock, joins, keys, capsys):
    joins += [httpx.ConnectError("nobody listens")]
    assert client.main(arguments(keys, "--wait", "100")) == 1
    assert 100 <= clock.now - 1000 < 105
    assert "no server at 127.0.0.1:9092 (nobody listens), for 100 s (--wait)" in capsys.readouterr().err


def test_how_long_the_server_was_away_before_it_refused_does_not_count_against_it_later(clock, joins, keys):
    away = httpx.ConnectError("nobody listens")
    joins += [*[away] * 5, taken(), away]
    assert client.main(arguments(keys, "--wait", "8")) == 1
    assert 18 <= clock.now - 1000 < 22


@pytest.mark.parametrize(("seconds", "most"), [(3, 31), (40, 61)])
def test_what_a_server_takes_to_say_nothing_counts_as_away(clock, keys, monkeypatch, seconds, most):
    """It accepts and does not answer: a request waits 30 s for it."""

    class Waits:
        def __init__(self, *_):
            pass

        def join(self):
            clock.sleep(30.0)
            raise httpx.ReadTimeout("timed out")

        def leave(self):
            pass

    monkeypatch.setattr(internals, "Node", Waits)
    assert client.main(arguments(keys, "--wait", str(seconds))) == 1
    assert clock.now - 1000 <= most


def test_what_it_worked_does_not_count_as_waiting(clock, joins, keys):
    def work(patience):
        patience.answered()
        patience.introduce()
        clock.sleep(300.0)
        raise httpx.ReadError("gone")

    joins += [work, httpx.ConnectError("nobody listens")]
    assert client.main(arguments(keys, "--wait", "20")) == 1
    assert 320 <= clock.now - 1000 < 325


def test_a_new_reason_is_said_at_once_and_the_same_one_again_only_after_a_while(clock, joins, keys, capsys):
    away, odd = (
        httpx.ConnectError("nobody listens"),
        internals.NodeRefusedError(httpx.Response(400, json={"detail": "odd"})),
    )
    joins += [*[away] * 3, odd, *[away] * 5]
    assert client.main(arguments(keys, "--wait", "20")) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if "trying again" in line]
    assert ["nobody listens" in line for line in said] == [True, False] and "(odd)" in said[1]


@pytest.mark.parametrize(
    ("given", "words"),
    [(["--client-id", "99999999999999999999"], "--client-id 99999999999999999999: wanted 0 to 999999"),
     (["--client-id", "-1"], "--client-id -1: wanted 0 to 999999"),
     (["--client-id", "0", "--wait", "nan"], "--wait nan: wanted seconds, 0 or more"),
     (["--client-id", "0", "--wait", "-1"], "--wait -1: wanted seconds, 0 or more")],
)  # fmt: skip
def test_numbers_that_cannot_be_are_refused(given, words, capsys):
    assert client.main(["--server", "127.0.0.1:9092", *given]) == 2
    assert capsys.readouterr().err.strip() == f"error: {words}"


class Busy:
    """A node that is asked to train, and told that the run has failed while it does."""

    node_id = 7

    def __init__(self, messages):
        self.messages, self.answered = messages, []

    def receive(self):
        return self.messages.pop(0) if self.messages else None

    def answer(self, reply, seconds):
        self.answered.append(reply)
        raise httpx.ConnectError("the server has ended")


def test_a_client_that_trains_hears_that_the_run_is_over_and_ends_instead_of_looking_for_the_server(
    task, monkeypatch, tmp_path
):
    import time

    from flwr.app import ConfigRecord, Message, RecordDict

    from clients.farewell import read_farewell, take_leave

    monkeypatch.setattr(client, "LISTEN_SECONDS", 0.01)
    train = Message(RecordDict({"config": ConfigRecord({"server-round": 1})}), dst_node_id=7, message_type="train")
    farewell = ConfigRecord({"why": "the run failed: round 1, client 2", "code": 1, "again": 0.0})
    node = Busy([train, Message(RecordDict({"farewell": farewell}), dst_node_id=7, message_type="query")])

    def answer(message, _context):
        if "farewell" in message.content:
            take_leave(dict(message.content["farewell"]), {"mailbox": str(tmp_path / "box")})
        while node.messages:  # it trains
            time.sleep(0.01)
        return Message(RecordDict(), reply_to=message)

    monkeypatch.setattr(client, "_answer", answer)
    patience = visit.Patience(visit.ClientFlags("h:1", 0))
    with pytest.raises(client._SentAwayError) as told:
        client._work(node, {}, lambda: read_farewell(tmp_path / "box"), patience)
    assert told.value.told == visit.Told("the run failed: round 1, client 2", 1) and len(node.answered) == 1


@pytest.mark.parametrize("hears", [True, False])
def test_who_answers_just_when_the_run_ends_hears_of_it_where_the_server_still_says_so(monkeypatch, hears):
    messages = [SimpleNamespace(content={"config": {}}, metadata=SimpleNamespace(run_id=1)), "farewell"]
    told = []

    class PlayedNode:
        node_id = 7

        def receive(self):
            return messages.pop(0) if messages else None

        def answer(self, reply, seconds):
            raise httpx.ReadError("the push session has expired")

        def last_word(self):
            return SimpleNamespace(content={"farewell": {}}, metadata=SimpleNamespace(run_id=1)) if hears else None

    def answer(message, context):
        if "farewell" in message.content:
            told.append({"why": "the run failed", "code": 1, "again": 0.0})

    monkeypatch.setattr(client, "_answer", answer)
    monkeypatch.setattr(client, "_listening", lambda node, heard: contextlib.nullcontext())
    patience = SimpleNamespace(answered=lambda: None, introduce=lambda: None, flags=None)
    with pytest.raises(client._SentAwayError if hears else httpx.ReadError):
        client._work(PlayedNode(), {}, lambda: told[0] if told else None, patience)


@pytest.mark.parametrize(("wait", "told"), [(7.5, ["--max-wait-time", "7.5"]), (float("inf"), [])])
def test_flowers_node_waits_as_long_as_it_was_told_to(monkeypatch, tmp_path, clock, wait, told):
    started = []
    monkeypatch.setattr(stock, "flower", lambda name: [sys.executable, "-c", "import sys; sys.exit(1)"])
    monkeypatch.setattr(stock, "say", lambda flags, text: started.append(text.split()))
    patience = visit.Patience(visit.ClientFlags("127.0.0.1:1", 0, wait=wait))
    monkeypatch.setattr(patience, "wait", lambda why: (_ for _ in ()).throw(RunError(why)))
    with pytest.raises(RunError):
        stock.serve_stock(patience, Address("127.0.0.1", 1), {}, tmp_path / "box", tmp_path)
    assert [word for word in started[0] if word in ("--max-wait-time", "7.5")] == told


def test_flowers_node_that_ends_is_started_on_another_port(monkeypatch, tmp_path, clock, capfd):
    """The one that it had may be another program's by the time that it listens."""
    says = [sys.executable, "-c", "import sys; print('given', *sys.argv); sys.exit(1)"]
    monkeypatch.setattr(stock, "flower", lambda name: says)
    patience = visit.Patience(visit.ClientFlags("127.0.0.1:1", 0, wait=3.0))
    with pytest.raises(RunError, match="flower-supernode ended with 1, for 3 s"):
        stock.serve_stock(patience, Address("127.0.0.1", 1), {}, tmp_path / "box", tmp_path)
    ports = re.findall(r"client 0: .* --port (\d+)", capfd.readouterr().out)
    assert len(ports) > 2 and len(set(ports)) == len(ports)
