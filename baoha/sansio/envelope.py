"""
Response bodies of the HTTP API.

Rule of this file: the order of the keys is OpenBao's; clients and scripts have come to rely on it.

Source: recorded answers of OpenBao 2.7.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from baoha.sansio.formats.json_encoder import Fields, encode


def error_body(*errors: str) -> bytes:
    """Return the body of an error answer; the list may be empty."""
    return encode(Fields(errors=list(errors)))


def envelope_body(
    *,
    request_id: str,
    data: Mapping[str, Any] | None,
    lease_id: str = "",
    renewable: bool = False,
    lease_duration: int = 0,
    wrap_info: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    auth: Mapping[str, Any] | None = None,
    top_level: bool = False,
    pause: Callable[[], None] | None = None,
) -> bytes:
    """
    Return the body of a logical answer.

    Args:
        lease_duration: seconds.
        top_level: repeat ``data`` at the top level, before the envelope's own keys.
        pause: called between pieces of the work; what it raises ends it.

    Raises:
        TooLargeError: the body is larger than ``ENCODED_BYTES_MAX``.
    """
    body = Fields(sorted(data.items()) if top_level and data else ())
    body |= Fields(
        request_id=request_id,
        lease_id=lease_id,
        renewable=renewable,
        lease_duration=lease_duration,
        data=data,
        wrap_info=wrap_info,
        warnings=list(warnings) or None,
        auth=auth,
    )
    return encode(body) if pause is None else encode(body, pause=pause)
