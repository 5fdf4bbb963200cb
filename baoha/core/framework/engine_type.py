"""
A kind of engine as a row: what is asked of it by its name, and how one is made.

Rules of this file:

1. What distinguishes one kind from another is a field of its row. Nothing else asks for a name.
2. A name belongs to one row of its table, aliases included; two are refused when the server starts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from baoha.core.framework.engine import Engine, EngineContext
from baoha.core.framework.mount_entry import MountEntry, Table
from baoha.errors import ConfigError

Options = Mapping[str, str]
_NONE: Final[Options] = MappingProxyType({})


def accept_options(options: Options) -> None:
    """Check the options of a new mount: all are right."""


def merge_options(stored: Options, asked: Options) -> Options:
    """Return the options of a mount after a tuning: an empty value removes an option."""
    merged = {**stored, **asked}
    return {name: value for name, value in merged.items() if value or name not in asked}


def never_moves(before: Options, after: Options) -> bool:
    """Return whether other options mean another layout of the data: they do not."""
    return False


def no_warnings(before: Options, after: Options) -> list[str]:
    """Return what a client is told of changed options: nothing."""
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineType:
    """
    One kind of engine. An entry point of the group ``baoha.engines`` names such a row.

    Attributes:
        name: what a client enables it by.
        table: whether it is a secret engine or an auth method.
        summary: a line for people.
        make: makes the engine of a mount.
        aliases: other names, and the options that each stands for.
        check_options: checks those of a new mount; raises InvalidRequest.
        merge_options: gets the stored and the asked ones of a tuning, and returns the new ones;
            raises InvalidRequest.
        moves_data: whether a change of options means another layout. The mount then gets a new
            folder, and ``background`` moves what is in the former one (``MountStore.wait_moving``).
        moving: what a client is told whose request comes too late for the former folder.
        warn_options: what a client is told of changed options.
        background: runs on the active node for as long as it is active, for what cannot wait for a
            tick.
        built_in: no client enables it.
        shows_status: whether clients see a ``deprecation_status`` of it.
    """

    name: str
    table: Table
    summary: str
    make: Callable[[MountEntry, EngineContext], Engine] = field(repr=False)
    aliases: Mapping[str, Options] = field(default_factory=dict)
    check_options: Callable[[Options], None] = field(default=accept_options, repr=False)
    merge_options: Callable[[Options, Options], Options] = field(default=merge_options, repr=False)
    moves_data: Callable[[Options, Options], bool] = field(default=never_moves, repr=False)
    moving: str = "the data of this mount is being moved; try again"
    warn_options: Callable[[Options, Options], list[str]] = field(default=no_warnings, repr=False)
    background: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)
    built_in: bool = False
    shows_status: bool = True


class EngineTypes:
    """
    The rows that a server has.

    Raises:
        ConfigError: two of them have the same name.
    """

    def __init__(self, rows: Iterable[EngineType] = ()) -> None:
        self._rows: dict[tuple[str, str], EngineType] = {}
        self._aliases: dict[tuple[str, str], tuple[EngineType, Options]] = {}
        taken = set()
        for row in rows:
            for name in (row.name, *row.aliases):
                if (row.table, name) in taken:
                    raise ConfigError(f"two engines are called {name!r}: remove one of them")
                taken.add((row.table, name))
            self._rows[row.table, row.name] = row
            for alias, options in row.aliases.items():
                self._aliases[row.table, alias] = (row, options)

    def __iter__(self) -> Iterator[EngineType]:
        return iter(self._rows.values())

    def get(self, table: str, name: str) -> EngineType | None:
        """Return the row of a type as it is stored."""
        return self._rows.get((table, name))

    def resolve(self, table: str, name: str) -> tuple[str, Options]:
        """Return the name of the type that a client means, and the options that come with it."""
        found = self._aliases.get((table, name))
        return (name, _NONE) if found is None else (found[0].name, found[1])

    def is_built_in(self, name: str) -> bool:
        """Return whether a type is the server's own, in whatever table."""
        return any(row.built_in for row in self._rows.values() if row.name == name)
