"""The ASGI application: bounds, headers, clients that leave, failures that stay where they are."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from baoha.api.app import build_app
from baoha.asgi import ASGIApp
from baoha.core.request import Request, Response
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse, ListenerPolicy
from tests.support.asgi_client import call, http_scope
from tests.support.fake_node import ACTIVE, LEADERLESS, SEALED, STANDBY, FakeNodeView

TOKEN = [("X-Vault-Token", "s.t")]
SMALL = ListenerPolicy(max_request_bytes=10)


async def ask(
    app: ASGIApp,
    method: str,
    target: str,
    body: bytes = b"",
    headers: Sequence[tuple[str, str]] = (),
    **options: Any,
) -> HTTPResponse:
    answer = await call(app, method, target, body, headers, **options)
    assert answer is not None
    return answer


async def _in_chunks(app: ASGIApp, chunks: list[bytes], policy: ListenerPolicy) -> int:
    """Send a body in pieces, without a length; return the status."""
    statuses = []
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        if not left:
            await trio.sleep_forever()
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(http_scope("POST", "/v1/secret/x", TOKEN, policy=policy), receive, send)
    (status,) = statuses
    return int(status)


# --- bodies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [SEALED, ACTIVE, STANDBY, LEADERLESS])
async def test_body_over_the_limit_is_413_in_any_state(status: Any) -> None:
    node = FakeNodeView(status)

    answer = await ask(build_app(node), "POST", "/v1/secret/x", b"x" * 11, policy=SMALL)

    assert answer.status == 413
    assert answer.body == b'{"errors":["http: request body too large"]}\n'
    assert answer.header("cache-control") is None
    assert node.calls == []


@pytest.mark.parametrize(
    ("path", "bytes_max"),
    [
        ("sys/unseal", 4096),
        ("sys/seal", 4096),
        ("sys/health", 4096),
        ("sys/ha/ready", 4096),
        ("sys/init", 16384),
        ("sys/storage/raft/join", 16384),
        ("sys/rekey/init", 4096),
        ("sys/rekey/update", 4096),
        ("sys/generate-root/update", 4096),
        ("sys/internal/ui/mounts/secret", 4096),
    ],
)
async def test_body_of_an_endpoint_without_a_token_is_no_larger_than_it_needs(
    path: str, bytes_max: int
) -> None:
    """Goal: a stranger has thousands of values decoded nowhere."""
    for status in (SEALED, ACTIVE):
        node = FakeNodeView(status)
        app = build_app(node)
        values = (b"[" + b"1," * 20_000 + b"1]")[: bytes_max + 1]

        answer = await ask(app, "POST", f"/v1/{path}", values)

        assert (answer.status, answer.body) == (
            413,
            b'{"errors":["http: request body too large"]}\n',
        )
        assert node.calls == []
        within = await ask(app, "POST", f"/v1/{path}", values[:-1])
        assert within.status != 413


async def test_announced_length_over_the_limit_is_413_before_the_body() -> None:
    app = build_app(FakeNodeView(ACTIVE))
    headers = [("Content-Length", "11")]

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app(http_scope("POST", "/v1/secret/x", headers, policy=SMALL), receive, send)

    assert sent[0]["status"] == 413


async def test_body_in_chunks_is_counted() -> None:
    app = build_app(FakeNodeView(ACTIVE))

    assert await _in_chunks(app, [b'{"a":', b"1}", b""], SMALL) == 204
    assert await _in_chunks(app, [b'{"a":', b"1}", b"    "], SMALL) == 413


async def test_stalled_upload_holds_nothing_and_ends(autojump_clock: MockClock) -> None:
    node = FakeNodeView(ACTIVE)
    policy = ListenerPolicy(max_request_s=30.0)

    async def receive() -> dict[str, Any]:
        await trio.sleep_forever()
        raise AssertionError

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await build_app(node)(http_scope("POST", "/v1/x", TOKEN, policy=policy), receive, send)

    assert sent[0]["status"] == 408
    assert node.calls == []
    assert trio.current_time() == pytest.approx(30)


async def test_client_that_leaves_during_its_upload_gets_nothing() -> None:
    node = FakeNodeView(ACTIVE)
    messages = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError("something was sent")

    await build_app(node)(http_scope("POST", "/v1/x", TOKEN), receive, send)

    assert node.calls == []


# --- headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/v1/sys/health", "/v1/secret/x", "/", "/nope", "/v1//x"])
async def test_common_headers_are_on_every_answer(target: str) -> None:
    answer = await ask(build_app(FakeNodeView(ACTIVE)), "GET", target)

    assert answer.header("cache-control") == "no-store"
    assert answer.header("strict-transport-security") == "max-age=31536000; includeSubDomains"


async def test_response_headers_are_settable() -> None:
    app = build_app(
        FakeNodeView(ACTIVE), response_headers={"X-Site": "a", "Cache-Control": "private"}
    )

    answer = await ask(app, "GET", "/v1/sys/health")

    assert answer.header("x-site") == "a"
    assert answer.header("cache-control") == "private"
    assert answer.header("strict-transport-security") is None


async def test_namespace_is_echoed() -> None:
    answer = await ask(
        build_app(FakeNodeView(SEALED)),
        "GET",
        "/v1/secret/x",
        headers=[("X-Vault-Namespace", "nope")],
    )

    assert answer.header("x-vault-namespace") == "nope"


async def test_head_has_the_length_and_no_body() -> None:
    app = build_app(FakeNodeView(ACTIVE))

    answer = await ask(app, "HEAD", "/v1/sys/leader")

    assert (answer.status, answer.body) == (405, b"")
    assert answer.header("content-length") == "14"


# What OpenBao says about the length of an answer to HEAD. Source: measured
@pytest.mark.parametrize(
    ("path", "status", "length"),
    [
        ("/v1/sys/health", 200, None),
        ("/v1/sys/health?activecode=503", 503, None),
        ("/v1/sys/health?activecode=bogus", 400, None),
        ("/v1/sys/health?activecode=204", 204, None),
        ("/v1/sys//mounts", 307, None),
        ("/v1/sys/leader", 405, "14"),
        ("/v1/sys/step-down", 405, "14"),
    ],
)
async def test_head_length_is_right_or_absent(path: str, status: int, length: str | None) -> None:
    app = build_app(FakeNodeView(ACTIVE))

    answer = await ask(app, "HEAD", path)

    assert (answer.status, answer.body, answer.header("content-length")) == (status, b"", length)


@pytest.mark.parametrize("code", [204, 304])
async def test_codes_without_a_body_have_none(code: int) -> None:
    answer = await ask(build_app(FakeNodeView(ACTIVE)), "GET", f"/v1/sys/health?activecode={code}")

    assert (answer.status, answer.body) == (code, b"")
    assert answer.header("content-length") is None


async def test_request_is_passed_on_without_hop_by_hop_and_internal_headers() -> None:
    node = FakeNodeView(STANDBY)
    seen: list[HTTPRequest] = []

    async def forward(request: HTTPRequest) -> HTTPResponse:
        seen.append(request)
        return HTTPResponse(status=200)

    node.on_forward = forward
    headers = [
        *TOKEN,
        ("Connection", "keep-alive, x-vault-namespace"),
        ("Keep-Alive", "1"),
        ("X-Vault-Namespace", "a-proxy-has-set-it"),
        ("X-Vault-Internal-No-Request-Forwarding", "1"),
        ("X-Baoha-Internal-Y", "1"),
        ("X-Kept", "1"),
    ]

    await ask(
        build_app(node), "POST", "/v1/secret/a%2Fb?q=%C3%A9", b"{}", headers,
        policy=SMALL, certificates=[b"leaf", b"ca"],
    )  # fmt: skip

    (request,) = seen
    assert request.headers == (
        ("x-vault-token", "s.t"),
        ("x-vault-namespace", "a-proxy-has-set-it"),
        ("x-kept", "1"),
    )
    assert (request.path, request.raw_path) == ("/v1/secret/a/b", "/v1/secret/a%2Fb")
    assert request.query == "q=%C3%A9"
    assert request.body == b"{}"
    assert request.remote_addr == "10.0.0.1:4000"
    assert request.client_certificates == (b"leaf", b"ca")
    assert request.listener == SMALL


# --- paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/v1/secret/a%00b", 400, b""),
        ("/v1/secret/a%0Ab", 400, b""),
        ("/v1/secret/a%E2%80%A8", 400, b""),
        ("/v1/secret/a%C2%A0b", 400, b""),
        ("/v1/secret/a%zz", 400, b"400 Bad Request"),
        ("/", 404, b"404 page not found\n"),
        ("/ui/", 404, b"404 page not found\n"),
        ("/V1/sys/health", 404, b'{"errors":[]}\n'),
        ("/v1", 404, b'{"errors":[]}\n'),
        ("//v1/sys/health", 404, b'{"errors":[]}\n'),
        ("/v1/secret/%2e%2e/x", 400, b'{"errors":["relative paths not supported"]}\n'),
        ("/v1//sys/health", 307, b'<a href="/v1/sys/health">Temporary Redirect</a>.\n\n'),
        ("/v1/a/../x?y=1", 307, b'<a href="/v1/x?y=1">Temporary Redirect</a>.\n\n'),
        ("/v1/a/./x/", 307, b'<a href="/v1/a/x/">Temporary Redirect</a>.\n\n'),
        ("/v1/a/..", 307, b'<a href="/v1/">Temporary Redirect</a>.\n\n'),
        ("/v1/a/b/..", 307, b'<a href="/v1/a">Temporary Redirect</a>.\n\n'),
        ("/v1/a/.", 307, b'<a href="/v1/a">Temporary Redirect</a>.\n\n'),
        ("/v1/sys/health/..", 307, b'<a href="/v1/sys/">Temporary Redirect</a>.\n\n'),
        ("/ui/vault", 404, b"404 page not found\n"),
        ("/robots.txt", 404, b"404 page not found\n"),
        ("v1/sys/health", 400, b"400 Bad Request"),
        ("http://a/V1/x", 404, b'{"errors":[]}\n'),
        ("/v1/sys/health?list=banana", 400, b'{"errors":[]}\n'),
        (f"/v1/x?{'a&' * 1000}", 400, b'{"errors":["too many query parameters"]}\n'),
        ("/v1/sys/health?list=true&scan=true", 400, b'{"errors":[]}\n'),
    ],
)
async def test_wrong_paths_are_answered_in_any_state(target: str, status: int, body: bytes) -> None:
    for state in (SEALED, STANDBY, ACTIVE):
        node = FakeNodeView(state)

        answer = await ask(build_app(node), "GET", target)

        assert (answer.status, answer.body) == (status, body)
        assert node.calls == []


@pytest.mark.parametrize(
    "target",
    [
        "/v1/secret/a%C3%A9",
        "/v1/secret/a%20b",
        "/v1/secret/a%FFb",
        "http://proxied:8200/v1/secret/a?x=1",
        "HTTPS://proxied/v1/secret/a",
    ],
)
async def test_visible_paths_pass(target: str) -> None:
    answer = await ask(build_app(FakeNodeView(ACTIVE)), "GET", target)

    assert answer.status == 204


async def test_path_redirect_of_a_write_has_no_body() -> None:
    answer = await ask(build_app(FakeNodeView(ACTIVE)), "POST", "/v1//x?y=1", b"{}")

    assert (answer.status, answer.body) == (307, b"")
    assert answer.header("location") == "/v1/x?y=1"
    assert answer.header("content-type") is None


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("X-Vault-Index", "garbage", 'failed to decode "X-Vault-Index"'),
        ("X-Vault-Index", "W10=", 'failed to decode "X-Vault-Index"'),
        ("X-Vault-Inconsistent", "x", 'unknown value for "X-Vault-Inconsistent" header'),
        ("X-Vault-Inconsistent", "", 'unknown value for "X-Vault-Inconsistent" header'),
    ],
)
async def test_wrong_consistency_headers_are_refused(name: str, value: str, error: str) -> None:
    answer = await ask(
        build_app(FakeNodeView(ACTIVE)), "GET", "/v1/sys/health", b"", [(name, value)]
    )

    assert answer.status == 400
    assert json.loads(answer.body) == {"errors": [error]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Vault-Index", ""),
        ("X-Vault-Index", "e30="),
        ("X-Vault-Inconsistent", "fail"),
        ("X-Vault-Inconsistent", "forward-active-node"),
    ],
)
async def test_consistency_headers_are_satisfied(name: str, value: str) -> None:
    answer = await ask(
        build_app(FakeNodeView(ACTIVE)), "GET", "/v1/sys/health", b"", [(name, value)]
    )

    assert answer.status == 200


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ("sys/health", True),
        ("sys/seal", True),
        ("sys/rekey/init", True),
        ("sys/storage/raft/join", True),
        ("sys/leader", False),
        ("sys/seal-status", False),
        ("sys/healthy", False),
    ],
)
async def test_root_paths_are_refused_in_namespaces(path: str, refused: bool) -> None:
    headers = [("X-Vault-Namespace", "ns1")]

    answer = await ask(build_app(FakeNodeView(ACTIVE)), "GET", f"/v1/{path}", b"", headers)

    assert (answer.body == b'{"errors":["operation unavailable in namespaces"]}\n') is refused


# --- failures and clients that leave ------------------------------------------------------------


async def test_unknown_failure_harms_one_request_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = FakeNodeView(ACTIVE)
    text = "".join(["hun", "ter2"])

    async def handle(request: Request) -> Response:
        if request.path == "bad":
            raise ZeroDivisionError(text)
        return Response(data={"fine": True})

    node.on_handle = handle
    app = build_app(node)

    with caplog.at_level(logging.ERROR):
        bad = await ask(app, "GET", "/v1/bad", headers=TOKEN)
    good = await ask(app, "GET", "/v1/good", headers=TOKEN)

    assert (bad.status, bad.body) == (500, b'{"errors":["internal error"]}\n')
    assert good.status == 200
    (record,) = caplog.records
    assert record.message.startswith(
        "request failed: method=GET path='/v1/bad' error=ZeroDivisionError\n"
    )
    assert "in handle" in record.message
    assert "s.t" not in caplog.text
    assert text not in caplog.text


@pytest.mark.parametrize(("method", "unknown"), [("GET", False), ("POST", True)])
async def test_request_that_takes_too_long_is_ended(
    method: str, unknown: bool, autojump_clock: MockClock
) -> None:
    node = FakeNodeView(ACTIVE)

    async def handle(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    node.on_handle = handle

    answer = await ask(build_app(node), method, "/v1/x", policy=ListenerPolicy(max_request_s=20.0))

    assert answer.status == 503
    assert (b"outcome is unknown" in answer.body) is unknown
    assert trio.current_time() == pytest.approx(20)


async def test_read_of_a_client_that_leaves_is_ended(autojump_clock: MockClock) -> None:
    node = FakeNodeView(ACTIVE)
    leaves = trio.Event()
    ended = False

    async def handle(request: Request) -> Response:
        nonlocal ended
        leaves.set()
        try:
            await trio.sleep(60)
        finally:
            ended = True
        raise AssertionError("the read went on")

    node.on_handle = handle

    answer = await call(build_app(node), "GET", "/v1/x", leaves=leaves)

    assert answer is None
    assert ended
    assert trio.current_time() < 1


async def test_write_of_a_client_that_leaves_is_finished(autojump_clock: MockClock) -> None:
    node = FakeNodeView(ACTIVE)
    leaves = trio.Event()
    finished = False

    async def handle(request: Request) -> Response:
        nonlocal finished
        leaves.set()
        await trio.sleep(5)
        finished = True
        return Response()

    node.on_handle = handle

    await call(build_app(node), "POST", "/v1/x", leaves=leaves)

    assert finished


async def test_parked_write_of_a_client_that_leaves_is_dropped(autojump_clock: MockClock) -> None:
    node = FakeNodeView(LEADERLESS)
    leaves = trio.Event()

    async with trio.open_nursery() as nursery:

        async def leave_then_become_active() -> None:
            await trio.sleep(1)
            leaves.set()
            await trio.sleep(1)
            node.become(ACTIVE)

        nursery.start_soon(leave_then_become_active)
        await call(build_app(node), "POST", "/v1/x", leaves=leaves)

    assert node.calls == []


async def test_slow_request_delays_nobody(autojump_clock: MockClock) -> None:
    node = FakeNodeView(ACTIVE)

    async def handle(request: Request) -> Response:
        await trio.sleep(50)
        return Response()

    node.on_handle = handle
    app = build_app(node)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, app, "GET", "/v1/slow")
        await trio.sleep(1)
        for path in ("sys/health", "sys/leader", "sys/seal-status"):
            assert (await ask(app, "GET", f"/v1/{path}")).status == 200
        assert trio.current_time() == pytest.approx(1)


# --- other protocols ----------------------------------------------------------------------------


async def test_lifespan_is_completed() -> None:
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await build_app(FakeNodeView())({"type": "lifespan"}, receive, send)

    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_websocket_is_refused() -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await build_app(FakeNodeView())({"type": "websocket"}, receive, send)

    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_endless_recursion_is_logged_briefly(caplog: pytest.LogCaptureFixture) -> None:
    node = FakeNodeView(ACTIVE)

    async def handle(request: Request) -> Response:
        return await handle(request)

    node.on_handle = handle

    with caplog.at_level(logging.ERROR):
        answer = await ask(build_app(node), "GET", "/v1/x", headers=TOKEN)

    assert answer.status == 500
    assert len(caplog.text.splitlines()) < 100


async def test_large_json_is_not_decoded_in_the_event_loop() -> None:
    node = FakeNodeView(ACTIVE)
    body = b'{"key":[' + b"[]," * 120_000 + b"0]}"
    rounds = 0

    async def tick() -> None:
        nonlocal rounds
        while True:
            await trio.sleep(0.001)
            rounds += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tick)
        before = rounds
        await ask(build_app(node), "PUT", "/v1/secret/x", body, headers=TOKEN)
        assert rounds > before
        nursery.cancel_scope.cancel()
