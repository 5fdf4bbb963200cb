"""
One node: the parts put together, and the rings they live in.

Rules of this file: it holds references and the order of the rings, no policy. Every question that
the API asks of a node is answered here from memory or handed on.

Rings: the node ring lasts as long as the process wants it; inside it the unsealed ring lasts from
unseal to seal, and its end wipes the keys; inside that runs the HA loop.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from random import Random
from uuid import UUID

import trio

from baoha.api.requests import serve_forwarded
from baoha.cluster.network import Network
from baoha.core.access.vouching import TokenHints
from baoha.core.dispatch import Core
from baoha.core.keys.barrier import Barrier
from baoha.core.keys.seal import Seal
from baoha.core.maintenance import Maintenance
from baoha.core.request import Operation, Request, Response
from baoha.core.view import InitParameters, InitResult, Member, NodeStatus, SealStatus
from baoha.errors import NotActive, Sealed
from baoha.ha.context import Clocks, Duties, HAContext
from baoha.ha.gate import Admitted, RequestGate
from baoha.ha.parking import ParkingLot
from baoha.ha.problems import Problems
from baoha.ha.status_publisher import StatusPublisher
from baoha.node.inspection import Inspection
from baoha.node.settings import NodeSettings
from baoha.node.unsealed_ring import UnsealedRing
from baoha.node.unsealing import Unsealing, collect_garbage
from baoha.sansio.ha_state import HAEvent, Phase
from baoha.sansio.shares import Claim
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from baoha.storage.base import Backend, Capabilities, HABackend
from baoha.timing import BootClock, boot_time_s

log = logging.getLogger("baoha.core")


def _now() -> datetime:
    return datetime.now(UTC)


class Node:
    """A node: ``NodeView`` for the API layer, ``run`` for whoever supervises it."""

    def __init__(
        self,
        settings: NodeSettings,
        *,
        backend: Backend,
        ha_backend: HABackend | None,
        network: Network,
        boot_clock: BootClock = boot_time_s,
        now: Callable[[], datetime] = _now,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        clocks = Clocks(
            boot=boot_clock,
            now=now,
            random=Random(random_bytes(16)),  # noqa: S311 - UUIDs and jitter, not secrets
        )
        identity = str(UUID(bytes=random_bytes(16), version=4))
        self._timing = settings.timing
        self._barrier = Barrier(backend, random_bytes=random_bytes, now=now)
        self._seal = Seal(
            backend,
            self._barrier,
            static_key=settings.static_seal_key,
            random_bytes=random_bytes,
            now=now,
        )
        self._core = Core(
            self._barrier,
            engine_types=settings.engine_types,
            ttl=settings.ttl,
            random_bytes=random_bytes,
            now=now,
            boot_clock=boot_clock,
            sys_hooks=self,
        )
        self._maintenance = Maintenance(self._core, self._seal, self._barrier)
        self._hints = TokenHints(self._barrier, random_bytes=random_bytes, now=now)
        self._gate = RequestGate()
        self._parking = ParkingLot(
            requests_max=settings.park_requests_max, bytes_max=settings.park_bytes_max
        )
        self._problems = Problems()
        self._publisher = StatusPublisher(
            settings.first_status(
                identity, ha_enabled=ha_backend is not None, storage_type=backend.name
            )
        )
        self._unsealing = Unsealing(self._seal, self._core, self._publisher, settings=settings)
        self._ring = UnsealedRing(
            HAContext(
                facts=settings.facts(identity),
                clocks=clocks,
                timing=settings.timing,
                network=network,
                cluster_listen=settings.cluster_listen,
                publisher=self._publisher,
                gate=self._gate,
                barrier=self._barrier,
                lock=None,
                capabilities=Capabilities() if ha_backend is None else ha_backend.capabilities,
                duties=self._duties(),
                problems=self._problems,
            ),
            ha_backend,
        )

    def _duties(self) -> Duties:
        return Duties(
            reload=self._reload,
            reload_keyring=self._seal.reload_keyring,
            maintain=self._maintenance.run,
            execute=partial(serve_forwarded, self),
        )

    def inspect(self) -> Inspection:
        """Return what is inside, for tests and debugging."""
        return Inspection(
            phase=self._publisher.phase,
            admitting=self._gate.tenure,
            loop=self._ring.loop,
            lock=self._ring.lock,
            barrier=self._barrier,
            core=self._core,
            maintenance=self._maintenance,
        )

    # --- rings -----------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """
        Run the node until cancelled. ``leave`` comes first when active duty shall be handed over.

        Cancellation: ends duty at once, wipes the keys.
        Owns: the HA lock's handle, the barrier's keys.
        """
        try:
            task_status.started()
            while True:
                await self._unsealing.wait()
                await self._run_unsealed()
        finally:
            await self._ring.aclose()

    async def leave(self) -> None:
        """
        Prepare for the end: hand active duty over and contend no more; the node goes on forwarding
        (without HA: serving).
        """
        self._publisher.publish(stopping=True)
        # Without an HA lock nobody could take over: it serves to the end.
        loop = self._ring.loop
        if loop is not None and self._publisher.status.ha_enabled:
            await self._persist_counts()
            await loop.retire(reason="the node is shutting down")

    async def _run_unsealed(self) -> None:
        """The unsealed ring; its end wipes the keys."""
        try:
            unreadable = await self._ring.run()
            if unreadable is not None:
                self._unsealing.stays_sealed = True
                log.critical("sealing: what is stored cannot be read: cause=%r", str(unreadable))
        finally:
            self._unsealing.begin_anew()
            self._core.wipe()
            self._hints.forget()
            self._barrier.seal()
            self._publisher.apply(
                HAEvent.SEALED, leader=None, leader_changing=False, cluster_name="", cluster_id=""
            )
            collect_garbage()
            log.info("vault is sealed")

    async def _reload(self) -> None:
        """Re-read what another node may have written beside keys: mounts, the cluster's name."""
        await self._core.load()
        await self._unsealing.publish_cluster()

    async def _persist_counts(self) -> None:
        if self._publisher.phase is Phase.ACTIVE:
            await self._maintenance.persist_counts(self._timing.cleanup_s)

    # --- NodeView --------------------------------------------------------------------------------

    def status(self) -> NodeStatus:
        """Return the current picture, from memory."""
        if (tenure := self._gate.tenure) is not None:
            # A process that was stopped may be asked before anything in it has noticed.
            tenure.end_if_overdue()
        return self._publisher.status

    async def wait_change(self, seen: NodeStatus) -> None:
        """Return as soon as the revision differs from the one seen."""
        await self._publisher.wait_change(seen)

    def recalls(self, token: str) -> bool:
        """Whether a token was known lately: a hint only."""
        return self._hints.recalls(token)

    async def vouches_for(self, token: str) -> bool:
        """Return whether a token is known: a hint only."""
        return await self._hints.vouches_for(token)

    def admit(self) -> AbstractContextManager[Admitted]:
        """Enter the request gate."""
        return self._gate.admit()

    async def handle(self, request: Request) -> Response:
        """Execute one logical request."""
        return await self._core.handle(request)

    async def require_sudo(self, token: str, path: str) -> str:
        """Return who speaks, if it may update a path with sudo."""
        return await self._core.require_sudo(token, path, Operation.UPDATE)

    async def forward(self, request: HTTPRequest) -> HTTPResponse:
        """Send a request to the active node."""
        if self._ring.loop is None:
            raise Sealed
        return await self._ring.links.forward(request)

    def parking(
        self, size_bytes: int, claim: Claim
    ) -> AbstractContextManager[trio.CancelScope | None]:
        """Take a place among the parked requests."""
        return self._parking.place(size_bytes, claim)

    def seal_status(self) -> SealStatus:
        """Return the seal's state, from memory."""
        return self._seal.status()

    async def initialize(self, parameters: InitParameters) -> InitResult:
        """Initialise the store in one transaction."""
        return await self._unsealing.initialize(parameters)

    async def unseal(self, share: bytes | None, *, reset: bool = False) -> SealStatus:
        """Add one key share, or forget those given so far."""
        return await self._unsealing.unseal(share, reset=reset)

    async def seal(self) -> None:
        """Seal this node; the active one hands over first."""
        loop = self._ring.loop
        if loop is None:
            return  # sealed, or about to be
        await self._persist_counts()
        try:
            await loop.retire(reason="the node is being sealed")
        finally:
            # Also when the caller has run out of time: there is no way back from retiring, and a
            # node that contends no more is of no use unsealed.
            self._unsealing.stays_sealed = True
            self._ring.end()
        seen = self._publisher.status
        while not self._publisher.status.sealed:
            await self._publisher.wait_change(seen)
            seen = self._publisher.status

    async def step_down(self, *, to: str | None, force: bool, asked_of: str, by: str) -> None:
        """Hand active duty over; returns when the successor has taken the lock up."""
        loop = self._ring.loop
        if loop is None:
            raise NotActive("this node is not active")
        if self._ring.lock is None:
            return  # nobody to hand over to; OpenBao answers 204 without effect
        if to is None and asked_of not in ("", self._publisher.status.api_addr):
            log.info("step-down is done already: asked_of=%s by=%r", asked_of, by)
            return
        await self._persist_counts()
        await loop.step_down(reason=f"step-down requested by {by}", to=to, force=force)

    def members(self) -> Sequence[Member]:
        """Return the rows of ``sys/ha-status``."""
        return self._ring.loop.members() if self._ring.loop is not None else ()

    def note_problem(self, subject: str, sentence: str) -> None:
        """Add to what this node sees wrong, or replace what was said of the same subject."""
        self._problems.report(subject, None, sentence)

    def problems(self) -> Sequence[str]:
        """Return what this node sees wrong."""
        return self._problems.sentences()
