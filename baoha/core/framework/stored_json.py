"""JSON as engines store it."""

from __future__ import annotations

import json
from typing import Any


def encode_json(value: Any) -> bytes:
    """Return the stored form of a JSON value."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )


def decode_json(blob: bytes) -> Any:
    """Return the JSON value of a stored form."""
    return json.loads(blob.decode("utf-8", "surrogatepass"))
