"""
What every task and thread is doing right now, as text for the log (SIGUSR2).

Rule of this file: places in the code only. No local variable, no argument, no secret.

Source: OpenBao dumps its goroutines on SIGUSR2.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator

import trio

LINES_MAX = 5_000


def dump_stacks() -> str:
    """Return the tree of trio tasks and the stacks of all threads. Call it from the event loop."""
    lines = ["tasks:"]
    root = trio.lowlevel.current_root_task()
    if root is not None:
        lines.extend(_task_lines(root, depth=1))
    lines.append("threads:")
    lines.extend(_thread_lines())
    if len(lines) > LINES_MAX:
        lines[LINES_MAX:] = [f"... and {len(lines) - LINES_MAX} more lines"]
    return "\n".join(lines)


def _task_lines(root: trio.lowlevel.Task, *, depth: int) -> Iterator[str]:
    # A stack of its own: a deep tree of nurseries must not end in a RecursionError.
    pending = [(root, depth)]
    while pending:
        task, level = pending.pop()
        indent = "  " * level
        yield f"{indent}{task.name}"
        for frame, line in task.iter_await_frames():
            code = frame.f_code
            yield f"{indent}    {code.co_filename}:{line} {code.co_name}"
        for nursery in task.child_nurseries:
            pending.extend((child, level + 1) for child in nursery.child_tasks)


def _thread_lines() -> Iterator[str]:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        yield f"  {names.get(ident, '?')} ({ident})"
        for entry in traceback.extract_stack(frame):
            yield f"      {entry.filename}:{entry.lineno} {entry.name}"
