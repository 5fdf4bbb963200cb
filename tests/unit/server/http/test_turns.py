"""Turns of the event loop: a crowd neither fills a round nor keeps control waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from baoha.api.door import Urgency
from baoha.server.http.turns import WAIT_MAX_S, Turns


@asynccontextmanager
async def running(turns: Turns) -> AsyncIterator[trio.Nursery]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        yield nursery
        nursery.cancel_scope.cancel()


class Rounds:
    """Who had a turn in which round."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.number = 0
        self.seen: list[tuple[int, str]] = []

    async def count(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.number += 1

    async def come(self, name: str, urgency: Urgency, address: str, size_bytes: int = 0) -> None:
        await self._turns.take(urgency, address, size_bytes)
        self.seen.append((self.number, name))


async def test_turns_single_client_does_not_wait() -> None:
    turns = Turns()
    async with running(turns):
        before = trio.lowlevel.current_statistics().tasks_runnable
        assert await turns.take(Urgency.OTHER, "a")
        assert trio.lowlevel.current_statistics().tasks_runnable >= before


async def test_turns_crowd_is_spread_over_rounds_and_all_are_served(
    mock_clock: MockClock,
) -> None:
    turns = Turns()
    rounds = Rounds(turns)
    async with trio.open_nursery() as counting:
        counting.start_soon(rounds.count)
        async with trio.open_nursery() as crowd:
            crowd.start_soon(_until_all, turns, rounds, 300)
            for number in range(300):
                crowd.start_soon(rounds.come, str(number), Urgency.OTHER, "a")
        counting.cancel_scope.cancel()
    per_round = [sum(1 for at, _ in rounds.seen if at == one) for one, _ in rounds.seen]
    assert len(rounds.seen) == 300
    assert max(per_round) <= 2 * 64  # trio runs a round in any order: two may look like one


async def _until_all(turns: Turns, rounds: Rounds, wanted: int) -> None:
    async with running(turns):
        while len(rounds.seen) < wanted:
            await trio.lowlevel.checkpoint()


async def order_of(arrivals: list[tuple[str, Urgency, str]]) -> list[str]:
    """Return in which order those are served who all come while a round is full."""
    turns = Turns()
    rounds = Rounds(turns)
    assert await turns.take(Urgency.OTHER, "first", 1024 * 1024)
    async with trio.open_nursery() as nursery:
        for name, urgency, address in arrivals:
            nursery.start_soon(rounds.come, name, urgency, address, 1024 * 1024)
            await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(_until_all, turns, rounds, len(arrivals))
    return [name for _, name in rounds.seen]


async def test_turns_control_comes_before_a_crowd_that_was_there_first(
    mock_clock: MockClock,
) -> None:
    crowd = [(f"other {number}", Urgency.OTHER, "a") for number in range(5)]
    assert (await order_of([*crowd, ("health", Urgency.CONTROL, "b")]))[0] == "health"


async def test_turns_known_clients_come_before_strangers(
    mock_clock: MockClock,
) -> None:
    strangers = [(f"stranger {number}", Urgency.OTHER, "a") for number in range(5)]
    assert (await order_of([*strangers, ("known", Urgency.KNOWN, "a")]))[0] == "known"


async def test_turns_flood_of_control_does_not_keep_the_others_out(
    mock_clock: MockClock,
) -> None:
    flood = [(f"health {number}", Urgency.CONTROL, "a") for number in range(20)]
    served = await order_of([*flood, ("other", Urgency.OTHER, "b")])
    assert served.index("other") < 10


async def test_turns_addresses_alternate(
    mock_clock: MockClock,
) -> None:
    crowd = [(f"crowd {number}", Urgency.OTHER, "a") for number in range(8)]
    assert (await order_of([*crowd, ("single", Urgency.OTHER, "b")])).index("single") <= 1


async def test_turns_large_pieces_have_a_round_of_their_own(
    mock_clock: MockClock,
) -> None:
    turns = Turns()
    async with trio.open_nursery() as nursery:
        assert await turns.take(Urgency.OTHER, "a", 64 * 1024)
        done = trio.Event()

        async def second() -> None:
            await turns.take(Urgency.OTHER, "b", 64 * 1024)
            done.set()

        nursery.start_soon(second)
        await trio.testing.wait_all_tasks_blocked()
        assert not done.is_set()
        async with running(turns):
            await done.wait()


async def test_turns_who_waits_too_long_gives_up(autojump_clock: MockClock) -> None:
    turns = Turns()
    assert await turns.take(Urgency.OTHER, "a", 64 * 1024)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.take, Urgency.OTHER, "a", 64 * 1024)  # who does not give up
        await trio.testing.wait_all_tasks_blocked()
        came: list[bool] = []

        async def second() -> None:
            came.append(await turns.take(Urgency.OTHER, "a", 1, expires=True))

        nursery.start_soon(second)
        await trio.sleep(WAIT_MAX_S + 0.1)
        nursery.start_soon(turns.run)
        await trio.sleep(0.1)
        assert came == [False]
        nursery.cancel_scope.cancel()


async def test_turns_standing_queue_is_not_joined(autojump_clock: MockClock) -> None:
    turns = Turns()
    assert await turns.take(Urgency.OTHER, "a", 64 * 1024)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.take, Urgency.OTHER, "a", 1)
        verdicts = []
        for _ in range(6):
            await trio.sleep(0.1)
            verdicts.append(turns.refuses(Urgency.OTHER, "a"))
        assert not turns.refuses(Urgency.KNOWN, "a")
        assert not turns.refuses(Urgency.OTHER, "b")
        nursery.cancel_scope.cancel()
    assert verdicts[:2] == [False, False]
    assert verdicts[-1]


async def test_turns_queue_too_long_to_be_served_in_time_is_not_joined(
    mock_clock: MockClock,
) -> None:
    """Before anybody in it has waited for long: what comes before a newcomer is counted."""
    turns = Turns()
    async with trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(turns.take, Urgency.OTHER, "a", 64 * 1024)  # each a round
        await trio.testing.wait_all_tasks_blocked()
        assert not turns.refuses(Urgency.OTHER, "a")
        nursery.start_soon(turns.run)
        for _ in range(6):
            mock_clock.jump(0.02)
            await trio.lowlevel.checkpoint()
        assert trio.current_time() < WAIT_MAX_S / 2
        assert turns.refuses(Urgency.OTHER, "a")
        assert not turns.refuses(Urgency.OTHER, "b")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("expires", [True, False])
async def test_turns_cancelled_waiter_leaves_its_place(
    expires: bool, mock_clock: MockClock
) -> None:
    turns = Turns()
    assert await turns.take(Urgency.OTHER, "a", 64 * 1024)
    with trio.CancelScope() as scope:
        scope.cancel()
        await turns.take(Urgency.OTHER, "a", 1, expires=expires)
    async with running(turns):
        assert await turns.take(Urgency.OTHER, "b")
