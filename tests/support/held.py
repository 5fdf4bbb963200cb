"""
What an object keeps in memory, as the garbage collector sees it.

For tests of what is forgotten and of what is bounded: a cache has no public name, but whatever it
is called, what it keeps is held. So a test asks for values of a public type and reads no attribute.
"""

from __future__ import annotations

import gc
import types
from collections.abc import Iterator
from typing import TypeVar

import trio

T = TypeVar("T")

# Through these everything is held by everything: code, and tasks that only wait for the object.
_NOT_FOLLOWED = (
    type,
    types.CoroutineType,
    types.FrameType,
    types.FunctionType,
    types.ModuleType,
    trio.lowlevel.Task,
)


def held(root: object, kind: type[T]) -> list[T]:
    """Return what of a kind an object keeps, directly or through others; each once."""
    return [found for found in _walk(root) if isinstance(found, kind)]


def _walk(root: object) -> Iterator[object]:
    # By identity; the values keep those of objects that are made while we look from being reused.
    seen: dict[int, object] = {}
    pending = [root]
    while pending:
        found = pending.pop()
        if id(found) in seen or isinstance(found, _NOT_FOLLOWED):
            continue
        seen[id(found)] = found
        yield found
        pending.extend(gc.get_referents(found))
