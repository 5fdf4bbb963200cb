"""
How much work a piece of Python is, counted instead of timed: the same on every machine.

Rule of this file: what is counted is the interpreter's instructions, ours and the library's; the
inside of a C function counts as one.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def count_steps(work: Callable[[], object]) -> int:
    """Run something, and return how many instructions of Python that took."""
    steps = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal steps
        frame.f_trace_opcodes = True
        steps += event == "opcode"
        return trace

    before, collects = sys.gettrace(), gc.isenabled()
    # Hypothesis listens to the collector, in Python.
    gc.disable()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
        if collects:
            gc.enable()
    return steps
