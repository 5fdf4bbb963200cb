"""
The way of one write through the code: how many calls, and how often they change from file to file.

Rules of this file:

1. Nothing is rebuilt for the measurement: two nodes are put together as ``baoha.server`` does it,
   over one SQLite file, and both ends of every socket are real. They share one process, so that one
   trace sees all of it.
2. What is printed is a count, never a time: it is the same on a slow and on a busy machine.

Theory of operation. A profile function notes every call of a function of ``baoha`` from when a
client sends its request until it has the answer, in the event loop and in the store's threads.
Python reports a coroutine that goes on after a wait as a call, too: those are counted apart, since
they say how often there was a wait and how deep, not how much there is to read. Libraries are left
out. Heartbeats and renewals run all the time, so the least of several writes is what one takes.

    python -m benchmarks.walk
    python -m benchmarks.walk --list    # every call, a line for each stay in a file

Source: ours.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from dis import get_instructions
from functools import partial
from itertools import groupby
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Self

import trio

import baoha
from baoha.api.admission import Admission
from baoha.api.app import build_app
from baoha.api.door import Door
from baoha.cluster.network import TCPNetwork
from baoha.config.load import load
from baoha.core.view import InitParameters, LinkState, Role
from baoha.node import Node
from baoha.server.http.listener import APIListener
from baoha.server.settings import listener_policy, node_settings
from baoha.server.stores import open_stores
from benchmarks.tables import table
from testbed.http import Connection
from testbed.ports import HOST, free_ports

ROOT = Path(baoha.__file__).parent
# A path of its own for each write: what a write costs grows with the versions that are there.
PATH = "/v1/walk/data/{}-{}"
BODY = json.dumps({"data": {"key": "value"}}).encode()
# Until connections, caches and lanes are warm, and at least once without a heartbeat.
WARM_UP = 5
REPEAT = 25
READY_S = 30.0
REQUEST_S = 10.0
# What a request leaves behind in the loop is done by then.
PAUSE_S = 0.01

CONFIG = """
api_addr     = "http://{host}:{port}"
cluster_addr = "https://{host}:{cluster_port}"

[storage.sqlite]
path = "{folder}/baoha.db"

[[listener.tcp]]
address     = "{host}:{port}"
tls_disable = true
"""


@dataclass(frozen=True, slots=True)
class Step:
    """A call: ``file`` counts from ``baoha/``."""

    file: str
    function: str


@dataclass(frozen=True, slots=True)
class Walk:
    """
    The way of one request, from its first byte to the last one of its answer.

    Attributes:
        steps: the calls, in order.
        resumed: how many frames went on after a wait.
    """

    steps: tuple[Step, ...]
    resumed: int

    @property
    def calls(self) -> int:
        """How many functions were called."""
        return len(self.steps)

    @property
    def switches(self) -> int:
        """How often a call in another file followed."""
        return sum(1 for _ in groupby(self.steps, key=lambda step: step.file)) - 1

    def by_folder(self) -> Counter[str]:
        """Return how many calls each folder has."""
        return Counter(step.file.rpartition("/")[0] for step in self.steps)


class Tracer:
    """
    Notes calls. A context: threads that are started inside it can be traced, as the caller's.

    Attributes:
        walk: what was seen last.
    """

    def __init__(self, folder: Path = ROOT) -> None:
        """Note calls of what is in a folder."""
        self.walk = Walk((), 0)
        self._prefix = f"{folder}/"
        self._steps: list[Step] | None = None
        self._resumed = 0
        self._known: dict[CodeType, tuple[Step, int] | None] = {}

    def __enter__(self) -> Self:
        threading.setprofile(self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        threading.setprofile(None)

    @contextmanager
    def tracing(self) -> Iterator[None]:
        """Note what is entered meanwhile."""
        steps = self._steps = []
        self._resumed = 0
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)
            self._steps = None
            self.walk = Walk(tuple(steps), self._resumed)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        steps = self._steps
        if steps is None or event != "call":
            return
        code = frame.f_code
        if code not in self._known:
            self._known[code] = self._step(code)
        if (known := self._known[code]) is None:
            return
        step, start = known
        if frame.f_lasti > start:
            self._resumed += 1
        else:
            steps.append(step)

    def _step(self, code: CodeType) -> tuple[Step, int] | None:
        """Return what a call of some code is, and the last offset that is not one of a wait."""
        if not code.co_filename.startswith(self._prefix):
            return None
        starts = (
            instruction.offset
            for instruction in get_instructions(code)
            if instruction.opname == "RESUME" and instruction.arg == 0
        )
        return Step(code.co_filename.removeprefix(self._prefix), code.co_qualname), next(starts)


@asynccontextmanager
async def running(folder: Path, port: int) -> AsyncIterator[Node]:
    """Run one node and its listener, as ``baoha.server`` puts them together."""
    file = folder / f"{port}.toml"
    text = CONFIG.format(host=HOST, port=port, cluster_port=port + 1, folder=folder)
    file.write_text(text)
    config = load([file], {})
    async with open_stores(config) as stores, trio.open_nursery() as api:
        node = Node(
            node_settings(config), backend=stores.data, ha_backend=stores.ha, network=TCPNetwork()
        )
        admission = Admission()
        app = build_app(node, admission=admission, park_s=config.ha.park_s)
        listener = config.listeners[0]
        policy = listener_policy(listener, name="listener 1")
        door = Door(node, admission)
        await api.start(APIListener(app, listener, policy=policy, door=door).serve)
        await api.start(node.run)
        try:
            yield node
        finally:
            api.cancel_scope.cancel()


async def until(node: Node, role: Role, link: LinkState | None = None) -> None:
    """Wait until a node has a role and, as a standby, its channel."""
    with trio.fail_after(READY_S):
        while (status := node.status()).role is not role or link not in (None, status.link):
            await node.wait_change(status)


async def measure(folder: Path, *, repeat: int = REPEAT) -> dict[str, Walk]:
    """
    Return the way of a KV v2 write: "direct" to the active node, "forwarded" by a standby.

    Args:
        folder: where the store and the configurations go.
        repeat: how many writes each; the one with the fewest calls counts.

    Raises:
        AssertionError: a write did not succeed.
    """
    ports = free_ports(2)
    with Tracer() as tracer:
        async with running(folder, ports[0]) as active:
            keys = await active.initialize(InitParameters(secret_shares=1, secret_threshold=1))
            await active.unseal(keys.shares[0])
            await until(active, Role.ACTIVE)
            async with running(folder, ports[1]) as standby:
                await standby.unseal(keys.shares[0])
                await until(standby, Role.STANDBY, LinkState.UP)
                mount = {"type": "kv", "options": {"version": "2"}}
                with Connection(HOST, ports[0], token=keys.root_token) as client:
                    answer = await client.request("POST", "/v1/sys/mounts/walk", mount)
                    assert answer.status == 204, answer
                return {
                    name: await _least(tracer, port, keys.root_token, repeat)
                    for name, port in zip(("direct", "forwarded"), ports, strict=True)
                }


async def _least(tracer: Tracer, port: int, token: str, repeat: int) -> Walk:
    walks = []
    with Connection(HOST, port, token=token) as client:
        for number in range(WARM_UP + repeat):
            path = PATH.format(port, number)
            with tracer.tracing():
                answer = await client.request("PUT", path, BODY, timeout_s=REQUEST_S)
            assert answer.status == 200, answer
            if number >= WARM_UP:
                walks.append(tracer.walk)
            await trio.sleep(PAUSE_S)
    return min(walks, key=lambda walk: walk.calls)


def report(walks: dict[str, Walk]) -> str:
    """Return the table of totals, and of calls by folder."""
    folders = sorted(set().union(*(walk.by_folder() for walk in walks.values())))
    rows: list[list[object]] = [
        ["calls", *(walk.calls for walk in walks.values())],
        ["changes of file", *(walk.switches for walk in walks.values())],
        ["functions", *(len(set(walk.steps)) for walk in walks.values())],
        ["resumed", *(walk.resumed for walk in walks.values())],
        *(
            [f"calls in {folder}/", *(walk.by_folder()[folder] for walk in walks.values())]
            for folder in folders
        ),
    ]
    return table(["one write", *walks], rows)


def listing(walk: Walk) -> str:
    """Return the calls in order, a line for each stay in one file."""
    return "\n".join(
        f"{file}: {' '.join(step.function for step in steps)}"
        for file, steps in groupby(walk.steps, key=lambda step: step.file)
    )


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.walk")
    parser.add_argument("--list", action="store_true", help="print every call")
    parser.add_argument("--repeat", type=int, default=REPEAT, help="writes of each kind")
    options = parser.parse_args(arguments)
    logging.disable()  # the nodes end in the middle of their duty
    with tempfile.TemporaryDirectory(prefix="baoha-walk-") as folder:
        walks = trio.run(partial(measure, Path(folder), repeat=options.repeat))
    print(report(walks))
    if options.list:
        for name, walk in walks.items():
            print(f"\n{name}:\n{listing(walk)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
