"""
The records of secrets, to and from their stored form, whatever their size.

Rule of this file: what is not small is done in a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from baoha import offload
from baoha.core.engines.kv2.records import Secret

T = TypeVar("T")
# A version in a record takes up to 3 us and about 100 bytes of it.
_VERSIONS_INLINE_MAX: Final = 500
_VERSION_BYTES: Final = 100


async def decode_secret(blob: bytes) -> Secret:
    """Return the record of a stored form. Raises as ``decode_any``."""
    versions = len(blob) // _VERSION_BYTES
    return await with_versions(versions, lambda: Secret.from_bytes(blob))


async def encode_secret(secret: Secret) -> bytes:
    """Return the stored form of a record. Raises as ``decode_any``."""
    return await with_versions(len(secret.versions), secret.to_bytes)


async def describe_secret(secret: Secret) -> dict[str, Any]:
    """Return the ``data`` object of a metadata read. Raises as ``decode_any``."""
    return await with_versions(len(secret.versions), secret.describe)


async def with_versions(versions: int, work: Callable[[], T]) -> T:
    """Do what takes microseconds for each of some versions. Raises as ``decode_any``."""
    if versions <= _VERSIONS_INLINE_MAX:
        return work()
    return await offload.run(lambda pause: work(), versions * _VERSION_BYTES)
