"""
From a sealed node to an unsealed one: initialisation, key shares, the static key.

Rules of this file:

1. A node that was sealed on purpose is unsealed by people alone; what unseals by itself must not
   undo a decision.
2. What fails after the unsealing is no failure of the unsealing, which has happened.
"""

from __future__ import annotations

import gc
import logging

import trio

from baoha.core.dispatch import Core
from baoha.core.keys.seal import Seal
from baoha.core.view import InitParameters, InitResult, Role, SealStatus
from baoha.errors import StorageError
from baoha.ha.status_publisher import StatusPublisher
from baoha.node.settings import NodeSettings
from baoha.sansio.ha_state import HAEvent
from baoha.storage.retry import Backoff

log = logging.getLogger("baoha.core")


class Unsealing:
    """
    How a node comes to its keys.

    Attributes:
        stays_sealed: the static key is not to unseal this node: it was sealed on purpose.
    """

    def __init__(
        self, seal: Seal, core: Core, publisher: StatusPublisher, *, settings: NodeSettings
    ) -> None:
        self._seal = seal
        self._core = core
        self._publisher = publisher
        self._settings = settings
        self._unsealed = trio.Event()
        self.stays_sealed = False

    async def wait(self) -> None:
        """
        Wait for the unsealing; meanwhile watch whether another node initialises the store.

        Cancellation: safe.
        """
        timing = self._settings.timing
        backoff = Backoff(timing.store_retry_s, timing.store_retry_max_s)
        while not self._unsealed.is_set():
            try:
                if not self._seal.status().initialized:
                    await self._seal.load_config()
                    self._publisher.publish(initialized=self._seal.status().initialized)
                if self._may_auto_unseal() and await self._seal.auto_unseal():
                    self._became_unsealed()
                    await self.publish_cluster()
                    return
                if self._publisher.status.store_problem:
                    log.info("the store answers again")
                self._publisher.publish(store_problem="")
                backoff.reset()
                pause_s = timing.watch_poll_s
            except StorageError as exc:
                if self._publisher.status.store_problem != str(exc):
                    log.error("cannot read the seal configuration: cause=%r", str(exc))
                self._publisher.publish(store_problem=str(exc))
                pause_s = backoff.next_s()
            with trio.move_on_after(pause_s):
                await self._unsealed.wait()

    def begin_anew(self) -> None:
        """Note that the node was sealed: there is an unsealing to wait for again."""
        self._unsealed = trio.Event()

    async def initialize(self, parameters: InitParameters) -> InitResult:
        """Initialise the store in one transaction; raises as ``Seal.initialize``."""
        result = await self._seal.initialize(
            parameters,
            populate=self._core.populate,
            fence=None,
            cluster_name=self._settings.cluster_name,
        )
        self._publisher.publish(initialized=True)
        collect_garbage()
        log.info("initialised: shares=%d", len(result.shares))
        return result

    async def unseal(self, share: bytes | None, *, reset: bool) -> SealStatus:
        """
        Add one key share, or forget those given so far; raises as ``Seal.unseal``.

        Returns:
            The state after it. Without HA, only when the node serves.
        """
        if await self._seal.unseal(share, reset=reset):
            self.stays_sealed = False
            # Before there is any duty that would wait for it.
            collect_garbage()
            self._became_unsealed()
            try:
                await self.publish_cluster()
            except StorageError as exc:
                # It is read again on taking over.
                log.warning("cannot read the cluster's name: cause=%r", str(exc))
            if not self._publisher.status.ha_enabled:
                await self._wait_active()
        return self._seal.status()

    async def publish_cluster(self) -> None:
        """
        Publish the cluster's name and id: clients see them from the unsealing on.

        Raises:
            StorageError: they cannot be read.
        """
        cluster = await self._seal.cluster_info()
        self._publisher.publish(cluster_name=cluster.name, cluster_id=cluster.id)

    def _may_auto_unseal(self) -> bool:
        return (
            self._settings.static_seal_key is not None
            and not self.stays_sealed
            and self._seal.status().initialized
        )

    def _became_unsealed(self) -> None:
        self._publisher.apply(HAEvent.UNSEALED, initialized=True, leader_changing=True)
        self._unsealed.set()
        log.info("vault is unsealed")

    async def _wait_active(self) -> None:
        """Without HA nobody else serves: whoever has unsealed the node may go on at once."""
        with trio.move_on_after(self._settings.timing.park_s):
            while (seen := self._publisher.status).role is Role.STANDBY:
                await self._publisher.wait_change(seen)


def collect_garbage() -> None:
    """
    Free what only garbage refers to: an error and the frames that it came through hold each other,
    and with them the keys and shares in these frames. Takes tens of milliseconds, more where much
    is cached: for moments without active duty.
    """
    gc.collect()
