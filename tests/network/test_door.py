"""Who may hold a connection to the gate: signers have places of their own, and strangers make room for strangers."""

import asyncio
import contextlib
import socket
import time

import pytest
import uvicorn

from oleander.network import door as doors
from oleander.network.door import Door, Guest, Places, _neighbourhood, sized
from oleander.network.filter import Filter
from oleander.network.gate import Impatient
from oleander.network.internals import HEALTH
from oleander.network.orders import Orders, Teller
from tests.network.test_gate import KEY, OTHER, public_key_to_bytes, signed


class Hall:
    """Places, and who was thrown out of them."""

    def __init__(self, *sizes, **named):
        self.places, self.out = Places(*sizes, **named), []

    def guest(self, name, host="a", key=None):
        guest = Guest(host, lambda: self.out.append(name))
        self.places.come(guest)
        if key:
            self.places.sign(guest, key)
        return guest


def test_the_oldest_stranger_makes_room_and_a_signer_never_does():
    hall = Hall(3, 2)
    signers = [hall.guest("signer", key=key) for key in (b"k", b"l")]
    for number in range(6):
        hall.guest(number)
    assert hall.out == [0, 1, 2] and hall.places.count == 3 and hall.places.holders() == 2
    assert not any(guest.gone for guest in signers)


def test_the_address_with_most_strangers_loses_its_own():
    hall = Hall(4)
    hall.guest("alone", "b")
    for number in range(9):
        hall.guest(number)
    assert hall.out == [0, 1, 2, 3, 4, 5]


def test_one_key_has_so_many_places_and_whose_has_been_unused_longest_goes_first():
    hall = Hall(9, 2)
    other = hall.guest("other", key=b"l")
    first, second = hall.guest("first", key=b"k"), hall.guest("second", key=b"k")
    hall.places.sign(first, b"k")  # it asks again
    for number in range(3):
        hall.guest(number, key=b"k")
    assert hall.out == ["second", "first", 0] and second.gone and not other.gone
    assert hall.places.holders() == 3 and hall.places.count == 0


def test_without_keys_all_signers_share_and_the_address_with_most_of_them_loses():
    hall = Hall(9, 16, signed=20)
    hall.guest("alone", "b", key=b"k")
    for number in range(200):
        hall.guest(number, key=b"%d" % number)
    assert hall.places.holders() == 20 and "alone" not in hall.out and len(hall.out) == 181


def test_who_has_left_takes_no_place_whatever_comes_of_it_later():
    hall = Hall(2)
    guest = hall.guest("gone")
    hall.places.leave(guest)
    hall.places.leave(guest)
    hall.places.sign(guest, b"k")
    assert (hall.places.count, hall.places.holders(), hall.out) == (0, 0, [])


@pytest.mark.parametrize("descriptors", [256, 1024, 4096, 65536])
@pytest.mark.parametrize("keys", [0, 1, 6, 100])
def test_all_places_together_fit_into_the_systems_limit_of_open_files(descriptors, keys):
    places = sized(descriptors, keys, 16 * (keys or 6) + 64)
    signers = keys * places.each if keys else places.most_signed
    if not (keys == 100 and descriptors == 256):  # too many for two places each
        assert places.most_strangers + 2 * signers <= descriptors
    assert places.most_strangers >= 2 and places.each >= 2


def test_neighbours_in_ipv6_count_as_one_and_mapped_addresses_as_what_they_are():
    assert _neighbourhood("10.0.0.1") == "10.0.0.1" == _neighbourhood("::ffff:10.0.0.1")
    assert _neighbourhood("2001:db8::1") == _neighbourhood("2001:db8::ffff") != _neighbourhood("2001:db8:0:1::1")
    assert _neighbourhood("fe80::1%eth0") == _neighbourhood("fe80::2")


# ---- with connections ---------------------------------------------------------------------------------------------------


class Well:
    """An upstream that is well."""

    status_code, content, text, headers = 200, b"ok", "", {}

    def __init__(self):
        self.asked = 0

    async def get(self, path, timeout):
        return await self.request("GET", path)

    async def request(self, *_, **__):
        self.asked += 1
        return self


def request(path=HEALTH, headers=None, method="GET"):
    lines = [f"{method} {path} HTTP/1.1", "host: x", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return "\r\n".join([*lines, "", ""]).encode()


def visited(visit, places=None, keys=(KEY,)):
    """What ``visit(address)`` comes to at a door with these places; and what the gate told."""
    told, places = [], places or Places()

    async def world():
        orders = Orders([], "http://x", "", "", "127.0.0.1", 1, 1000, 64,
                        keys=[public_key_to_bytes(key.public_key()).decode() for key in keys])  # fmt: skip
        tell = Teller()
        tell.event = lambda kind, text="": told.append(text)
        wall = Filter(orders, tell)
        wall.client = upstream = Well()
        config = uvicorn.Config(wall, http=Impatient, ws="none", lifespan="off", log_config=None,
                                timeout_keep_alive=10**6)  # fmt: skip
        config.load()
        state = uvicorn.Server(config).server_state
        door = Door(
            places, lambda guest: Impatient(guest, places, tell.refused, config=config, server_state=state), None,
            tell.refused,
        )  # fmt: skip
        with socket.create_server(("127.0.0.1", 0)) as listening:
            keeping = asyncio.create_task(door.keep(listening))
            try:
                result = await asyncio.wait_for(visit(listening.getsockname()), 30)
                result = (result, upstream.asked)
            finally:
                keeping.cancel()
        return result

    (result, asked) = asyncio.run(world())
    return result, asked, told


async def until_closed(reader, began):
    """Seconds until the other end hangs up."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(1000):
            pass
    return time.monotonic() - began


SIGNED = "/v1/fleet/pull-object"


@pytest.mark.parametrize("what", ["silence", "slow head", "slow body", "slow foreign body"])
def test_a_stranger_has_its_time_whatever_it_says(monkeypatch, what):
    monkeypatch.setattr(doors, "STRANGER_SECONDS", 0.5)
    pieces = {
        "silence": [], "slow head": [b"GET /health HTTP/1.1\r\n", *[b"a: b\r\n"] * 200],
        "slow body": [request(SIGNED, {"content-length": 1000}, "POST"), *[b"x"] * 200],
        "slow foreign body": [request(SIGNED, {"content-length": 1000} | signed(OTHER), "POST"), *[b"x"] * 200],
    }[what]  # fmt: skip

    async def visit(address):
        reader, writer = await asyncio.open_connection(*address)

        async def say():
            with contextlib.suppress(OSError):
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(0.1)

        saying = asyncio.create_task(say())
        seconds = await until_closed(reader, time.monotonic())
        saying.cancel()
        return seconds

    seconds, _, _ = visited(visit, keys=() if what == "slow body" else (KEY,))
    assert seconds < 10


def test_a_stranger_is_answered_once_also_where_it_asks_twice_in_one_breath():
    async def visit(address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request() * 50)
        return await reader.read(-1)

    said, _, _ = visited(visit)
    assert said.count(b"HTTP/1.1 200") == 1 and b"connection: close" in said


def test_a_signer_is_not_closed_and_keeps_its_connection_while_strangers_crowd_in(monkeypatch):
    monkeypatch.setattr(doors, "STRANGER_SECONDS", 0.3)
    monkeypatch.setattr(doors, "A_SECOND", 10_000)
    ask = request(SIGNED, signed(KEY) | {"content-length": 0}, "POST")
    places = Places(5, 2)

    async def visit(address):
        reader, writer = await asyncio.open_connection(*address)
        statuses = []
        for _ in range(3):
            writer.write(ask)
            statuses.append(await reader.readuntil(b"ok"))
            crowd = [await asyncio.open_connection(*address) for _ in range(40)]
            await asyncio.sleep(0.5)
            for _, stranger in crowd:
                stranger.close()
        assert places.holders() == 1
        return statuses

    statuses, asked, told = visited(visit, places)
    assert [status[:12] for status in statuses] == [b"HTTP/1.1 200"] * 3 and asked == 3
    assert any("that had signed nothing, to make room" in line for line in told)


def test_one_key_does_not_take_the_places_of_another():
    places = Places(50, 3)

    async def visit(address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request(SIGNED, signed(OTHER) | {"content-length": 0}, "POST"))
        await reader.readuntil(b"ok")
        greedy = []
        for _ in range(20):
            greedy.append(await asyncio.open_connection(*address))
            greedy[-1][1].write(request(SIGNED, signed(KEY) | {"content-length": 0}, "POST"))
            await greedy[-1][0].readuntil(b"ok")
        writer.write(request(SIGNED, signed(OTHER) | {"content-length": 0}, "POST"))
        await reader.readuntil(b"ok")
        return [len(group) for group in places.signed.values()]

    held, asked, _ = visited(visit, places, keys=(KEY, OTHER))
    assert sorted(held) == [1, 3] and asked == 22


def test_many_who_ask_for_the_servers_health_cost_it_one_question_a_second(monkeypatch):
    monkeypatch.setattr(doors, "A_SECOND", 10_000)

    async def visit(address):
        async def poll():
            reader, writer = await asyncio.open_connection(*address)
            writer.write(request())
            return (await reader.read(-1)).startswith(b"HTTP/1.1 200")

        return await asyncio.gather(*(poll() for _ in range(60)))

    answers, asked, _ = visited(visit)
    assert all(answers) and asked < 30


# ---- a client -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_a_client_that_was_let_in_knocks_again_when_it_is_cut_off(monkeypatch, known):
    """Thrown out in the handshake, or before it was answered; a client that never got in is told at once."""
    import httpx

    from oleander.network import internals

    monkeypatch.setattr(internals, "KNOCK_AGAIN_SECONDS", 0)
    outcomes = [
        httpx.ConnectError("EOF occurred in violation of protocol (_ssl.c:1006)"), httpx.ReadError("reset"),
        httpx.RemoteProtocolError("Server disconnected without sending a response."), httpx.Response(200),
    ]  # fmt: skip

    def handled(_transport, _request):
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handled)
    way = internals._Direct(verify=False)
    way.known = known
    ask = httpx.Request("POST", "http://x", content=b"x")
    if known:
        assert way.handle_request(ask).status_code == 200 and not outcomes
        for final in ("[Errno 111] Connection refused", "[SSL: CERTIFICATE_VERIFY_FAILED] EOF"):
            outcomes.append(httpx.ConnectError(final))
            with pytest.raises(httpx.ConnectError):
                way.handle_request(ask)
    else:
        with pytest.raises(httpx.ConnectError):
            way.handle_request(ask)


def test_flowers_client_is_made_as_ours_takes_it_to_be():
    import inspect

    from oleander.network import internals

    made = inspect.getsource(internals.FleetHttpClient.__mro__[1].__init__)
    for name in ("self._base_url", "self._interceptors", "self._retry_invoker", "self._client = httpx.Client("):
        assert name in made
    assert made.count("self._") == 4
