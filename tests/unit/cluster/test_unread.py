"""The cluster channel when nobody reads: what is said, and what must not be."""

from __future__ import annotations

import trio

from baoha.errors import CannotForward, ForwardingError, ForwardingInterrupted, NotActive
from baoha.sansio.wire.frames import ChannelLimits
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from tests.support.channel import RecordingActive, open_channel, request, wait_until

# So many answers of this size are more than a connection holds on its way: the writer is stuck.
_LARGE = bytes(60_000)
_LARGE_COUNT = 8


async def test_goodbye_is_not_said_while_an_outcome_could_not_be_told(
    autojump_clock: object,
) -> None:
    """
    Goal: "what is unanswered was not executed" is never said of what was.

    Method: more requests are cut off than control frames may wait for a standby that does not read;
    then the active node ends its duty, and the standby reads again.
    """

    async def answer(received: HTTPRequest) -> HTTPResponse:
        if received.path == "/large":
            return HTTPResponse(status=200, body=_LARGE)
        await trio.sleep_forever()
        raise AssertionError

    outcomes: list[ForwardingError] = []
    active = RecordingActive(answer=answer)
    limits = ChannelLimits(control_frames_max=3)
    async with open_channel(active=active, active_limits=limits) as channel:

        async def ask(path: str) -> None:
            try:
                await channel.link.forward(request(path, method="POST"))
            except ForwardingError as exc:
                outcomes.append(exc)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(ask, f"/{number}")
            await wait_until(lambda: active.running == 8)
            channel.hub.block("active", "standby")
            for _ in range(_LARGE_COUNT):
                nursery.start_soon(ask, "/large")
            await wait_until(lambda: len(active.called) == 8 + _LARGE_COUNT)
            await trio.sleep(0.5)
            channel.stop_listener.cancel()
            await trio.sleep(0.5)
            channel.hub.unblock("active", "standby")
            await trio.sleep(5)
            nursery.cancel_scope.cancel()
    assert not [exc for exc in outcomes if isinstance(exc, CannotForward)]
    assert len([exc for exc in outcomes if isinstance(exc, ForwardingInterrupted)]) >= 8


async def test_executed_request_is_not_called_unexecuted_because_another_cannot_go_on(
    autojump_clock: object,
) -> None:
    """
    Goal: an answer that makes room for the next body tells the truth, even if that cannot be told.

    Method: as many control frames wait as may; then a request ends whose room the next one awaits.
    """
    go_on = trio.Event()
    executed = trio.Event()

    async def answer(received: HTTPRequest) -> HTTPResponse:
        if received.path == "/large":
            return HTTPResponse(status=200, body=_LARGE)
        if received.path == "/refused":
            raise NotActive("not active")
        await go_on.wait()
        executed.set()
        return HTTPResponse(status=204)

    outcomes: dict[str, ForwardingError | HTTPResponse] = {}
    active = RecordingActive(answer=answer)
    limits = ChannelLimits(control_frames_max=2, in_flight_bytes_max=1_000_000)
    async with open_channel(active=active, active_limits=limits) as channel:

        async def ask(path: str, body: bytes = b"") -> None:
            try:
                outcomes[path] = await channel.link.forward(request(path, body, method="POST"))
            except ForwardingError as exc:
                outcomes[path] = exc

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "/first", bytes(900_000))
            await wait_until(lambda: active.running == 1)
            nursery.start_soon(ask, "/second", bytes(500_000))
            await trio.sleep(0.1)
            channel.hub.block("active", "standby")
            for _ in range(_LARGE_COUNT):
                nursery.start_soon(ask, "/large")
            await wait_until(lambda: len(active.called) == 1 + _LARGE_COUNT)
            for _ in range(limits.control_frames_max):
                nursery.start_soon(ask, "/refused")
            await wait_until(lambda: len(active.called) == 3 + _LARGE_COUNT)
            go_on.set()
            await executed.wait()
            await trio.sleep(0.1)
            channel.hub.unblock("active", "standby")
            await trio.sleep(5)
            nursery.cancel_scope.cancel()
    first = outcomes["/first"]
    assert not isinstance(first, CannotForward)
    assert isinstance(first, ForwardingInterrupted) or first.status == 204
