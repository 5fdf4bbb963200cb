"""
The leader advertisement: what an active node writes for its standbys at ``core/leader/<uuid>``.

Rules of this file: the bytes are OpenBao's (an OpenBao node could read them), and what comes back
from the store is checked before anybody dials an address or trusts a key from it.

The record is one line of JSON with Go's spelling: fixed key order, ``<>&`` escaped, the three key
numbers as bare integers of up to 158 digits, a newline at the end. Before request forwarding
existed the entry was just the redirect address; an entry that is not JSON still means that.

Source: docs/spec/openbao-ha.md section 2.2.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from baoha.errors import ForwardingError, StorageCorrupt

KEY_TYPE: Final = "p521"

# A real record has about 1.5 kB; one this large is not an advertisement.
_RECORD_BYTES_MAX: Final = 65_536
# 2**521 has 157 decimal digits.
_KEY_NUMBER_BITS_MAX: Final = 521

# Go's JSON encoder escapes these inside strings. Source: encoding/json, "HTMLEscape".
_GO_ESCAPES: Final = (
    ("<", "\\u003c"),
    (">", "\\u003e"),
    ("&", "\\u0026"),
    ("\u2028", "\\u2028"),
    ("\u2029", "\\u2029"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyParams:
    """The tenure's private key as numbers. ``d`` is the secret."""

    type: str = KEY_TYPE
    x: int
    y: int
    d: int = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertisement:
    """
    How to reach the active node.

    Attributes:
        redirect_addr: its api_addr, where clients are sent.
        cluster_addr: its cluster listener; "" when clustering is off.
        cluster_cert: the tenure's certificate, DER; b"" when clustering is off.
        key: the tenure's private key; None when clustering is off.
    """

    redirect_addr: str
    cluster_addr: str = ""
    cluster_cert: bytes = b""
    key: KeyParams | None = None


def encode_advertisement(advertisement: Advertisement) -> bytes:
    """Return the bytes to store, ending in a newline."""
    record: dict[str, Any] = {"redirect_addr": advertisement.redirect_addr}
    if advertisement.cluster_addr:
        record["cluster_addr"] = advertisement.cluster_addr
    if advertisement.cluster_cert:
        record["cluster_cert"] = base64.b64encode(advertisement.cluster_cert).decode("ascii")
    key = advertisement.key
    if key is not None:
        record["cluster_key_params"] = {"type": key.type, "x": key.x, "y": key.y, "d": key.d}
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    for character, escape in _GO_ESCAPES:
        text = text.replace(character, escape)
    return text.encode() + b"\n"


def decode_advertisement(data: bytes) -> Advertisement:
    """
    Read a stored advertisement; the key material is checked by ``check_key_material``, not here.

    Raises:
        StorageCorrupt: JSON of another shape, or text that is neither JSON nor an address.
    """
    if len(data) > _RECORD_BYTES_MAX:
        raise StorageCorrupt(f"leader advertisement has {len(data)} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise StorageCorrupt("leader advertisement is not text") from exc
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return Advertisement(redirect_addr=_bare_address(text))
    if not isinstance(record, dict):
        raise StorageCorrupt("leader advertisement is JSON, but not an object")
    return Advertisement(
        redirect_addr=_text(record, "redirect_addr"),
        cluster_addr=_text(record, "cluster_addr"),
        cluster_cert=_certificate(_text(record, "cluster_cert")),
        key=_key_params(record.get("cluster_key_params")),
    )


def check_key_material(advertisement: Advertisement) -> KeyParams:
    """
    Return the key of an advertisement that is complete enough to connect with.

    Raises:
        ForwardingError: something is missing; the text is OpenBao's. Nothing was sent.
    """
    key = advertisement.key
    if key is None:
        raise ForwardingError("no local cluster key params found")
    if key.type != KEY_TYPE:
        raise ForwardingError("failed to find valid local cluster key type")
    if not (key.x and key.y and key.d):
        raise ForwardingError("failed to parse local cluster key")
    if not advertisement.cluster_cert:
        raise ForwardingError("no local cluster cert found")
    return key


def cluster_endpoint(advertisement: Advertisement) -> tuple[str, int]:
    """
    Return host and port of the cluster listener.

    Raises:
        ForwardingError: clustering is off, or the address is not a URL with host and port.
    """
    address = advertisement.cluster_addr
    if not address:
        raise ForwardingError("the active node has clustering switched off")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port:
        raise ForwardingError(
            f"advertised cluster address {address!r} is not a URL with host and port"
        )
    return host, port


def _bare_address(text: str) -> str:
    address = text.strip()
    if not address or not address.isprintable():
        raise StorageCorrupt("leader advertisement is neither JSON nor an address")
    return address


def _text(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise StorageCorrupt(f"leader advertisement: {key} is not a string")
    return value


def _certificate(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise StorageCorrupt("leader advertisement: cluster_cert is not base64") from exc


def _key_params(value: object) -> KeyParams | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise StorageCorrupt("leader advertisement: cluster_key_params is not an object")
    return KeyParams(
        type=_text(value, "type"),
        x=_key_number(value, "x"),
        y=_key_number(value, "y"),
        d=_key_number(value, "d"),
    )


def _key_number(value: dict[str, Any], name: str) -> int:
    number = value.get(name)
    if number is None:
        return 0
    if type(number) is not int or number < 0 or number.bit_length() > _KEY_NUMBER_BITS_MAX:
        # The value stays out of the text: one of the three is the secret.
        raise StorageCorrupt(f"leader advertisement: {name} is not a key number")
    return number
