"""
A look into a running node, for tests and for whoever debugs one.

Rule of this file: nothing in the server reads it. What was looked at is of one moment; the parts
that it names live on.
"""

from __future__ import annotations

from dataclasses import dataclass

from baoha.core.dispatch import Core
from baoha.core.keys.barrier import Barrier
from baoha.core.maintenance import Maintenance
from baoha.ha.loop import HALoop
from baoha.ha.tenure import Tenure
from baoha.sansio.ha_state import Phase
from baoha.storage.base import HALock


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """
    The inside of a node at one moment.

    Attributes:
        admitting: the tenure that the request gate is open for; None: it is closed.
        loop: the HA machinery; None while the node is sealed.
        lock: the node's handle on the HA lock; None before it was opened, and without HA.
    """

    phase: Phase
    admitting: Tenure | None
    loop: HALoop | None
    lock: HALock | None
    barrier: Barrier
    core: Core
    maintenance: Maintenance
