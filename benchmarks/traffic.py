"""
Run load generators beside a cluster, and take in what they saw.

Rules of this file:

1. A generator is a process of its own: what it costs is known, and it does not wait for the lab.
2. Moments are those of the system's monotonic clock, which all processes share.

Theory of operation. A plan goes to the child as a file, its result comes back as one. A child that
fails is an error of the lab: a load that was not what it should have been proves nothing.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.generator import Plan, Stream
from benchmarks.shots import Shot
from testbed.clusters import Cluster, LabError, RunningNode
from testbed.http import RequestFailed
from testbed.processes import ServerProcess

# From the order to start until the first request: the child has to come up.
LEAD_S = 0.5
# The processors that are the load's alone.
_load_cores: Final[ContextVar[tuple[int, ...]]] = ContextVar("load_cores", default=())
# What a child may take beyond its plan and its time-outs.
PATIENCE_S = 30.0
READ_BACK_S = 60.0
SEED_KEYS_AT_ONCE = 8
PROBES_PER_S = 90.0
PROBE_PATHS = ["/v1/sys/health", "/v1/sys/leader", "/v1/sys/seal-status"]
PROBE = "control"
_numbers = itertools.count()


class Traffic:
    """One running generator. Made by ``run_traffic``; the figures are there when it has ended."""

    def __init__(
        self, process: ServerProcess, result_file: Path, streams: Sequence[Stream]
    ) -> None:
        self.shots: dict[str, list[Shot]] = {}
        self.cpu_share = 0.0
        self.late_p99_s = 0.0
        self.late_max_s = 0.0
        self.start = streams[0].start
        self._process = process
        self._result_file = result_file
        longest = max(stream.seconds + stream.timeout_s for stream in streams)
        self._deadline = self.start + longest + PATIENCE_S

    def stop(self) -> None:
        """Send nothing more; what is on its way is waited for."""
        self._process.send(signal.SIGTERM)

    async def wait(self) -> None:
        """
        Return when the generator has ended, with its figures.

        Raises:
            LabError: it failed.
        """
        code = -1
        with trio.move_on_after(self._deadline - time.monotonic()):
            code = await self._process.wait()
        if code != 0 or not self._result_file.exists():
            raise LabError(f"generator: exit code {code}", self._process.log_text()[-2000:])
        content = json.loads(self._result_file.read_text())
        self.cpu_share = content["cpu_share"]
        outcomes = content["outcomes"]
        for name, stream in content["streams"].items():
            self.late_p99_s = max(self.late_p99_s, stream["late_p99_s"])
            self.late_max_s = max(self.late_max_s, stream["late_max_s"])
            self.shots[name] = [
                Shot(node, number, bool(is_write), due, sent, ended, outcomes[outcome])
                for node, number, is_write, due, sent, ended, outcome in stream["rows"]
            ]


def keep_cores(count: int) -> None:
    """
    Keep some of the processors for the load: what this process starts later has the others.

    Raises:
        ValueError: none would be left.
    """
    cores = sorted(os.sched_getaffinity(0))
    if not 0 <= count < len(cores):
        raise ValueError(f"of {len(cores)} processors at most {len(cores) - 1} can be kept")
    os.sched_setaffinity(0, cores[: len(cores) - count])
    _load_cores.set(tuple(cores[len(cores) - count :]))


@asynccontextmanager
async def run_traffic(cluster: Cluster, streams: Sequence[Stream]) -> AsyncIterator[Traffic]:
    """
    Run a generator while the block lasts, which may ``wait`` for it.

    Cancellation: the generator is ended.
    """
    plan = Plan(
        targets=[(node.host, node.port) for node in cluster.nodes],
        token=cluster.root_token,
        streams=list(streams),
        cores=list(_load_cores.get()),
    )
    with tempfile.TemporaryDirectory(prefix="traffic-") as folder:
        plan_file, result_file = Path(folder, "plan.json"), Path(folder, "result.json")
        await trio.Path(plan_file).write_text(json.dumps(asdict(plan)))
        command = [sys.executable, "-m", "benchmarks.generator", str(plan_file), str(result_file)]
        process = ServerProcess(command, log_file=Path(folder, "log"), folder=Path.cwd())
        try:
            yield Traffic(process, result_file, streams)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE_S):
                await process.kill()


async def fire(cluster: Cluster, streams: Sequence[Stream]) -> Traffic:
    """
    Run a generator to its end.

    Raises:
        LabError: it failed.
    """
    async with run_traffic(cluster, streams) as traffic:
        await traffic.wait()
    return traffic


def soon() -> float:
    """Return when a stream may start that is ordered now."""
    return time.monotonic() + LEAD_S


def fresh_prefix(what: str) -> str:
    """Return a folder for writes that no other stream uses."""
    return f"{what}-{next(_numbers)}"


def probes(start: float, seconds: float) -> Stream:
    """Return the stream that asks each control endpoint of each node every 100 ms, anew."""
    return Stream(
        name=PROBE,
        rate=PROBES_PER_S,
        start=start,
        seconds=seconds,
        connections=400,
        is_fresh=True,
        write_share=0.0,
        paths=PROBE_PATHS,
    )


async def until(moment: float) -> None:
    """Sleep until a moment of the monotonic clock."""
    await trio.sleep(max(0.0, moment - time.monotonic()))


async def plant_seeds(cluster: Cluster, count: int) -> None:
    """
    Store the secrets that the streams read.

    Raises:
        LabError: one is not accepted.
    """
    active = await cluster.wait_active()
    limit = trio.CapacityLimiter(SEED_KEYS_AT_ONCE)

    async def plant(key: int) -> None:
        async with limit:
            body = {"data": {"value": f"{key:010d}", "fill": "x" * 100}}
            path = f"/v1/secret/data/seed/{key}"
            await active.must("PUT", path, body, token=cluster.root_token)

    async with trio.open_nursery() as nursery:
        for key in range(count):
            nursery.start_soon(plant, key)


async def read_back(cluster: Cluster, prefix: str, shots: Sequence[Shot], sample: int) -> list[str]:
    """
    Return what is not right with the acknowledged writes of one stream; empty is good.

    Every key is looked for in the lists; of a sample the value and the version are read.

    Raises:
        LabError: the cluster does not answer.
    """
    with trio.move_on_after(READ_BACK_S):
        return await _read_back(cluster, prefix, shots, sample)
    return [f"{prefix}: not read back within {READ_BACK_S:g} s"]


async def _read_back(
    cluster: Cluster, prefix: str, shots: Sequence[Shot], sample: int
) -> list[str]:
    active = await cluster.wait_active()
    nodes = (active, *(node for node in cluster.nodes if node is not active))
    acknowledged = sorted(shot.number for shot in shots if shot.is_write and shot.outcome == "ok")
    wrong: list[str] = []
    stored: set[int] = set()
    for folder in sorted({number // 1000 for number in acknowledged}):
        answer = await _ask(
            nodes, cluster.root_token, f"/v1/secret/metadata/{prefix}/{folder}?list=true"
        )
        stored.update(int(key) for key in (answer or {}).get("keys", []))
    wrong.extend(f"{prefix}/{number}: lost" for number in acknowledged if number not in stored)
    step = max(1, len(acknowledged) // sample)
    for number in acknowledged[::step]:
        answer = await _ask(
            nodes, cluster.root_token, f"/v1/secret/data/{prefix}/{number // 1000}/{number}"
        )
        if answer is None:
            wrong.append(f"{prefix}/{number}: not readable")
        elif answer["data"]["value"] != f"{number:010d}":
            wrong.append(f"{prefix}/{number}: holds {answer['data']['value']}")
        elif answer["metadata"]["version"] != 1:
            wrong.append(f"{prefix}/{number}: executed {answer['metadata']['version']} times")
    return wrong


async def _ask(nodes: Sequence[RunningNode], token: str, path: str) -> dict[str, Any] | None:
    status: object = None
    for node in nodes:
        try:
            response = await node.call("GET", path, token=token)
        except RequestFailed as error:
            status = error.kind
            continue
        if response.status == 200:
            found: dict[str, Any] = response.json()["data"]
            return found
        if response.status == 404:
            return None
        status = response.status
    raise LabError(f"read back {path}: {status}")
