"""
A file system of some megabytes, to be filled.

Rule of this file: what is mounted here is unmounted here, whatever happens. Whoever may not mount
is told how to run the tests all the same; nothing is left out in silence.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_BLOCK = 4096


@contextmanager
def small_disk(folder: Path, *, options: str = "size=12m") -> Iterator[Path]:
    """Mount a tmpfs on a folder that is made for it."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"{options},mode=700", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(
            f"cannot mount a small disk: {done.stderr.strip()}; run as root, or under "
            "`unshare --map-root-user --mount`"
        )
    try:
        yield folder
    finally:
        # Lazily: a process that a failed test has left must not keep it.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def free_bytes(folder: Path) -> int:
    """Return how much is left."""
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


def fill_disk(folder: Path, *, leave: int = 0) -> Path:
    """Take all space but so many bytes; return the file to remove."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as filler:
        try:
            while free_bytes(folder) > leave:
                filler.write(bytes(_BLOCK))
        except OSError as exc:
            if exc.errno != errno.ENOSPC:
                raise
    return file
