"""
A mount as it is stored: what is mounted where, with which options and settings.

Rule of this file: a stored form that cannot be read is an error, never a guess.

Source: OpenBao 2.7.2: one entry per mount below ``core/mounts/`` and ``core/auth/``; data below
``logical/<uuid>/``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from baoha import names
from baoha.errors import StorageCorrupt

AUTH_PATH: Final = "auth/"


class Table(StrEnum):
    """The two tables of mounts; the value is what is stored."""

    SECRET = "mounts"  # noqa: S105 - secret engines
    AUTH = "auth"  # auth methods


TABLE_PREFIXES: Final = {Table.SECRET: names.MOUNTS_PREFIX, Table.AUTH: names.AUTH_PREFIX}


@dataclass(frozen=True, slots=True, kw_only=True)
class MountEntry:
    """
    One mount as stored.

    Attributes:
        table: a value of ``Table``.
        path: inside its table, with a trailing slash.
        options: of the engine; None where it has none by nature.
        folder: where its data is, below ``logical/``; "" means its uuid.
        upgrade_from: the folder of its former version, while data is moved from there; "" else.
        config: ``default_lease_ttl`` and ``max_lease_ttl`` in seconds (0: the system's),
            ``force_no_cache``, and what else was tuned.
        revision: counts the changes of this entry.
    """

    table: str
    path: str
    type: str
    uuid: str
    accessor: str
    description: str = ""
    options: dict[str, str] | None = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    local: bool = False
    seal_wrap: bool = False
    revision: int = 1
    folder: str = ""
    upgrade_from: str = ""

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        # By hand: dataclasses.asdict copies every value of the lists in it.
        return json.dumps({name: getattr(self, name) for name in self.__slots__}).encode()

    @classmethod
    def from_bytes(cls, blob: bytes) -> MountEntry:
        """Return the entry of a stored form. Raises StorageCorrupt: it is none of ours."""
        try:
            return cls(**json.loads(blob))
        except (ValueError, TypeError) as exc:
            raise StorageCorrupt("a mount entry is malformed, or of a newer version") from exc

    @property
    def full_path(self) -> str:
        """The path that requests are routed by."""
        return AUTH_PATH + self.path if self.table == Table.AUTH else self.path

    @property
    def storage_key(self) -> str:
        """Where the entry is stored."""
        return TABLE_PREFIXES[Table(self.table)] + self.uuid

    @property
    def data_prefix(self) -> str:
        """Where its data is stored."""
        return f"{names.LOGICAL_PREFIX}{self.folder or self.uuid}/"

    @property
    def former_prefix(self) -> str:
        """Where the data is stored that an upgrade has still to move."""
        assert self.upgrade_from
        return f"{names.LOGICAL_PREFIX}{self.upgrade_from}/"
