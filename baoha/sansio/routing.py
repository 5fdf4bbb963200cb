"""
Mount routing: the longest mounted prefix of a path.

Rule of this file: a mount path ends in "/", and no mount lies inside another one, so that what a
path routes to never depends on the order in which mounts were made.

The lookup walks the path's own "/" boundaries from the longest to the shortest: its cost depends
on the path, not on the number of mounts.
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

    def unmount(self, mount_path: str) -> T | None:
        """Remove what is mounted exactly here and return it."""
        return self._targets.pop(mount_path, None)

    def conflict(self, mount_path: str) -> str | None:
        """Return the mount that a new one at this path would lie in, equal, or hide."""
        match = self.match(mount_path)
        if match is not None:
            return match.mount_path
        return next((path for path in self._targets if path.startswith(mount_path)), None)

    def match(self, path: str) -> Match[T] | None:
        """Return the longest mount that is a prefix of the path ("a" leads to the mount "a/")."""
        end = len(path)
        candidate = path if path.endswith("/") else path + "/"
        while True:
            target = self._targets.get(candidate)
            if target is not None:
                return Match(candidate, target, path[len(candidate) :])
            end = path.rfind("/", 0, end)
            if end < 0:
                return None
            candidate = path[: end + 1]
