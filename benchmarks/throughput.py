"""
Requests a second, and CPU time per request: KV version 2, read and write, direct and through a
standby, at several numbers of connections.

    python -m benchmarks.throughput                            baoha and OpenBao, all of it
    python -m benchmarks.throughput --connections 16 --seconds 10 baoha-sqlite openbao-raft

Rules of this file:

1. CPU time is that of all server processes of the cluster together (nodes, database), not of the
   client; it is the figure to compare, because the client shares the machine.
2. Every cluster runs alone; ratios are to the first cluster of the command line.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import trio

from benchmarks.hammer import HammerError, hammer, request_bytes
from benchmarks.tables import table
from testbed.clusters import Cluster, LabError, RunningNode, run_cluster
from testbed.descriptions import Description, DescriptionError, load_description
from testbed.processes import cpu_time_s

DEFAULT_CLUSTERS = ("baoha-sqlite", "openbao-raft", "openbao-postgresql")
KEYS = 200
VALUE_BYTES = 100
WARM_UP_S = 0.5
HEADS = (
    "cluster",
    "operation",
    "through",
    "connections",
    "requests/s",
    "ratio",
    "CPU us/request",
    "ratio",
    "median ms",
    "p99 ms",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measurement; ``cpu_us`` is per request, of all servers."""

    cluster: str
    operation: str
    through: str
    connections: int
    requests_per_s: float
    cpu_us: float
    median_ms: float
    p99_ms: float

    @property
    def subject(self) -> tuple[str, str, int]:
        """What was measured, whatever the cluster."""
        return (self.operation, self.through, self.connections)


async def measure(
    description: Description, connections: Sequence[int], seconds: float
) -> list[Figure]:
    """
    Measure one cluster.

    Raises:
        LabError: it does not come up.
        HammerError: it does not answer.
    """
    figures: list[Figure] = []
    async with run_cluster(description) as cluster:
        active = await cluster.wait_active()
        standby = next((node for node in cluster.nodes if node is not active), None)
        places = [("active", active)] + ([("standby", standby)] if standby is not None else [])
        for operation in ("write", "read"):
            for through, node in places:
                for count in connections:
                    figure = await _measure_one(cluster, node, operation, through, count, seconds)
                    figures.append(figure)
    return figures


async def _measure_one(
    cluster: Cluster,
    node: RunningNode,
    operation: str,
    through: str,
    connections: int,
    seconds: float,
) -> Figure:
    requests = _requests(node, cluster.root_token, operation)
    run = partial(hammer, (node.host, node.port), requests, connections=connections)
    await trio.to_thread.run_sync(partial(run, duration_s=WARM_UP_S))
    groups = cluster.process_groups()
    before_s = cpu_time_s(groups)
    strokes = await trio.to_thread.run_sync(partial(run, duration_s=seconds))
    used_s = cpu_time_s(groups) - before_s
    figure = Figure(
        cluster=cluster.name,
        operation=operation,
        through=through,
        connections=connections,
        requests_per_s=strokes.per_s,
        cpu_us=used_s * 1e6 / len(strokes.latencies_s),
        median_ms=strokes.percentile_ms(0.5),
        p99_ms=strokes.percentile_ms(0.99),
    )
    _say(
        f"{figure.cluster}: {operation} through {through}, {connections} connections: "
        f"{figure.requests_per_s:.0f}/s, {figure.cpu_us:.0f} us"
    )
    return figure


def _requests(node: RunningNode, token: str, operation: str) -> list[bytes]:
    body = json.dumps({"data": {"value": "x" * VALUE_BYTES}}).encode()
    host = f"{node.host}:{node.port}"
    make = partial(request_bytes, "PUT" if operation == "write" else "GET", host)
    return [
        make(f"/v1/secret/data/bench/{key}", token, body if operation == "write" else b"")
        for key in range(KEYS)
    ]


def rows(figures: Sequence[Figure]) -> list[list[object]]:
    """Return the lines of the table; ratios are to the first cluster."""
    first = figures[0].cluster if figures else ""
    base = {figure.subject: figure for figure in figures if figure.cluster == first}
    ordered = sorted(figures, key=lambda figure: list(base).index(figure.subject))
    return [
        [
            figure.cluster,
            figure.operation,
            figure.through,
            figure.connections,
            figure.requests_per_s,
            figure.requests_per_s / base[figure.subject].requests_per_s,
            figure.cpu_us,
            figure.cpu_us / base[figure.subject].cpu_us,
            figure.median_ms,
            figure.p99_ms,
        ]
        for figure in ordered
    ]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput")
    parser.add_argument(
        "clusters",
        nargs="*",
        default=DEFAULT_CLUSTERS,
        help=f"description files, or names of those in testbed/clusters ({DEFAULT_CLUSTERS})",
    )
    parser.add_argument(
        "--connections", type=_numbers, default=[1, 16, 64], help="comma list (1,16,64)"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="each measurement (3)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args(arguments)


async def _main(options: argparse.Namespace, descriptions: Sequence[Description]) -> list[Figure]:
    figures: list[Figure] = []
    for description in descriptions:
        figures.extend(await measure(description, options.connections, options.seconds))
    return figures


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return 0 unless a cluster did not come up or answer."""
    options = _arguments(arguments)
    try:
        descriptions = [load_description(name) for name in options.clusters]
        figures = trio.run(_main, options, descriptions)
    except (DescriptionError, LabError, HammerError, OSError) as error:
        _say(f"throughput: {error}")
        return 1
    print(table(HEADS, rows(figures)))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
