"""
Watch who is active, on all nodes, many times a second, while something happens to the leader.

Rules of this file. Watching never changes anything and carries no token. Times are of this process
(trio's clock), taken when an answer arrived.

Theory of operation. Two tasks per node: one reads sys/leader (who is active, whom it follows), one
sends the tokenless forwarding probe, which stands for a client's request. Main code waits for
`changed` and reads the states. `drill` can use the same watcher with a writer instead of the probe.

Source: docs/spec/cluster-cli.md sections 0.1 and 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from baoha_cli.client.address import Endpoint
from baoha_cli.client.answer import as_text
from baoha_cli.client.client import Client
from baoha_cli.failures import RequestFailed
from baoha_cli.survey.ask import HA_STATUS, LEADER
from baoha_cli.survey.nodes import NodeReport, SeenRole

POLL_S: Final = 0.025
_POLL_LIMIT_S: Final = 1.0
# A request may be parked while the leader changes; longer than this is a failure for a client.
_PROBE_LIMIT_S: Final = 10.0
_SERVED: Final = frozenset({200, 403})


@dataclass
class NodeState:
    """What one node said last."""

    endpoint: Endpoint
    label: str
    is_active: bool = False
    leader_key: str = ""
    active_time: str = ""
    reachable: bool = True
    seen_active_at: float | None = None
    last_active_at: float | None = None  # the last "active" before it was lost
    lost_active_at: float | None = None
    became_active_at: float | None = None


@dataclass
class Probes:
    """How requests through the nodes fared."""

    total: int = 0
    failed: int = 0
    last_served_at: float | None = None
    longest_gap_s: float = 0.0
    errors: dict[str, int] = field(default_factory=dict)

    def record(self, at: float, error: str) -> None:
        """Count one probe; ``error`` is "" when it was served."""
        self.total += 1
        if error:
            self.failed += 1
            self.errors[error] = self.errors.get(error, 0) + 1
            return
        if self.last_served_at is not None:
            self.longest_gap_s = max(self.longest_gap_s, at - self.last_served_at)
        self.last_served_at = at


class Watcher:
    """
    Watch nodes; run ``run`` in a nursery and cancel it at the end.

    Args:
        client: stays open for the time of the watch.
        nodes: those that answered at first.
    """

    def __init__(self, client: Client, nodes: Sequence[NodeReport]) -> None:
        self._client = client
        self.states = {
            node.label: NodeState(
                node.endpoint,
                node.label,
                is_active=node.role is SeenRole.ACTIVE,
                leader_key=node.leader_key,
                active_time=node.active_time,
            )
            for node in nodes
        }
        self.probes = Probes()
        self._changed = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """
        Poll until cancelled; started once every node was asked once.

        Cancellation:
            The only way to end it.
        """
        async with trio.open_nursery() as nursery:
            for state in self.states.values():
                await self._look(state)
            for state in self.states.values():
                nursery.start_soon(self._poll, state)
                nursery.start_soon(self._probe, state)
            task_status.started()

    async def wait_change(self) -> None:
        """Return when a node said something new."""
        await self._changed.wait()

    def active_states(self) -> list[NodeState]:
        """Return the nodes that say they are active."""
        return [state for state in self.states.values() if state.is_active]

    async def _poll(self, state: NodeState) -> None:
        while True:
            began = trio.current_time()
            await self._look(state)
            await trio.sleep_until(began + POLL_S)

    async def _look(self, state: NodeState) -> None:
        body: dict[str, object] = {}
        reachable = True
        try:
            answer = await self._client.request(
                state.endpoint, "GET", LEADER, timeout_s=_POLL_LIMIT_S
            )
            body = answer.mapping() if answer.status == 200 else {}
        except RequestFailed:
            reachable = False
        now = trio.current_time()
        is_active = body.get("is_self") is True
        key = as_text(body.get("leader_cluster_address")) or as_text(body.get("leader_address"))
        active_time = as_text(body.get("active_time"))
        before = (state.is_active, state.leader_key, state.reachable, state.active_time)
        if is_active and (not state.is_active or active_time != state.active_time):
            state.became_active_at = now
        if state.is_active and not is_active:
            state.lost_active_at = now
            state.last_active_at = state.seen_active_at
        if is_active:
            state.seen_active_at = now
        state.is_active, state.leader_key, state.reachable = is_active, key, reachable
        state.active_time = active_time
        if before != (is_active, key, reachable, active_time):
            self._announce()

    async def _probe(self, state: NodeState) -> None:
        while True:
            began = trio.current_time()
            error = ""
            try:
                answer = await self._client.request(
                    state.endpoint, "GET", HA_STATUS, timeout_s=_PROBE_LIMIT_S
                )
                if answer.status not in _SERVED:
                    error = str(answer.status)
            except RequestFailed as failure:
                error = failure.kind.value
            self.probes.record(trio.current_time(), error)
            await trio.sleep_until(began + POLL_S)

    def _announce(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
