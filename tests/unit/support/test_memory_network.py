"""The network in memory does what TCP does, and nothing happens by chance or in real time."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

import pytest
import trio
from trio.testing import MockClock, check_half_closeable_stream

from tests.support.memory_network import MemoryHub, MemoryStream

PORT = 8201
HOST_OF_TASK: ContextVar[str] = ContextVar("HOST_OF_TASK", default="none")


@asynccontextmanager
async def connected(
    hub: MemoryHub,
) -> AsyncIterator[tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]]:
    """A connection from host "a" to host "b"."""
    accepted: list[trio.abc.Stream] = []
    came = trio.Event()

    async def handle(stream: trio.abc.Stream) -> None:
        accepted.append(stream)
        came.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        await nursery.start(hub.network("b").serve, handle, "b", PORT)
        near = await hub.network("a").connect("b", PORT)
        await came.wait()
        far = accepted[0]
        assert isinstance(far, MemoryStream)
        yield near, far
        nursery.cancel_scope.cancel()


async def test_stream_passes_trios_own_stream_suite(autojump_clock: MockClock) -> None:
    async def make() -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
        hub = MemoryHub()
        listening = trio.Event()
        accepted: list[MemoryStream] = []

        async def handle(stream: trio.abc.Stream) -> None:
            assert isinstance(stream, MemoryStream)
            accepted.append(stream)
            listening.set()
            await trio.sleep_forever()

        hub.network("b")
        nursery.start_soon(hub.network("b").serve, handle, "b", PORT)
        await trio.testing.wait_all_tasks_blocked()
        near = await hub.network("a").connect("b", PORT)
        await listening.wait()
        return near, accepted[0]

    async def make_clogged() -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
        near, far = await make()
        for stream in (near, far):
            with trio.move_on_after(1):
                await stream.send_all(b"x" * 10_000_000)
        return near, far

    async with trio.open_nursery() as nursery:
        await check_half_closeable_stream(make, make_clogged)
        nursery.cancel_scope.cancel()


async def test_connect_nobody_listens_is_refused_and_unknown_name_is_not_resolved() -> None:
    hub = MemoryHub()
    hub.network("b")
    with pytest.raises(ConnectionRefusedError):
        await hub.network("a").connect("b", PORT)
    with pytest.raises(socket.gaierror):
        await hub.network("a").connect("nowhere", PORT)


async def test_serve_cancelled_port_is_free_again_and_taken_port_is_an_error() -> None:
    hub = MemoryHub()
    async with connected(hub):
        assert hub.is_listening("b", PORT)
        with pytest.raises(OSError, match="in use"):
            await hub.network("b").serve(trio.abc.Stream.aclose, "b", PORT)
    assert not hub.is_listening("b", PORT)
    with pytest.raises(ConnectionRefusedError):
        await hub.network("a").connect("b", PORT)


async def test_block_one_direction_bytes_wait_and_arrive_when_healed(
    autojump_clock: MockClock,
) -> None:
    hub = MemoryHub()
    async with connected(hub) as (near, far):
        await near.send_all(b"before")
        hub.block("a", "b")
        await near.send_all(b"after")
        assert await far.receive_some() == b"before"
        with trio.move_on_after(1_000) as patience:
            await far.receive_some()
        assert patience.cancelled_caught
        await far.send_all(b"back")
        assert await near.receive_some() == b"back"
        hub.unblock("a", "b")
        assert await far.receive_some() == b"after"


async def test_block_sender_fills_the_window_then_waits(autojump_clock: MockClock) -> None:
    hub = MemoryHub()
    async with connected(hub) as (near, far):
        hub.block("a", "b")
        with trio.move_on_after(10) as patience:
            await near.send_all(b"x" * 1_000_000)
        assert patience.cancelled_caught
        hub.heal()
        received = 0
        with trio.move_on_after(1):
            while True:
                received += len(await far.receive_some())
        assert received == 262_144


async def test_connect_while_blocked_hangs_until_healed_or_gives_up(
    autojump_clock: MockClock,
) -> None:
    hub = MemoryHub()
    async with connected(hub), trio.open_nursery() as nursery:
        hub.isolate("b")
        started = trio.current_time()
        with pytest.raises(TimeoutError):
            await hub.network("a").connect("b", PORT)
        assert trio.current_time() - started == pytest.approx(127)

        async def heal_later() -> None:
            await trio.sleep(5)
            hub.heal()

        nursery.start_soon(heal_later)
        started = trio.current_time()
        await hub.network("a").connect("b", PORT)
        assert trio.current_time() - started == pytest.approx(5)


async def test_kill_peer_sees_what_was_sent_then_a_reset_and_the_port_refuses() -> None:
    hub = MemoryHub()
    async with connected(hub) as (near, far):
        await far.send_all(b"last words")
        hub.kill("b")
        assert await near.receive_some() == b"last words"
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await near.send_all(b"x")
        with pytest.raises(ConnectionRefusedError):
            await hub.network("a").connect("b", PORT)
        with pytest.raises(OSError, match="was killed"):
            await hub.network("b").serve(trio.abc.Stream.aclose, "b", PORT)
        hub.revive("b")
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.network("b").serve, trio.abc.Stream.aclose, "b", PORT)
            await hub.network("a").connect("b", PORT)
            nursery.cancel_scope.cancel()


async def test_kill_behind_a_partition_peer_learns_nothing_until_healed(
    autojump_clock: MockClock,
) -> None:
    hub = MemoryHub()
    async with connected(hub) as (near, _far):
        hub.isolate("b")
        hub.kill("b")
        with trio.move_on_after(1_000) as patience:
            await near.receive_some()
        assert patience.cancelled_caught
        await near.send_all(b"into the void")
        hub.heal()
        with pytest.raises(trio.BrokenResourceError):
            await near.receive_some()


async def test_latency_every_byte_takes_its_time(autojump_clock: MockClock) -> None:
    hub = MemoryHub(latency_s=0.25)
    started = trio.current_time()
    async with connected(hub) as (near, far):
        assert trio.current_time() - started == pytest.approx(0.5)
        await near.send_all(b"x")
        assert await far.receive_some() == b"x"
        assert trio.current_time() - started == pytest.approx(0.75)


async def test_handler_fails_listener_goes_on_and_the_error_is_kept() -> None:
    hub = MemoryHub()

    async def handle(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        raise RuntimeError("defect")

    async with trio.open_nursery() as nursery:
        await nursery.start(hub.network("b").serve, handle, "b", PORT)
        for _ in range(2):
            stream = await hub.network("a").connect("b", PORT)
            await stream.send_all(b"x")
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    if not await stream.receive_some():
                        await stream.send_all(b"x")
            await stream.aclose()
        nursery.cancel_scope.cancel()
    assert [str(error) for error in hub.handler_errors] == ["defect", "defect"]


async def test_accepted_stream_is_handled_in_the_listeners_context() -> None:
    """A simulation that stops all tasks of a node has to find those that others caused."""
    hub = MemoryHub()
    seen: list[str] = []

    async def handle(stream: trio.abc.Stream) -> None:
        seen.append(HOST_OF_TASK.get())
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        HOST_OF_TASK.set("b")
        await nursery.start(hub.network("b").serve, handle, "b", PORT)
        HOST_OF_TASK.set("a")
        stream = await hub.network("a").connect("b", PORT)
        assert await stream.receive_some() == b""
        nursery.cancel_scope.cancel()
    assert seen == ["b"]


async def test_closed_connections_are_forgotten() -> None:
    hub = MemoryHub()
    async with connected(hub) as (near, far):
        assert hub.streams() == 2
        await near.aclose()
        assert hub.streams() == 1
        await far.aclose()
        assert hub.streams() == 0
        with pytest.raises(trio.ClosedResourceError):
            await near.send_all(b"x")
