"""
Unplanned ends of the active node under load: it is replaced, and nothing acknowledged is lost.

Source: ARCHITECTURE.md, "A crash"; docs/decisions/002-leadership-is-a-cancel-scope.md.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from testbed.clusters import Cluster, RunningNode
from testbed.events import EVENTS, FREEZE_S, Event, happen, wait_writable
from tests.cluster.lab import (
    STATIC,
    TIMEOUT_S,
    TTL_S,
    failed_after,
    lab,
    other_active,
    under_load,
    worst_gap_s,
)
from tests.cluster.sqlite_locks import wait_stopped, write_lock_holder

pytestmark = pytest.mark.cluster

KILLS = 4
UNKNOWN = "status 503 outcome unknown"
# Without proof of death the lock would have to run out, which is at least 4.5 s after a renewal.
PROVEN_S = 3.0
# A second beyond the ttl, and one for a machine that also runs the load.
TAKEOVER_S = TTL_S + 1.0 + 1.0


async def test_sigkill_of_active_node_is_replaced_before_its_lock_runs_out(
    cluster: Cluster,
) -> None:
    happenings = []
    async with under_load(cluster) as load:
        for _ in range(KILLS):
            happenings.append(await happen(cluster, EVENTS["SIGKILL"], calm_s=0.5, settle_s=0.5))
    for happening in happenings:
        assert worst_gap_s(load, happening) < PROVEN_S
        for record in failed_after(load, happening):
            # Forwarded, and the node died with it: the outcome is unknown, which is said so.
            assert (record.operation, record.outcome) == ("write", UNKNOWN), record
            assert record.started < happening.moment + 0.1, record


async def test_sigkill_of_a_standby_is_not_noticed(cluster: Cluster) -> None:
    active = await cluster.wait_active()
    standby = next(node for node in cluster.nodes if node is not active)
    async with under_load(cluster) as load:
        await trio.sleep(0.5)
        await standby.kill()
        await trio.sleep(1.0)
        await cluster.start_node(standby)
    bad = [record for record in load.records if record.outcome != "ok"]
    assert {record.node for record in bad} <= {standby.index}
    assert await active.status_of("/v1/sys/health") == 200


async def test_sigkill_of_all_nodes_at_once_loses_nothing(tmp_path: Path) -> None:
    async with lab(tmp_path, STATIC) as cluster, under_load(cluster) as load:
        await trio.sleep(1.5)
        for node in cluster.nodes:
            node.send(signal.SIGKILL)
        for node in cluster.nodes:
            await node.kill()
        acknowledged = len(load.records)
        for node in cluster.nodes:
            await cluster.start_node(node, ready=False)
        for node in cluster.nodes:
            await cluster.wait_ready(node)
        assert acknowledged > 50


async def test_frozen_active_node_is_replaced_and_answers_nothing_old(cluster: Cluster) -> None:
    async with under_load(cluster) as load:
        victim = await cluster.wait_active()
        event = Event("SIGSTOP", _freeze_between_writes)
        happening = await happen(cluster, event, calm_s=1.0, settle_s=2.0)
        assert happening.trouble == ""
        assert await victim.status_of("/v1/sys/health") == 429
    assert worst_gap_s(load, happening) <= TAKEOVER_S
    # What had waited in its socket since it was frozen was answered after it woke up, and not from
    # its own state: the load compares every read with what was acknowledged before it was sent.
    thawed = happening.moment + FREEZE_S
    late = [
        record
        for record in load.records
        if record.node == victim.index and happening.moment < record.started < thawed < record.ended
    ]
    assert len([record for record in late if record.operation == "read"]) > 50
    assert {record.outcome for record in late} <= {"ok", "status 503", UNKNOWN}
    assert await other_active(cluster, victim)


async def _freeze_between_writes(cluster: Cluster, node: RunningNode) -> None:
    """Stop the node where it holds no lock of the store; the other case is the next test's."""
    database = node.folder.parent / "baoha.db"
    node.freeze()
    await wait_stopped(node.pid)
    while write_lock_holder(database) == node.pid:
        node.thaw()
        await trio.sleep(0.01)
        node.freeze()
        await wait_stopped(node.pid)
    try:
        await trio.sleep(FREEZE_S)
    finally:
        node.thaw()


async def test_active_node_that_is_frozen_inside_a_write_blocks_nobody_for_long(
    cluster: Cluster,
) -> None:
    # A process that is stopped while it holds SQLite's write lock keeps everyone from writing:
    # it is woken by whoever wants its HA lock, and finds that its time is over.
    victim = await cluster.wait_active()
    others = [node for node in cluster.nodes if node is not victim]
    database = victim.folder.parent / "baoha.db"
    async with under_load(cluster, writes_per_s=100.0):
        with trio.fail_after(30):
            await _freeze_inside_a_write(victim, database)
        try:
            # Nobody but the others thaws it meanwhile.
            for node in others:
                await wait_writable(cluster, node)
        finally:
            victim.thaw()
    assert "woke a stopped process" in "".join(node.log() for node in others)
    assert "the deadline of the HA lock passed" in victim.log()


async def _freeze_inside_a_write(node: RunningNode, database: Path) -> None:
    """Stop the node again and again until it holds the write lock."""
    while True:
        node.freeze()
        await wait_stopped(node.pid)
        if write_lock_holder(database) == node.pid:
            return
        node.thaw()
        await trio.sleep(0.01)


async def test_active_node_frozen_for_less_than_its_lock_goes_on(cluster: Cluster) -> None:
    victim = await cluster.wait_active()
    async with under_load(cluster) as load:
        await trio.sleep(0.5)
        victim.freeze()
        await trio.sleep(1.2)  # and less than a write to the store may take
        victim.thaw()
        await wait_writable(cluster, victim)
    assert await victim.status_of("/v1/sys/health") == 200
    assert [record for record in load.records if record.outcome != "ok"] == []
    assert TIMEOUT_S > FREEZE_S
