"""The API listener over real sockets: what a request carries, how it ends, what it refuses."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from baoha.asgi import LISTENER_EXTENSION, Receive, Scope, Send
from baoha.config.model import ForwardedForConfig, ListenerConfig
from baoha.errors import ConfigError
from baoha.sansio.wire.messages import ListenerPolicy
from baoha.server.http.limits import ListenerLimits
from baoha.server.http.listener import GRACEFUL_S, APIListener, serve_listener
from tests.support.listener_configs import tcp_config

GET = b"GET /v1/a%20b?x=1 HTTP/1.1\r\nHost: a\r\n\r\n"
LAST_GET = b"GET /v1/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


async def reply(send: Send, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what the request was; read its whole body."""
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    seen = {
        "path": scope["path"],
        "query": scope["query_string"].decode(),
        "client": scope["client"],
        "size": size,
        "listener": scope["extensions"][LISTENER_EXTENSION].name,
        "extensions": sorted(scope["extensions"]),
    }
    await reply(send, json.dumps(seen).encode())


@asynccontextmanager
async def listening(
    app: Any = echo,
    config: ListenerConfig | None = None,
    *,
    limits: ListenerLimits | None = None,
    policy: ListenerPolicy | None = None,
    graceful_s: float = GRACEFUL_S,
    **keys: Any,
) -> AsyncIterator[APIListener]:
    listener = APIListener(
        app,
        config or tcp_config(**keys),
        limits=limits,
        policy=policy,
        graceful_s=graceful_s,
    )
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.serve)
            yield listener
            listener.stop()


def _unix(path: Path, **keys: Any) -> ListenerConfig:
    return ListenerConfig(type="unix", socket_path=str(path), **keys)


async def connect(listener: APIListener) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", int(listener.address.rpartition(":")[2]))


async def exchange(listener: APIListener, request: bytes = LAST_GET) -> bytes:
    async with await connect(listener) as stream:
        await stream.send_all(request)
        return b"".join([part async for part in stream])


async def read_response(stream: trio.SocketStream) -> bytes:
    """Read one response with a content-length."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await stream.receive_some(65_536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += await stream.receive_some(65_536)
    return head + b"\r\n\r\n" + body


async def test_listener_request_carries_policy_and_client() -> None:
    policy = ListenerPolicy(name="listener 7")
    async with listening(policy=policy) as listener, await connect(listener) as stream:
        await stream.send_all(GET)
        head, _, body = (await read_response(stream)).partition(b"\r\n\r\n")
        port = stream.socket.getsockname()[1]
    seen = json.loads(body)
    assert seen["path"] == "/v1/a b"
    assert seen["query"] == "x=1"
    assert seen["client"] == ["127.0.0.1", port]
    assert seen["listener"] == "listener 7"
    assert seen["extensions"] == [LISTENER_EXTENSION]
    assert b"server:" not in head.lower()
    assert b"date:" in head.lower()


@pytest.mark.parametrize("method", ["get", "head", "Delete", "CONNECT"])
async def test_listener_methods_arrive_as_written(method: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await reply(send, b"" if scope["method"] == "HEAD" else scope["method"].encode(), 405)

    request = f"{method} /v1/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    async with listening(app) as listener:
        answer = await exchange(listener, request.encode())

    assert answer.endswith(b"\r\n\r\n" + method.encode())


async def test_listener_request_with_two_lengths_is_the_last_of_its_connection() -> None:
    request = (
        b"POST /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\n\r\n"
    )
    async with listening() as listener:
        answer = await exchange(listener, request + LAST_GET)

    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in answer.lower()
    assert b'"size": 3' in answer


async def test_listener_body_in_pieces_arrives_whole() -> None:
    async with listening() as listener, await connect(listener) as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
        await stream.send_all(b"x" * 3_000_000)
        assert (
            json.loads((await read_response(stream)).partition(b"\r\n\r\n")[2])["size"] == 3_000_000
        )


async def test_listener_connection_is_kept_for_many_requests() -> None:
    async with listening() as listener, await connect(listener) as stream:
        for _ in range(1100):  # stock hypercorn closes after 1,000
            await stream.send_all(GET)
            assert (await read_response(stream)).startswith(b"HTTP/1.1 200")


async def test_listener_response_leaves_in_one_piece() -> None:
    async with listening() as listener, await connect(listener) as stream:
        await stream.send_all(GET)
        first = await stream.receive_some(65_536)
        head, _, body = first.partition(b"\r\n\r\n")
        assert head
        assert json.loads(body)


async def test_listener_head_without_a_length_announces_no_chunks() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"x-vault-index", b"a: B"), (b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async with listening(app) as listener:
        answer = await exchange(
            listener, b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )

    head, _, body = answer.partition(b"\r\n\r\n")
    names = [line.partition(b":")[0] for line in head.split(b"\r\n")[1:]]
    assert sorted(names) == [b"Connection", b"Content-Type", b"Date", b"X-Vault-Index"]
    assert b"X-Vault-Index: a: B\r\n" in head
    assert body == b""


async def test_listener_get_without_a_length_is_sent_in_chunks() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"abc"})

    async with listening(app) as listener:
        answer = await exchange(listener)

    assert b"Transfer-Encoding: chunked\r\n" in answer
    assert answer.endswith(b"3\r\nabc\r\n0\r\n\r\n")


async def test_listener_expect_continue_is_answered_before_the_body() -> None:
    async with listening() as listener, await connect(listener) as stream:
        await stream.send_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
        assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 100")
        await stream.send_all(b"abc")
        assert b'"size": 3' in await read_response(stream)


async def test_listener_app_error_is_500_and_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = "hunter" + "2"

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError(secret)

    async with listening(broken) as listener:
        assert (await exchange(listener)).startswith(b"HTTP/1.1 500")
        assert (await exchange(listener)).startswith(b"HTTP/1.1 500")
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "ValueError" in errors[0].getMessage()
    assert secret not in caplog.text


async def test_listener_app_error_group_ends_only_its_request() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ExceptionGroup("two", [KeyError("a"), OSError("b")])

    async with listening(broken) as listener:
        assert (await exchange(listener)).startswith(b"HTTP/1.1 500")
        assert (await exchange(listener)).startswith(b"HTTP/1.1 500")


async def test_listener_client_gone_app_hears_disconnect() -> None:
    heard = trio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        heard.set()

    async with listening(waiting) as listener:
        async with await connect(listener) as stream:
            await stream.send_all(GET)
        with trio.fail_after(5):
            await heard.wait()


async def test_listener_stop_lets_answers_finish_and_closes_idle_connections() -> None:
    entered, may_answer = trio.Event(), trio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        entered.set()
        await may_answer.wait()
        await reply(send, b"late")

    async with listening(slow, graceful_s=5.0) as listener:
        async with await connect(listener) as busy, await connect(listener) as idle:
            await busy.send_all(GET)
            await entered.wait()
            listener.stop()
            assert await idle.receive_some(10) == b""
            with pytest.raises(OSError, match="connect"):
                await connect(listener)
            may_answer.set()
            answer = b"".join([part async for part in busy])
    assert answer.endswith(b"late")
    assert b"connection: close" in answer.lower()


async def test_listener_stop_cuts_what_takes_too_long() -> None:
    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    async with listening(endless, graceful_s=0.2) as listener:
        async with await connect(listener) as stream:
            await stream.send_all(GET)
            await trio.testing.wait_all_tasks_blocked(0.05)
            listener.stop()
            with trio.fail_after(3):
                await listener.stopped.wait()


async def test_listener_full_oldest_idle_connection_makes_room() -> None:
    async with listening(connections_max=2) as listener:
        async with await connect(listener) as first, await connect(listener) as second:
            for stream in (first, second):
                await stream.send_all(GET)
                await read_response(stream)
            assert (await exchange(listener)).startswith(b"HTTP/1.1 200")
            assert await first.receive_some(10) == b""
            await second.send_all(GET)
            assert (await read_response(second)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("begun", [b"", b"GET /v1/x HTTP/1.1\r\nHost: a\r\nX-A: "])
async def test_listener_full_of_silence_makes_room_at_once(begun: bytes) -> None:
    async with listening(connections_max=2) as listener:
        async with await connect(listener) as first, await connect(listener) as second:
            for stream in (first, second):
                await stream.send_all(begun)
            with trio.fail_after(5):  # the time limit of a head is 10 s
                for _ in range(5):
                    assert (await exchange(listener)).startswith(b"HTTP/1.1 200")
            assert await first.receive_some(10) == b""


async def test_listener_full_of_requests_cuts_none_of_them() -> None:
    go = trio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        await reply(send, b"done")

    async with listening(slow, connections_max=1) as listener, await connect(listener) as first:
        await first.send_all(GET)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange, listener)
            await trio.testing.wait_all_tasks_blocked(0.1)
            go.set()
            assert (await read_response(first)).endswith(b"done")


async def test_listener_header_at_the_limit_passes_and_above_is_431() -> None:
    limits = ListenerLimits(header_bytes_max=70_000)
    async with listening(limits=limits) as listener:
        for size, status in ((65_000, b"200"), (300_000, b"431")):
            head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-A: "
            answer = await exchange(listener, head + b"a" * size + b"\r\n\r\n")
            assert answer[9:12] == status


async def test_listener_too_many_headers_are_431() -> None:
    async with listening() as listener:
        for number, status in ((900, b"200"), (1100, b"431")):
            head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + b"a: b\r\n" * number
            assert (await exchange(listener, head + b"\r\n"))[9:12] == status


async def test_listener_large_heads_take_turns() -> None:
    """However many large heads are complete at once, a round of the event loop parses one."""
    rounds, begun = 0, []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(rounds)
        await reply(send, b"")

    async def count_rounds() -> None:
        nonlocal rounds
        while True:
            await trio.lowlevel.checkpoint()
            rounds += 1

    fields = b"a: %s\r\n" % (b"b" * 66) * 900
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + fields + b"\r\n"
    async with (
        listening(app) as listener,
        AsyncExitStack() as opened,
        trio.open_nursery() as nursery,
    ):
        streams = [await opened.enter_async_context(await connect(listener)) for _ in range(10)]
        for stream in streams:
            await stream.send_all(head[:-1])
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.start_soon(count_rounds)
        for stream in streams:
            await stream.send_all(head[-1:])
        for stream in streams:
            assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 200")
        nursery.cancel_scope.cancel()

    # One in a round; trio runs the tasks of a round in any order, so two may see the same number.
    assert len(begun) == len(streams)
    assert max(Counter(begun).values()) <= 2


async def test_listener_slow_body_is_408() -> None:
    async with listening(http_read_timeout_s=0.2) as listener, await connect(listener) as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
        assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 408")


async def test_listener_idle_connection_is_closed_in_silence() -> None:
    async with listening(http_idle_timeout_s=0.2) as listener, await connect(listener) as stream:
        await stream.send_all(GET)
        await read_response(stream)
        assert await stream.receive_some(10) == b""


async def test_listener_slow_answer_outlives_the_read_limits() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(0.6)
        await reply(send, b"done")

    async with listening(
        slow, http_read_header_timeout_s=0.1, http_read_timeout_s=0.2, http_idle_timeout_s=0.3
    ) as listener:
        assert (await exchange(listener)).endswith(b"done")


async def test_listener_forwarded_for_is_applied() -> None:
    settings = ForwardedForConfig(authorized_addrs=("127.0.0.1/32",))
    async with listening(forwarded_for=settings) as listener:
        request = LAST_GET.replace(b"Host: a", b"Host: a\r\nX-Forwarded-For: 9.8.7.6")
        assert b'"client": ["9.8.7.6", ' in await exchange(listener, request)


async def test_listener_unix_socket_serves_and_cleans_up(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    async with listening(config=_unix(path, socket_mode=0o600)) as listener:
        assert listener.address == f"unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o600
        async with await trio.open_unix_socket(str(path)) as stream:
            await stream.send_all(LAST_GET)
            assert b'"client": null' in b"".join([part async for part in stream])
    assert not path.exists()


async def test_listener_unix_stale_socket_is_replaced_and_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with listening(config=_unix(path)):
        second = APIListener(echo, _unix(path))
        with pytest.raises(ConfigError, match="in use"):
            await second.serve()
        assert path.exists()


async def test_listener_address_in_use_is_named() -> None:
    async with listening() as listener:
        port = int(listener.address.rpartition(":")[2])
        second = APIListener(echo, tcp_config(port=port))
        with pytest.raises(
            ConfigError, match=f"listen tcp 127.0.0.1:{port}: bind: Address already"
        ):
            await second.serve()


async def test_serve_listener_ends_when_told() -> None:
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[str]) -> None:
            await serve_listener(
                echo, tcp_config(), shutdown=shutdown.wait, task_status=task_status
            )

        address = await nursery.start(serve)
        assert address.startswith("127.0.0.1:")
        shutdown.set()


async def test_listener_unix_socket_owner_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    config = _unix(path, socket_user=str(os.getuid()), socket_group=str(os.getgid()))
    async with listening(config=config):
        assert path.stat().st_uid == os.getuid()


@pytest.mark.parametrize(
    ("name", "owner", "says"),
    [
        ("s" * 120, ("", ""), "AF_UNIX path too long"),
        ("api.sock", ("no-such-user", ""), "no such user"),
    ],
)
async def test_listener_unix_socket_that_cannot_be_says_why_and_leaves_nothing(
    tmp_path: Path, name: str, owner: tuple[str, str], says: str
) -> None:
    config = _unix(tmp_path / name, socket_user=owner[0], socket_group=owner[1])
    listener = APIListener(echo, config)
    with pytest.raises(ConfigError, match=says):
        await listener.serve()
    assert os.listdir(tmp_path) == []
