"""
What the seal keeps in the store, outside the barrier: its configuration and the wrapped root key.

Rules of this file:

1. What was encrypted is authenticated; a wrong key is an error, never another plaintext.
2. No ``repr`` shows a key.

``core/seal-config`` and ``core/recovery-config`` are plain JSON. ``core/hsm/barrier-unseal-keys``
and ``core/recovery-key`` are protobuf messages::

    field 1  ciphertext and tag; in front of it the 12-byte nonce, where the seal is Shamir's
    field 2  the nonce, where the seal is another
    field 5  key info: a message; its field 3 is the id of the key ("" for Shamir: left out)

There is no additional data. The plaintext of the stored keys is a JSON list of one base64 root key,
the plaintext of the recovery key is the key itself.

Source: OpenBao 2.7.2, measured: stores with both seals decrypt here (tests/conformance/vectors).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from baoha.errors import BarrierError, ConfigError, InvalidRequest, StorageCorrupt
from baoha.sansio.crypto.barrier_codec import KEY_BYTES, KEY_SIZES, NONCE_BYTES
from baoha.sansio.crypto.shamir import SHARES_MAX

SHAMIR: Final = "shamir"
STATIC: Final = "static"
SHARE_BYTES_MIN: Final = 16
SHARE_BYTES_MAX: Final = 33  # a 32-byte key and its x coordinate

_FIELD_CIPHERTEXT: Final = 1
_FIELD_NONCE: Final = 2
_FIELD_KEY_INFO: Final = 5
_FIELD_KEY_ID: Final = 3  # of the key info
_WIRE_VARINT: Final = 0
_WIRE_FIXED64: Final = 1
_WIRE_BYTES: Final = 2
_WIRE_FIXED32: Final = 5
_VARINT_BYTES_MAX: Final = 10


# --- configuration ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SealConfig:
    """How many key shares there are, and how many open the seal."""

    type: str
    shares: int
    threshold: int

    def encode(self) -> bytes:
        """Return the JSON of ``core/seal-config`` or ``core/recovery-config``."""
        return json.dumps(
            {
                "type": self.type,
                "secret_shares": self.shares,
                "secret_threshold": self.threshold,
                "pgp_keys": None,
                "nonce": "",
                "backup": False,
            },
            separators=(",", ":"),
        ).encode()

    @classmethod
    def decode(cls, blob: bytes) -> SealConfig:
        """
        Read the JSON of a seal configuration.

        Raises:
            StorageCorrupt: it is not one.
        """
        try:
            fields = json.loads(blob)
            config = cls(fields["type"], fields["secret_shares"], fields["secret_threshold"])
        except (ValueError, KeyError, TypeError) as exc:
            raise StorageCorrupt("seal configuration is malformed") from exc
        if not isinstance(config.type, str) or not all(
            isinstance(number, int) and 0 <= number <= SHARES_MAX
            for number in (config.shares, config.threshold)
        ):
            raise StorageCorrupt("seal configuration is malformed")
        return config


def check_shares(shares: int, threshold: int, *, what: str, shares_min: int = 1) -> None:
    """
    Check the numbers that a client asks for.

    Args:
        what: "seal" or "recovery"; the error names it.
        shares_min: 0 where no shares at all (with threshold 0) are allowed.

    Raises:
        InvalidRequest: with OpenBao's texts, in OpenBao's order.
    """
    problem = ""
    if shares < shares_min:
        problem = "shares must be at least one"
    elif shares_min and threshold < 1:
        problem = "threshold must be at least one"
    elif shares > 1 and threshold <= 1:
        problem = "threshold must be greater than one for multiple shares"
    elif shares > SHARES_MAX:
        problem = "shares must be less than 256"
    elif threshold > shares:
        problem = "threshold cannot be larger than shares"
    elif threshold < min(shares, 1):
        problem = "threshold must be at least one"
    if problem:
        raise InvalidRequest(f"invalid {what} configuration: {problem}")


def parse_share(text: str) -> bytes:
    """
    Read a key share as a client writes it: hex where that gives 16..33 bytes, base64 otherwise.

    The length is not checked here; ``Seal.unseal`` does, after the state of the seal.

    Raises:
        InvalidRequest: it is neither.
    """
    try:
        share = binascii.unhexlify(text)
    except ValueError:
        share = b""
    if SHARE_BYTES_MIN <= len(share) <= SHARE_BYTES_MAX:
        return share
    try:
        # Go's decoder passes over line breaks, Python's does not.
        return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except ValueError as exc:
        raise InvalidRequest("'key' must be a valid hex or base64 string") from exc


# --- wrapping -----------------------------------------------------------------------------------


class SealWrapper(Protocol):
    """What encrypts the root key for the store."""

    @property
    def key_id(self) -> str:
        """The id of the key that encrypts, as it stands in the store; "" for Shamir."""

    def encrypt(self, plaintext: bytes, nonce: bytes) -> bytes:
        """Return the protobuf message. The nonce is 12 fresh random bytes."""

    def decrypt(self, blob: bytes) -> bytes:
        """
        Return the plaintext of a protobuf message.

        Raises:
            BarrierError: not encrypted with this key, or changed.
            StorageCorrupt: not such a message.
        """


class ShamirWrapper:
    """The seal whose key is cut into shares."""

    key_id = ""

    def __init__(self, key: bytes) -> None:
        if len(key) not in KEY_SIZES:
            raise BarrierError
        self._aead = AESGCM(key)

    def __repr__(self) -> str:
        return "ShamirWrapper()"

    def encrypt(self, plaintext: bytes, nonce: bytes) -> bytes:
        """Return the protobuf message, as ``SealWrapper.encrypt``."""
        ciphertext = self._aead.encrypt(nonce, plaintext, None)
        return _encode_field(_FIELD_CIPHERTEXT, nonce + ciphertext) + _encode_field(
            _FIELD_KEY_INFO, b""
        )

    def decrypt(self, blob: bytes) -> bytes:
        """Return the plaintext, as ``SealWrapper.decrypt``."""
        message = _decode_message(blob).get(_FIELD_CIPHERTEXT, b"")
        return _open(self._aead, message[:NONCE_BYTES], message[NONCE_BYTES:])


@dataclass(frozen=True, slots=True)
class StaticSealKey:
    """
    The seal whose key stands in the configuration: the node unseals by itself.

    Attributes:
        key_id: stands in the store beside what it encrypted.
        key: 32 bytes.
        previous_key_id, previous_key: the key before; decrypts what is not yet re-encrypted.

    Raises:
        ConfigError: an id is missing or repeated, or a key is not 32 bytes long.
    """

    key_id: str
    key: bytes = field(repr=False)
    previous_key_id: str = ""
    previous_key: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        if not self.key_id:
            raise ConfigError("seal.static: current_key_id is missing")
        if len(self.key) != KEY_BYTES:
            raise ConfigError(f"seal.static: current_key must be {KEY_BYTES} bytes long")
        if bool(self.previous_key_id) != bool(self.previous_key):
            raise ConfigError("seal.static: previous_key and previous_key_id belong together")
        if self.previous_key and len(self.previous_key) != KEY_BYTES:
            raise ConfigError(f"seal.static: previous_key must be {KEY_BYTES} bytes long")
        if self.previous_key_id == self.key_id:
            raise ConfigError("seal.static: previous_key_id must differ from current_key_id")

    def encrypt(self, plaintext: bytes, nonce: bytes) -> bytes:
        """Return the protobuf message under the current key, as ``SealWrapper.encrypt``."""
        ciphertext = AESGCM(self.key).encrypt(nonce, plaintext, None)
        info = _encode_field(_FIELD_KEY_ID, self.key_id.encode())
        return (
            _encode_field(_FIELD_CIPHERTEXT, ciphertext)
            + _encode_field(_FIELD_NONCE, nonce)
            + _encode_field(_FIELD_KEY_INFO, info)
        )

    def decrypt(self, blob: bytes) -> bytes:
        """Return the plaintext under whichever key the message names; raises as the protocol."""
        message = _decode_message(blob)
        key_id = wrapping_key_id(blob)
        if key_id == self.key_id:
            key = self.key
        elif self.previous_key and key_id == self.previous_key_id:
            key = self.previous_key
        else:
            raise BarrierError(f"no static seal key with id {key_id!r}")
        return _open(
            AESGCM(key), message.get(_FIELD_NONCE, b""), message.get(_FIELD_CIPHERTEXT, b"")
        )


def wrapping_key_id(blob: bytes) -> str:
    """
    Return the id of the key that a message was encrypted with, "" for Shamir.

    Raises:
        StorageCorrupt: it is not such a message.
    """
    info = _decode_message(_decode_message(blob).get(_FIELD_KEY_INFO, b""))
    return info.get(_FIELD_KEY_ID, b"").decode(errors="replace")


def encode_stored_keys(root_key: bytes) -> bytes:
    """Return the plaintext of ``core/hsm/barrier-unseal-keys``."""
    return json.dumps([base64.b64encode(root_key).decode()]).encode()


def decode_stored_keys(plaintext: bytes) -> bytes:
    """
    Read the root key from the plaintext of ``core/hsm/barrier-unseal-keys``.

    Raises:
        StorageCorrupt: it is not a list of one key.
    """
    try:
        keys: Any = json.loads(plaintext)
        (text,) = keys
        root_key = base64.b64decode(text, validate=True)
    except (ValueError, TypeError) as exc:
        raise StorageCorrupt("stored keys are malformed") from exc
    if len(root_key) not in KEY_SIZES:
        raise StorageCorrupt("stored keys hold a root key of a bad length")
    return root_key


def _open(aead: AESGCM, nonce: bytes, ciphertext: bytes) -> bytes:
    if len(nonce) != NONCE_BYTES:
        raise StorageCorrupt("wrapped key has a bad nonce")
    try:
        return aead.decrypt(nonce, ciphertext, None)
    except InvalidTag as exc:
        raise BarrierError from exc


# --- protobuf, as much as is needed -------------------------------------------------------------


def _encode_field(number: int, value: bytes) -> bytes:
    return _encode_varint(number << 3 | _WIRE_BYTES) + _encode_varint(len(value)) + value


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _decode_message(blob: bytes) -> Mapping[int, bytes]:
    """Return the fields of wire type "bytes"; the last of a number wins, as protobuf demands."""
    return dict(_fields(blob))


def _fields(blob: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(blob):
        tag, offset = _decode_varint(blob, offset)
        wire, size = tag & 7, 0
        if wire == _WIRE_VARINT:
            _, offset = _decode_varint(blob, offset)
        elif wire == _WIRE_FIXED64:
            size = 8
        elif wire == _WIRE_FIXED32:
            size = 4
        elif wire == _WIRE_BYTES:
            size, offset = _decode_varint(blob, offset)
        else:
            raise StorageCorrupt("wrapped key is malformed")
        if offset + size > len(blob):
            raise StorageCorrupt("wrapped key is cut off")
        if wire == _WIRE_BYTES:
            yield tag >> 3, blob[offset : offset + size]
        offset += size


def _decode_varint(blob: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(blob[offset : offset + _VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, offset + index + 1
    raise StorageCorrupt("wrapped key is cut off")
