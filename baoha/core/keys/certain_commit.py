"""
Commits whose outcome must be known: keys came out of them that nobody could replace.

Rule of this file: a result is returned only when it is certain that what belongs to it was stored.

Theory of operation. A store may lose the answer to a commit. An attempt therefore leaves a *mark*:
a value that only this attempt writes, at a path that every attempt reads first and so expects to be
unchanged. The next attempt finds the mark (the former attempt has landed, its result counts), or it
does not; then it commits anew, and with that the former one cannot land any more: what it expects
is gone. So a lost answer costs one more round trip and no doubt.

Source: ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from baoha.errors import (
    AlreadyInitialized,
    BaohaError,
    StorageUnavailable,
    TransactionConflict,
)

T = TypeVar("T")

CONFLICTS_MAX: Final = 8  # each one means that another writer made progress
UNKNOWN_MAX: Final = 3  # commits without an answer, before the store is given up


async def commit_certainly(attempt: Callable[[dict[bytes, T]], Awaitable[T]]) -> T:
    """
    Run attempts until one is known to have landed, or to be refused.

    Args:
        attempt: runs one transaction. It returns ``tried[mark]`` when it reads a mark that is in
            ``tried``, and otherwise adds its own mark and result before it commits.

    Raises:
        BaohaError: what the attempt raised; nothing was written.
        StorageUnavailable: with outcome "unknown" when an answer was lost and no later attempt
            could tell; it counts more than what the later attempt met.
    """
    tried: dict[bytes, T] = {}
    unknown: StorageUnavailable | None = None
    conflicts = unknowns = 0
    while True:
        try:
            return await attempt(tried)
        except TransactionConflict as exc:
            conflicts += 1
            if conflicts == CONFLICTS_MAX:
                raise unknown or exc from exc
        except StorageUnavailable as exc:
            if exc.outcome == "unknown":
                unknown, unknowns = exc, unknowns + 1
            if exc.outcome != "unknown" or unknowns == UNKNOWN_MAX:
                raise unknown or exc from exc
        except BaohaError as exc:  # fenced, sealed, corrupt: no further attempt
            # Somebody else's keyring where ours would be: ours has not landed and never will.
            if unknown is None or isinstance(exc, AlreadyInitialized):
                raise
            raise unknown from exc
