"""
Requests that do not end delay nobody, and a change of the active node only by the drain limit.

Source: ours; in OpenBao one open stream turns a step-down into 91 s without writes
(docs/spec/openbao-ha.md section 11.5).
"""

from __future__ import annotations

import json
from contextlib import AsyncExitStack

import pytest
import trio

from testbed.clusters import Cluster, RunningNode
from testbed.events import wait_writable
from testbed.http import Connection
from tests.cluster.lab import DRAIN_S, failed, other_active, under_load
from tests.cluster.sockets import raw

pytestmark = pytest.mark.cluster

# On top of the drain limit: the hand-over itself, on a busy machine.
HAND_OVER_S = 1.5
BIG_BYTES = 6_000_000


def _upload_head(node: RunningNode, token: str, *, key: str, length: int) -> bytes:
    return (
        f"PUT /v1/secret/data/{key} HTTP/1.1\r\nHost: {node.host}:{node.port}\r\n"
        f"X-Vault-Token: {token}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


async def test_step_down_while_uploads_stall_and_connections_are_held_is_quick(
    cluster: Cluster,
) -> None:
    body = json.dumps({"data": {"text": "x" * 4000}}).encode()
    async with AsyncExitStack() as stack:
        stalled: list[tuple[RunningNode, trio.SocketStream]] = []
        for node in cluster.nodes:
            upload = await stack.enter_async_context(raw(node.port))
            head = _upload_head(node, cluster.root_token, key=f"up/{node.name}", length=len(body))
            await upload.send_all(head + body[:2000])
            stalled.append((node, upload))
            held = await stack.enter_async_context(raw(node.port))
            await held.send_all(b"GET /v1/sys/hea")
            stack.enter_context(idle := Connection(node.host, node.port))
            await idle.open()
        async with under_load(cluster) as load:
            await trio.sleep(0.5)
            active = await cluster.wait_active()
            begin = trio.current_time()
            response = await cluster.step_down(active)
            took_s = trio.current_time() - begin
            assert response.status == 204, response.body
            assert took_s <= DRAIN_S + HAND_OVER_S
            await other_active(cluster, active)
            await trio.sleep(0.5)
        assert failed(load, range(3)) == {}
        # The uploads are still good: each is carried out when the rest of it arrives.
        for node, upload in stalled:
            await upload.send_all(body[2000:])
            with trio.fail_after(10):
                assert (await upload.receive_some(4096)).startswith(b"HTTP/1.1 200"), node


async def test_step_down_while_a_client_does_not_read_its_answer_is_bounded(
    cluster: Cluster,
) -> None:
    active = await cluster.wait_active()
    big = {"data": {"text": "x" * BIG_BYTES}}
    await active.must("PUT", "/v1/secret/data/big", big, token=cluster.root_token)
    request = (
        "GET /v1/secret/data/big HTTP/1.1\r\nHost: x\r\n"
        f"X-Vault-Token: {cluster.root_token}\r\n\r\n"
    ).encode()
    async with AsyncExitStack() as stack:
        for node in cluster.nodes:
            for _ in range(3):
                deaf = await stack.enter_async_context(raw(node.port))
                await deaf.send_all(request)
        await trio.sleep(1.0)
        begin = trio.current_time()
        response = await cluster.step_down(active)
        assert response.status == 204, response.body
        assert trio.current_time() - begin <= DRAIN_S + HAND_OVER_S
        for node in cluster.nodes:
            await wait_writable(cluster, node)
        assert trio.current_time() - begin <= DRAIN_S + 2 * HAND_OVER_S


async def test_sigterm_while_a_connection_is_held_ends_the_process(cluster: Cluster) -> None:
    active = await cluster.wait_active()
    async with raw(active.port) as held, raw(active.port) as upload:
        await held.send_all(b"GET /v1/sys/hea")
        head = _upload_head(active, cluster.root_token, key="never", length=1000)
        await upload.send_all(head + b"{")
        with trio.fail_after(15):
            assert await active.terminate() == 0
    await other_active(cluster, active)
