"""
The keys of a ``[storage.X]`` block: a row for each, and the reading of a block by its rows.

Rules of this file:

1. A key that the store does not know is an error, never ignored; a typing mistake in a
   configuration must not silently mean a default.
2. What is to be known of a key stands in its row: reading, masking, environment and
   ``baoha storage list`` ask nobody else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, cast

from baoha.errors import ConfigError

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")


class SettingKind(StrEnum):
    """What a value is; the words are those of the tables."""

    TEXT = "text"  # not empty, without control characters
    PATH = "path"  # a file or folder of this machine
    DURATION = "duration"  # seconds as a number, or "500ms", "2s", "1m"; above 0, 24 hours at most
    FLAG = "flag"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSetting:
    """
    One key of a store's block.

    Attributes:
        doc: what it is, for the tables; one line, without a full stop.
        default: None makes the key required. Durations are seconds.
        secret: no text shows its value.
        env: name of the environment variable that replaces it, without prefix (``BAOHA_``); or "".
            What it says is text, so a flag has none.
    """

    key: str
    kind: SettingKind
    doc: str
    default: str | float | bool | None = None
    secret: bool = False
    env: str = ""

    @property
    def shown_default(self) -> str:
        """The default as it would be written; "" where the key is required."""
        if self.default is None:
            return ""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return f"{self.default:g}s" if isinstance(self.default, float) else str(self.default)


class UnknownKeys(ConfigError):
    """
    A block holds keys that its store does not know.

    Args:
        store: the store's name.
        keys: the unknown ones, as they stand in the block.
        known: those that have a row.
    """

    def __init__(self, store: str, keys: Sequence[str], known: Sequence[str]) -> None:
        super().__init__(f"storage.{store}: unknown key: {', '.join(sorted(keys))}")
        self.keys = tuple(keys)
        self.known = tuple(known)


class Settings:
    """
    One storage block, checked against the rows of its store.

    Args:
        store: the store's name, for error texts.
        rows: the keys that it knows.
        block: the block as configured.

    Raises:
        ConfigError: a required key is missing, or a value is of the wrong kind.
        UnknownKeys: there is a key without a row.
    """

    def __init__(
        self, store: str, rows: Sequence[StoreSetting], block: Mapping[str, object]
    ) -> None:
        self._values: dict[str, object] = {}
        self._given = frozenset(block)
        for row in rows:
            value = block.get(row.key, row.default)
            try:
                self._values[row.key] = _CHECKS[row.kind](value)
            except ValueError as exc:
                raise ConfigError(f"storage.{store}: {row.key} {exc}") from exc
        known = [row.key for row in rows]
        unknown = [key for key in block if key not in self._values]
        if unknown:
            raise UnknownKeys(store, unknown, known)

    def is_given(self, key: str) -> bool:
        """Whether the block says something of a key, be it the default."""
        return key in self._given

    def text(self, key: str) -> str:
        """Return a text, or a path as it is written."""
        return cast("str", self._values[key])

    def duration_s(self, key: str) -> float:
        """Return a duration, in seconds."""
        return cast("float", self._values[key])

    def flag(self, key: str) -> bool:
        """Return a yes or no."""
        return cast("bool", self._values[key])


def _text(value: object) -> str:
    if value is None:
        raise ValueError("is required")
    if not isinstance(value, str) or not value:
        raise ValueError("must be a non-empty string")
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise ValueError("must not contain control characters")
    return value


def _duration_s(value: object) -> float:
    if value is None:
        raise ValueError("is required")
    seconds = -1.0
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is not None:
            seconds = float(match[1]) * _UNIT_S[match[2] or "s"]
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    # NaN fails this comparison too, as it should.
    if not 0 < seconds <= 86_400:
        raise ValueError(f"must be a duration such as '2s', got {value!r}")
    return seconds


def _flag(value: object) -> bool:
    if value is None:
        raise ValueError("is required")
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, got {value!r}")
    return value


_CHECKS: Final[Mapping[SettingKind, Callable[[object], object]]] = MappingProxyType(
    {
        SettingKind.TEXT: _text,
        SettingKind.PATH: _text,
        SettingKind.DURATION: _duration_s,
        SettingKind.FLAG: _flag,
    }
)
