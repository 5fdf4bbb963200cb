"""
What engines store, to and from its stored form, whatever its size.

Rule of this file: what is not small is done in a worker thread, piece by piece where that can be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

from baoha import offload
from baoha.core.framework.stored_json import decode_json, encode_json
from baoha.sansio.formats.json_encoder import cost, encode_plain
from baoha.sansio.formats.json_pieces import JSONLimits, PiecewiseDecoder

# The stored form is ours: the C decoder reads it at once, a hundred bytes in a microsecond.
_DECODED_INLINE_BYTES_MAX: Final = 64 * 1024
_DECODED_WHOLE_BYTES_MAX: Final = 256 * 1024
# What was stored was bounded then, patch by patch.
_NO_LIMITS: Final = JSONLimits(strings=sys.maxsize, values=sys.maxsize, depth=sys.maxsize)


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


async def with_values(*values: Any, work: Callable[[], T]) -> T:
    """Do what takes microseconds for each of the values in some. Raises as ``decode_any``."""
    cost_bytes = sum(map(cost, values))
    if cost_bytes <= offload.INLINE_BYTES_MAX:
        return work()
    return await offload.run(lambda pause: work(), cost_bytes)
