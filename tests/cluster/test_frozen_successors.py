"""
A successor that is stopped (SIGSTOP) in the middle of a hand-over: requests wait, and none fails.

The moment is counted from the active node's own word that it leaves. A successor that was quicker,
and is active already when it is stopped, is another matter: it is woken, and that try is left out.
"""

from __future__ import annotations

import pytest
import trio

from testbed.clusters import Cluster, RunningNode
from testbed.http import Response
from testbed.records import Record
from tests.cluster.lab import under_load
from tests.cluster.sqlite_locks import wait_stopped

pytestmark = pytest.mark.cluster

MOMENTS_S = (0.0, 0.0, 0.004, 0.008, 0.016)
FROZEN_S = 4.0
# Two seconds are promised; the rest is for a busy machine. Requests are parked for five.
COSTS_S = 4.0


def count_lines(node: RunningNode, text: str) -> int:
    return sum(text in line for line in node.log().splitlines())


async def wait_more_lines(node: RunningNode, text: str, than: int) -> None:
    with trio.fail_after(20):
        while True:
            if count_lines(node, text) > than:
                return
            await trio.sleep(0.001)


async def stop_successor(
    active: RunningNode, successor: RunningNode, after_s: float, lefts: int
) -> bool:
    """Stop the successor at a moment of its hand-over; False: it was active already."""
    began = count_lines(successor, "active: epoch=")
    await wait_more_lines(active, "stepping down from active operation", lefts)
    await trio.sleep(after_s)
    successor.freeze()
    await wait_stopped(successor.pid)
    if count_lines(successor, "active: epoch=") == began:
        return True
    successor.thaw()
    return False


async def ask(
    cluster: Cluster, active: RunningNode, to: RunningNode, answers: list[Response]
) -> None:
    answers.append(await cluster.step_down(active, {"to": to.address}))


def longest_s(records: list[Record]) -> float:
    return max((record.ended - record.started for record in records), default=0.0)


async def test_successor_that_is_stopped_during_a_hand_over_fails_no_request(
    cluster: Cluster,
) -> None:
    frozen = seen = 0
    async with under_load(cluster) as load:
        for after_s in MOMENTS_S:
            await trio.sleep(0.5)
            active = await cluster.wait_active()
            successor, third = (node for node in cluster.nodes if node is not active)
            lefts = count_lines(active, "stepping down from active operation")
            answers: list[Response] = []
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, cluster, active, successor, answers)
                is_stopped = await stop_successor(active, successor, after_s, lefts)
                if is_stopped:
                    await trio.sleep(FROZEN_S)
                    successor.thaw()
            if not is_stopped:
                continue
            frozen += 1
            sent = [
                record
                for record in load.records
                if record.node in (active.index, third.index) and record.ended > began
            ]
            # Clients that wait in the frozen node's socket ask nobody else meanwhile.
            assert {record.outcome for record in sent} <= {"ok"}
            assert longest_s(sent) <= COSTS_S
            seen += len(sent)
            (answer,) = answers
            assert answer.status in (204, 503), answer.body
            if answer.status == 503:
                assert "taken it up" in answer.json()["errors"][0]
            for node in cluster.nodes:
                await cluster.wait_ready(node)
    assert frozen > 0
    assert seen > 0
