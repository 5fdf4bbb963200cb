"""
Reading a ``[storage.X]`` block.

Rule of this file: a key that the store does not know is an error, never ignored; a typing mistake
in a configuration must not silently mean a default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from baoha.errors import ConfigError

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")


class UnknownKeys(ConfigError):
    """
    A block holds keys that its store does not know.

    Args:
        store: the store's name.
        keys: the unknown ones, as they stand in the block.
        known: those that the store has asked for.
    """

    def __init__(self, store: str, keys: Sequence[str], known: Sequence[str]) -> None:
        super().__init__(f"storage.{store}: unknown key: {', '.join(sorted(keys))}")
        self.keys = tuple(keys)
        self.known = tuple(known)


class Settings:
    """
    One storage block: each key is taken once, then ``finish`` refuses what is left.

    Args:
        store: the store's name, for error texts.
        values: the block as configured.
    """

    def __init__(self, store: str, values: Mapping[str, object]) -> None:
        self._store = store
        self._left = dict(values)
        self._known: list[str] = []

    def text(self, key: str, default: str | None = None) -> str:
        """
        Take a string; without a default it is required.

        Raises:
            ConfigError: it is missing, empty, not a string, or holds a control character.
        """
        value = self._take(key, default)
        if value is None:
            raise ConfigError(f"storage.{self._store}: {key} is required")
        if not isinstance(value, str) or not value:
            raise ConfigError(f"storage.{self._store}: {key} must be a non-empty string")
        if any(ord(char) < 32 or ord(char) == 127 for char in value):
            raise ConfigError(f"storage.{self._store}: {key} must not contain control characters")
        return value

    def duration_s(self, key: str, default_s: float) -> float:
        """
        Take a duration: seconds as a number, or text such as "500ms", "2s", "1m".

        Raises:
            ConfigError: it is no duration, or not between 0 (exclusive) and 24 hours.
        """
        value = self._take(key, default_s)
        seconds = -1.0
        if isinstance(value, str):
            match = _DURATION.fullmatch(value.strip())
            if match is not None:
                seconds = float(match[1]) * _UNIT_S[match[2] or "s"]
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            seconds = float(value)
        # NaN fails this comparison too, as it should.
        if not 0 < seconds <= 86_400:
            raise ConfigError(
                f"storage.{self._store}: {key} must be a duration such as '2s', got {value!r}"
            )
        return seconds

    def flag(self, key: str, *, default: bool) -> bool:
        """
        Take a yes or no.

        Raises:
            ConfigError: it is neither true nor false.
        """
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise ConfigError(f"storage.{self._store}: {key} must be true or false, got {value!r}")
        return value

    def finish(self) -> None:
        """
        Refuse the keys that nobody took.

        Raises:
            UnknownKeys: there is one.
        """
        if self._left:
            raise UnknownKeys(self._store, list(self._left), self._known)

    def _take(self, key: str, default: object) -> object:
        self._known.append(key)
        return self._left.pop(key, default)
