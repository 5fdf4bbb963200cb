"""
Every limit is the same for a request that a standby forwards as for one that is asked directly.

Method: real nodes in memory; the same request goes to the active node and to a standby, at each
limit, one below and one above; status and errors must be equal, for reads and for writes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
from trio.testing import MockClock

from baoha.api.app import build_app
from baoha.core.view import LinkState
from baoha.names import TOKEN_HEADER
from baoha.node import Node
from baoha.sansio.wire.frames import ChannelLimits
from baoha.sansio.wire.messages import BODY_BYTES_MAX, ListenerPolicy
from baoha.server.http.http1 import HEADERS_MAX
from baoha.server.http.limits import ListenerLimits
from baoha.storage.faulty import Faults, FaultyBackend
from tests.support.asgi_client import call
from tests.support.node_lab import Lab, lab

BODY_MAX = 100_000
HEAD_MAX = ListenerLimits().header_bytes_max
POLICY = ListenerPolicy(max_request_bytes=BODY_MAX, max_request_s=10)


@dataclass
class Pair:
    """An active node, and a standby with a channel to it."""

    here: Lab
    active: Node
    standby: Node
    faults: Faults

    async def ask(
        self,
        node: Node,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
        policy: ListenerPolicy = POLICY,
    ) -> tuple[int, object]:
        """Return status and what the answer says, without what differs from answer to answer."""
        sent = [(TOKEN_HEADER, self.here.token), *headers]
        answer = await call(build_app(node), method, path, body, sent, policy=policy)
        assert answer is not None
        said = json.loads(answer.body) if answer.body.startswith(b"{") else answer.body
        if isinstance(said, dict):
            said = (said.get("errors"), (said.get("data") or {}).get("data"))
        return answer.status, said

    async def both(self, *request: object, **settings: object) -> list[tuple[int, object]]:
        """Ask the active node, then the standby."""
        return [
            await self.ask(node, *request, **settings)  # type: ignore[arg-type]
            for node in (self.active, self.standby)
        ]


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    async with lab() as here:
        faults = Faults(op_timeout_s=60)
        store = FaultyBackend(here.world.open("n1"), faults)
        active = await here.start("n1", data=store)
        await here.unseal(active)
        standby = await here.start("n2")
        await here.unseal(standby)
        while standby.status().link is not LinkState.UP:
            await standby.wait_change(standby.status())
        status, _ = await here.call(
            active, "POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}}
        )
        assert status in (204, 400)
        await trio.sleep(1)
        yield Pair(here, active, standby, faults)


def document(size: int) -> bytes:
    """Return a KV write of exactly so many bytes."""
    empty = b'{"data":{"k":""}}'
    return empty[:-3] + b"v" * (size - len(empty)) + empty[-3:]


def filled_headers(count: int, size: int) -> list[tuple[str, str]]:
    each = size // count
    return [(f"x-{number:04}", "v" * (each - 10)) for number in range(count)]


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    ("size", "status"),
    [(65_535, 200), (65_537, 200), (BODY_MAX - 1, 200), (BODY_MAX, 200), (BODY_MAX + 1, 413)],
)
async def test_body_around_its_limit_direct_or_forwarded_is_the_same(
    size: int, status: int, method: str, autojump_clock: MockClock
) -> None:
    async with pair() as nodes:
        direct, forwarded = await nodes.both(method, "/v1/secret/data/a", document(size))
        assert direct == forwarded
        assert direct[0] == status
        if status == 200:  # and can be read either way
            direct, forwarded = await nodes.both("GET", "/v1/secret/data/a")
            assert direct == forwarded
            assert direct[0] == 200


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/secret/data/a", filled_headers(HEADERS_MAX - 1, HEAD_MAX)),
        ("/v1/secret/data/a", [("x-large", "v" * HEAD_MAX)]),
        ("/v1/secret/data/" + "%61" * (HEAD_MAX // 3), ()),
        ("/v1/secret/data/" + "a" * HEAD_MAX, ()),
        ("/v1/secret/data/a?" + "&".join(f"q{n}=1" for n in range(1000)), ()),
        ("/v1/secret/data/a?" + "&".join(f"q{n}=1" for n in range(1001)), ()),
        ("/v1/secret/data/a?q=" + "%C3%A9" * (HEAD_MAX // 6), ()),
    ],
    ids=["headers", "header", "escapes", "path", "query at", "query above", "query text"],
)
async def test_head_as_large_as_a_listener_takes_direct_or_forwarded_is_the_same(
    path: str, headers: Sequence[tuple[str, str]], method: str, autojump_clock: MockClock
) -> None:
    async with pair() as nodes:
        direct, forwarded = await nodes.both(method, path, document(50), headers)
        assert direct == forwarded


async def test_head_with_long_certificates_is_forwarded(autojump_clock: MockClock) -> None:
    """OpenSSL takes 100 KiB of a client's certificates."""
    async with pair() as nodes:
        sent = [(TOKEN_HEADER, nodes.here.token)]
        statuses = [
            answer.status
            for node in (nodes.active, nodes.standby)
            if (
                answer := await call(
                    build_app(node),
                    "GET",
                    "/v1/sys/mounts",
                    b"",
                    sent,
                    certificates=[b"c" * 102_400],
                )
            )
        ]
        assert statuses == [200, 200]


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(("store_s", "late"), [(0.5, False), (7, True)])
async def test_request_around_its_time_limit_direct_or_forwarded_is_the_same(
    store_s: float, late: bool, method: str, autojump_clock: MockClock
) -> None:
    async with pair() as nodes:
        assert (await nodes.ask(nodes.active, "PUT", "/v1/secret/data/a", document(50)))[0] == 200
        policy = ListenerPolicy(max_request_s=6)
        nodes.faults.latency_s = store_s
        answers = []
        for node in (nodes.active, nodes.standby):
            nodes.active.inspect().core.forget()  # so that reads ask the store
            answers.append(
                await nodes.ask(node, method, "/v1/secret/data/a", document(50), policy=policy)
            )
        assert answers[0] == answers[1]
        assert (answers[0][0] == 503) is late


def test_answer_and_body_have_one_bound() -> None:
    assert ChannelLimits().body_bytes_max == BODY_BYTES_MAX
    assert ChannelLimits().head_bytes_max >= 4 * HEAD_MAX + 102_400
