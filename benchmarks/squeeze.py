"""
The mode ``squeeze``: a moderate load goes on while busy processes take the CPU.

Rules of this file:

1. The busy processes are plain ones of normal priority; each is a session of its own, as services
   are, so the scheduler treats each like a node.
2. What happens to the active node in a round happens in the middle of the squeeze.
3. "As before" means: 2 s after the last busy process has ended, all answers are good, and 99 of 100
   within twice what they took before (at least 20 ms).
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio

from benchmarks.generator import OK, Stream
from benchmarks.overload_runs import (
    OPEN_CONNECTIONS,
    READ_BACK_SAMPLE,
    Settings,
    StepDown,
    find_capacity,
    kinds_of_failure,
    say,
    settle,
    step_down,
)
from benchmarks.reports import Report, counts
from benchmarks.shots import (
    Second,
    Shot,
    by_second,
    due_between,
    errors,
    is_normal,
    normal_limit_s,
    spread,
    summarize,
    writes_again_s,
)
from benchmarks.traffic import PROBE, fresh_prefix, probes, read_back, run_traffic, soon, until
from testbed.clusters import Cluster, RunningNode
from testbed.processes import ServerProcess

PLAIN, KILL, STEP_DOWN, LOADED = ROUNDS = ("plain", "SIGKILL", "step-down", "0.7 of capacity")
WRITES_PER_S = 120.0
BUSY = 8
BUSY_PER_CORE = 2
SQUEEZE_S = 15.0
LOADED_S = 20.0
LOADED_PART = 0.7
CALM_S = 3.0
AFTER_S = 5.0
# From the end of the squeeze until all has to be as before.
GRACE_S = 2.0
END_S = 10.0

HEADS = (
    "cluster",
    "round",
    "due/s",
    "2xx in 1 s %",
    "in 3 s %",
    "in 1 s % through",
    "refused",
    "timeouts",
    "errors",
    "p50 ms",
    "p99 ms",
    "max ms",
    "control p99 ms",
    "control max ms",
    "control failed",
    "tenures lost",
    "event",
    "writes again s",
    "as before",
    "wrong in the end",
    "generator's CPU",
    "late max ms",
)
SECOND_HEADS = (
    "cluster",
    "round",
    "second",
    "due",
    "2xx in 1 s",
    "in 3 s",
    "refused",
    "timeouts",
    "errors",
    "control p99 ms",
    "control max ms",
)


async def measure_squeeze(cluster: Cluster, settings: Settings) -> list[Report]:
    """
    Squeeze the cluster in several ways.

    Raises:
        LabError: a generator failed, or the cluster does not come back.
    """
    rows: list[list[object]] = []
    seconds: list[list[object]] = []
    notes: list[str] = []
    for name in settings.rounds:
        rate, share, busy, squeeze_s = WRITES_PER_S, 1.0, BUSY, SQUEEZE_S
        if name == LOADED:
            capacity = await find_capacity(cluster, settings)
            rate, share = LOADED_PART * capacity, settings.write_share
            busy, squeeze_s = BUSY_PER_CORE * (os.cpu_count() or 1), LOADED_S
        stream = Stream(
            name="load",
            rate=rate,
            start=0.0,
            seconds=CALM_S + squeeze_s + AFTER_S,
            connections=OPEN_CONNECTIONS,
            write_share=share,
            prefix=fresh_prefix("squeeze"),
        )
        squeezed = _Round(cluster, name, stream, busy)
        await squeezed.run()
        rows.append(squeezed.row())
        seconds.extend(squeezed.second_rows())
        notes.extend(squeezed.notes)
    return [
        Report(title="squeeze", heads=HEADS, rows=rows, notes=notes),
        Report(title="squeeze, each second of it", heads=SECOND_HEADS, rows=seconds),
    ]


class _Round:
    """One squeeze of one cluster."""

    def __init__(self, cluster: Cluster, name: str, stream: Stream, busy: int) -> None:
        self.notes: list[str] = []
        self._cluster = cluster
        self._name = name
        self._busy = busy
        self._stream = stream
        self._begin = self._end = self._moment = 0.0
        self._active = 0
        self._killed: RunningNode | None = None
        self._step_down: StepDown | None = None
        self._tenures = 0
        self._wrong: list[str] = []
        self._shots: list[Shot] = []
        self._control: list[Shot] = []
        self._cpu_share = self._late_max_s = 0.0

    async def run(self) -> None:
        cluster = self._cluster
        active = await cluster.wait_active()
        self._active = active.index
        before = cluster.tenures()
        start = soon()
        squeeze_s = self._stream.seconds - CALM_S - AFTER_S
        stream = replace(self._stream, start=start)
        async with (
            run_traffic(cluster, [probes(start, stream.seconds)]) as watch,
            run_traffic(cluster, [stream]) as load,
            trio.open_nursery() as striking,
        ):
            await until(start + CALM_S)
            async with busy_processes(self._busy):
                self._begin = time.monotonic()
                await until(self._begin + squeeze_s / 3)
                self._moment = time.monotonic()
                striking.start_soon(self._strike, active)
                await until(self._begin + squeeze_s)
            self._end = time.monotonic()
            await load.wait()
            await watch.wait()
        self._shots, self._control = load.shots["load"], watch.shots[PROBE]
        self._cpu_share, self._late_max_s = load.cpu_share, load.late_max_s
        asked = self._killed is not None or (
            self._step_down is not None and self._step_down.status == 204
        )
        self._tenures = cluster.tenures() - before - asked
        if self._tenures < 0:
            self.notes.append(f"{cluster.name}, {self._name}: no new tenure after the event")
        if self._killed is not None:
            await cluster.start_node(self._killed)
        await settle(cluster)
        self._wrong = await read_back(cluster, stream.prefix, self._shots, READ_BACK_SAMPLE)
        self.notes.extend(f"{cluster.name}, {self._name}: {text}" for text in self._wrong[:10])
        if self._name == LOADED:
            self.notes.append(f"{cluster.name}, {self._name}: {stream.rate:.0f}/s")

    async def _strike(self, active: RunningNode) -> None:
        if self._name == KILL:
            active.send(signal.SIGKILL)
            self._killed = active
        elif self._name == STEP_DOWN:
            self._step_down = await step_down(self._cluster, active.index)

    def row(self) -> list[object]:
        shots = self._survivors(self._shots)
        inside = due_between(shots, self._begin, self._end)
        summary = summarize(inside, self._end - self._begin)
        control = self._survivors(due_between(self._control, self._begin, self._end))
        latencies = spread(shot.latency_s for shot in control if shot.outcome == OK)
        late = sum(shot.outcome == OK and shot.latency_s <= 3 for shot in inside)
        prompt = sum(shot.outcome == OK and shot.latency_s <= 1 for shot in inside)
        say(f"{self._cluster.name}: {self._name}: {prompt} of {len(inside)} within 1 s")
        return [
            self._cluster.name,
            self._name,
            summary.offered_per_s,
            100 * prompt / max(1, len(inside)),
            100 * late / max(1, len(inside)),
            self._through_each(inside),
            round(summary.refusals_per_s * (self._end - self._begin)),
            summary.timeouts,
            counts(errors(inside)),
            summary.good.p50_ms,
            summary.good.p99_ms,
            summary.good.max_ms,
            latencies.p99_ms,
            latencies.max_ms,
            counts(kinds_of_failure(control)),
            max(0, self._tenures),
            self._event(),
            self._writes_again(),
            self._verdict(shots),
            len(self._wrong),
            self._cpu_share,
            self._late_max_s * 1000,
        ]

    def second_rows(self) -> list[list[object]]:
        """Return a line for each second, of the nodes that live on; the squeeze begins at 0."""
        seconds = int(self._stream.seconds)
        start = self._begin - CALM_S
        rows = by_second(self._survivors(self._shots), start, seconds)
        return [self._second_row(row, start) for row in rows]

    def _second_row(self, row: Second, start: float) -> list[object]:
        moment = start + row.second
        control = self._survivors(due_between(self._control, moment, moment + 1))
        latencies = spread(shot.latency_s for shot in control)
        return [
            self._cluster.name,
            self._name,
            int(row.second - CALM_S),
            row.due,
            row.within_1_s,
            row.within_3_s,
            row.refusals,
            row.timeouts,
            row.errors,
            latencies.p99_ms,
            latencies.max_ms,
        ]

    def _survivors(self, shots: list[Shot]) -> list[Shot]:
        killed = self._killed
        return [shot for shot in shots if killed is None or shot.node != killed.index]

    def _through_each(self, shots: list[Shot]) -> str:
        """Return the share of prompt answers of each node, the active one marked."""
        parts = []
        for node in self._cluster.nodes:
            own = [shot for shot in shots if shot.node == node.index]
            prompt = sum(shot.outcome == OK and shot.latency_s <= 1 for shot in own)
            mark = "*" if node.index == self._active else ""
            parts.append(f"{100 * prompt / len(own):.0f}{mark}" if own else f"-{mark}")
        return ", ".join(parts)

    def _event(self) -> str:
        if self._killed is not None:
            return "killed"
        step = self._step_down
        return "-" if step is None else f"{step.status} in {step.took_s:.2f} s"

    def _writes_again(self) -> str:
        if self._name not in (KILL, STEP_DOWN):
            return "-"
        found = [
            writes_again_s(self._shots, node.index, self._moment)
            for node in self._cluster.nodes
            if node is not self._killed
        ]
        return ", ".join("never" if value is None else f"{value:.2f}" for value in found)

    def _verdict(self, shots: list[Shot]) -> str:
        calm = due_between(shots, self._begin - CALM_S, self._begin)
        after = due_between(shots, self._end + GRACE_S, self._end + AFTER_S)
        limit_s = normal_limit_s(calm)
        if is_normal(after, limit_s):
            return "yes"
        latencies = spread(shot.latency_s for shot in after if shot.outcome == OK)
        p99 = "-" if latencies.p99_ms is None else f"{latencies.p99_ms:.0f}"
        bad = counts(kinds_of_failure(after))
        return f"no: p99 {p99} ms, limit {limit_s * 1000:.0f}, not 2xx {bad}"


@asynccontextmanager
async def busy_processes(count: int) -> AsyncIterator[None]:
    """Keep so many processes busy while the block lasts."""
    command = [sys.executable, "-c", "while True: pass"]
    processes: list[ServerProcess] = []
    with tempfile.TemporaryDirectory(prefix="busy-") as folder:
        try:
            for _ in range(count):
                processes.append(ServerProcess(command, log_file=Path(folder, "log")))
            yield
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + END_S):
                for process in processes:
                    process.send(signal.SIGKILL)
                for process in processes:
                    await process.kill()
