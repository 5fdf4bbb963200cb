"""
The role of a node as a state machine, in one table.

Rules of this file:

1. Every change of role in the program is a row of ``TRANSITIONS``; a pair that is not in the table
   is a bug of ours and raises, changing nothing.
2. It knows no lock, no clock and no task: whoever fires an event has made it true first.

Theory of operation. A sealed node has no keys. Unsealed, it stands by. With the HA lock it is
*entering* (it holds the lock, but answers nothing yet), then *active*. A planned change of the
active node goes through *leaving*: the gate is closed, running requests end, the lock is passed on.
Every tenure ends in standby, whatever ended it.
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Where a node stands. The API shows ENTERING and LEAVING as standby."""

    SEALED = "sealed"
    STANDBY = "standby"
    ENTERING = "entering"
    ACTIVE = "active"
    LEAVING = "leaving"


class HAEvent(Enum):
    """What can happen to a node's role."""

    UNSEALED = "unsealed"
    SEALED = "sealed"
    LOCK_ACQUIRED = "lock acquired"
    DUTY_READY = "duty ready"
    LEAVE_BEGUN = "leave begun"
    TENURE_ENDED = "tenure ended"


TRANSITIONS: dict[tuple[Phase, HAEvent], Phase] = {
    (Phase.SEALED, HAEvent.UNSEALED): Phase.STANDBY,
    (Phase.STANDBY, HAEvent.SEALED): Phase.SEALED,
    (Phase.STANDBY, HAEvent.LOCK_ACQUIRED): Phase.ENTERING,
    (Phase.ENTERING, HAEvent.DUTY_READY): Phase.ACTIVE,
    (Phase.ENTERING, HAEvent.TENURE_ENDED): Phase.STANDBY,
    (Phase.ACTIVE, HAEvent.LEAVE_BEGUN): Phase.LEAVING,
    (Phase.ACTIVE, HAEvent.TENURE_ENDED): Phase.STANDBY,
    (Phase.LEAVING, HAEvent.TENURE_ENDED): Phase.STANDBY,
}


class IllegalTransition(AssertionError):
    """An event that cannot happen in this phase: a bug of ours, never the operator's."""


def next_phase(phase: Phase, event: HAEvent) -> Phase:
    """
    Return the phase after an event.

    Raises:
        IllegalTransition: the table has no such row.
    """
    try:
        return TRANSITIONS[phase, event]
    except KeyError:
        raise IllegalTransition(f"{event.value!r} cannot happen while {phase.value}") from None
