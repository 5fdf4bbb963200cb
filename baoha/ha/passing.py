"""
After the lock was passed on: has the successor taken it up?

Rules of this file: it believes what the store's record shows, and nothing else. Acquiring the lock
raises its epoch by one, and so does passing it on; so the record that follows the one that was left
tells who took it up, and a later one that somebody had.

Whoever passed the lock on is a standby from that moment, and reads the record anyway: this file
only watches what the standby sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from baoha.errors import NotTakenUp
from baoha.storage.base import LockRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """
    The lock was passed to a successor, or given back for it where the store cannot pass it.

    Attributes:
        identity: the successor's.
        name: its API address.
        epoch: of the lock as it was left.
        lapses_at: when it is free again if nobody takes it up (trio's clock).
        is_reserved: False when it may be anybody else's as well.
        is_wanted: False when the standby that was asked for was lost in the last moment.
    """

    identity: str
    name: str
    epoch: int
    lapses_at: float
    is_reserved: bool = True
    is_wanted: bool = True


class LockSightings:
    """The latest record that this node has seen."""

    def __init__(self) -> None:
        self._latest: LockRecord | None = None
        self._seen = trio.Event()

    def saw(self, record: LockRecord | None) -> None:
        """Take note of what the store says now, or of this node's own acquisition."""
        self._latest = record
        self._seen.set()
        self._seen = trio.Event()

    async def wait_taken_up(self, passed: Passed, *, grace_s: float) -> None:
        """
        Return when the record shows that the successor has taken the lock up.

        Args:
            grace_s: how long after its lapse to look for who has it.

        Raises:
            NotTakenUp: it has not, or nothing shows that it has.
        """
        with trio.move_on_at(passed.lapses_at + grace_s):
            while True:
                seen = self._seen
                taker = _taker(passed, self._latest)
                if taker == passed.identity and _is_lost_again(passed, self._latest):
                    raise NotTakenUp(
                        f"the HA lock was passed to {passed.name}, which has taken it up and not "
                        "kept it; another node has"
                    )
                if taker == passed.identity:
                    if passed.is_wanted:
                        return
                    raise NotTakenUp(
                        "the standby that was asked for was lost during the hand-over; "
                        f"{passed.name} has taken over"
                    )
                if taker is not None and not passed.is_reserved:
                    return  # a race among standbys that are all as good
                if taker is not None:
                    raise NotTakenUp(
                        f"the HA lock was passed to {passed.name}, which has not taken it up; "
                        "another node has"
                    )
                await seen.wait()
        raise NotTakenUp(
            f"the HA lock was passed to {passed.name}, and nothing shows that it has taken it up "
            "yet; whoever is ready takes over"
        )


def _taker(passed: Passed, record: LockRecord | None) -> str | None:
    """Return who took the lock up; None: nobody, as far as this record tells."""
    if record is None or record.epoch <= passed.epoch:
        return None
    if record.epoch == passed.epoch + 1:
        return record.identity
    # Somebody took it up and has let it go again; a lock that lapses leaves no epoch behind.
    return passed.identity


def _is_lost_again(passed: Passed, record: LockRecord | None) -> bool:
    """Return whether another node acquired the lock next, without the successor's passing it."""
    return (
        record is not None
        and record.epoch == passed.epoch + 2
        and record.value != ""
        and record.identity != passed.identity
    )
