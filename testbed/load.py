"""
A steady load of KV version 2 writes and reads through every node of a cluster, all of it recorded.

Rules of this file:

1. Open loop: a request is sent when its time has come, whether or not the ones before it were
   answered. A load that waits for a blocked server does not see how long it was blocked.
2. Nothing is retried. A failure is a record like any other.

Theory of operation. Every client has keys of its own. Its n-th write goes to the next node, round
robin, over a connection kept for that node, and carries a number that is never used again. A read
goes to another node and asks for the key that was written last; what it may not return is known
from the versions that were acknowledged before it was sent. A key takes few enough writes that the
server still has all its versions at the end, when they are read back.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from testbed.http import Connection, RequestFailed, Response
from testbed.records import OK, READ, WRITE, Damage, Record, find_damage

# OpenBao keeps 10 versions of a secret; a write with an unknown outcome may have used one up.
WRITES_PER_KEY = 5
KEPT_VERSIONS = 10
# Beyond this nobody learns anything from one more waiting request.
IN_FLIGHT_MAX = 4_000
READ_BACK_TASKS = 8
MALFORMED_ANSWER = "malformed answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """
    How much, and how.

    Attributes:
        writes_per_s: of all clients together; reads likewise.
        timeout_s: how long a client waits for an answer.
    """

    clients: int = 4
    writes_per_s: float = 50.0
    reads_per_s: float = 50.0
    timeout_s: float = 30.0
    prefix: str = "load"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a node is."""

    host: str
    port: int


@dataclass(slots=True)
class _Client:
    """One client: its connections that are free, and what it knows of its keys."""

    number: int
    free: defaultdict[int, list[Connection]] = field(
        default_factory=lambda: defaultdict(list[Connection])
    )
    writes: int = 0
    # The newest acknowledged version of each key, and the key that was acknowledged last.
    acknowledged: dict[str, int] = field(default_factory=dict)
    last_key: str = ""


class Load:
    """A load on some nodes. Made by ``run_load``; ``records`` grows while it runs."""

    def __init__(self, targets: Sequence[Target], token: str, plan: LoadPlan) -> None:
        self.records: list[Record] = []
        self.plan = plan
        self._targets = tuple(targets)
        self._token = token
        self._clients = [_Client(number) for number in range(plan.clients)]
        self._in_flight = 0
        self._stopped = False
        self.skipped = 0

    def stop(self) -> None:
        """Send nothing more; what was sent is still waited for."""
        self._stopped = True

    async def read_back(self) -> Damage:
        """
        Read every stored version of every key, the newest one through every node.

        Raises:
            RequestFailed: a node does not answer; the cluster has to be well.
        """
        keys = sorted({record.key for record in self.records if record.operation == WRITE})
        stored: dict[str, dict[int, int]] = {key: {} for key in keys}
        behind: list[str] = []
        waiting = iter(enumerate(keys))

        async def work() -> None:
            with _Connections(self._targets, self._token) as connections:
                for index, key in waiting:
                    behind.extend(
                        await self._read_back_key(connections.all, index, key, stored[key])
                    )

        async with trio.open_nursery() as nursery:
            for _ in range(READ_BACK_TASKS):
                nursery.start_soon(work)
        damage = find_damage(self.records, stored, KEPT_VERSIONS)
        damage.behind.extend(behind)
        return damage

    async def run(self) -> None:
        """Send until stopped, then wait for what was sent."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick, nursery, self.plan.writes_per_s, self._write)
            nursery.start_soon(self._tick, nursery, self.plan.reads_per_s, self._read)
        for client in self._clients:
            for connections in client.free.values():
                for connection in connections:
                    connection.close()

    async def _tick(
        self,
        nursery: trio.Nursery,
        rate: float,
        send: Callable[[int], tuple[_Client, Record] | None],
    ) -> None:
        if rate <= 0:
            return
        begin = trio.current_time()
        number = 0
        while not self._stopped:
            # By the schedule, not by the time of the last one: a late tick is caught up.
            await trio.sleep_until(begin + number / rate)
            prepared = send(number)
            number += 1
            if prepared is None:
                continue
            if self._in_flight >= IN_FLIGHT_MAX:
                self.skipped += 1
                continue
            self._in_flight += 1
            nursery.start_soon(self._send, *prepared)

    def _write(self, number: int) -> tuple[_Client, Record]:
        node, client = self._turn(number)
        client.writes += 1
        return client, Record(
            operation=WRITE,
            node=node,
            key=self._key(client, client.writes),
            started=trio.current_time(),
            value=client.writes,
        )

    def _read(self, number: int) -> tuple[_Client, Record] | None:
        node, client = self._turn(number)
        if not client.last_key:
            return None
        return client, Record(
            operation=READ,
            node=(node + 1) % len(self._targets),
            key=client.last_key,
            started=trio.current_time(),
            acknowledged_before=client.acknowledged[client.last_key],
        )

    def _turn(self, number: int) -> tuple[int, _Client]:
        """Every node at regular intervals, which bound what a gap can show; all clients in turn."""
        nodes, clients = len(self._targets), len(self._clients)
        # Shifted once both have gone round together, so that no client stays with one node.
        shift = number // math.lcm(nodes, clients)
        return number % nodes, self._clients[(number + shift) % clients]

    def _key(self, client: _Client, write: int) -> str:
        return f"{self.plan.prefix}/{client.number}/{math.ceil(write / WRITES_PER_KEY)}"

    async def _send(self, client: _Client, record: Record) -> None:
        free = client.free[record.node]
        connection = free.pop() if free else self._connect(record.node)
        try:
            await self._exchange(connection, client, record)
        finally:
            record.ended = trio.current_time()
            self.records.append(record)
            free.append(connection)
            self._in_flight -= 1

    async def _exchange(self, connection: Connection, client: _Client, record: Record) -> None:
        path = f"/v1/secret/data/{record.key}"
        record.outcome = "cancelled"
        try:
            if record.operation == WRITE:
                content = json.dumps({"data": {"value": record.value}}).encode()
                response = await connection.request(
                    "PUT", path, content, timeout_s=self.plan.timeout_s
                )
            else:
                response = await connection.request("GET", path, timeout_s=self.plan.timeout_s)
        except RequestFailed as error:
            record.outcome = error.kind
            return
        # Not there is an answer to a read, though always a stale one here.
        is_absent = record.operation == READ and response.status == 404
        record.outcome = OK if is_absent else response.outcome
        if response.status != 200:
            return
        try:
            _note_answer(record, response)
        except (KeyError, TypeError, ValueError):
            record.outcome = MALFORMED_ANSWER
            return
        if record.operation == WRITE:
            known = client.acknowledged.get(record.key, 0)
            client.acknowledged[record.key] = max(known, record.version)
            client.last_key = record.key

    def _connect(self, node: int) -> Connection:
        target = self._targets[node]
        return Connection(target.host, target.port, token=self._token)

    async def _read_back_key(
        self, connections: Sequence[Connection], index: int, key: str, stored: dict[int, int]
    ) -> list[str]:
        """Fill in the versions of one key; return what nodes do not agree about."""
        path = f"/v1/secret/data/{key}"
        newest: list[int] = []
        for connection in connections:
            newest.append((await self._stored_version(connection, path) or (0, 0))[0])
        behind = [
            f"{key}: node {node + 1} has version {version} of {max(newest)}"
            for node, version in enumerate(newest)
            if version < max(newest)
        ]
        # By turns, but never through one that is behind.
        complete = [node for node, version in enumerate(newest) if version == max(newest)]
        through = connections[complete[index % len(complete)]]
        for version in range(max(1, max(newest) - KEPT_VERSIONS + 1), max(newest) + 1):
            found = await self._stored_version(through, f"{path}?version={version}")
            if found is not None:
                stored[found[0]] = found[1]
        return behind

    async def _stored_version(self, connection: Connection, path: str) -> tuple[int, int] | None:
        response = await connection.request("GET", path, timeout_s=self.plan.timeout_s)
        if response.status == 404:
            return None
        if response.status != 200:
            raise RequestFailed(response.outcome, "reading back")
        return _version_of(response)


@asynccontextmanager
async def run_load(targets: Sequence[Target], token: str, plan: LoadPlan) -> AsyncIterator[Load]:
    """
    Run a load while the block lasts; its last requests are waited for at the end.

    Cancellation: requests in flight are given up.
    """
    load = Load(targets, token, plan)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        yield load
        load.stop()


class _Connections:
    """One connection to every node."""

    def __init__(self, targets: Sequence[Target], token: str) -> None:
        self.all = [Connection(target.host, target.port, token=token) for target in targets]

    def __enter__(self) -> _Connections:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for connection in self.all:
            connection.close()


def _note_answer(record: Record, response: Response) -> None:
    data = response.json()["data"]
    if record.operation == WRITE:
        record.version = int(data["version"])
    else:
        record.version, record.value = _version_of(response)


def _version_of(response: Response) -> tuple[int, int]:
    data = response.json()["data"]
    return int(data["metadata"]["version"]), int(data["data"]["value"])
