"""The parking lot: bounded, and whoever has a token finds a place among strangers."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from baoha.api.app import build_app
from baoha.ha.parking import ParkingLot
from baoha.names import TOKEN_HEADER
from baoha.sansio.shares import Claim
from tests.support.asgi_client import call
from tests.support.fake_node import ACTIVE, LEADERLESS, FakeNodeView

STRANGER = Claim("s")
KNOWN = Claim("k", is_known=True)
OTHER = Claim("o", is_known=True)


class ParkingNode(FakeNodeView):
    """A standby without a leader, with a real parking lot."""

    def __init__(self, lot: ParkingLot) -> None:
        super().__init__(LEADERLESS)
        self.known_tokens = {"s.known"}
        self.parking = lot.place  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("parked", "claim", "loser"),
    [
        ([STRANGER] * 32, KNOWN, 31),
        ([STRANGER] * 32, STRANGER, None),
        ([KNOWN] * 32, STRANGER, None),
        ([KNOWN] * 32, KNOWN, None),
        ([KNOWN] * 32, OTHER, 31),
        ([KNOWN] * 30 + [STRANGER] * 2, OTHER, 29),
        ([STRANGER] * 3 + [KNOWN] * 29, OTHER, 2),
        ([Claim(f"a{n}") for n in range(32)], KNOWN, 0),
    ],
)
@pytest.mark.parametrize("full_of", ["requests", "bytes"])
async def test_full_lot_makes_strangers_and_the_heaviest_give_way(
    full_of: str, parked: list[Claim], claim: Claim, loser: int | None
) -> None:
    by_count = full_of == "requests"
    lot = ParkingLot(requests_max=32 if by_count else 99, bytes_max=999 if by_count else 32)
    with ExitStack() as stack:
        places = [stack.enter_context(lot.place(1, one)) for one in parked]
        new = stack.enter_context(lot.place(1, claim))
        assert (new is None) is (loser is None)
        cancelled = [n for n, place in enumerate(places) if place and place.cancel_called]
        assert cancelled == ([] if loser is None else [loser])
        assert (lot.requests, lot.bytes) == (32, 32)
    assert (lot.requests, lot.bytes) == (0, 0)


async def test_lot_with_room_bounds_nobody() -> None:
    lot = ParkingLot(requests_max=32, bytes_max=32)
    with ExitStack() as stack:
        for _ in range(32):
            assert stack.enter_context(lot.place(1, STRANGER)) is not None


async def test_large_request_that_is_refused_displaces_nobody() -> None:
    lot = ParkingLot(requests_max=32, bytes_max=32)
    with ExitStack() as stack:
        places = [stack.enter_context(lot.place(1, STRANGER)) for _ in range(20)]
        assert stack.enter_context(lot.place(33, KNOWN)) is None
        assert not any(place and place.cancel_called for place in places)
        assert (lot.requests, lot.bytes) == (20, 20)


async def test_parked_strangers_do_not_keep_a_token_out(autojump_clock: MockClock) -> None:
    lot = ParkingLot(requests_max=64, bytes_max=10_000)
    node = ParkingNode(lot)
    app = build_app(node)
    answers: dict[str, list[int]] = {"": [], "s.known": [], "s.unknown": []}

    async def ask(token: str) -> None:
        answer = await call(app, "GET", "/v1/secret/x", b"", [(TOKEN_HEADER, token)])
        assert answer is not None
        answers[token].append(answer.status)

    async with trio.open_nursery() as nursery:
        for number in range(80):
            nursery.start_soon(ask, "s.unknown" if number % 2 else "")
        await wait_all_tasks_blocked()
        assert lot.requests == 64
        for _ in range(8):
            nursery.start_soon(ask, "s.known")
        await wait_all_tasks_blocked()
        assert lot.requests == 64
        assert sorted(answers[""] + answers["s.unknown"]) == [503] * 24
        await trio.sleep(1)
        node.become(ACTIVE)
    assert answers["s.known"] == [204] * 8
    assert sorted(answers[""] + answers["s.unknown"]) == [204] * 56 + [503] * 24
    assert lot.requests == 0


async def test_displaced_write_is_not_executed(autojump_clock: MockClock) -> None:
    lot = ParkingLot(requests_max=1, bytes_max=10_000)
    node = ParkingNode(lot)
    app = build_app(node)
    answers: dict[str, int] = {}

    async def write(token: str) -> None:
        headers = [(TOKEN_HEADER, token)]
        answer = await call(app, "PUT", f"/v1/secret/{token}", b"{}", headers)
        assert answer is not None
        answers[token] = answer.status

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write, "s.unknown")
        await wait_all_tasks_blocked()
        nursery.start_soon(write, "s.known")
        await wait_all_tasks_blocked()
        node.become(ACTIVE)
    assert answers == {"s.unknown": 503, "s.known": 204}
    assert [request.path for request in node.requests] == ["secret/s.known"]
