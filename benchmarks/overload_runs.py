"""
The modes ``capacity`` and ``overload``: the most a cluster answers, and what it does beyond that.

Rules of this file:

1. Multiples are of the capacity of the same kind of connection and the same mix.
2. The load and those who watch are different processes: the watchers stay punctual.

Theory of operation of a run. The load runs for a while at one rate. Meanwhile every control
endpoint of every node is asked every 100 ms on new connections; as soon as no more load is due, a
light load begins, and its latencies tell when all is as usual again. The highest multiple is
offered once more, and in its middle the active node is asked to step down. All of that is done
several times in turn where it is asked for: the speed of a virtual machine changes by a third from
one run to the next, and what is compared are medians.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.generator import OK, Stream
from benchmarks.reports import Report, counts
from benchmarks.shots import (
    PROMPT_S,
    Shot,
    Spread,
    due_between,
    errors,
    is_normal,
    normal_after_s,
    normal_limit_s,
    spread,
    summarize,
)
from benchmarks.traffic import (
    PROBE,
    Traffic,
    fire,
    fresh_prefix,
    probes,
    read_back,
    run_traffic,
    soon,
    until,
)
from testbed.clusters import Cluster, LabError
from testbed.http import RequestFailed
from testbed.processes import cpu_time_s

KEPT, NEW = KINDS = ("kept", "new")
# Connections to each node in a closed loop.
LEVELS = (2, 8, 32)
CAPACITY_WARM_S = 0.5
LIGHT_PER_S = 60.0
UNLOADED_S = 3.0
LIGHT_S = 10.0
SETTLE_S = 45.0
# Connections to each node in an open loop: a request that finds none free waits for one.
OPEN_CONNECTIONS = 300
STEP_DOWN_S = 30.0
# What a step-down may have to do with: from this long before until this long after it.
AROUND_S = 1.0
READ_BACK_SAMPLE = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line asks for."""

    modes: tuple[str, ...]
    seconds: float
    repeat: int
    multiples: tuple[float, ...]
    kinds: tuple[str, ...]
    write_share: float
    capacity_per_s: float | None
    rounds: tuple[str, ...]
    attacks: tuple[str, ...]
    steps_down: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDown:
    """A step-down under load; status 0: no answer."""

    moment: float
    took_s: float
    status: int


CAPACITY_HEADS = (
    "cluster",
    "requests",
    "connections",
    "to each node",
    "2xx/s",
    "p50 ms",
    "p99 ms",
    "not 2xx",
    "nodes' CPU",
    "generator's CPU",
)


async def measure_capacity(cluster: Cluster, settings: Settings) -> list[Report]:
    """
    Find the highest goodput of closed loops.

    Raises:
        LabError: the generator failed.
    """
    rows: list[list[object]] = []
    for share, kind in ((1.0, KEPT), (0.5, KEPT), (1.0, NEW), (0.5, NEW)):
        if kind in settings.kinds:
            for level in LEVELS:
                await settle(cluster)
                rows.append((await _closed_loop(cluster, share, kind, level, settings))[1])
    return [Report(title="capacity, closed loop", heads=CAPACITY_HEADS, rows=rows)]


async def find_capacity(
    cluster: Cluster, settings: Settings, *, kind: str = KEPT, share: float | None = None
) -> float:
    """
    Return the highest goodput, requests a second, or what the command line says it is.

    Raises:
        LabError: the generator failed.
    """
    if settings.capacity_per_s is not None:
        return settings.capacity_per_s
    share = settings.write_share if share is None else share
    levels: list[float] = []
    for level in LEVELS:
        levels.append((await _closed_loop(cluster, share, kind, level, settings))[0])
        if not await settle(cluster):
            break
    if max(levels) == 0:
        raise LabError(f"{cluster.name}: no request is answered", cluster.log_tails())
    return max(levels)


async def _closed_loop(
    cluster: Cluster, share: float, kind: str, level: int, settings: Settings
) -> tuple[float, list[object]]:
    seconds = min(settings.seconds, 4.0) + CAPACITY_WARM_S
    start = soon()
    stream = Stream(
        name="load",
        rate=0.0,
        start=start,
        seconds=seconds,
        connections=level,
        is_fresh=kind == NEW,
        write_share=share,
        prefix=fresh_prefix("capacity"),
    )
    before_s = cpu_time_s(cluster.process_groups())
    traffic = await fire(cluster, [stream])
    nodes_cpu = (cpu_time_s(cluster.process_groups()) - before_s) / seconds
    begin, end = start + CAPACITY_WARM_S, start + seconds
    ended = [shot for shot in traffic.shots["load"] if begin <= shot.ended < end]
    good = [shot for shot in ended if shot.outcome == OK]
    per_s = len(good) / (end - begin)
    latencies = spread(shot.latency_s for shot in good)
    say(f"{cluster.name}: {workload(share)}, {kind}, 3 x {level}: {per_s:.0f}/s")
    row: list[object] = [
        cluster.name,
        workload(share),
        kind,
        level,
        per_s,
        latencies.p50_ms,
        latencies.p99_ms,
        len(ended) - len(good),
        nodes_cpu,
        traffic.cpu_share,
    ]
    return per_s, row


ANSWER_HEADS = (
    "cluster",
    "connections",
    "load",
    "offered/s",
    "2xx in 1 s /s",
    "2xx/s",
    "p50 ms",
    "p99 ms",
    "max ms",
    "refused/s",
    "refusal p99 ms",
    "max ms ",
    "timeouts",
    "errors",
    "wrong in the end",
)
HEALTH_HEADS = (
    "cluster",
    "connections",
    "load",
    "control p50 ms",
    "p99 ms",
    "max ms",
    "control failed",
    "tenures lost",
    "step-down",
    "took s",
    "failed around it",
    "normal after s",
    "nodes' CPU",
    "generator's CPU",
    "late p99 ms",
    "late max ms",
)


async def measure_overload(cluster: Cluster, settings: Settings) -> list[Report]:
    """
    Offer multiples of the capacity.

    Raises:
        LabError: a generator failed, or the cluster does not answer in the end.
    """
    unloaded = await measure_unloaded(cluster)
    limit_s = normal_limit_s(unloaded)
    usual = spread(shot.latency_s for shot in unloaded)
    notes = [
        f"{cluster.name}: light load, unloaded: p50 {usual.p50_ms:.1f}, p99 {usual.p99_ms:.1f} ms;"
        f" normal is up to {limit_s * 1000:.0f} ms",
    ]
    answers: list[list[object]] = []
    health: list[list[object]] = []
    is_well = True
    for kind in settings.kinds:
        if not is_well:
            break
        capacity = await find_capacity(cluster, settings, kind=kind)
        notes.append(
            f"{cluster.name}: capacity, {workload(settings.write_share)}, {kind} connections:"
            f" {capacity:.0f}/s"
        )
        runs = plan_runs(cluster, settings, kind, capacity, limit_s)
        is_well = await run_all(runs, answers, health, notes)
        notes.extend(compare_loads(f"{cluster.name}, {kind}", runs))
    title = "overload, health"
    return [
        Report(title="overload, answers", heads=ANSWER_HEADS, rows=answers),
        Report(title=title, heads=HEALTH_HEADS, rows=health, notes=notes, is_failure=not is_well),
    ]


def plan_runs(
    cluster: Cluster, settings: Settings, kind: str, capacity: float, limit_s: float
) -> list[Run]:
    """Return the runs of one kind of connection, in their order."""
    highest = max(settings.multiples)
    runs: list[Run] = []
    for _ in range(settings.repeat):
        runs += [Run(cluster, settings, kind, m, capacity, limit_s) for m in settings.multiples]
        if settings.steps_down:
            runs.append(
                Run(cluster, settings, kind, highest, capacity, limit_s, with_step_down=True)
            )
    return runs


def compare_loads(name: str, runs: Sequence[Run]) -> list[str]:
    """Return what is to be said of the goodput of different loads; each is a median of its runs."""
    loads: dict[str, list[Run]] = {}
    for run in runs:
        if run.is_done:
            loads.setdefault(run.load, []).append(run)
    goodputs = {load: median(run.prompt_per_s for run in same) for load, same in loads.items()}
    peak = max(goodputs.values(), default=0.0)
    if not peak:
        return [f"{name}: nothing was answered"]
    # The load takes its own part of the machine, the more the more is offered; not of this.
    per_cpu_s = {load: median(run.per_cpu_s for run in same) for load, same in loads.items()}
    return [
        f"{name}: goodput of the peak: "
        + ", ".join(f"{goodput / peak:.0%} at {load}" for load, goodput in goodputs.items()),
        f"{name}: answers within 1 s, for each CPU second of the nodes: "
        + ", ".join(f"{per_s:.0f} at {load}" for load, per_s in per_cpu_s.items()),
    ]


async def measure_unloaded(cluster: Cluster) -> list[Shot]:
    """
    Return what a light load sees.

    Raises:
        LabError: the generator failed.
    """
    return (await fire(cluster, [light(soon(), UNLOADED_S)])).shots["light"]


async def settle(cluster: Cluster) -> bool:
    """
    Wait until a light load through all nodes is answered; tell whether it was, within SETTLE_S.

    Raises:
        LabError: the generator failed.
    """
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        traffic = await fire(cluster, [light(soon(), 1.0)])
        if is_normal(traffic.shots["light"], PROMPT_S / 2):
            return True
    shots = traffic.shots["light"]
    latencies = spread(shot.latency_s for shot in shots if shot.outcome == OK)
    failed = counts(kinds_of_failure(shots))
    say(f"{cluster.name}: does not settle: p99 {latencies.p99_ms} ms, not 2xx: {failed}")
    say(cluster.log_tails())
    return False


def light(start: float, seconds: float) -> Stream:
    """Return a load that no healthy cluster feels."""
    return Stream(
        name="light",
        rate=LIGHT_PER_S,
        start=start,
        seconds=seconds,
        write_share=0.5,
        prefix=fresh_prefix("light"),
    )


class Run:
    """One multiple on one cluster."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        kind: str,
        multiple: float,
        capacity: float,
        limit_s: float,
        *,
        with_step_down: bool = False,
    ) -> None:
        """Plan it; ``limit_s`` is the latency that is still as usual."""
        self.notes: list[str] = []
        self.cluster = cluster
        self.load = f"x {multiple:g}{', step-down' if with_step_down else ''}"
        self.name = f"{kind} {self.load}"
        self._kind = kind
        self.is_done = False
        self.prompt_per_s = 0.0  # 2xx within a second
        self.per_cpu_s = 0.0  # the same, for each second of CPU time that the nodes took
        self._with_step_down = with_step_down
        self._limit_s = limit_s
        self._stream = Stream(
            name="load",
            rate=multiple * capacity,
            start=soon(),
            seconds=settings.seconds,
            connections=OPEN_CONNECTIONS,
            is_fresh=kind == NEW,
            write_share=settings.write_share,
            prefix=fresh_prefix("overload"),
        )
        self._step_down: StepDown | None = None
        self._nodes_cpu = 0.0
        self._tenures = 0
        self._wrong: list[str] = []
        self._load: Traffic
        self._watch: Traffic

    async def run(self) -> None:
        """
        Offer the load, and look at what was stored.

        Raises:
            LabError: a generator failed, or the cluster does not answer in the end.
        """
        cluster, seconds = self.cluster, self._stream.seconds
        active = await cluster.wait_active()
        tenures = cluster.tenures()
        start = soon()
        end = start + seconds
        self._stream = replace(self._stream, start=start)
        watchers = [probes(start, seconds), light(end, LIGHT_S)]
        async with run_traffic(cluster, watchers) as watch:
            async with run_traffic(cluster, [self._stream]) as load:
                await until(start)
                before_s = cpu_time_s(cluster.process_groups())
                if self._with_step_down:
                    await until(start + seconds / 2)
                    self._step_down = await step_down(cluster, active.index)
                await until(end)
                used_s = cpu_time_s(cluster.process_groups()) - before_s
                self._nodes_cpu = used_s / (time.monotonic() - start)
                await load.wait()
            await watch.wait()
        self._load, self._watch = load, watch
        is_asked = self._step_down is not None and self._step_down.status == 204
        self._tenures = cluster.tenures() - tenures - is_asked
        if self._tenures < 0:
            self.notes.append(f"{cluster.name}, {self.name}: no new tenure after the step-down")
        self._wrong = await read_back(
            cluster, self._stream.prefix, load.shots["load"], READ_BACK_SAMPLE
        )
        self.notes.extend(f"{cluster.name}: {text}" for text in self._wrong[:10])

    def answer_row(self) -> list[object]:
        """Return the line under ANSWER_HEADS."""
        summary = summarize(self._load.shots["load"], self._stream.seconds)
        self.is_done = True
        self.prompt_per_s = summary.prompt_per_s
        self.per_cpu_s = summary.prompt_per_s / max(self._nodes_cpu, 0.01)
        say(
            f"{self.cluster.name}: {self.name}:"
            f" {summary.offered_per_s:.0f}/s offered, {summary.prompt_per_s:.0f}/s within 1 s,"
            f" {summary.refusals_per_s:.0f}/s refused, {summary.timeouts} timeouts"
        )
        return [
            *self._names(),
            summary.offered_per_s,
            summary.prompt_per_s,
            summary.good_per_s,
            *_figures(summary.good),
            summary.refusals_per_s,
            *_figures(summary.refused)[1:],
            summary.timeouts,
            counts(summary.errors),
            len(self._wrong),
        ]

    def health_row(self) -> list[object]:
        """Return the line under HEALTH_HEADS."""
        asked = self._watch.shots[PROBE]
        control = spread(shot.latency_s for shot in asked if shot.outcome == OK)
        end = self._stream.start + self._stream.seconds
        step = self._step_down
        return [
            *self._names(),
            *_figures(control),
            counts(kinds_of_failure(asked)),
            max(0, self._tenures),
            "-" if step is None else str(step.status),
            None if step is None else step.took_s,
            "-" if step is None else counts(failed_around(self._load.shots["load"], step)),
            normal_after_s(self._watch.shots["light"], end, self._limit_s),
            self._nodes_cpu,
            self._load.cpu_share,
            self._load.late_p99_s * 1000,
            self._load.late_max_s * 1000,
        ]

    def _names(self) -> list[object]:
        return [self.cluster.name, self._kind, self.load]


async def run_all(
    runs: Sequence[Run],
    answers: list[list[object]],
    health: list[list[object]],
    notes: list[str],
) -> bool:
    """
    Run one after the other, adding their lines; False: the cluster did not recover from one, and
    what would have followed could not be compared.

    Raises:
        LabError: a generator failed, or the cluster does not answer in the end.
    """
    for run in runs:
        await run.run()
        answers.append(run.answer_row())
        health.append(run.health_row())
        notes.extend(run.notes)
        if not await settle(run.cluster):
            notes.append(f"{run.cluster.name}: not well {SETTLE_S:g} s after {run.name}, given up")
            return False
    return True


async def step_down(cluster: Cluster, index: int) -> StepDown:
    """Ask one node to step down; whatever comes of it is the result."""
    moment = time.monotonic()
    status = 0
    try:
        status = (await cluster.step_down(cluster.nodes[index])).status
    except RequestFailed as error:
        say(f"{cluster.name}: step-down: {error}")
    return StepDown(moment=moment, took_s=time.monotonic() - moment, status=status)


def failed_around(shots: Sequence[Shot], step: StepDown) -> dict[str, int]:
    """
    Count by kind the requests that were on their way around a step-down, were admitted, and failed:
    neither 2xx nor a refusal, and not given up in the client's own queue.
    """
    until_s = step.moment + step.took_s + AROUND_S
    around = [
        shot for shot in due_between(shots, 0.0, until_s) if shot.ended >= step.moment - AROUND_S
    ]
    return errors(around)


def kinds_of_failure(shots: Sequence[Shot]) -> dict[str, int]:
    """Count what is not 2xx, by kind."""
    failed: dict[str, int] = {}
    for shot in shots:
        if shot.outcome != OK:
            failed[shot.outcome] = failed.get(shot.outcome, 0) + 1
    return failed


def workload(share: float) -> str:
    """Return what a mix is called."""
    return "writes" if share == 1 else f"{share:.0%} writes"


def say(text: str) -> None:
    """Tell how it goes."""
    print(text, file=sys.stderr, flush=True)


def _figures(spread_: Spread) -> list[object]:
    return [spread_.p50_ms, spread_.p99_ms, spread_.max_ms]
