"""
The 32 bytes of a static seal key, from wherever the configuration says they are.

Rules of this file: no text here repeats a key or a part of one; a key of the wrong length is an
error, never padded or hashed.

Source: OpenBao's documentation of the static seal (base64, hex, ``env://``, ``file://``).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from baoha.config.values import BadValue

KEY_BYTES: Final = 32
_FILE_BYTES_MAX: Final = 1024
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
_URL_SAFE: Final = str.maketrans("-_", "+/")


def read_key(text: str, environ: Mapping[str, str]) -> bytes:
    """
    Return the key that ``text`` is or points to.

    Args:
        text: base64 or hex, ``env://NAME``, or ``file:///path`` (its bytes, or base64 or hex).

    Raises:
        BadValue: it points nowhere, or the key is not 32 bytes.
    """
    if text.startswith("env://"):
        name = text.removeprefix("env://")
        value = environ.get(name, "")
        if not value:
            raise BadValue(f"points to the environment variable {name}, which is not set")
        return _decode(value)
    if text.startswith("file://"):
        return _read_file(Path(text.removeprefix("file://")))
    return _decode(text)


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_BYTES_MAX)
    except (OSError, ValueError) as exc:
        cause = exc.strerror if isinstance(exc, OSError) else "not a path"
        raise BadValue(f"cannot be read from {path}: {cause}") from exc
    if len(content) == KEY_BYTES:
        return content
    try:
        return _decode(content.decode("ascii"))
    except UnicodeDecodeError:
        # The cause holds the bytes of the file, so it is left out.
        raise BadValue(
            f"must be {KEY_BYTES} bytes, or base64 or hex of {KEY_BYTES} bytes"
        ) from None


def _decode(text: str) -> bytes:
    text = text.strip()
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    padded = text.rstrip("=").translate(_URL_SAFE)
    try:
        key = base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise BadValue(f"must be base64 or hex of {KEY_BYTES} bytes")
    return key
