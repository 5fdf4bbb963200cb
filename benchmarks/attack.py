"""
The mode ``attack``: somebody without a token does what he can; a client with one works on.

Rules of this file:

1. The attacker has the priority of the servers, the client a better one: the client stands for
   somebody on another machine, and the attacker for a flood that arrives.
2. The client is measured before, during and after each attack, on kept connections and on new ones.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from benchmarks.attackers import ATTACKS
from benchmarks.generator import OK, Stream
from benchmarks.overload_runs import READ_BACK_SAMPLE, Settings, kinds_of_failure, say
from benchmarks.reports import Report, counts
from benchmarks.shots import (
    Shot,
    due_between,
    is_normal,
    normal_limit_s,
    spread,
    summarize,
)
from benchmarks.traffic import PROBE, fresh_prefix, probes, read_back, run_traffic, soon, until
from testbed.clusters import Cluster, LabError
from testbed.processes import ServerProcess, cpu_time_s

# 20 reads and 20 writes.
CLIENT_PER_S = 40.0
CLIENT_CONNECTIONS = 100
CALM_S = 3.0
AFTER_S = 5.0
GRACE_S = 2.0
ATTACK_S_MAX = 10.0
END_S = 10.0
KEPT, NEW = KINDS = ("kept", "new")

HEADS = (
    "cluster",
    "attack",
    "connections",
    "due/s",
    "2xx in 1 s %",
    "p50 ms",
    "p99 ms",
    "max ms",
    "before p99 ms",
    "refused",
    "timeouts",
    "errors",
    "as before",
    "wrong in the end",
)
NODE_HEADS = (
    "cluster",
    "attack",
    "opened/s",
    "sent/s",
    "MB/s",
    "open",
    "attacker's CPU",
    "nodes' CPU",
    "control p50 ms",
    "p99 ms",
    "max ms",
    "control failed",
    "tenures lost",
    "generator's CPU",
    "late max ms",
)


@dataclass(slots=True)
class Achieved:
    """What the attacker did; see ``benchmarks.attackers``."""

    opened_per_s: float = 0.0
    sent_per_s: float = 0.0
    sent_bytes_per_s: float = 0.0
    open: int = 0
    cpu_share: float = 0.0


async def measure_attack(cluster: Cluster, settings: Settings) -> list[Report]:
    """
    Attack the cluster in all ways.

    Raises:
        LabError: a generator or an attacker failed, or the cluster does not come back.
    """
    clients: list[list[object]] = []
    nodes: list[list[object]] = []
    notes: list[str] = []
    for name in settings.attacks:
        attacked = _Attacked(cluster, name, min(settings.seconds, ATTACK_S_MAX))
        await attacked.run()
        clients.extend(attacked.client_rows())
        nodes.append(attacked.node_row())
        notes.extend(attacked.notes)
    return [
        Report(title="attack, the client with a token", heads=HEADS, rows=clients, notes=notes),
        Report(title="attack, attacker and nodes", heads=NODE_HEADS, rows=nodes),
    ]


class _Attacked:
    """One attack on one cluster."""

    def __init__(self, cluster: Cluster, name: str, seconds: float) -> None:
        self.notes: list[str] = []
        self._cluster = cluster
        self._name = name
        self._seconds = seconds
        self._achieved = Achieved()
        self._begin = self._end = 0.0
        self._nodes_cpu = 0.0
        self._tenures = 0
        self._shots: dict[str, list[Shot]] = {}
        self._wrong: dict[str, list[str]] = {}
        self._cpu_share = self._late_max_s = 0.0

    async def run(self) -> None:
        cluster = self._cluster
        await cluster.wait_active()
        before = cluster.tenures()
        start = soon()
        seconds = CALM_S + self._seconds + AFTER_S
        streams = [_client(kind, start, seconds) for kind in KINDS]
        async with run_traffic(cluster, [*streams, probes(start, seconds)]) as traffic:
            self._begin = start + CALM_S
            self._end = self._begin + self._seconds
            await until(self._begin)
            cpu_s = cpu_time_s(cluster.process_groups())
            async with run_attacker(cluster, self._name, self._seconds) as achieved:
                await until(self._end)
            self._nodes_cpu = (cpu_time_s(cluster.process_groups()) - cpu_s) / self._seconds
            await traffic.wait()
        self._achieved = achieved
        self._shots = traffic.shots
        self._cpu_share, self._late_max_s = traffic.cpu_share, traffic.late_max_s
        self._tenures = cluster.tenures() - before
        for stream in streams:
            shots = self._shots[stream.name]
            wrong = await read_back(cluster, stream.prefix, shots, READ_BACK_SAMPLE)
            self._wrong[stream.name] = wrong
            self.notes.extend(f"{cluster.name}, {self._name}: {text}" for text in wrong[:10])

    def client_rows(self) -> list[list[object]]:
        return [self._client_row(kind) for kind in KINDS]

    def _client_row(self, kind: str) -> list[object]:
        shots = self._shots[kind]
        calm = due_between(shots, self._begin - CALM_S, self._begin)
        inside = due_between(shots, self._begin, self._end)
        after = due_between(shots, self._end + GRACE_S, self._end + AFTER_S)
        summary = summarize(inside, self._seconds)
        percent = 100 * summary.prompt_per_s / max(1.0, summary.offered_per_s)
        say(f"{self._cluster.name}: {self._name}: {kind}: {percent:.0f} % within 1 s")
        return [
            self._cluster.name,
            self._name,
            kind,
            summary.offered_per_s,
            percent,
            summary.good.p50_ms,
            summary.good.p99_ms,
            summary.good.max_ms,
            spread(shot.latency_s for shot in calm).p99_ms,
            round(summary.refusals_per_s * self._seconds),
            summary.timeouts,
            counts(summary.errors),
            _verdict(after, normal_limit_s(calm)),
            len(self._wrong[kind]),
        ]

    def node_row(self) -> list[object]:
        control = due_between(self._shots[PROBE], self._begin, self._end)
        latencies = spread(shot.latency_s for shot in control if shot.outcome == OK)
        achieved = self._achieved
        return [
            self._cluster.name,
            self._name,
            achieved.opened_per_s,
            achieved.sent_per_s,
            achieved.sent_bytes_per_s / 1e6,
            achieved.open,
            achieved.cpu_share,
            self._nodes_cpu,
            latencies.p50_ms,
            latencies.p99_ms,
            latencies.max_ms,
            counts(kinds_of_failure(control)),
            self._tenures,
            self._cpu_share,
            self._late_max_s * 1000,
        ]


def _client(kind: str, start: float, seconds: float) -> Stream:
    return Stream(
        name=kind,
        rate=CLIENT_PER_S,
        start=start,
        seconds=seconds,
        connections=CLIENT_CONNECTIONS,
        is_fresh=kind == NEW,
        write_share=0.5,
        prefix=fresh_prefix("attack"),
    )


def _verdict(after: Sequence[Shot], limit_s: float) -> str:
    if is_normal(after, limit_s):
        return "yes"
    latencies = spread(shot.latency_s for shot in after if shot.outcome == OK)
    p99 = "-" if latencies.p99_ms is None else f"{latencies.p99_ms:.0f}"
    bad = counts(kinds_of_failure(after))
    return f"no: p99 {p99} ms, limit {limit_s * 1000:.0f}, not 2xx {bad}"


@asynccontextmanager
async def run_attacker(cluster: Cluster, name: str, seconds: float) -> AsyncIterator[Achieved]:
    """
    Attack while the block lasts, at most for so long; its figures are there at the end.

    Raises:
        LabError: the attacker failed.
    """
    with tempfile.TemporaryDirectory(prefix="attack-") as folder:
        log_file, result_file = Path(folder, "log"), Path(folder, "result.json")
        addresses = [f"{node.host}:{node.port}" for node in cluster.nodes]
        module = [sys.executable, "-m", "benchmarks.attackers"]
        command = [*module, name, f"{seconds}", str(result_file), *addresses]
        achieved = Achieved()
        process = ServerProcess(command, log_file=log_file, folder=Path.cwd())
        try:
            yield achieved
            with trio.move_on_after(END_S):
                await process.wait()
            if process.exit_code != 0:
                raise LabError(f"attacker: {name} failed", process.log_text()[-2000:])
            for key, value in json.loads(await trio.Path(result_file).read_text()).items():
                setattr(achieved, key, value)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + END_S):
                await process.kill()


__all__ = ["ATTACKS", "measure_attack", "run_attacker"]
