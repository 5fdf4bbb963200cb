"""
What the tests of real processes share: a cluster with its logs, a load on it, its verdict.

Rule of this file: a test's bounds are generous where they are about time (the machine may be busy)
and exact where they are about data and failed requests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from testbed.clusters import Cluster, EditConfig, RunningNode, run_cluster
from testbed.descriptions import load_description
from testbed.events import Happening
from testbed.load import Load, LoadPlan, Target, run_load
from testbed.records import NodeGap, Record, failures, gaps, sent_between, stale_reads

SHAMIR = "baoha-sqlite"
STATIC = "baoha-sqlite-static"
# The default settings of the nodes, seconds.
TTL_S = 6.0
DRAIN_S = 2.0
# Longer than any freeze, so that what waits in a frozen node's socket is still answered.
TIMEOUT_S = 30.0


@asynccontextmanager
async def lab(
    folder: Path,
    description: str = SHAMIR,
    *,
    edit: EditConfig | None = None,
    nodes: int | None = None,
) -> AsyncIterator[Cluster]:
    """Run a cluster; its logs go to the test's output."""
    made = load_description(description)
    async with run_cluster(made, folder=folder, edit=edit, nodes=nodes) as cluster:
        try:
            yield cluster
        finally:
            for node in cluster.nodes:
                print(f"--- {node}\n{node.log_tail(80)}")


@asynccontextmanager
async def under_load(
    cluster: Cluster,
    *,
    writes_per_s: float = 50.0,
    reads_per_s: float = 25.0,
) -> AsyncIterator[Load]:
    """Write and read through every node; at the end nothing acknowledged may be lost or stale."""
    plan = LoadPlan(writes_per_s=writes_per_s, reads_per_s=reads_per_s, timeout_s=TIMEOUT_S)
    targets = [Target(node.host, node.port) for node in cluster.nodes]
    async with run_load(targets, cluster.root_token, plan) as load:
        yield load
        for node in cluster.nodes:
            await cluster.wait_ready(node)
    assert load.skipped == 0
    damage = await load.read_back()
    assert damage.executed_twice == []
    assert damage.lost == []
    assert damage.overwritten == []
    assert damage.behind == []
    assert stale_reads(load.records) == []


def failed(load: Load, nodes: Sequence[int]) -> dict[str, int]:
    """Return the failed requests that were sent to these nodes, by kind."""
    return dict(failures(record for record in load.records if record.node in nodes))


def failed_after(load: Load, happening: Happening) -> list[Record]:
    """Return the failed requests to the survivors of an event, until its aftermath was over."""
    around = sent_between(load.records, happening.moment - TIMEOUT_S, happening.end)
    return [
        record
        for record in around
        if record.outcome != "ok"
        and record.ended >= happening.moment
        and record.node in happening.survivors
    ]


def survivor_gaps(load: Load, happening: Happening) -> list[NodeGap]:
    """Return how long each survivor of an event answered no write."""
    start = happening.moment - 0.5
    records = sent_between(load.records, start, happening.end + TIMEOUT_S)
    return gaps(records, happening.survivors, start=start, end=happening.end)


def worst_gap_s(load: Load, happening: Happening) -> float:
    """Return the longest pause of a survivor; infinite if one never answered again."""
    found = [gap.gap_s for gap in survivor_gaps(load, happening)]
    return max(float("inf") if gap is None else gap for gap in found)


async def other_active(cluster: Cluster, former: RunningNode) -> RunningNode:
    """Return the active node once it is another one."""
    return await cluster.wait_active([node for node in cluster.nodes if node is not former])


async def wait_log(node: RunningNode, text: str, *, patience_s: float = 20.0) -> str:
    """Return the first log line of the node that contains a text, as soon as there is one."""
    with trio.move_on_after(patience_s):
        while True:
            for line in node.log().splitlines():
                if text in line:
                    return line
            await trio.sleep(0.1)
    raise AssertionError(f"{node} never logged {text!r}\n{node.log_tail()}")


async def wait_status(
    node: RunningNode, path: str, wanted: int, *, token: str = "", patience_s: float = 20.0
) -> None:
    """Return when a GET is answered with this status."""
    status = -1
    with trio.move_on_after(patience_s):
        while True:
            status = await node.status_of(path, token=token, timeout_s=TIMEOUT_S)
            if status == wanted:
                return
            await trio.sleep(0.1)
    raise AssertionError(f"{node}: {path} is {status}, not {wanted}\n{node.log_tail()}")
