"""
The mode ``quota``: each node may use a third of a core, and is asked for less and more than it
can do with that.

Rule of this file: the capacity is measured under the quota, and the multiples are of that.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.limits import limit_cpu
from benchmarks.overload_runs import (
    ANSWER_HEADS,
    HEALTH_HEADS,
    KEPT,
    Run,
    Settings,
    find_capacity,
    measure_unloaded,
    run_all,
)
from benchmarks.reports import Report
from benchmarks.shots import normal_limit_s
from testbed.clusters import Cluster

CORES = 1 / 3
MULTIPLES = (0.7, 2.0)


async def measure_quota(cluster: Cluster, settings: Settings) -> list[Report]:
    """
    Limit the nodes, and offer parts and multiples of what they can do so.

    Raises:
        LabError: a generator failed, or the cluster does not answer in the end.
    """
    settings = replace(settings, capacity_per_s=None, steps_down=False)
    answers: list[list[object]] = []
    health: list[list[object]] = []
    async with limit_cpu(cluster, CORES) as limit:
        limit_s = normal_limit_s(await measure_unloaded(cluster))
        capacity = await find_capacity(cluster, settings)
        notes = [f"{cluster.name}: by {limit.how}; capacity {capacity:.0f}/s, normal is up to"]
        notes[0] += f" {limit_s * 1000:.0f} ms"
        runs = [Run(cluster, settings, KEPT, m, capacity, limit_s) for m in MULTIPLES]
        is_well = await run_all(runs, answers, health, notes)
        throttled = limit.throttled()
        if throttled:
            notes.append(f"{cluster.name}: periods in which each node had to wait: {throttled}")
    return [
        Report(title="quota, answers", heads=ANSWER_HEADS, rows=answers),
        Report(
            title="quota, health",
            heads=HEALTH_HEADS,
            rows=health,
            notes=notes,
            is_failure=not is_well,
        ),
    ]
