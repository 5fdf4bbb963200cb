"""
A store that is full, locked, frozen or gone: said so, recovery without a restart, no loss.

Source: ARCHITECTURE.md, "Invariants", numbers 4, 5 and 8.
"""

from __future__ import annotations

import os
import re
import resource
import sqlite3
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing, suppress
from pathlib import Path

import pytest
import trio

from testbed.clusters import Cluster, EditConfig, RunningNode
from testbed.events import wait_writable
from testbed.records import Record, failures
from tests.cluster.lab import TTL_S, lab, other_active, under_load, wait_log, wait_status
from tests.cluster.sqlite_locks import write_lock_holder
from tests.support.not_running import traced
from tests.support.small_disk import fill_disk, small_disk

pytestmark = pytest.mark.cluster

READY = "/v1/sys/ha/ready"
BOTH = ("-wal", "-shm")
# Nobody renews a lock that nobody can write: by then every node has noticed.
NOTICED_S = TTL_S + 4.0
# What a failed request may say while the store is at fault: never 200, never "not found".
EXCUSES = {f"status {status}{more}" for status in (500, 503) for more in ("", " outcome unknown")}


async def test_full_disk_stops_writes_and_neither_reads_nor_the_tenure(tmp_path: Path) -> None:
    nodes = tmp_path / "nodes"
    nodes.mkdir()
    with small_disk(tmp_path / "disk", options="size=32m") as disk:
        async with lab(nodes, edit=_store_in(disk / "baoha.db")) as cluster:
            active = await cluster.wait_active()
            async with under_load(cluster) as load:
                await trio.sleep(1.0)
                filler = fill_disk(disk)
                full = trio.current_time()
                await trio.sleep(NOTICED_S)
                # The same tenure goes on, and so does the next one.
                assert await active.status_of("/v1/sys/health") == 200
                await active.kill()
                successor = await other_active(cluster, active)
                await trio.sleep(2.0)
                died = trio.current_time()
                assert await successor.status_of("/v1/sys/health") == 200
                assert "disk is full" in _logs(cluster)
                filler.unlink()
                await cluster.start_node(active)
                await _wait_all_well(cluster)
                well = trio.current_time()
                await trio.sleep(1.0)
    refused = [record for record in load.records if full < record.started < died]
    survivors = [record for record in refused if record.node != active.index]
    reads = [record for record in survivors if record.operation == "read"]
    assert len(reads) > 50
    assert failures(reads) == {}
    writes = [record for record in survivors if record.operation == "write"]
    # Small writes may still find room in the WAL for a while.
    assert failures(writes).total() > len(writes) / 2
    _check_failures([record for record in load.records if record.node != active.index], well)


async def test_quota_that_is_used_up_stops_writes_and_is_survived(cluster: Cluster) -> None:
    """Another kind of full: SQLite is told of a failed write, not of a full disk."""
    database = _database(cluster)
    active = await cluster.wait_active()
    async with under_load(cluster) as load:
        await trio.sleep(1.0)
        full_at = _wal_size(database)
        for node in cluster.nodes:
            # Writes behind this offset fail; the WAL is what grows.
            _limit_file_size(node, full_at)
        limited = trio.current_time()
        await trio.sleep(NOTICED_S)
        assert await active.status_of("/v1/sys/health") == 200
        for node in cluster.nodes:
            assert node.is_running
            _limit_file_size(node, resource.RLIM_INFINITY)
        await _wait_all_well(cluster)
        well = trio.current_time()
        await trio.sleep(1.0)
    reads = [record for record in load.records if record.operation == "read"]
    assert failures(record for record in reads if limited < record.started) == {}
    _check_failures(load.records, well)


@pytest.mark.parametrize("may_kill", [False, True])
async def test_node_that_a_tracer_stops_inside_a_write_is_named_and_killed_when_allowed(
    may_kill: bool, tmp_path: Path
) -> None:
    """
    Goal: a frozen node that no signal can wake does not keep the cluster without an active node.

    Method: every thread of the active node is stopped, as a debugger or a frozen cgroup does, at a
    moment in which it holds SQLite's write lock.
    """

    def edit(node: RunningNode, config: str) -> str:
        more = f"fence_by_kill = {str(may_kill).lower()}"
        return config.replace("[storage.sqlite]", f"[storage.sqlite]\n{more}")

    async with lab(tmp_path, edit=edit) as cluster:
        victim = await cluster.wait_active()
        async with (
            under_load(cluster, writes_per_s=30.0, reads_per_s=5.0),
            AsyncExitStack() as tracer,
        ):
            with trio.fail_after(60):
                await _trace_inside_a_write(victim, _database(cluster), tracer)
            others = [node for node in cluster.nodes if node is not victim]
            if not may_kill:
                with trio.fail_after(60):
                    await _wait_told(others, "BH-921")
                await tracer.aclose()
                assert victim.is_running
            with trio.fail_after(60):
                successor = await cluster.wait_active(None if not may_kill else others)
            for node in others:
                await wait_writable(cluster, node)
            told = "".join(map(RunningNode.log, others))
            assert "holds the write lock of the sqlite store" in told
            assert ("killed a node that held the write lock" in told) == may_kill
            if may_kill:
                assert successor is not victim
                await tracer.aclose()  # now its end is known to its parent, too
                await victim.kill()
                await cluster.start_node(victim)


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


@pytest.mark.parametrize("suffixes", [("-wal",), ("-shm",), BOTH])
async def test_files_beside_the_database_that_are_removed_do_not_end_the_cluster(
    suffixes: tuple[str, ...], cluster: Cluster
) -> None:
    database = _database(cluster)
    active = await cluster.wait_active()
    async with under_load(cluster) as load:
        await trio.sleep(1.0)
        _remove(database, suffixes)
        await trio.sleep(3.0)
        # The next node reads what the last one has written, and so does one that starts anew.
        await active.kill()
        await other_active(cluster, active)
        await cluster.start_node(active)
        assert (await cluster.step_down(active, {"to": active.address})).status == 204
        await _wait_all_well(cluster)
        await trio.sleep(1.0)
    survivors = [record for record in load.records if record.node != active.index]
    assert set(failures(survivors)) <= {"status 503 outcome unknown"}
    assert "was put back" in _logs(cluster)
    _check_pages(database)


@pytest.mark.parametrize("suffixes", [("-wal",), ("-shm",), BOTH])
@pytest.mark.parametrize("lose", ["remove", "move"])
async def test_files_beside_the_database_that_are_removed_again_and_again_cost_no_write(
    lose: str, suffixes: tuple[str, ...], cluster: Cluster
) -> None:
    """Meanwhile one node dies, and starts in the middle of it."""
    database = _database(cluster)
    active = await cluster.wait_active()
    async with under_load(cluster) as load:
        await trio.sleep(1.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_remove_repeatedly, database, suffixes, lose == "move")
            await trio.sleep(1.0)
            await active.kill()
            await other_active(cluster, active)
            await cluster.start_node(active)
            await trio.sleep(1.0)
            nursery.cancel_scope.cancel()
        await _wait_all_well(cluster)
        await trio.sleep(1.0)
    survivors = [record for record in load.records if record.node != active.index]
    assert set(failures(survivors)) <= {"status 503 outcome unknown"}
    _check_pages(database)


@pytest.mark.parametrize("end", ["killed", "terminated"])
@pytest.mark.parametrize("all_nodes", [False, True])
async def test_files_beside_the_database_that_are_removed_just_before_an_end_lose_no_write(
    all_nodes: bool, end: str, cluster: Cluster
) -> None:
    database = _database(cluster)
    active = await cluster.wait_active()
    ended = list(cluster.nodes) if all_nodes else [active]
    async with under_load(cluster):
        await trio.sleep(1.0)
        _remove(database, BOTH)
        async with trio.open_nursery() as nursery:
            for node in ended:
                nursery.start_soon(node.kill if end == "killed" else node.terminate)
        for node in ended:
            await cluster.start_node(node)
        await _wait_all_well(cluster)
        await trio.sleep(1.0)
    _check_pages(database)


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


def _remove(database: Path, suffixes: Sequence[str], *, move: bool = False) -> None:
    for suffix in suffixes:
        with suppress(FileNotFoundError):
            if move:
                os.rename(f"{database}{suffix}", f"{database}.aside{suffix}")
            else:
                os.unlink(f"{database}{suffix}")


async def _remove_repeatedly(database: Path, suffixes: Sequence[str], move: bool) -> None:
    while True:
        _remove(database, suffixes, move=move)
        await trio.sleep(0.05)


def _check_pages(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def _wal_size(database: Path) -> int:
    return Path(f"{database}-wal").stat().st_size


def _limit_file_size(node: RunningNode, size: int) -> None:
    resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _store_in(database: Path) -> EditConfig:
    def edit(node: RunningNode, config: str) -> str:
        return re.sub(r'^path = ".*"$', f'path = "{database}"', config, flags=re.MULTILINE)

    return edit


async def _trace_inside_a_write(node: RunningNode, database: Path, tracer: AsyncExitStack) -> None:
    """Stop every thread of a node at a moment in which it holds the write lock."""
    while True:
        await trio.to_thread.run_sync(tracer.enter_context, traced(node.pid))
        if write_lock_holder(database) == node.pid:
            return
        await tracer.aclose()
        await trio.sleep(0.01)


async def _wait_told(nodes: Sequence[RunningNode], code: str) -> None:
    """Return when one of the nodes says so in sys/health, which needs no token."""
    while True:
        for node in nodes:
            told = (await node.call("GET", "/v1/sys/health")).json().get("problems", [])
            if any(sentence.startswith(code) for sentence in told):
                return
        await trio.sleep(0.1)


def _logs(cluster: Cluster) -> str:
    return "\n".join(node.log() for node in cluster.nodes)
