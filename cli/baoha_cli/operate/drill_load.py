"""
The load of a drill: one writer per node, one reader beside it, until the cluster is well again.

Rules of this file. Each writer has a key of its own and writes it one after the other, so that
lost and repeated writes can be counted. Nothing is retried. The token goes to the given addresses.

Theory of operation. A writer writes N through its node; when N was acknowledged, the key is read
through the next node: less than N is a stale read. At the end every key is read once more, and the
store's version counts the writes that were really applied.

Source: docs/spec/cluster-cli.md section 0.1 (the load behind the figures).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import trio

from baoha_cli.client.address import Endpoint
from baoha_cli.client.answer import as_int, as_mapping
from baoha_cli.client.client import Client
from baoha_cli.client.token import Token
from baoha_cli.exits import Verdict
from baoha_cli.failures import CommandFailed, RequestFailed
from baoha_cli.operate.drill_report import OK, Attempt, NodeLog

_READ_S = 5.0


@dataclass(frozen=True)
class Load:
    """
    What to do.

    Args:
        nodes: addresses and labels.
        token: may write below ``mount``.
        mount: of a KV version 2 engine.
        folder: below it, one key per node is written.
        interval_s: between the starts of two writes through one node.
        warmup_s: everything must work for so long first.
        calm_s: it is over when every survivor worked for so long.
        limit_s: it is over after this time in any case.
        leader: label of the node that is going to be broken.
    """

    nodes: Mapping[Endpoint, str]
    token: Token
    mount: str
    folder: str
    interval_s: float
    warmup_s: float
    calm_s: float
    limit_s: float
    leader: str

    def key(self, label: str) -> str:
        """Return the path of a node's key."""
        return f"/v1/{self.mount}/data/{self.folder}/{_plain(label)}"


class Drill:
    """One run; use it once."""

    def __init__(self, client: Client, load: Load) -> None:
        self._client = client
        self._load = load
        self._broken_at: float | None = None
        self._is_over = False
        self.logs = {label: NodeLog(label) for label in load.nodes.values()}
        self.logs[load.leader].was_broken = True

    async def run(self, action: Callable[[], Awaitable[None]]) -> None:
        """
        Write, break the leader, write until all is well or the time is over, read what is there.

        Raises:
            CommandFailed: writes failed before anything was broken; nothing was broken then.

        Cancellation:
            The load ends; the test keys stay behind.
        """
        load = self._load
        async with trio.open_nursery() as nursery:
            for endpoint, label in load.nodes.items():
                nursery.start_soon(self._write, endpoint, label)
            await trio.sleep(load.warmup_s)
            self._check_warmup()
            self._mark(trio.current_time())
            with trio.move_on_after(load.limit_s):
                await action()
                await self._calm()
            # Not cancelled: a write on its way would be applied and never counted.
            self._is_over = True
        for label in load.nodes.values():
            await self._final(label)

    async def clean_up(self) -> None:
        """Delete the test keys; what cannot be deleted stays."""
        for label in self._load.nodes.values():
            path = self._load.key(label).replace("/data/", "/metadata/", 1)
            for endpoint in self._load.nodes:
                if await self._through(endpoint, "DELETE", path) is not None:
                    break

    def _mark(self, now: float) -> None:
        """Let times count from now."""
        self._broken_at = now
        for log in self.logs.values():
            log.attempts[:] = [
                Attempt(one.began_s - now, one.ended_s - now, one.kind, one.number, one.is_unknown)
                for one in log.attempts
            ]

    def _check_warmup(self) -> None:
        for log in self.logs.values():
            if log.errors or not log.attempts:
                listed = ", ".join(log.errors) or "no answer"
                raise CommandFailed(
                    f"writes through {log.label} fail already ({listed}): nothing was broken",
                    verdict=Verdict.NO,
                    hint=f"is there a KV version 2 engine at {self._load.mount!r}, and may the "
                    "token write there?",
                )

    async def _calm(self) -> None:
        """Return when every node that should work has worked for a while."""
        while True:
            await trio.sleep(self._load.interval_s * 4)
            now = trio.current_time() - (self._broken_at or 0.0)
            if now > self._load.calm_s and all(
                self._is_calm(log, now) for log in self.logs.values()
            ):
                return

    def _is_calm(self, log: NodeLog, now: float) -> bool:
        if log.was_broken and log.label == self._load.leader and not log.recovered:
            return True  # it may be gone for good
        last = log.last_error_s
        return log.recovered and (last is None or now - last >= self._load.calm_s)

    async def _write(self, endpoint: Endpoint, label: str) -> None:
        load, log = self._load, self.logs[label]
        others = [one for one in load.nodes if one != endpoint] or [endpoint]
        number = 0
        due = trio.current_time()
        while not self._is_over:
            number += 1
            attempt = await self._attempt(endpoint, label, number)
            log.attempts.append(attempt)
            if attempt.kind == OK:
                await self._read(others[number % len(others)], label, number)
            due = max(due + load.interval_s, trio.current_time())
            await trio.sleep_until(due)

    async def _attempt(self, endpoint: Endpoint, label: str, number: int) -> Attempt:
        body = json.dumps({"data": {"n": number}}).encode("ascii")
        began = trio.current_time()
        unknown = False
        try:
            answer = await self._client.request(
                endpoint, "PUT", self._load.key(label), body=body, token=self._load.token
            )
        except RequestFailed as failure:
            kind, unknown = failure.kind.value, failure.sent
        else:
            kind = OK if 200 <= answer.status < 300 else str(answer.status)
            unknown = answer.status >= 500
        zero = self._broken_at or 0.0
        return Attempt(began - zero, trio.current_time() - zero, kind, number, unknown)

    async def _read(self, endpoint: Endpoint, label: str, number: int) -> None:
        try:
            answer = await self._client.request(
                endpoint, "GET", self._load.key(label), token=self._load.token
            )
        except RequestFailed:
            return
        if answer.status == 404:
            found: int | None = 0
        elif answer.status == 200:
            found = as_int(
                as_mapping(as_mapping(answer.mapping().get("data")).get("data")).get("n")
            )
        else:
            return
        log = self.logs[label]
        log.reads += 1
        log.stale += found is not None and found < number

    async def _final(self, label: str) -> None:
        """Read what is there at the end; a standby may show less than there is, never more."""
        log = self.logs[label]
        for endpoint in self._load.nodes:
            data = await self._through(endpoint, "GET", self._load.key(label))
            if data is None:
                continue
            number = as_int(as_mapping(data.get("data")).get("n"))
            version = as_int(as_mapping(data.get("metadata")).get("version"))
            if number is not None:
                log.final_number = max(number, log.final_number or 0)
            if version is not None:
                log.final_version = max(version, log.final_version or 0)

    async def _through(
        self, endpoint: Endpoint, method: str, path: str
    ) -> Mapping[str, object] | None:
        """Ask through one node; None when it does not answer as hoped."""
        try:
            answer = await self._client.request(
                endpoint, method, path, token=self._load.token, timeout_s=_READ_S
            )
        except RequestFailed:
            return None
        if not 200 <= answer.status < 300:
            return None
        return as_mapping(answer.mapping().get("data"))


def _plain(label: str) -> str:
    return "".join(char if char.isalnum() or char in "-." else "-" for char in label)
