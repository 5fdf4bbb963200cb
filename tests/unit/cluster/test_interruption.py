"""
A connection that is cut at any byte: what the standby says about the request is true.

The cut is made on the way, in either direction, after a number of bytes counted from the moment the
request is sent.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from baoha.core.view import LinkState
from baoha.errors import CannotForward, ForwardingInterrupted
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from tests.support.channel import RecordingActive, open_channel, request
from tests.support.memory_network import MemoryHub, MemoryNetwork

# Small enough for many rounds, large enough for several chunks each way.
BODY_BYTES = 150_000


class CuttingNetwork:
    """
    Connects through ``inner`` and cuts connections after so many bytes.

    Attributes:
        send_left: bytes that may still be sent; None: any number. The same for ``receive_left``.
    """

    def __init__(self, inner: MemoryNetwork) -> None:
        self._inner = inner
        self.send_left: int | None = None
        self.receive_left: int | None = None
        self.cuts = 0

    async def connect(self, host: str, port: int) -> trio.abc.HalfCloseableStream:
        return CuttingStream(await self._inner.connect(host, port), self)

    serve = MemoryNetwork.serve


class CuttingStream(trio.abc.HalfCloseableStream):
    def __init__(self, inner: trio.abc.HalfCloseableStream, network: CuttingNetwork) -> None:
        self._inner = inner
        self._network = network

    async def _cut(self) -> None:
        self._network.cuts += 1
        self._network.send_left = self._network.receive_left = None
        await self._inner.aclose()
        raise trio.BrokenResourceError("cut")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        left = self._network.send_left
        if left is None:
            await self._inner.send_all(data)
            return
        part = memoryview(data)[:left]
        self._network.send_left = left - len(part)
        await self._inner.send_all(part)
        if len(part) < len(data):
            await self._cut()

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._inner.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._inner.receive_some(max_bytes)
        left = self._network.receive_left
        if left is None:
            return data
        self._network.receive_left = left - len(data)
        if len(data) > left:
            await self._cut()
        return data

    async def aclose(self) -> None:
        await self._inner.aclose()


async def forward_once_with_cut(*, send_left: int | None, receive_left: int | None) -> str:
    """Forward one request over a connection that is cut, and check what is said about it."""
    finished: list[str] = []

    async def answer(received: HTTPRequest) -> HTTPResponse:
        assert len(received.body) == BODY_BYTES
        await trio.sleep(0.01)
        finished.append(received.path)
        return HTTPResponse(status=200, body=received.body)

    hub = MemoryHub()
    network = CuttingNetwork(hub.network("standby"))
    active = RecordingActive(answer)
    async with open_channel(hub=hub, active=active, link_network=network) as channel:
        network.send_left, network.receive_left = send_left, receive_left
        try:
            response = await channel.link.forward(request("/cut", b"k" * BODY_BYTES, "PUT"))
        except CannotForward:
            result = "cannot"
        except ForwardingInterrupted:
            result = "interrupted"
        else:
            result = "answered"
            assert len(response.body) == BODY_BYTES
        # Whatever was on its way has arrived after this; the link is up again.
        await trio.sleep(5)
        assert channel.link.state is LinkState.UP
        assert active.running == 0
        if result == "cannot":
            assert active.called == []
        else:
            assert active.called == ["/cut"] or (result, active.called) == ("interrupted", [])
        if result == "answered":
            assert finished == ["/cut"]
        network.send_left = network.receive_left = None
        assert (await channel.link.forward(request("/next", b"k" * BODY_BYTES))).status == 200
    return result


async def test_cut_while_sending_every_stage_is_told_truly(autojump_clock: MockClock) -> None:
    results = [
        await forward_once_with_cut(send_left=left, receive_left=None)
        for left in [*range(0, 600, 37), *range(600, 170_000, 4_003)]
    ]
    # From the first byte on: not sent, then possibly sent; answered when nothing was cut in time.
    assert results == sorted(results, key=["cannot", "interrupted", "answered"].index)
    assert {"cannot", "answered"} <= set(results)


async def test_cut_while_receiving_every_stage_is_told_truly(autojump_clock: MockClock) -> None:
    results = [
        await forward_once_with_cut(send_left=None, receive_left=left)
        for left in [*range(0, 400, 37), *range(400, 170_000, 4_003)]
    ]
    assert results == sorted(results, key=["cannot", "interrupted", "answered"].index)
    assert {"cannot", "interrupted", "answered"} == set(results)


def run_with_clock(send_left: int, receive_left: int) -> str:
    async def main() -> str:
        return await forward_once_with_cut(send_left=send_left, receive_left=receive_left)

    return trio.run(main, clock=MockClock(autojump_threshold=0))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 160_000), st.integers(0, 160_000))
def test_cut_anywhere_claim_is_true(send_left: int, receive_left: int) -> None:
    assert run_with_clock(send_left, receive_left) in {"cannot", "interrupted", "answered"}


async def test_active_process_dies_with_request_running_is_interrupted(
    autojump_clock: MockClock,
) -> None:
    async def answer(received: HTTPRequest) -> HTTPResponse:
        await trio.sleep(1)
        return HTTPResponse(status=200)

    async with open_channel(active=RecordingActive(answer)) as channel:
        channel.nursery.start_soon(kill_after, channel.hub, "active", 0.5)
        with pytest.raises(ForwardingInterrupted, match="connection reset by peer"):
            await channel.link.forward(request())
        assert channel.link.broken_at == trio.current_time()


async def test_standby_process_dies_its_requests_are_cancelled(autojump_clock: MockClock) -> None:
    async def answer(received: HTTPRequest) -> HTTPResponse:
        await trio.sleep_forever()
        raise AssertionError

    async with open_channel(active=RecordingActive(answer)) as channel:
        channel.nursery.start_soon(kill_after, channel.hub, "standby", 0.5)
        # What the dead process itself sees does not matter.
        with suppress(ForwardingInterrupted):
            await channel.link.forward(request())
        await trio.sleep(0.1)
        assert channel.active.called == ["/v1/secret/a"]
        assert channel.active.running == 0
        assert channel.active.gone == 1


async def kill_after(hub: MemoryHub, victim: str, seconds: float) -> None:
    await trio.sleep(seconds)
    hub.kill(victim)
