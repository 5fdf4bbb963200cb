"""
The one picture of this node: who may change it, who is told.

Rules of this file: ``publish`` never waits, so deciding and publishing a state is one synchronous
step; the phase changes only through the table of ``sansio.ha_state``.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import trio

from baoha.core.view import NodeStatus, Role
from baoha.sansio.ha_state import HAEvent, Phase, next_phase

log = logging.getLogger("baoha.ha")

_ROLES = {
    Phase.SEALED: Role.SEALED,
    Phase.STANDBY: Role.STANDBY,
    Phase.ENTERING: Role.STANDBY,
    Phase.ACTIVE: Role.ACTIVE,
    Phase.LEAVING: Role.STANDBY,
}


class StatusPublisher:
    """Holds the current ``NodeStatus`` and wakes whoever waits for the next one."""

    def __init__(self, initial: NodeStatus) -> None:
        self.status = initial
        self.phase = Phase.SEALED
        self._changed = trio.Event()

    def apply(self, event: HAEvent, **changes: Any) -> None:
        """
        Change the phase, and publish it together with other changes of the same moment.

        Raises:
            IllegalTransition: the phase does not know this event; nothing has changed.
        """
        before = self.phase
        self.phase = next_phase(before, event)
        log.debug(
            "role changed: from=%s event=%r to=%s", before.value, event.value, self.phase.value
        )
        self.publish(
            role=_ROLES[self.phase], sealed=self.phase is Phase.SEALED, _always=True, **changes
        )

    def publish(self, *, _always: bool = False, **changes: Any) -> None:
        """Replace fields of the status; wake the waiters if anything is different."""
        if (leader := changes.get("leader")) is not None:
            changes["last_leader_addr"] = leader.redirect_addr
        updated = replace(self.status, **changes)
        if updated == self.status and not _always:
            return
        self.status = replace(updated, revision=self.status.revision + 1)
        self._changed.set()
        self._changed = trio.Event()

    async def wait_change(self, seen: NodeStatus) -> None:
        """Return as soon as the revision differs from the one seen."""
        while self.status.revision == seen.revision:
            await self._changed.wait()
