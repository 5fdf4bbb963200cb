"""
Mount routing: the longest mounted prefix of a path.

Rule of this file: a mount path ends in "/", and no mount lies inside another one, so that what a
path routes to never depends on the order in which mounts were made.

The lookup walks the path's own "/" boundaries from the longest that a mount can have to the
shortest: its cost depends neither on the number of mounts nor on what a stranger makes of the path.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Match(NamedTuple, Generic[T]):
    """Where a path leads: the mount, and the rest of the path inside of it."""

    mount_path: str
    target: T
    relative_path: str


class MountTable(Generic[T]):
    """A map from mount path to target, searched by longest prefix."""

    def __init__(self) -> None:
        self._targets: dict[str, T] = {}
        self._length_max = 0  # of a mount path

    def __len__(self) -> int:
        return len(self._targets)

    def __iter__(self) -> Iterator[tuple[str, T]]:
        return iter(sorted(self._targets.items()))

    def get(self, mount_path: str) -> T | None:
        """Return what is mounted exactly here."""
        return self._targets.get(mount_path)

    def mount(self, mount_path: str, target: T) -> None:
        """Mount a target; the caller has checked ``conflict``."""
        assert mount_path.endswith("/"), "a mount path ends in a slash"
        self._targets[mount_path] = target
        self._length_max = max(self._length_max, len(mount_path))

    def unmount(self, mount_path: str) -> T | None:
        """Remove what is mounted exactly here and return it."""
        target = self._targets.pop(mount_path, None)
        self._length_max = max(map(len, self._targets), default=0)
        return target

    def conflict(self, mount_path: str) -> str | None:
        """Return the mount that a new one at this path would lie in, equal, or hide."""
        match = self.match(mount_path)
        if match is not None:
            return match.mount_path
        return next((path for path in self._targets if path.startswith(mount_path)), None)

    def match(self, path: str) -> Match[T] | None:
        """Return the longest mount that is a prefix of the path ("a" leads to the mount "a/")."""
        candidate = path if path.endswith("/") else path + "/"
        if len(candidate) > self._length_max:
            candidate = path[: path.rfind("/", 0, self._length_max) + 1]
        while candidate:
            target = self._targets.get(candidate)
            if target is not None:
                return Match(candidate, target, path[len(candidate) :])
            candidate = candidate[: candidate.rfind("/", 0, -1) + 1]
        return None
