"""
What is said of errors that nobody caught: in a thread, in a destructor, at the end of the process.

Rule of this file: only the type and the place of an error are told. Python's own hooks print its
text, and unraisable ones the object too; these may quote what a client, a peer or a store has sent.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from baoha.errors import type_and_place

log = logging.getLogger("baoha.server")


@contextmanager
def without_texts() -> Iterator[None]:
    """Take the place of Python's hooks, for the time of the block."""
    before = (sys.excepthook, sys.unraisablehook, threading.excepthook)
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _thread
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook, threading.excepthook = before


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.error("nobody caught an error: error=%s", places(error))


def _thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or isinstance(args.exc_value, SystemExit):
        return
    name = args.thread.name if args.thread is not None else "?"
    log.error("thread ended by an error: thread=%s error=%s", name, places(args.exc_value))


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    if args.exc_value is not None:
        log.error("an error could not be raised: error=%s", places(args.exc_value))


def places(error: BaseException) -> str:
    """Return type and place of an error, and of all that a group holds."""
    if not isinstance(error, BaseExceptionGroup):
        return type_and_place(error)
    return "\n".join((type_and_place(error), *map(places, error.exceptions)))
