"""
Whether the wall clock may be believed where it decides about something that cannot be undone.

Rules of this file: it is pure; both clocks are arguments. A clock that is wrong in small steps is
believed, as is the one that the process began with: nothing here could tell.

Theory of operation. The wall clock may be set, the boot clock runs evenly; their difference is the
wall clock's offset. If it has jumped, it is not believed until it is back, or has stayed where it
is for an hour: a clock that was set right stays, one that was set wrong is set back soon.

Source: ours.
"""

from __future__ import annotations

from typing import Final

JUMP_S: Final = 60.0  # more than this between two looks is no drift
STEADY_S: Final = 3600.0  # so long a clock has to stay where it jumped to


class ClockWatch:
    """
    Watches a wall clock for jumps.

    Args:
        wall_s: the wall clock, in seconds since any fixed moment.
        boot_s: the boot clock at the same time.
    """

    def __init__(self, wall_s: float, boot_s: float) -> None:
        self._believed_s = wall_s - boot_s
        self._jumped_to_s: float | None = None
        self._jumped_at_s = 0.0  # by the boot clock

    def is_steady(self, wall_s: float, boot_s: float) -> bool:
        """Look at both clocks once more and say whether the wall clock may be believed."""
        offset_s = wall_s - boot_s
        if _is_near(offset_s, self._believed_s):
            self._believed_s, self._jumped_to_s = offset_s, None
            return True
        if self._jumped_to_s is None or not _is_near(offset_s, self._jumped_to_s):
            self._jumped_at_s = boot_s
        self._jumped_to_s = offset_s
        if boot_s - self._jumped_at_s < STEADY_S:
            return False
        self._believed_s, self._jumped_to_s = offset_s, None
        return True


def _is_near(one_s: float, other_s: float) -> bool:
    return abs(one_s - other_s) <= JUMP_S
