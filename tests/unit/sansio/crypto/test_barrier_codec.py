"""One encrypted entry: its bytes, what it refuses, and which names it may have."""

from __future__ import annotations

import struct

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from baoha.errors import BarrierError, InvalidRequest
from baoha.sansio.crypto.barrier_codec import (
    OVERHEAD_BYTES,
    TERM_MAX,
    TermCipher,
    entry_term,
    require_key,
    require_storable,
)

KEY = b"k" * 32
NONCE = b"n" * 12
PATH = "core/mounts/0c1b"


def test_entry_is_laid_out_as_specified() -> None:
    blob = TermCipher(0x01020304, KEY).encrypt(PATH, b"hello", NONCE)
    assert blob[:5] == bytes([1, 2, 3, 4, 2])
    assert blob[5:17] == NONCE
    assert AESGCM(KEY).decrypt(NONCE, blob[17:], PATH.encode()) == b"hello"
    assert len(blob) == len(b"hello") + OVERHEAD_BYTES == 38


@given(st.binary(max_size=100), st.text(min_size=1), st.integers(1, TERM_MAX))
def test_entry_round_trips(plaintext: bytes, path: str, term: int) -> None:
    cipher = TermCipher(term, KEY)
    blob = cipher.encrypt(path, plaintext, NONCE)
    assert entry_term(blob) == term
    assert cipher.decrypt(path, blob) == plaintext


def test_entry_of_version_1_is_read_at_any_path() -> None:
    blob = struct.pack(">IB", 7, 1) + NONCE + AESGCM(KEY).encrypt(NONCE, b"old", None)
    assert TermCipher(7, KEY).decrypt("any/path", blob) == b"old"


def test_entry_any_changed_bit_is_refused_with_one_text() -> None:
    cipher = TermCipher(1, KEY)
    blob = cipher.encrypt(PATH, b"hello", NONCE)
    texts = set()
    for position in range(len(blob) * 8):
        changed = bytearray(blob)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(BarrierError) as caught:
            cipher.decrypt(PATH, bytes(changed))
        texts.add(str(caught.value))
    assert texts == {"decryption failed"}


@pytest.mark.parametrize("size", range(OVERHEAD_BYTES))
def test_entry_too_short_is_refused(size: int) -> None:
    blob = TermCipher(1, KEY).encrypt(PATH, b"", NONCE)
    assert len(blob) == OVERHEAD_BYTES
    with pytest.raises(BarrierError):
        TermCipher(1, KEY).decrypt(PATH, blob[:size])
    with pytest.raises(BarrierError):
        entry_term(blob[:size])


def test_entry_moved_to_another_path_is_refused() -> None:
    blob = TermCipher(1, KEY).encrypt(PATH, b"hello", NONCE)
    with pytest.raises(BarrierError):
        TermCipher(1, KEY).decrypt(PATH + "x", blob)


def test_entry_under_another_key_is_refused() -> None:
    blob = TermCipher(1, KEY).encrypt(PATH, b"hello", NONCE)
    with pytest.raises(BarrierError):
        TermCipher(1, b"K" * 32).decrypt(PATH, blob)


@pytest.mark.parametrize("size", [0, 15, 17, 31, 33])
def test_cipher_key_of_bad_length_is_refused(size: int) -> None:
    with pytest.raises(BarrierError):
        TermCipher(1, b"k" * size)


def test_cipher_repr_shows_no_key() -> None:
    assert repr(TermCipher(3, KEY)) == "TermCipher(term=3)"


@pytest.mark.parametrize("key", ["a", "core/x y", "sys/policy/grün", "logical/日本/é", "a//b"])
def test_storable_key_is_accepted(key: str) -> None:
    require_storable(key)


@pytest.mark.parametrize("key", ["a\x00b", "a\nb", "a\x7f", "a\u200bb", "a\u2028", "a\u00a0b"])
def test_storable_non_printable_key_is_refused_for_writing_only(key: str) -> None:
    require_key(key)
    with pytest.raises(InvalidRequest) as caught:
        require_storable(key)
    assert caught.value.errors == ("key contains non-printable characters",)


@pytest.mark.parametrize("check", [require_key, require_storable])
@pytest.mark.parametrize("key", ["", "/", "/a", "a/"])
def test_key_with_empty_first_or_last_part_is_refused(check: object, key: str) -> None:
    assert callable(check)
    with pytest.raises(InvalidRequest):
        check(key)


def test_key_that_was_no_utf8_is_refused() -> None:
    key = b"a\xff".decode(errors="surrogateescape")
    with pytest.raises(InvalidRequest) as caught:
        require_key(key)
    assert caught.value.errors == ("key contains invalid UTF-8 characters",)
