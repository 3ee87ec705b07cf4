"""Turns at the SuperLink: a crowd waits behind itself."""

import asyncio

from oleander.network.turns import Turns


def served(arrivals, at_a_time=1, cancelled=()):
    """Who was served, in order, where all come while the first is being served; ``cancelled`` go before their turn."""
    order = []

    async def ask(turns, asker, go):
        async with turns.of(asker):
            order.append(asker)
            await go.wait()

    async def main():
        turns, go = Turns(at_a_time), asyncio.Event()
        tasks = [asyncio.create_task(ask(turns, asker, go)) for asker in arrivals]
        await asyncio.sleep(0)
        for number in cancelled:
            tasks[number].cancel()
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (turns.free, turns.waiting) == (at_a_time, {})

    asyncio.run(main())
    return order


def test_between_two_requests_of_one_asker_each_other_has_its_turn():
    assert served(["crowd"] * 300 + ["a", "b", "a"])[:6] == ["crowd", "crowd", "a", "b", "crowd", "a"]
    assert served([*"aaabbc"]) == [*"aabcab"]


def test_so_many_at_a_time_and_each_asker_in_its_own_order():
    assert served([*"abcd"], at_a_time=4) == [*"abcd"]
    most, now = 0, 0

    async def ask(turns, asker):
        nonlocal most, now
        async with turns.of(asker):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    async def main():
        turns = Turns(3)
        await asyncio.gather(*(ask(turns, number % 2) for number in range(50)))
        assert (turns.free, turns.waiting) == (3, {})

    asyncio.run(main())
    assert most == 3


def test_who_goes_before_its_turn_holds_no_place():
    assert served([*"aabb"], cancelled=[1, 2]) == ["a", "b"]


def test_who_goes_in_the_moment_of_its_turn_hands_it_on():
    order = []

    async def ask(turns, asker):
        async with turns.of(asker):
            order.append(asker)

    async def main():
        turns = Turns(1)
        async with turns.of("first"):
            second, third = (asyncio.create_task(ask(turns, name)) for name in ("second", "third"))
            await asyncio.sleep(0)
        second.cancel()  # its turn has come, and it does not know it yet
        await asyncio.gather(second, third, return_exceptions=True)
        assert (turns.free, turns.waiting) == (1, {})

    asyncio.run(main())
    assert order == ["third"]
