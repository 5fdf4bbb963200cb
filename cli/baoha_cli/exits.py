"""
Exit codes: what a command found out, and the number a script sees.

Rules of this file: a command names a Verdict and never a number, and one table turns verdicts into
numbers. `baoha explain exit-codes` prints that table, and a test reads each of its rows.

Theory of operation. Scripts already know the codes of `bao` (`status`: 0, 1, 2), so commands that
exist there keep them (profile "bao"); commands that are new use a finer set (profile "detailed").
"nagios" maps everything to OK, WARNING, CRITICAL and UNKNOWN. Usage errors are 64 everywhere: the
usual 2 would read as "sealed".

Source: `bao` 2.7.2 for the "bao" column; docs/spec/cluster-cli.md section 3.1 for the others.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple


class Profile(enum.StrEnum):
    """Which column of the table applies."""

    BAO = "bao"
    STATUS = "bao-status"  # bao's own exception: its status command answers 1 for every error
    DETAILED = "detailed"
    NAGIOS = "nagios"


class Verdict(enum.Enum):
    """What a command found out."""

    OK = "success, or the condition holds"
    NO = "it ran, but the answer is no"
    LOCAL = "local error: file, token store, output"
    API = "the server answered with an error"
    SEALED = "sealed"
    DEGRADED = "degraded: no leader, two leaders, a node down, forwarding broken"
    EXPECTATION = "a condition given with --expect does not hold"
    UNINITIALIZED = "not initialised"
    UNREACHABLE = "no node reachable (DNS, TCP)"
    TLS = "TLS failure"
    DENIED = "permission denied, or no token"
    TIMEOUT = "time-out"
    IMPOSSIBLE = "waiting ended early: the condition can no longer become true"
    USAGE = "usage error"
    BUG = "internal error in baoha"
    INTERRUPTED = "interrupted (SIGINT)"
    TERMINATED = "terminated (SIGTERM)"
    BROKEN_PIPE = "the reader of the output went away"


class Row(NamedTuple):
    """One verdict's number in each profile."""

    bao: int
    status: int
    detailed: int
    nagios: int


TABLE: Final[dict[Verdict, Row]] = {
    Verdict.OK: Row(0, 0, 0, 0),
    Verdict.NO: Row(1, 1, 1, 2),
    Verdict.LOCAL: Row(1, 1, 1, 3),
    Verdict.API: Row(2, 1, 1, 3),
    Verdict.SEALED: Row(2, 2, 2, 2),
    # `bao status` knows no such state: a standby without a leader is "unsealed", and that is 0.
    Verdict.DEGRADED: Row(1, 0, 3, 1),
    Verdict.EXPECTATION: Row(3, 3, 3, 2),
    Verdict.UNINITIALIZED: Row(2, 2, 4, 2),
    Verdict.UNREACHABLE: Row(2, 1, 5, 2),
    Verdict.TLS: Row(2, 1, 6, 2),
    Verdict.DENIED: Row(2, 1, 7, 3),
    Verdict.TIMEOUT: Row(2, 1, 8, 2),
    Verdict.IMPOSSIBLE: Row(1, 1, 9, 2),
    Verdict.USAGE: Row(64, 64, 64, 64),
    Verdict.BUG: Row(70, 70, 70, 70),
    Verdict.INTERRUPTED: Row(130, 130, 130, 130),
    Verdict.TERMINATED: Row(143, 143, 143, 143),
    Verdict.BROKEN_PIPE: Row(141, 141, 141, 141),
}

# What --exit-zero leaves alone: the command did not do its work, so 0 would be a lie.
NEVER_ZERO: Final = frozenset(
    {
        Verdict.USAGE,
        Verdict.BUG,
        Verdict.INTERRUPTED,
        Verdict.TERMINATED,
        Verdict.BROKEN_PIPE,
    }
)


def exit_code(verdict: Verdict, profile: Profile, *, exit_zero: bool = False) -> int:
    """Return the number for a verdict in a profile."""
    if exit_zero and verdict not in NEVER_ZERO:
        return 0
    row = TABLE[verdict]
    match profile:
        case Profile.BAO:
            return row.bao
        case Profile.STATUS:
            return row.status
        case Profile.DETAILED:
            return row.detailed
        case Profile.NAGIOS:
            return row.nagios
