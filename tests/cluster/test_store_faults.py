"""
A store that is full, locked or gone: said so, readiness 503, recovery without a restart, no loss.

Source: DESIGN.md section 8, invariants 4, 5 and 8.
"""

from __future__ import annotations

import os
import resource
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
import trio

from benchmarks.clusters import Cluster, Node
from benchmarks.events import wait_writable
from benchmarks.records import Record, failures
from tests.cluster.lab import TTL_S, under_load, wait_log, wait_status

pytestmark = pytest.mark.cluster

READY = "/v1/sys/ha/ready"
# Nobody renews a lock that nobody can write: by then every node has noticed.
NOTICED_S = TTL_S + 4.0
# What a failed request may say while the store is at fault: never 200, never "not found".
EXCUSES = {f"status {status}{more}" for status in (500, 503) for more in ("", " outcome unknown")}


async def test_full_disk_is_said_so_and_survived(cluster: Cluster) -> None:
    database = _database(cluster)
    async with under_load(cluster) as load:
        await trio.sleep(1.0)
        full_at = _wal_size(database)
        for node in cluster.nodes:
            # Writes behind this offset fail, as on a full disk; the WAL is what grows.
            _limit_file_size(node, full_at)
        for node in cluster.nodes:
            await wait_status(node, READY, 503, patience_s=NOTICED_S)
        assert "cannot write sqlite storage" in _logs(cluster)
        for node in cluster.nodes:
            assert node.is_running
            assert await node.status_of("/v1/sys/ha/live") == 200
            _limit_file_size(node, resource.RLIM_INFINITY)
        await _wait_all_well(cluster)
        well = trio.current_time()
        await trio.sleep(1.0)
    _check_failures(load.records, well)


async def test_database_locked_by_another_process_is_waited_for(cluster: Cluster) -> None:
    active = await cluster.wait_active()
    async with under_load(cluster) as load:
        await trio.sleep(1.0)
        with closing(sqlite3.connect(_database(cluster), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await trio.sleep(3.0)
            other.execute("ROLLBACK")
        await _wait_all_well(cluster)
        well = trio.current_time()
        await trio.sleep(1.0)
    # Shorter than the lock's time: the tenure goes on.
    assert await active.status_of("/v1/sys/health") == 200
    _check_failures(load.records, well)


async def test_database_file_that_is_gone_is_said_so_and_survived(cluster: Cluster) -> None:
    database = _database(cluster)
    aside = database.with_suffix(".aside")
    async with under_load(cluster) as load:
        await trio.sleep(1.0)
        os.rename(database, aside)
        try:
            for node in cluster.nodes:
                await wait_status(node, READY, 503, patience_s=NOTICED_S)
                assert node.is_running
                await wait_log(cluster.nodes[0], "sqlite storage")
        finally:
            os.rename(aside, database)
        await _wait_all_well(cluster)
        well = trio.current_time()
        await trio.sleep(1.0)
    _check_failures(load.records, well)


async def _wait_all_well(cluster: Cluster) -> None:
    with trio.fail_after(TTL_S + 10.0):
        for node in cluster.nodes:
            await wait_status(node, READY, 200)
            await wait_writable(cluster, node)


def _check_failures(records: Sequence[Record], end: float) -> None:
    """What failed is said to have failed, and nothing that is sent after the recovery fails."""
    assert set(failures(records)) <= EXCUSES
    assert failures(record for record in records if record.started > end) == {}


def _database(cluster: Cluster) -> Path:
    return cluster.nodes[0].folder.parent / "baoha.db"


def _wal_size(database: Path) -> int:
    return Path(f"{database}-wal").stat().st_size


def _limit_file_size(node: Node, size: int) -> None:
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _logs(cluster: Cluster) -> str:
    return "\n".join(node.log() for node in cluster.nodes)
