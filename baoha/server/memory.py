"""
How much memory this process may use.

Rule of this file: what cannot be read is no limit; an answer is always given.

Source: cgroups(7), ``memory.max`` (v2) and ``memory.limit_in_bytes`` (v1).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def usable_bytes(
    *, own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int:
    """
    Return the memory of the machine, or the least limit of this process's control groups.

    Args:
        own: says to which control groups the process belongs.
        root: where the control groups are mounted.
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_limits(own, root)])


def _limits(own: Path, root: Path) -> Iterator[int]:
    for line in _read(own).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            top, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = PurePosixPath(path.lstrip("/"))
        # A limit of a parent holds too; within a container the path may not exist, only the top.
        for folder in (group, *group.parents):
            limit = _read(top / folder / name).strip()
            if limit.isdecimal() and int(limit):
                yield int(limit)


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
