"""
Which writes of the running request have landed: may a refusal still be called "not executed"?

Rule of this file: it counts what the store has acknowledged, and decides nothing.

A request may write more than once (a use of a limited token is counted before the request itself is
carried out). If the tenure ends in between, the request must not be sent round again as if nothing
had happened. The count belongs to the task that runs the request, so it needs no argument through
every engine.
"""

from __future__ import annotations

from contextvars import ContextVar, Token

_landed: ContextVar[list[None] | None] = ContextVar("landed", default=None)


class CountedWrites:
    """Lend a list that gets an item for each write of this task's block that has landed."""

    __slots__ = ("_landed", "_token")

    def __enter__(self) -> list[None]:
        self._landed: list[None] = []
        self._token: Token[list[None] | None] = _landed.set(self._landed)
        return self._landed

    def __exit__(self, *_error: object) -> None:
        _landed.reset(self._token)
        if (outer := _landed.get()) is not None:
            outer += self._landed  # landed for whoever counts around it, too


def count_landed() -> None:
    """Take note of a write that the store has acknowledged."""
    if (landed := _landed.get()) is not None:
        landed.append(None)
