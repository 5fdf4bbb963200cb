"""
The form of one encrypted entry in the store, and the check of the names entries may have.

Rules of this file:

1. Nothing here draws randomness: the nonce is an argument, and only ``core/keys/barrier.py`` draws
   it.
2. All reasons why an entry does not decrypt are one error with one text, so that nothing can be
   learned from it. Only an unknown term is told apart: its cure (reading the keyring) differs.

An entry is::

    byte 0..3   key term, unsigned big-endian
    byte 4      version: 1 = no additional data, 2 = the storage path is authenticated too
    byte 5..16  nonce
    rest        AES-GCM ciphertext, then the 16-byte tag

Version 2 is written always: an entry that was moved to another path does not decrypt. Version 1 is
read, for stores that are older than it.

Source: OpenBao 2.7.2, measured: an entry of its store decrypts here (tests/conformance/vectors).
"""

from __future__ import annotations

import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from baoha.errors import BarrierError, InvalidRequest

NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32  # of generated keys
KEY_SIZES: Final = frozenset({16, 24, 32})  # that AES knows
TAG_BYTES: Final = 16
TERM_MAX: Final = 2**32 - 1
VERSION_PLAIN: Final = 1  # no additional data
VERSION_BOUND: Final = 2  # additional data is the storage path

_HEADER = struct.Struct(">IB")
_PREFIX_BYTES: Final = _HEADER.size + NONCE_BYTES
OVERHEAD_BYTES: Final = _PREFIX_BYTES + TAG_BYTES


def entry_term(blob: bytes) -> int:
    """
    Return the term of the key that an entry is encrypted with.

    Raises:
        BarrierError: too short to be an entry.
    """
    if len(blob) < OVERHEAD_BYTES:
        raise BarrierError
    term: int = _HEADER.unpack_from(blob)[0]
    return term


class TermCipher:
    """
    AES-GCM under the key of one term. The key schedule is made once and kept.

    The library copies the key into memory that Python cannot overwrite; dropping the object is all
    that can be done to forget it.
    """

    __slots__ = ("_aead", "term")

    def __init__(self, term: int, key: bytes) -> None:
        if len(key) not in KEY_SIZES:
            raise BarrierError
        if not 0 < term <= TERM_MAX:
            raise BarrierError
        self.term = term
        self._aead = AESGCM(key)

    def __repr__(self) -> str:
        return f"TermCipher(term={self.term})"

    def encrypt(self, path: str, plaintext: bytes, nonce: bytes) -> bytes:
        """
        Return the entry for a path.

        Args:
            nonce: 12 fresh random bytes; one that repeats under the same key breaks the encryption.
        """
        assert len(nonce) == NONCE_BYTES
        header = _HEADER.pack(self.term, VERSION_BOUND)
        return header + nonce + self._aead.encrypt(nonce, plaintext, path.encode())

    def decrypt(self, path: str, blob: bytes) -> bytes:
        """
        Return the plaintext of an entry that was read from a path.

        Raises:
            BarrierError: it does not decrypt, for whatever reason.
        """
        if len(blob) < OVERHEAD_BYTES:
            raise BarrierError
        term, version = _HEADER.unpack_from(blob)
        if term != self.term or version not in (VERSION_PLAIN, VERSION_BOUND):
            raise BarrierError
        associated = path.encode() if version == VERSION_BOUND else None
        nonce = blob[_HEADER.size : _PREFIX_BYTES]
        try:
            # A view: copying a large entry costs more than decrypting it.
            return self._aead.decrypt(nonce, memoryview(blob)[_PREFIX_BYTES:], associated)
        except InvalidTag as exc:
            raise BarrierError from exc


def require_key(key: str) -> None:
    """
    Refuse what cannot be a storage key.

    Raises:
        InvalidRequest: it is empty, has an empty first or last part, or is not valid Unicode.
    """
    if not key or key[0] == "/" or key[-1] == "/":
        raise InvalidRequest("key must not be empty, nor begin or end with a slash")
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError as exc:  # a lone surrogate: bytes that were no UTF-8
            raise InvalidRequest("key contains invalid UTF-8 characters") from exc


def require_storable(key: str) -> None:
    """
    Refuse to write under a name that no terminal could show. Reading such a name is allowed: an
    older store may have it.

    Raises:
        InvalidRequest: with OpenBao's texts.

    Source: OpenBao's key checks below the barrier; printable means what ``str.isprintable`` means
    (no control, format, unassigned or private characters; of the separators only the space).
    """
    require_key(key)
    if not key.isprintable():
        raise InvalidRequest("key contains non-printable characters")
