"""
Whose CPU cores are whose: the load and those who watch have one, the nodes have all others.

Rule of this file: on a machine with one core nothing is divided, and the report says so.

Theory of operation. An open loop at four times the capacity uses four times the CPU itself. On
common cores the nodes would have less in the very moment in which they are to do as much as before,
and the generator's appetite would be measured as theirs. Clients usually sit on other machines.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def core_of_the_load() -> int | None:
    """Return the core of generators; None: they share all of them with the nodes."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0] if len(cores) > 1 else None


def leave_one_core(groups: Iterable[int]) -> str:
    """
    Keep all threads of some process groups off the core of the load; those that they start inherit
    it. Returns what was done, for the report.
    """
    cores = os.sched_getaffinity(0)
    own = core_of_the_load()
    if own is None:
        return "nodes and load share one core"
    rest = cores - {own}
    for pid in _processes(set(groups)):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), rest)
    plural = "" if len(rest) == 1 else "s"
    return f"the nodes share {len(rest)} core{plural}, the load has one of its own"


def _processes(groups: set[int]) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            if os.getpgid(int(entry.name)) in groups:
                found.append(int(entry.name))
    return found
