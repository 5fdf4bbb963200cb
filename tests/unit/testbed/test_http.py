"""The laboratory's HTTP client: every way to fail has its name, nothing is sent twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio

from testbed.http import Connection, RequestFailed
from testbed.ports import free_ports

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'3;x=y\r\n{"a\r\n5\r\n":1} \r\n0\r\n\r\n'
)


@dataclass
class Server:
    """Answers every request with the next answer; ends the connection when there is none."""

    port: int
    answers: list[bytes]
    piece: int = 100_000
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    async def handle(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        async with stream:
            while self.answers:
                received = bytes(await stream.receive_some(65_536))
                if not received:
                    return
                self.requests.append(received)
                answer = self.answers.pop(0)
                for start in range(0, len(answer), self.piece):
                    await stream.send_all(answer[start : start + self.piece])


@asynccontextmanager
async def serving(*answers: bytes, piece: int = 100_000) -> AsyncIterator[Server]:
    async with trio.open_nursery() as nursery:
        server = Server(free_ports(1)[0], list(answers), piece)
        serve = partial(trio.serve_tcp, server.handle, server.port, host="127.0.0.1")
        await nursery.start(serve)
        yield server
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("piece", [1, 7, 100_000])
async def test_answers_of_all_forms_are_read_over_one_connection(piece: int) -> None:
    no_content = b"HTTP/1.1 204 No Content\r\n\r\n"
    async with serving(OK, CHUNKED, no_content, OK, piece=piece) as server:
        with Connection("127.0.0.1", server.port, token="t") as connection:
            assert (await connection.request("GET", "/a")).json() == {}
            assert (await connection.request("PUT", "/b", {"c": 1})).json() == {"a": 1}
            assert (await connection.request("PUT", "/d")).status == 204
            assert (await connection.request("HEAD", "/e")).body == b""
        assert server.connections == 1
        assert server.requests[1].endswith(b'Content-Length: 8\r\n\r\n{"c": 1}')


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Le", "reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "reset"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{}", "malformed"),
    ],
)
async def test_answer_that_is_none_is_a_failure_of_its_kind(answer: bytes, kind: str) -> None:
    async with serving(answer) as server:
        with Connection("127.0.0.1", server.port) as connection:
            with pytest.raises(RequestFailed) as failed:
                await connection.request("GET", "/")
            assert failed.value.kind == kind
            assert not connection.is_usable
        assert server.connections == 1  # and it was not tried again


async def test_connection_that_nobody_accepts_is_refused() -> None:
    with Connection("127.0.0.1", free_ports(1)[0]) as connection:
        with pytest.raises(RequestFailed, match="refused"):
            await connection.request("GET", "/")


async def test_silence_is_a_timeout() -> None:
    async with serving(b"") as server:
        with Connection("127.0.0.1", server.port) as connection:
            server.answers.append(OK)  # it waits for a second request
            with pytest.raises(RequestFailed, match="timeout"):
                await connection.request("GET", "/", timeout_s=0.05)


async def test_connection_that_was_closed_while_idle_is_replaced_before_sending() -> None:
    async with serving(OK) as server:
        with Connection("127.0.0.1", server.port) as connection:
            await connection.request("GET", "/")
            with trio.fail_after(5):
                while connection.is_usable:  # noqa: ASYNC110 - the other side's close has no event
                    await trio.sleep(0.01)
            server.answers.append(OK)
            assert (await connection.request("GET", "/")).outcome == "ok"
        assert server.connections == 2


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "ok"), (204, "ok"), (307, "redirect"), (404, "status 404"), (503, "status 503")],
)
async def test_outcome_of_a_status_is_named(status: int, outcome: str) -> None:
    async with serving(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status) as server:
        with Connection("127.0.0.1", server.port) as connection:
            assert (await connection.request("GET", "/")).outcome == outcome
