"""
The keyring: the root key and the data keys, one per term, as one frozen value.

Rules of this file:

1. A keyring is never changed, it is replaced. Its key bytes are immutable on purpose: a buffer that
   a seal overwrites while a rotation still holds it would be written to the store as zeros, and
   every entry of that term would be lost.
2. No ``repr`` shows a key.

Theory of operation. Data is encrypted with the key of the newest term. The keyring itself is
encrypted with the root key and always says term 1; the root key is stored under the newest term as
well (``core/root-key``), so that a node which knows an older root key can follow a change of it.
``core/upgrade/N`` holds the key of term N+1 under the key of term N, so that a node which has an
older keyring can follow a rotation.

Source: OpenBao 2.7.2, measured: field names, order of fields, times in RFC 3339 with nanoseconds.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from baoha import names
from baoha.errors import StorageCorrupt
from baoha.sansio.crypto.barrier_codec import KEY_SIZES, TERM_MAX, TermCipher

KEYRING_TERM: Final = 1  # what the entry core/keyring says, whatever the root key is
ZERO_TIME: Final = "0001-01-01T00:00:00Z"  # Go's zero time, which the root key's entry carries
OPERATIONS_MAX: Final = 3_865_470_566  # 0.9 * 2**32: random nonces stay safely below a collision
OPERATIONS_MIN: Final = 1_000_000
INTERVAL_MIN_NS: Final = 24 * 3600 * 10**9
_KEY_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class TermKey:
    """
    The data key of one term.

    Attributes:
        install_time: RFC 3339, as it stands in the store (it may carry nanoseconds).
        encryptions: how often the key was used when the keyring was last written.
    """

    term: int
    value: bytes = field(repr=False)
    install_time: str
    encryptions: int = 0

    def encode(self) -> bytes:
        """Return the JSON of this key alone, as in ``core/root-key`` and ``core/upgrade/N``."""
        return _dump(self._fields())

    @classmethod
    def decode(cls, plaintext: bytes) -> TermKey:
        """
        Read the JSON of one key.

        Raises:
            StorageCorrupt: it is not one.
        """
        return cls._from_fields(_load(plaintext))

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "Term": self.term,
            "Version": _KEY_VERSION,
            "Value": base64.b64encode(self.value).decode(),
            "InstallTime": self.install_time,
        }
        if self.encryptions:
            fields["encryptions"] = self.encryptions
        return fields

    @classmethod
    def _from_fields(cls, fields: Any) -> TermKey:
        try:
            term, install_time = fields["Term"], fields["InstallTime"]
            value = base64.b64decode(fields["Value"], validate=True)
            encryptions = fields.get("encryptions", 0)
        except (KeyError, TypeError, AttributeError, ValueError, binascii.Error) as exc:
            raise StorageCorrupt("keyring entry is malformed") from exc
        if not (_is_int(term, 1, TERM_MAX) and _is_int(encryptions, 0, 2**63)):
            raise StorageCorrupt("keyring entry has a bad term or count")
        if len(value) not in KEY_SIZES or not isinstance(install_time, str):
            raise StorageCorrupt("keyring entry has a bad key or time")
        return cls(term, value, install_time, encryptions)


@dataclass(frozen=True, slots=True)
class RotationConfig:
    """
    When the data key is rotated by itself.

    Attributes:
        interval_ns: age in nanoseconds at which a key is replaced; 0: never by age.
    """

    disabled: bool = False
    max_operations: int = OPERATIONS_MAX
    interval_ns: int = 0


@dataclass(frozen=True, slots=True)
class Keyring:
    """
    The root key and the data keys of all terms, sorted by term. Never empty.
    """

    root_key: bytes = field(repr=False)
    keys: tuple[TermKey, ...]
    rotation: RotationConfig = RotationConfig()

    def __post_init__(self) -> None:
        terms = [key.term for key in self.keys]
        if not terms or terms != sorted(set(terms)):
            raise StorageCorrupt("keyring terms are missing or repeated")

    @property
    def active(self) -> TermKey:
        """The key that encrypts."""
        return self.keys[-1]

    @property
    def active_term(self) -> int:
        """The newest term."""
        return self.keys[-1].term

    def add_term(self, value: bytes, install_time: datetime) -> Keyring:
        """Return a keyring whose newest term is one above, with a new data key."""
        key = TermKey(self.active_term + 1, value, format_time(install_time))
        return self.with_key(key)

    def with_key(self, key: TermKey) -> Keyring:
        """
        Return a keyring that knows a key which another node installed.

        Raises:
            StorageCorrupt: the term is not the next one.
        """
        if key.term != self.active_term + 1:
            raise StorageCorrupt(f"key of term {key.term} does not follow {self.active_term}")
        return replace(self, keys=(*self.keys, key))

    def with_root_key(self, root_key: bytes) -> Keyring:
        """Return a keyring with another root key and the same data keys."""
        return replace(self, root_key=root_key)

    def with_rotation(self, rotation: RotationConfig) -> Keyring:
        """Return a keyring with other rules of rotation."""
        return replace(self, rotation=rotation)

    def with_encryptions(self, count: int) -> Keyring:
        """Return a keyring that says how often its active key was used."""
        active = replace(self.active, encryptions=count)
        return replace(self, keys=(*self.keys[:-1], active))

    def encode(self) -> bytes:
        """Return the JSON plaintext of ``core/keyring``."""
        return _dump(
            {
                "MasterKey": base64.b64encode(self.root_key).decode(),
                "Keys": [key._fields() for key in self.keys],
                "RotationConfig": {
                    "Disabled": self.rotation.disabled,
                    "MaxOperations": self.rotation.max_operations,
                    "Interval": self.rotation.interval_ns,
                },
            }
        )

    @classmethod
    def decode(cls, plaintext: bytes) -> Keyring:
        """
        Read the JSON plaintext of ``core/keyring``.

        Raises:
            StorageCorrupt: it is not a keyring.
        """
        fields = _load(plaintext)
        try:
            root_key = base64.b64decode(fields["MasterKey"], validate=True)
            keys = [TermKey._from_fields(key) for key in fields["Keys"]]
        except (KeyError, TypeError, ValueError, binascii.Error) as exc:
            raise StorageCorrupt("keyring is malformed") from exc
        if len(root_key) not in KEY_SIZES:
            raise StorageCorrupt("keyring has a bad root key")
        # OpenBao keeps its keys in a map: they come in any order.
        ordered = tuple(sorted(keys, key=lambda key: key.term))
        return cls(root_key, ordered, _rotation_from(fields.get("RotationConfig")))


def create_keyring(root_key: bytes, data_key: bytes, install_time: datetime) -> Keyring:
    """Return the keyring of a new store: one data key, term 1."""
    return Keyring(root_key, (TermKey(1, data_key, format_time(install_time)),))


def encrypt_keyring(keyring: Keyring, nonce: bytes) -> bytes:
    """Return the value of ``core/keyring``: under the root key, term 1."""
    cipher = TermCipher(KEYRING_TERM, keyring.root_key)
    return cipher.encrypt(names.KEYRING, keyring.encode(), nonce)


def decrypt_keyring(root_key: bytes, blob: bytes) -> Keyring:
    """
    Read the value of ``core/keyring``.

    Raises:
        BarrierError: it is not encrypted with this root key.
        StorageCorrupt: it decrypts to something else than a keyring with this root key.
    """
    keyring = Keyring.decode(TermCipher(KEYRING_TERM, root_key).decrypt(names.KEYRING, blob))
    if keyring.root_key != root_key:
        raise StorageCorrupt("keyring holds another root key than the one that encrypts it")
    return keyring


def root_key_entry(keyring: Keyring) -> bytes:
    """Return the plaintext of ``core/root-key``."""
    return TermKey(KEYRING_TERM, keyring.root_key, ZERO_TIME).encode()


def root_key_from_entry(plaintext: bytes) -> bytes:
    """
    Read the plaintext of ``core/root-key``.

    Raises:
        StorageCorrupt: it is not one.
    """
    return TermKey.decode(plaintext).value


def upgrade_path(term: int) -> str:
    """Return where the key of the term after ``term`` is left for nodes that know only ``term``."""
    return f"{names.KEY_UPGRADE_PREFIX}{term}"


def encrypt_upgrade(keyring: Keyring, nonce: bytes) -> tuple[str, bytes]:
    """Return path and value of the upgrade entry that leads to the keyring's newest term."""
    previous, newest = keyring.keys[-2:]
    path = upgrade_path(previous.term)
    return path, TermCipher(previous.term, previous.value).encrypt(path, newest.encode(), nonce)


def decrypt_upgrade(keyring: Keyring, blob: bytes) -> Keyring:
    """
    Follow one upgrade entry, the one at ``upgrade_path(keyring.active_term)``.

    Raises:
        BarrierError: it does not decrypt with the newest key that is known.
        StorageCorrupt: it holds something else than the next key.
    """
    active = keyring.active
    plaintext = TermCipher(active.term, active.value).decrypt(upgrade_path(active.term), blob)
    return keyring.with_key(TermKey.decode(plaintext))


def format_time(moment: datetime) -> str:
    """Return RFC 3339 in UTC, with as many digits after the point as are not zero, as Go does."""
    moment = moment.astimezone(UTC)
    text = moment.strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{moment.microsecond:06d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


def parse_time(text: str) -> datetime:
    """
    Read RFC 3339; what is finer than a microsecond is cut off.

    Raises:
        StorageCorrupt: it is not a time.
    """
    head, point, tail = text.partition(".")
    if point:
        digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
        text = f"{head}.{digits[:6].ljust(6, '0')}{tail[len(digits) :]}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise StorageCorrupt("time is malformed") from exc
    if moment.tzinfo is None:
        raise StorageCorrupt("time has no zone")
    return moment.astimezone(UTC)


def _rotation_from(fields: Any) -> RotationConfig:
    if fields is None:
        return RotationConfig()
    if not isinstance(fields, Mapping):
        raise StorageCorrupt("rotation config is malformed")
    disabled = fields.get("Disabled", False)
    operations = fields.get("MaxOperations", OPERATIONS_MAX)
    interval_ns = fields.get("Interval", 0)
    if not (
        isinstance(disabled, bool)
        and _is_int(operations, 0, 2**63)
        and _is_int(interval_ns, 0, 2**63)
    ):
        raise StorageCorrupt("rotation config is malformed")
    return RotationConfig(disabled, operations, interval_ns)


def _is_int(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _dump(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _load(plaintext: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(plaintext)
    except ValueError as exc:
        raise StorageCorrupt("keyring entry is not JSON") from exc
    if not isinstance(fields, dict):
        raise StorageCorrupt("keyring entry is not a JSON object")
    return fields
