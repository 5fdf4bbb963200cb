"""
The data and the records of secrets, to and from their stored form, whatever their size.

Rule of this file: what is not small is done in a worker thread, piece by piece where that can be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

from baoha import offload
from baoha.core.engines.kv2.records import Secret
from baoha.core.framework.stored_json import decode_json, encode_json
from baoha.sansio.formats.json_encoder import cost, encode_plain
from baoha.sansio.formats.json_pieces import Limits, PiecewiseDecoder

# The stored form is ours: the C decoder reads it at once, a hundred bytes in a microsecond.
_DECODED_INLINE_BYTES_MAX: Final = 64 * 1024
_DECODED_WHOLE_BYTES_MAX: Final = 256 * 1024
# A version in a record takes up to 3 us and about 100 bytes of it.
_VERSIONS_INLINE_MAX: Final = 500
_VERSION_BYTES: Final = 100
# What was stored was bounded then, patch by patch.
_NO_LIMITS: Final = Limits(strings=sys.maxsize, values=sys.maxsize, depth=sys.maxsize)


T = TypeVar("T")


async def encode_any(value: Any) -> bytes:
    """
    Return the stored form of a JSON value.

    Raises:
        Overloaded: too much work at once.
    """
    cost_bytes = cost(value)
    if cost_bytes <= offload.INLINE_BYTES_MAX:
        return encode_json(value)
    return await offload.run(lambda pause: encode_plain(value, pause=pause), cost_bytes)


async def decode_any(blob: bytes) -> Any:
    """
    Return the JSON value of a stored form.

    Raises:
        Overloaded: too much work at once.
    """
    if len(blob) <= _DECODED_INLINE_BYTES_MAX:
        return decode_json(blob)
    if len(blob) <= _DECODED_WHOLE_BYTES_MAX:
        return await offload.run(lambda pause: decode_json(blob), len(blob))

    def decode(pause: offload.Pause) -> Any:
        return PiecewiseDecoder(blob, _NO_LIMITS, number=_number, pause=pause).run()

    return await offload.run(decode, len(blob))


def _number(text: str, is_integer: bool) -> int | float:
    return int(text) if is_integer else float(text)


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


async def with_values(*values: Any, work: Callable[[], T]) -> T:
    """Do what takes microseconds for each of the values in some. Raises as ``decode_any``."""
    cost_bytes = sum(map(cost, values))
    if cost_bytes <= offload.INLINE_BYTES_MAX:
        return work()
    return await offload.run(lambda pause: work(), cost_bytes)
