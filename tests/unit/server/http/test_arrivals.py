"""What arrives on plain connections: read in order, in bounded batches, refused without a task."""

from __future__ import annotations

import json
import os
import socket

import pytest
import trio

from baoha.server.http import arrivals
from baoha.server.http.limits import ListenerLimits
from baoha.server.http.turns import Turn, Turns
from tests.support.held import held
from tests.unit.server.http.test_intake import (
    HEALTH,
    PLAIN,
    WITH_BODY,
    ClosedDoor,
    client_of,
    listening,
)


class _Steps(trio.abc.Instrument):
    """Counts how often tasks of connections run."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += "serve_connection" in task.name


async def test_arrivals_refusal_on_a_kept_connection_wakes_no_task() -> None:
    steps = _Steps()
    async with listening(ClosedDoor()) as listener, client_of(listener) as client:
        assert (await client.ask(PLAIN))[0].status_code == 503
        trio.lowlevel.add_instrument(steps)
        for _ in range(5):
            assert (await client.ask(PLAIN))[0].status_code == 503
        assert steps.count == 0
        assert (await client.ask(HEALTH))[0].status_code == 200
        assert steps.count > 0
        trio.lowlevel.remove_instrument(steps)


async def test_arrivals_crowd_in_one_moment_is_read_in_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(arrivals, "_BATCH", 8)
    door = ClosedDoor()
    rounds: list[int] = []
    async with listening(door) as listener, trio.open_nursery() as nursery:
        port = int(listener.address.rpartition(":")[2])
        streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(40)]
        await trio.testing.wait_all_tasks_blocked(0.05)

        async def count() -> None:
            while True:
                before = len(door.asked)
                await trio.lowlevel.checkpoint()
                rounds.append(len(door.asked) - before)

        for stream in streams:  # all of them before the listener runs again
            os.write(stream.socket.fileno(), PLAIN)
        nursery.start_soon(count)
        for stream in streams:
            assert (await stream.receive_some(12)) == b"HTTP/1.1 503"
            stream.socket.close()
        nursery.cancel_scope.cancel()
    assert len(door.asked) == 40
    assert 0 < max(rounds) <= 2 * 8  # trio runs a round in any order: two may look like one


async def test_arrivals_descriptor_that_is_used_again_belongs_to_the_new_connection() -> None:
    async with listening(ClosedDoor()) as listener:
        for _ in range(20):
            async with client_of(listener) as client:
                assert (await client.ask(HEALTH))[0].status_code == 200
            async with client_of(listener) as client:
                assert (await client.ask(PLAIN))[0].status_code == 503
                assert (await client.ask(HEALTH))[0].status_code == 200


async def test_arrivals_requests_that_come_in_one_piece_are_answered_in_order() -> None:
    door = ClosedDoor()
    door.is_closed = False
    async with listening(door) as listener, client_of(listener) as client:
        second = PLAIN.replace(b"/x ", b"/y ")
        await client.stream.send_all(PLAIN + second)
        text = b""
        with trio.fail_after(5):
            while b"/v1/secret/data/y" not in text:
                text += await client.stream.receive_some(65536)
        assert text.index(b"/v1/secret/data/x") < text.index(b"/v1/secret/data/y")


async def test_arrivals_body_in_pieces_reaches_the_app_whole() -> None:
    door = ClosedDoor()
    async with listening(door) as listener, client_of(listener) as client:
        head, body = WITH_BODY[:-5], WITH_BODY[-5:]
        for part in (head[:10], head[10:], body[:2], body[2:]):
            await client.stream.send_all(part)
            await trio.sleep(0.02)
        text = await client.stream.receive_some(65536)
        assert json.loads(text.partition(b"\r\n\r\n")[2])["size"] == 5


async def test_arrivals_client_that_does_not_read_refusals_is_let_go() -> None:
    async with listening(ClosedDoor(), limits=ListenerLimits(write_stall_s=0.3)) as listener:
        port = int(listener.address.rpartition(":")[2])
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", port))
        sock.setblocking(False)
        with trio.fail_after(15):
            while True:  # until the listener closes it
                try:
                    sock.send(PLAIN)
                except BlockingIOError:
                    pass
                except OSError:
                    break
                await trio.sleep(0.000_5)
        sock.close()
        await trio.sleep(0.05)
        assert listener.open_connections == 0


@pytest.mark.parametrize(("pause_s", "is_open"), [(0.3, True), (0.8, False)])
async def test_arrivals_refused_client_is_idle_from_its_last_refusal_on(
    pause_s: float, is_open: bool
) -> None:
    times = {"http_read_header_timeout_s": 0.4, "http_idle_timeout_s": 0.5}
    async with listening(ClosedDoor(), **times) as listener, client_of(listener) as client:
        for _ in range(3):
            assert (await client.ask(PLAIN))[0].status_code == 503
            await trio.sleep(0.3)
        await trio.sleep(pause_s - 0.3)
        if is_open:
            assert (await client.ask(PLAIN))[0].status_code == 503
        else:
            assert await client.is_at_end()


async def test_arrivals_client_that_leaves_while_it_is_armed_is_forgotten() -> None:
    async with listening(ClosedDoor()) as listener:
        async with client_of(listener) as client:
            assert (await client.ask(PLAIN))[0].status_code == 503
            assert len(held(listener, arrivals.Seat)) == 1
        await trio.sleep(0.2)
        assert listener.open_connections == 0
        assert held(listener, arrivals.Seat) == []


async def test_arrivals_request_that_waits_for_its_turn_outlives_the_time_to_read_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting: list[Turn] = []

    def queue(turns: Turns, turn: Turn, *_: object, **__: object) -> None:
        waiting.append(turn)

    times = {"http_read_header_timeout_s": 0.4, "http_idle_timeout_s": 0.5}
    door = ClosedDoor()
    async with listening(door, **times) as listener, client_of(listener) as client:
        assert (await client.ask(PLAIN))[0].status_code == 503  # refused: sets no deadline
        await trio.sleep(0.3)
        door.is_closed = False
        with monkeypatch.context() as patch, trio.fail_after(5):
            patch.setattr(Turns, "claim", lambda *_: False)
            patch.setattr(Turns, "queue", queue)
            async with trio.open_nursery() as nursery:

                async def take_late() -> None:
                    await trio.sleep(0.3)
                    waiting[0].come()

                nursery.start_soon(take_late)
                response, _ = await client.ask(PLAIN)
        assert response.status_code == 200
