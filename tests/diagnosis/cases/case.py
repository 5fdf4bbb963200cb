"""One case, and what several need to build theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.diagnosis.world import World

Build = Callable[[World], list[str]]


@dataclass(frozen=True)
class Case:
    """
    One misconfiguration.

    Args:
        build: sets it up and returns the arguments after ``--addr``'s; the addresses of all nodes
            are added unless "--addr" is among them.
        codes: what must be found, sorted.
        code: exit status.
        cause: code that explains the first finding, or "".
        area: the command.
    """

    build: Build
    codes: tuple[str, ...]
    code: int = 1
    cause: str = ""
    area: str = "all"


def now() -> datetime:
    return datetime.now(UTC)


def token(world: World) -> list[str]:
    path = world.folder / "token"
    path.write_text("s.LaboratoryToken0123456789")
    return ["--token-file", str(path)]
