"""The way of one request: served, forwarded, parked, redirected or refused."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from baoha.api import requests
from baoha.api.admission import Admission
from baoha.api.requests import serve_forwarded
from baoha.core.request import Operation, Request, Response
from baoha.core.view import LinkState
from baoha.errors import (
    BaohaError,
    CannotForward,
    FencedWrite,
    ForwardingInterrupted,
    LeadershipLost,
    NotActive,
    PayloadTooLarge,
    ReadOnly,
    StepDownRefused,
    StorageUnavailable,
)
from baoha.sansio.wire.messages import Headers, HTTPRequest, HTTPResponse, ListenerPolicy
from tests.support.fake_node import ACTIVE, LEADER, LEADERLESS, STANDBY, FakeNodeView

serve_request = partial(requests.serve_request, admission=Admission())  # nobody waits in it

READS = ("GET", "HEAD", "LIST", "SCAN")
WRITES = ("POST", "PUT", "DELETE")


class Gone:
    """A client that has left."""

    has_come = True

    def tell(self, then: Callable[[], None]) -> None:
        then()


def make(
    method: str = "GET",
    path: str = "/v1/secret/x",
    *,
    body: bytes = b"",
    headers: Headers = (("x-vault-token", "s.t"),),
    query: str = "",
    listener: ListenerPolicy = ListenerPolicy(),  # noqa: B008 - frozen
) -> HTTPRequest:
    return HTTPRequest(
        method=method,
        path=path,
        raw_path=path,
        query=query,
        headers=headers,
        body=body,
        listener=listener,
    )


def errors(answer: HTTPResponse) -> list[str]:
    parsed = json.loads(answer.body)["errors"]
    assert isinstance(parsed, list)
    return parsed


def raising(exc: BaohaError) -> Callable[[object], Awaitable[HTTPResponse]]:
    async def fail(request: object) -> HTTPResponse:
        raise exc

    return fail


def raising_once(node: FakeNodeView, exc: BaohaError) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        if len(node.requests) == 1:
            node.become(STANDBY)
            raise exc
        return Response(data={"served": True})

    return handle


async def test_standby_forwards_and_returns_the_answer() -> None:
    node = FakeNodeView(STANDBY)

    answer = await serve_request(node, make("POST", body=b"{}"))

    assert answer.status == 200
    assert node.calls == ["forward POST /v1/secret/x"]


async def test_leaderless_standby_parks_until_it_is_active(autojump_clock: MockClock) -> None:
    node = FakeNodeView(LEADERLESS)

    async with trio.open_nursery() as nursery:

        async def become_active() -> None:
            await trio.sleep(3)
            assert node.parked == 1
            node.become(ACTIVE)

        nursery.start_soon(become_active)
        answer = await serve_request(node, make("POST", body=b'{"a":1}'))

    assert answer.status == 204
    assert node.calls == ["handle update secret/x"]
    assert node.parked == 0
    assert trio.current_time() == pytest.approx(3)


async def test_leaderless_standby_refuses_when_waiting_has_not_helped(
    autojump_clock: MockClock,
) -> None:
    node = FakeNodeView(LEADERLESS)

    answer = await serve_request(node, make(), park_s=5.0)

    assert answer.status == 503
    assert errors(answer) == ["no active Vault instance found"]
    assert answer.header("retry-after") == "1"
    assert trio.current_time() == pytest.approx(5)
    assert node.calls == []


async def test_changes_that_do_not_help_do_not_move_the_deadline(
    autojump_clock: MockClock,
) -> None:
    node = FakeNodeView(LEADERLESS)

    async with trio.open_nursery() as nursery:

        async def flap() -> None:
            while True:
                await trio.sleep(0.7)
                node.become(LEADERLESS)

        nursery.start_soon(flap)
        answer = await serve_request(node, make(), park_s=5.0)
        nursery.cancel_scope.cancel()

    assert answer.status == 503
    assert trio.current_time() == pytest.approx(5)


async def test_full_parking_lot_refuses_at_once() -> None:
    node = FakeNodeView(LEADERLESS)
    node.parking_is_full = True

    answer = await serve_request(node, make())

    assert answer.status == 503
    assert answer.header("retry-after") == "1"


async def test_parked_write_of_a_client_that_left_is_not_executed(
    autojump_clock: MockClock,
) -> None:
    node = FakeNodeView(LEADERLESS)

    async with trio.open_nursery() as nursery:

        async def become_active() -> None:
            await trio.sleep(1)
            node.become(ACTIVE)

        nursery.start_soon(become_active)
        await serve_request(node, make("POST"), departure=Gone())

    assert node.calls == []


@pytest.mark.parametrize("exc", [NotActive("x"), FencedWrite(), ReadOnly()])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_was_not_executed_goes_round_and_is_forwarded(
    exc: BaohaError, method: str
) -> None:
    node = FakeNodeView(ACTIVE)
    node.on_handle = raising_once(node, exc)

    answer = await serve_request(node, make(method))

    assert answer.status == 200
    assert node.calls[1:] == [f"forward {method} /v1/secret/x"]


async def test_closed_gate_waits_for_the_next_active_node(autojump_clock: MockClock) -> None:
    node = FakeNodeView(ACTIVE)
    node.gate_is_open = False

    async with trio.open_nursery() as nursery:

        async def hand_over() -> None:
            await trio.sleep(2)
            node.become(STANDBY)

        nursery.start_soon(hand_over)
        answer = await serve_request(node, make("POST"))

    assert answer.status == 200
    assert node.calls == ["forward POST /v1/secret/x"]


@pytest.mark.parametrize("method", READS)
async def test_read_that_lost_its_node_is_repeated(method: str) -> None:
    node = FakeNodeView(ACTIVE)
    node.on_handle = raising_once(node, LeadershipLost("gone"))

    answer = await serve_request(node, make(method))

    assert answer.status == 200
    assert len(node.calls) == 2


@pytest.mark.parametrize("method", WRITES)
async def test_write_that_lost_its_node_is_answered_unknown_and_not_repeated(method: str) -> None:
    node = FakeNodeView(ACTIVE)
    node.on_handle = raising_once(node, LeadershipLost("gone"))

    answer = await serve_request(node, make(method))

    assert answer.status == 503
    assert "outcome is unknown" in errors(answer)[0]
    assert answer.header("retry-after") == "1"
    assert len(node.calls) == 1


async def test_wrapped_read_is_not_repeated() -> None:
    node = FakeNodeView(ACTIVE)
    node.on_handle = raising_once(node, LeadershipLost("gone"))

    answer = await serve_request(node, make(headers=(("x-vault-wrap-ttl", "60"),)))

    assert answer.status == 503
    assert len(node.calls) == 1


async def test_interrupted_forwarding_of_a_write_is_not_repeated() -> None:
    node = FakeNodeView(STANDBY)
    node.on_forward = raising(ForwardingInterrupted("cut"))

    answer = await serve_request(node, make("POST"))

    assert answer.status == 503
    assert "outcome is unknown" in errors(answer)[0]
    assert len(node.calls) == 1


async def test_request_that_the_channel_does_not_take_is_refused_at_once() -> None:
    node = FakeNodeView(STANDBY)
    node.on_forward = raising(PayloadTooLarge("above the cluster channel's limit"))

    answer = await serve_request(node, make("POST"))

    assert (answer.status, errors(answer)) == (413, ["above the cluster channel's limit"])
    assert len(node.calls) == 1


async def test_interrupted_forwarding_of_a_read_is_repeated_until_the_deadline(
    autojump_clock: MockClock,
) -> None:
    node = FakeNodeView(STANDBY)
    node.on_forward = raising(ForwardingInterrupted("cut"))

    answer = await serve_request(node, make(), park_s=5.0)

    assert answer.status == 503
    assert errors(answer) == ["no active Vault instance found"]
    assert trio.current_time() == pytest.approx(5)
    assert 2 <= len(node.calls) <= 21  # a pause lies between two attempts


async def test_forwarding_that_cannot_be_tried_redirects_once_the_link_has_failed(
    autojump_clock: MockClock,
) -> None:
    node = FakeNodeView(STANDBY)

    async def forward(request: HTTPRequest) -> HTTPResponse:
        node.become(replace(STANDBY, link=LinkState.FAILED))
        raise CannotForward("no link")

    node.on_forward = forward

    answer = await serve_request(node, make("POST", path="/v1/secret/a b", query="x=%20&y"))

    assert answer.status == 307
    assert answer.header("location") == "http://leader:8200/v1/secret/a%20b?x=%20&y"
    assert answer.body == b""


async def test_reply_of_an_invalid_tenure_does_not_leave() -> None:
    node = FakeNodeView(ACTIVE)

    async def handle(request: Request) -> Response:
        node.tenure_is_valid = False
        node.become(STANDBY)
        return Response(data={"stale": True})

    node.on_handle = handle

    read = await serve_request(node, make("GET"))
    node.tenure_is_valid = True
    node.become(ACTIVE)
    write = await serve_request(node, make("POST"))

    assert read.body == b"{}\n"  # the new active node's
    assert write.status == 503
    assert b"stale" not in write.body


@pytest.mark.parametrize("value", ["1", "true", "false", "0"])
async def test_client_that_declines_forwarding_is_redirected(value: str) -> None:
    node = FakeNodeView(STANDBY)

    answer = await serve_request(node, make(headers=(("x-vault-no-request-forwarding", value),)))

    assert answer.status == 307
    assert node.calls == []


async def test_empty_no_forwarding_header_means_nothing() -> None:
    node = FakeNodeView(STANDBY)

    answer = await serve_request(node, make(headers=(("x-vault-no-request-forwarding", ""),)))

    assert answer.status == 200


async def test_snapshots_are_never_forwarded() -> None:
    node = FakeNodeView(STANDBY)

    answer = await serve_request(node, make(path="/v1/sys/storage/raft/snapshot"))

    assert answer.status == 307


@pytest.mark.parametrize(
    ("redirect_addr", "expected"),
    [
        ("https://a:1/prefix/", "https://a:1/v1/secret/%C3%A9/b?q=%C3%A9"),
        ("leader:8200", "https://leader:8200/v1/secret/%C3%A9/b?q=%C3%A9"),
        ("http://[::1]:8200", "http://[::1]:8200/v1/secret/%C3%A9/b?q=%C3%A9"),
    ],
)
async def test_location_has_the_leaders_host_and_the_requests_path(
    redirect_addr: str, expected: str
) -> None:
    leader = replace(LEADER, redirect_addr=redirect_addr)
    node = FakeNodeView(replace(STANDBY, leader=leader, forwarding_enabled=False))

    answer = await serve_request(node, make(path="/v1/secret/é/b", query="q=%C3%A9"))

    assert answer.header("location") == expected


# --- step-down ----------------------------------------------------------------------------------


async def test_step_down_is_allowed_inside_the_gate_and_carried_out_outside() -> None:
    node = FakeNodeView(ACTIVE)

    answer = await serve_request(
        node, make("PUT", "/v1/sys/step-down", body=b'{"to":"n2","force":true}')
    )

    assert answer.status == 204
    assert node.calls == ["require_sudo sys/step-down", "step_down"]
    assert node.step_downs == [{"to": "n2", "force": True, "by": "name of s.t"}]


async def test_step_down_without_sudo_is_refused_and_nothing_happens() -> None:
    node = FakeNodeView(ACTIVE)
    node.sudo_tokens.clear()

    answer = await serve_request(node, make("PUT", "/v1/sys/step-down"))

    assert answer.status == 403
    assert node.step_downs == []


async def test_step_down_without_a_body() -> None:
    node = FakeNodeView(ACTIVE)

    answer = await serve_request(node, make("POST", "/v1/sys/step-down"))

    assert answer.status == 204
    assert node.step_downs == [{"to": None, "force": False, "by": "name of s.t"}]


@pytest.mark.parametrize(
    ("method", "body", "status", "error"),
    [
        ("GET", b"", 405, []),
        ("PUT", b'{"to":1}', 400, ["'to' must be a string"]),
        ("PUT", b'{"to":"' + b"n" * 257 + b'"}', 400, ["'to' is longer than any node id"]),
        ("PUT", b'{"force":"x"}', 400, ["'force' must be a bool"]),
        ("PUT", b"{x", 400, None),
    ],
)
async def test_step_down_refuses_wrong_requests(
    method: str, body: bytes, status: int, error: list[str] | None
) -> None:
    node = FakeNodeView(ACTIVE)

    answer = await serve_request(node, make(method, "/v1/sys/step-down", body=body))

    assert answer.status == status
    assert error is None or errors(answer) == error
    assert node.step_downs == []


async def test_step_down_without_a_successor_is_409_with_the_reason() -> None:
    class Alone(FakeNodeView):
        async def step_down(self, *, to: str | None, force: bool, asked_of: str, by: str) -> None:
            raise StepDownRefused("no standby is ready")

    answer = await serve_request(Alone(ACTIVE), make("PUT", "/v1/sys/step-down"))

    assert answer.status == 409
    assert errors(answer) == ["no standby is ready"]


async def test_step_down_on_a_standby_is_forwarded() -> None:
    node = FakeNodeView(STANDBY)

    await serve_request(node, make("PUT", "/v1/sys/step-down"))

    assert node.calls == ["forward PUT /v1/sys/step-down"]


# --- forwarded requests -------------------------------------------------------------------------


async def test_forwarded_request_is_executed_here() -> None:
    node = FakeNodeView(ACTIVE)

    answer = await serve_forwarded(node, make("LIST", "/v1/secret"))

    assert answer.status == 204
    assert node.requests[0].operation is Operation.LIST


@pytest.mark.parametrize("path", ["/v1/secret/x", "/v1/sys/step-down"])
async def test_forwarded_request_is_never_forwarded_again(path: str) -> None:
    node = FakeNodeView(STANDBY)

    with pytest.raises(NotActive):
        await serve_forwarded(node, make("PUT", path))

    assert not any(call.startswith("forward") for call in node.calls)


@pytest.mark.parametrize("exc", [FencedWrite(), ReadOnly()])
async def test_forwarded_request_that_was_fenced_off_was_not_executed(exc: BaohaError) -> None:
    node = FakeNodeView(ACTIVE)
    node.on_handle = raising(exc)  # type: ignore[assignment]

    with pytest.raises(NotActive):
        await serve_forwarded(node, make("POST"))


async def test_forwarded_request_that_lost_its_node_says_so() -> None:
    node = FakeNodeView(ACTIVE)
    node.on_handle = raising(LeadershipLost("gone"))  # type: ignore[assignment]

    with pytest.raises(LeadershipLost):
        await serve_forwarded(node, make("POST"))


async def test_forwarded_request_meets_the_policy_of_its_listener(
    autojump_clock: MockClock,
) -> None:
    node = FakeNodeView(ACTIVE)
    small = ListenerPolicy(max_request_bytes=3)
    quick = ListenerPolicy(max_request_s=2.0)

    async def never(request: Request) -> Response:
        await trio.sleep_forever()
        raise AssertionError

    node.on_handle = never

    answer = await serve_forwarded(node, make("POST", body=b"{   }", listener=small))
    with pytest.raises(LeadershipLost):
        await serve_forwarded(node, make("POST", listener=quick))

    assert answer.status == 413
    assert trio.current_time() == pytest.approx(2)


# --- what clients are told of failures ----------------------------------------------------------


@pytest.mark.parametrize("outcome", ["not_applied", "unknown"])
async def test_store_failure_names_no_address_and_says_what_is_unknown(outcome: str) -> None:
    node = FakeNodeView(ACTIVE)
    failure = StorageUnavailable("connect to db.internal:5432 timed out", outcome=outcome)  # type: ignore[arg-type]
    node.on_handle = raising(failure)  # type: ignore[assignment]

    answer = await serve_request(node, make("POST"))

    assert answer.status == (503 if outcome == "unknown" else 500)
    assert (answer.header("retry-after") is not None) == (outcome == "unknown")
    assert b"db.internal" not in answer.body
    assert ("unknown" in errors(answer)[0]) == (outcome == "unknown")
