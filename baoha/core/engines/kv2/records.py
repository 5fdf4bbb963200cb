"""
What the versioned key-value engine stores: the record of a secret, and the engine's settings.

Rules of this file: it is pure; a record is changed only by the methods here, which keep versions,
oldest and newest number consistent.

Layout below the mount: ``config``, ``metadata/<path>`` (the record), ``versions/<path>/<number>``.

Source: OpenBao 2.7.2 as recorded (tests/conformance/recordings/kv2.json) and measured. Fields and
their meaning are those of its API; the stored form is ours.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from baoha.core.framework.stored_json import encode_json
from baoha.sansio.durations import format_duration, format_timestamp, parse_timestamp

VERSIONS_MAX_DEFAULT: Final = 10  # kept where neither the secret nor the engine says otherwise
# Kept at most, whatever they say: every use of a secret reads and writes its whole record.
VERSIONS_MAX: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class KVConfig:
    """The engine's settings. 0 means the default; a negative duration means never."""

    max_versions: int = 0
    cas_required: bool = False
    metadata_cas_required: bool = False
    delete_version_after_ns: int = 0

    @classmethod
    def from_bytes(cls, blob: bytes | None) -> KVConfig:
        """Return the settings of a stored form; the defaults where nothing is stored."""
        return cls() if blob is None else cls(**json.loads(blob))

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        return encode_json(asdict(self))

    def describe(self) -> dict[str, Any]:
        """Return the ``data`` object of a read."""
        return {
            "cas_required": self.cas_required,
            "delete_version_after": format_duration(self.delete_version_after_ns),
            "max_versions": self.max_versions,
            "metadata_cas_required": self.metadata_cas_required,
        }


@dataclass(slots=True, kw_only=True)
class Version:
    """One version of a secret. Times are RFC 3339 texts; "" means never."""

    created_time: str
    deletion_time: str = ""
    destroyed: bool = False

    def is_readable(self, now: datetime) -> bool:
        """Return whether its data may be shown."""
        if self.destroyed:
            return False
        return not self.deletion_time or now < parse_timestamp(self.deletion_time)

    def describe(self) -> dict[str, Any]:
        """Return the object that the metadata shows."""
        return {
            "created_time": self.created_time,
            "deletion_time": self.deletion_time,
            "destroyed": self.destroyed,
        }


@dataclass(slots=True, kw_only=True)
class Secret:
    """
    The record of one secret: everything but the data of its versions.

    Attributes:
        created_time, updated_time: RFC 3339 texts; "" before the first version of a new one.
    """

    created_time: str = ""
    updated_time: str = ""
    current_version: int = 0
    oldest_version: int = 0
    max_versions: int = 0
    cas_required: bool = False
    metadata_cas_required: bool = False
    delete_version_after_ns: int = 0
    custom_metadata: dict[str, str] | None = None
    metadata_version: int = 0
    versions: dict[int, Version] = field(default_factory=dict)

    @classmethod
    def new(cls, now: datetime) -> Secret:
        """Return a record without versions."""
        text = format_timestamp(now)
        return cls(created_time=text, updated_time=text)

    @classmethod
    def from_bytes(cls, blob: bytes) -> Secret:
        """Return the record of a stored form."""
        fields = json.loads(blob)
        versions = {int(n): Version(**v) for n, v in fields.pop("versions").items()}
        return cls(versions=versions, **fields)

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        # By hand: dataclasses.asdict copies every value and took half of the time of a write.
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["versions"] = {n: version.describe() for n, version in self.versions.items()}
        return encode_json(fields)

    def add_version(self, config: KVConfig, now: datetime) -> tuple[Version, list[int]]:
        """
        Add the next version.

        Returns:
            The version, and the numbers that are now too many: they are no longer in the record and
            their data is to be deleted.
        """
        lifetime_ns = self._lifetime_ns(config)
        text = format_timestamp(now)
        self.current_version += 1
        self.created_time = self.created_time or text
        self.updated_time = text
        version = Version(created_time=text)
        if lifetime_ns:
            ends = now + timedelta(microseconds=lifetime_ns // 1000)
            version.deletion_time = format_timestamp(ends)
        self.versions[self.current_version] = version
        wanted = self.max_versions or config.max_versions or VERSIONS_MAX_DEFAULT
        keep = min(wanted, VERSIONS_MAX)
        dropped = sorted(self.versions)[: max(0, len(self.versions) - keep)]
        for number in dropped:
            del self.versions[number]
        if dropped:
            self.oldest_version = min(self.versions)
        return version, dropped

    def _lifetime_ns(self, config: KVConfig) -> int:
        if config.delete_version_after_ns < 0 or self.delete_version_after_ns < 0:
            return 0
        given = {config.delete_version_after_ns, self.delete_version_after_ns} - {0}
        return min(given, default=0)

    def describe(self) -> dict[str, Any]:
        """Return the ``data`` object of a metadata read."""
        return {
            "cas_required": self.cas_required,
            "created_time": self.created_time,
            "current_metadata_version": self.metadata_version,
            "current_version": self.current_version,
            "custom_metadata": self.custom_metadata,
            "delete_version_after": format_duration(self.delete_version_after_ns),
            "max_versions": self.max_versions,
            "metadata_cas_required": self.metadata_cas_required,
            "oldest_version": self.oldest_version,
            "updated_time": self.updated_time,
            "versions": {str(n): self.versions[n].describe() for n in sorted(self.versions)},
        }

    def describe_version(self, number: int) -> dict[str, Any]:
        """Return the ``metadata`` object of a data read, or the answer to a write."""
        version = self.versions[number].describe()
        return version | {"custom_metadata": self.custom_metadata, "version": number}
