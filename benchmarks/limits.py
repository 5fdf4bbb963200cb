"""
Give every node of a cluster a part of a core and no more.

Rules of this file:

1. The kernel's own limit where there is one that may be set (cgroup v2, else v1); else the
   processes are stopped and continued. What was used is said, because the two are not the same.
2. Whatever was set is taken back at the end.

Sources: the kernel's cgroup-v2 (``cpu.max``) and sched-bwc (``cpu.cfs_quota_us``) documentation.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from testbed.clusters import Cluster

PERIOD_S = 0.1
_PERIOD_US = 100_000
_V2 = Path("/sys/fs/cgroup")
_V1 = Path("/sys/fs/cgroup/cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """
    A limit in force.

    Attributes:
        how: the means, for people.
        groups: the control groups, empty for processes that are stopped and continued.
    """

    how: str
    groups: tuple[Path, ...] = ()

    def throttled(self) -> str:
        """Return in how many periods each node had to wait; empty where nobody counts."""
        parts = []
        for group in self.groups:
            lines = (group / "cpu.stat").read_text().splitlines()
            stat = dict(line.split() for line in lines)
            parts.append(f"{stat['nr_throttled']} of {stat['nr_periods']}")
        return ", ".join(parts)


@asynccontextmanager
async def limit_cpu(cluster: Cluster, cores: float) -> AsyncIterator[Limit]:
    """
    Limit each node while the block lasts, to this part of a core.

    Cancellation: the limits are taken back.
    """
    pids = [node.pid for node in cluster.nodes]
    groups: list[Path] = []
    try:
        how = _set_up(groups, pids, cores)
        if how:
            yield Limit(how=how, groups=tuple(groups))
            return
        async with trio.open_nursery() as nursery:
            for number, pid in enumerate(pids):
                nursery.start_soon(_pulse, pid, cores, number * PERIOD_S / len(pids))
            yield Limit(how=f"SIGSTOP and SIGCONT, {PERIOD_S * 1000:g} ms")
            nursery.cancel_scope.cancel()
    finally:
        _take_down(groups, pids)


def _set_up(groups: list[Path], pids: Sequence[int], cores: float) -> str:
    """Make a group for each process; empty: the kernel does not let us."""
    quota = str(round(cores * _PERIOD_US))
    for how, root, settings in (
        ("cgroup v2", _V2, {"cpu.max": f"{quota} {_PERIOD_US}"}),
        ("cgroup v1", _V1, {"cpu.cfs_period_us": str(_PERIOD_US), "cpu.cfs_quota_us": quota}),
    ):
        if not (root / "cgroup.procs").exists():
            continue
        try:
            for pid in pids:
                group = root / f"benchmark-{os.getpid()}-{pid}"
                group.mkdir()
                groups.append(group)
                for name, value in settings.items():
                    (group / name).write_text(value)
                (group / "cgroup.procs").write_text(str(pid))
        except OSError:
            _take_down(groups, pids)
            continue
        return how
    return ""


def _take_down(groups: list[Path], pids: Sequence[int]) -> None:
    for group, pid in zip(groups, pids, strict=False):
        with suppress(OSError):
            (group.parent / "cgroup.procs").write_text(str(pid))
        with suppress(OSError):
            group.rmdir()
    groups.clear()


async def _pulse(pid: int, cores: float, delay_s: float) -> None:
    """Let a process run for its part of each period."""
    await trio.sleep(delay_s)
    with suppress(ProcessLookupError):
        try:
            while True:
                os.kill(pid, signal.SIGCONT)
                await trio.sleep(cores * PERIOD_S)
                os.kill(pid, signal.SIGSTOP)
                await trio.sleep((1 - cores) * PERIOD_S)
        finally:
            os.kill(pid, signal.SIGCONT)
