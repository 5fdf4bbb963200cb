"""
The rules of the HA lock as pure functions on one stored row.

Rules of this file:

1. It knows no clock: "now" is an argument, in seconds of the store's own clock.
2. A change of holder, and every acquisition, raises the epoch by one. Nothing lowers it: the row
   stays when the lock is free, so that a fence of the past can never hold again.

Every store whose lock is a row it can read and write in one step (inmem, sqlite) decides here, so
they cannot differ. Source: ours; the contract is ``HALock``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from baoha.storage.base import Fence, LockRecord


@dataclass(frozen=True, slots=True)
class LockRow:
    """
    What a store keeps of one lock, held or not.

    Attributes:
        identity: the holder; "" when it was released.
        value: what the holder wrote.
        epoch: the last epoch that was given out; 0: never acquired.
        expires_at_s: when the store lets go, by the store's clock.
    """

    identity: str = ""
    value: str = ""
    epoch: int = 0
    expires_at_s: float = 0.0


FREE = LockRow()


def is_held(row: LockRow, now_s: float) -> bool:
    """Return whether somebody holds the lock now."""
    return row.identity != "" and now_s < row.expires_at_s


def fence_holds(row: LockRow, fence: Fence, now_s: float) -> bool:
    """Return whether the fence's tenure is the one that holds the lock now."""
    return is_held(row, now_s) and row.identity == fence.identity and row.epoch == fence.epoch


def may_acquire(row: LockRow, identity: str, now_s: float) -> bool:
    """Return whether this contender gets the lock without anybody's eviction."""
    return not is_held(row, now_s) or row.identity == identity


def is_evicted(row: LockRow, evict: LockRecord | None) -> bool:
    """Return whether the row is still the tenure that the evidence was gathered against."""
    return evict is not None and row.identity == evict.identity and row.epoch == evict.epoch


def acquired(
    row: LockRow, identity: str, value: str, expires_at_s: float, *, epoch_seen: int = 0
) -> LockRow:
    """
    Return the row of a new tenure.

    Args:
        epoch_seen: the highest epoch that the contender has ever read: a row may have been removed
            or set back by hand or by a restored backup, and no epoch may come again.
    """
    return LockRow(identity, value, max(row.epoch, epoch_seen) + 1, expires_at_s)


def renewed(row: LockRow, expires_at_s: float) -> LockRow:
    """Return the row with a new expiry."""
    return replace(row, expires_at_s=expires_at_s)


def released(row: LockRow, successor: str | None, expires_at_s: float) -> LockRow:
    """Return the row after the holder let go: free, or recorded for the successor."""
    if successor is None:
        return replace(row, identity="", value="", expires_at_s=0.0)
    return LockRow(successor, "", row.epoch + 1, expires_at_s)


def record(row: LockRow, now_s: float) -> LockRecord | None:
    """Return what a reader is told: the record of whoever holds the lock, or None."""
    if not is_held(row, now_s):
        return None
    return LockRecord(
        identity=row.identity,
        value=row.value,
        epoch=row.epoch,
        expires_in_s=row.expires_at_s - now_s,
    )
