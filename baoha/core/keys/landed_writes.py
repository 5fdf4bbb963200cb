"""
Which writes of the running request have landed: may a refusal still be called "not executed"?

Rule of this file: it counts what the store has acknowledged, and decides nothing.

A request may write more than once (a use of a limited token is counted before the request itself is
carried out). If the tenure ends in between, the request must not be sent round again as if nothing
had happened. The count belongs to the task that runs the request, so it needs no argument through
every engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_landed: ContextVar[list[None] | None] = ContextVar("landed", default=None)


@contextmanager
def counting_writes() -> Iterator[list[None]]:
    """Lend a list that gets an item for each write of this task's block that has landed."""
    landed: list[None] = []
    token = _landed.set(landed)
    try:
        yield landed
    finally:
        _landed.reset(token)
        if (outer := _landed.get()) is not None:
            outer += landed  # what has landed inside has landed for whoever counts around it


def count_landed() -> None:
    """Take note of a write that the store has acknowledged."""
    if (landed := _landed.get()) is not None:
        landed.append(None)
