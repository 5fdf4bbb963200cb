"""
One node: the parts put together, and the rings they live in.

Rules of this file: it holds references and the order of the rings, no policy. Every question that
the API asks of a node is answered here from memory or handed on.

Rings: the node ring lasts as long as the process wants it; inside it the unsealed ring lasts from
unseal to seal, and its end wipes the keys; inside that runs the HA loop.
"""

from __future__ import annotations

import gc
import logging
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from uuid import UUID

import trio

from baoha import __version__, names
from baoha.api.requests import serve_forwarded
from baoha.cluster.network import Network
from baoha.core.access.vouching import TokenHints
from baoha.core.dispatch import Core
from baoha.core.keys.barrier import Barrier
from baoha.core.keys.landed_writes import CountedWrites
from baoha.core.keys.seal import Seal
from baoha.core.maintenance import Maintenance
from baoha.core.request import Operation, Request, Response
from baoha.core.view import InitParameters, InitResult, Member, NodeStatus, Role, SealStatus
from baoha.errors import (
    LeadershipLost,
    NotActive,
    RequestError,
    Sealed,
    StorageCorrupt,
    StorageError,
)
from baoha.ha.context import HAContext
from baoha.ha.gate import Admission, RequestGate
from baoha.ha.loop import HALoop
from baoha.ha.parking import ParkingLot
from baoha.ha.problems import ProblemList
from baoha.ha.status_publisher import StatusBoard
from baoha.sansio.crypto.seal_format import StaticSealKey
from baoha.sansio.ha_state import HAEvent, Phase
from baoha.sansio.shares import Claim
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from baoha.storage.base import Backend, Capabilities, HABackend, HALock
from baoha.timing import BootClock, HATiming, boot_time_s

log = logging.getLogger("baoha.core")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """
    What the configuration says of a node.

    Attributes:
        cluster_addr: "" switches clustering off.
        cluster_listen: (host, port) of every cluster listener.
        forwarding: off makes a standby redirect every client.
    """

    api_addr: str
    cluster_addr: str = ""
    cluster_listen: tuple[tuple[str, int], ...] = ()
    cluster_name: str = ""
    forwarding: bool = True
    timing: HATiming = field(default_factory=HATiming)
    static_seal_key: StaticSealKey | None = field(default=None, repr=False)
    hostname: str = field(default_factory=platform.node)
    park_requests_max: int = 1024
    park_bytes_max: int = 64 * 1024 * 1024


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of a group, and of the groups in it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


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
        self._settings = settings
        self._ha_backend = ha_backend
        self._network = network
        self._boot_clock = boot_clock
        self._now = now
        self._random = Random(random_bytes(16))  # noqa: S311 - UUIDs and jitter, not secrets
        self._identity = str(UUID(bytes=random_bytes(16), version=4))
        self._lock: HALock | None = None
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
        self._problems = ProblemList()
        self._board = StatusBoard(
            NodeStatus(
                revision=0,
                node_id=self._identity,
                initialized=False,
                sealed=True,
                role=Role.SEALED,
                ha_enabled=ha_backend is not None,
                forwarding_enabled=settings.forwarding and bool(settings.cluster_addr),
                api_addr=settings.api_addr,
                cluster_addr=settings.cluster_addr,
                storage_type=backend.name,
            )
        )
        self._loop: HALoop | None = None
        self._unsealed = trio.Event()
        self._unsealed_scope = trio.CancelScope()
        self._stays_sealed = False

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
                await self._wait_unsealed()
                await self._run_unsealed()
        finally:
            if self._lock is not None:
                with trio.CancelScope(
                    shield=True, deadline=trio.current_time() + self._settings.timing.cleanup_s
                ):
                    await self._lock.aclose()

    async def leave(self) -> None:
        """
        Prepare for the end: hand active duty over and contend no more; the node goes on forwarding
        (without HA: serving).
        """
        self._board.publish(stopping=True)
        # Without an HA lock nobody could take over: it serves to the end.
        loop = self._loop
        if loop is not None and self._ha_backend is not None:
            await self._persist_counts()
            await loop.retire(reason="the node is shutting down")

    async def _wait_unsealed(self) -> None:
        """Wait for the unsealing; meanwhile watch whether another node initialises the store."""
        timing = self._settings.timing
        pause_s = timing.store_retry_s
        while not self._unsealed.is_set():
            try:
                if not self._seal.status().initialized:
                    await self._seal.load_config()
                    self._board.publish(initialized=self._seal.status().initialized)
                if self._may_auto_unseal() and await self._seal.auto_unseal():
                    self._became_unsealed()
                    await self._publish_cluster()
                    return
                if self._board.status.store_problem:
                    log.info("the store answers again")
                self._board.publish(store_problem="")
                pause_s = timing.watch_poll_s
            except StorageError as exc:
                if self._board.status.store_problem != str(exc):
                    log.error("cannot read the seal configuration: cause=%r", str(exc))
                self._board.publish(store_problem=str(exc))
                pause_s = min(pause_s * 2, timing.store_retry_max_s)
            with trio.move_on_after(pause_s):
                await self._unsealed.wait()

    def _may_auto_unseal(self) -> bool:
        """Whether to unseal with the static key; a node that was sealed by request stays sealed."""
        return (
            self._settings.static_seal_key is not None
            and not self._stays_sealed
            and self._seal.status().initialized
        )

    def _became_unsealed(self) -> None:
        self._board.fire(HAEvent.UNSEALED, initialized=True, leader_changing=True)
        self._unsealed.set()
        log.info("vault is unsealed")

    async def _run_unsealed(self) -> None:
        """The unsealed ring: the HA loop; its end wipes the keys."""
        self._unsealed_scope = trio.CancelScope()
        try:
            with self._unsealed_scope:
                await self._open_lock()
                self._loop = HALoop(self._ha_context())
                if self._board.status.stopping and self._lock is not None:
                    await self._loop.retire(reason="the node is shutting down")
                await self._loop.run()
        except* StorageCorrupt as group:
            self._stays_sealed = True
            log.critical("sealing: what is stored cannot be read: cause=%r", str(_first_of(group)))
        finally:
            self._loop = None
            self._unsealed = trio.Event()
            self._core.wipe()
            self._hints.forget()
            self._barrier.seal()
            self._board.fire(
                HAEvent.SEALED, leader=None, leader_changing=False, cluster_name="", cluster_id=""
            )
            _collect_garbage()
            log.info("vault is sealed")

    async def _open_lock(self) -> None:
        """Open this node's handle on the HA lock, once; a store that is away may come back."""
        pause_s = self._settings.timing.store_retry_s
        while self._ha_backend is not None and self._lock is None:
            try:
                self._lock = await self._ha_backend.open_lock(names.HA_LOCK, self._identity)
                self._problems.include(self._lock.problems)
            except StorageError as exc:
                self._board.publish(store_problem=str(exc))
                log.error("cannot open the HA lock, trying again: cause=%r", str(exc))
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, self._settings.timing.store_retry_max_s)

    def _ha_context(self) -> HAContext:
        settings = self._settings
        return HAContext(
            identity=self._identity,
            hostname=settings.hostname,
            api_addr=settings.api_addr,
            cluster_addr=settings.cluster_addr,
            cluster_listen=settings.cluster_listen,
            version=names.API_VERSION,
            software=f"baoha {__version__}",
            timing=settings.timing,
            boot_clock=self._boot_clock,
            now=self._now,
            random=self._random,
            network=self._network,
            board=self._board,
            gate=self._gate,
            barrier=self._barrier,
            lock=self._lock,
            capabilities=self._ha_backend.capabilities if self._ha_backend else Capabilities(),
            reload=self._reload,
            follow_keys=self._seal.reload_keyring,
            maintain=self._maintenance.run,
            execute=self._execute,
            problems=self._problems,
        )

    async def _reload(self) -> None:
        """Re-read what another node may have written beside keys: mounts, the cluster's name."""
        await self._core.load()
        await self._publish_cluster()

    async def _publish_cluster(self) -> None:
        """Publish the cluster's name and id: clients see them from the unsealing on."""
        cluster = await self._seal.cluster_info()
        self._board.publish(cluster_name=cluster.name, cluster_id=cluster.id)

    async def _persist_counts(self) -> None:
        if self._board.phase is Phase.ACTIVE:
            await self._maintenance.persist_counts(self._settings.timing.cleanup_s)

    async def _execute(self, request: HTTPRequest) -> HTTPResponse:
        return await serve_forwarded(self, request)

    # --- NodeView --------------------------------------------------------------------------------

    def status(self) -> NodeStatus:
        """Return the current picture, from memory."""
        if (tenure := self._gate.tenure) is not None:
            # A process that was stopped may be asked before anything in it has noticed.
            tenure.end_if_overdue()
        return self._board.status

    async def wait_change(self, seen: NodeStatus) -> None:
        """Return as soon as the revision differs from the one seen."""
        await self._board.wait_change(seen)

    def recalls(self, token: str) -> bool:
        """Whether a token was known lately: a hint only."""
        return self._hints.recalls(token)

    async def vouches_for(self, token: str) -> bool:
        """Say whether a token is known: a hint only."""
        return await self._hints.vouches_for(token)

    def admit(self) -> AbstractContextManager[Admission]:
        """Enter the request gate."""
        return self._gate.admit()

    async def handle(self, request: Request) -> Response:
        """Execute one logical request."""
        return await self._core.handle(request)

    async def forward(self, request: HTTPRequest) -> HTTPResponse:
        """Send a request to the active node."""
        if self._loop is None:
            raise Sealed
        return await self._loop.forward(request)

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
        result = await self._seal.initialize(
            parameters,
            populate=self._core.populate,
            fence=None,
            cluster_name=self._settings.cluster_name,
        )
        self._board.publish(initialized=True)
        _collect_garbage()
        log.info("initialised: shares=%d", len(result.shares))
        return result

    async def unseal(self, share: bytes | None, *, reset: bool = False) -> SealStatus:
        """Add one key share, or forget those given so far."""
        if await self._seal.unseal(share, reset=reset):
            self._stays_sealed = False
            # Before there is any duty that would wait for it.
            _collect_garbage()
            self._became_unsealed()
            try:
                await self._publish_cluster()
            except StorageError as exc:
                # No failure of the unsealing, which has happened. It is read again on taking over.
                log.warning("cannot read the cluster's name: cause=%r", str(exc))
            if self._ha_backend is None:
                await self._wait_active()
        return self._seal.status()

    async def _wait_active(self) -> None:
        """Without HA nobody else serves: whoever has unsealed the node may go on at once."""
        with trio.move_on_after(self._settings.timing.park_s):
            while (seen := self._board.status).role is Role.STANDBY:
                await self._board.wait_change(seen)

    async def seal(self, *, token: str) -> None:
        """Seal this node; the active one hands over first."""
        if self._board.status.sealed:
            return
        loop = self._loop
        if loop is None or self._board.phase is not Phase.ACTIVE:
            raise RequestError(
                "vault cannot seal when in standby mode; please restart instead", status=500
            )
        with self._gate.admit():
            await self._core.require_sudo(token, "sys/seal", Operation.UPDATE)
        await self._persist_counts()
        try:
            await loop.retire(reason="the node is being sealed")
        finally:
            # Also when the caller has run out of time: there is no way back from retiring, and a
            # node that contends no more is of no use unsealed.
            self._stays_sealed = True
            self._unsealed_scope.cancel()
        seen = self._board.status
        while not self._board.status.sealed:
            await self._board.wait_change(seen)
            seen = self._board.status

    async def step_down(
        self, *, token: str, to: str | None, force: bool, asked_of: str, client: str
    ) -> None:
        """Hand active duty over; returns when the successor has taken the lock up."""
        loop = self._loop
        if loop is None:
            raise Sealed
        if self._board.phase is not Phase.ACTIVE:
            raise NotActive("this node is not active")
        with CountedWrites() as spent, self._gate.admit():
            who = await self._core.require_sudo(token, "sys/step-down", Operation.UPDATE)
        if self._lock is None:
            return  # nobody to hand over to; OpenBao answers 204 without effect
        if to is None and asked_of not in ("", self._settings.api_addr):
            log.info("step-down is done already: asked_of=%s by=%r", asked_of, who)
            return
        by = f"{who} from {client}" if client else who
        await self._persist_counts()
        try:
            await loop.step_down(reason=f"step-down requested by {by}", to=to, force=force)
        except NotActive as exc:
            if spent:
                # A use of the token is spent: the next node would refuse what was allowed here.
                raise LeadershipLost("active duty ended before the step-down") from exc
            raise

    def members(self) -> Sequence[Member]:
        """Return the rows of ``sys/ha-status``."""
        return self._loop.members() if self._loop is not None else ()

    def note_problem(self, subject: str, sentence: str) -> None:
        """Add to what this node sees wrong, or replace what was said of the same subject."""
        self._problems.report(subject, None, sentence)

    def problems(self) -> Sequence[str]:
        """Return what this node sees wrong."""
        return self._problems.sentences()


def _collect_garbage() -> None:
    """
    Free what only garbage refers to: an error and the frames that it came through hold each other,
    and with them the keys and shares in these frames. Takes tens of milliseconds, more where much
    is cached: for moments without active duty.
    """
    gc.collect()
