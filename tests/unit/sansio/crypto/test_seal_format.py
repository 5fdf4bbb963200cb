"""What the seal keeps outside the barrier: configuration, wrapped keys, shares as clients write."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baoha.errors import BarrierError, ConfigError, InvalidRequest, StorageCorrupt
from baoha.sansio.crypto.seal_format import (
    SealConfig,
    ShamirWrapper,
    StaticSealKey,
    check_shares,
    decode_stored_keys,
    encode_stored_keys,
    parse_share,
    wrapping_key_id,
)

KEY = b"K" * 32
OLD = b"O" * 32
ROOT = b"R" * 32
NONCE = b"n" * 12


# --- configuration ------------------------------------------------------------------------------


def test_config_json_is_openbaos_to_the_byte() -> None:
    config = SealConfig("shamir", 5, 3)
    assert config.encode() == (
        b'{"type":"shamir","secret_shares":5,"secret_threshold":3,'
        b'"pgp_keys":null,"nonce":"","backup":false}'
    )
    assert SealConfig.decode(config.encode()) == config


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"[]",
        b"{}",
        b'{"type":1,"secret_shares":1,"secret_threshold":1}',
        b'{"type":"shamir","secret_shares":"1","secret_threshold":1}',
        b'{"type":"shamir","secret_shares":256,"secret_threshold":1}',
        b'{"type":"shamir","secret_shares":1,"secret_threshold":-1}',
    ],
)
def test_config_malformed_is_refused(blob: bytes) -> None:
    with pytest.raises(StorageCorrupt):
        SealConfig.decode(blob)


@pytest.mark.parametrize(
    ("shares", "threshold", "text"),
    [
        (0, 0, "shares must be at least one"),
        (-1, -1, "shares must be at least one"),
        (5, 0, "threshold must be at least one"),
        (5, -1, "threshold must be at least one"),
        (2, 3, "threshold cannot be larger than shares"),
        (2, 1, "threshold must be greater than one for multiple shares"),
        (256, 3, "shares must be less than 256"),
        (300, 300, "shares must be less than 256"),
    ],
)
def test_check_shares_bad_numbers_are_refused(shares: int, threshold: int, text: str) -> None:
    """Source: tests/conformance/recordings/02-init.json."""
    with pytest.raises(InvalidRequest) as caught:
        check_shares(shares, threshold, what="seal")
    assert caught.value.errors == (f"invalid seal configuration: {text}",)


@pytest.mark.parametrize(
    ("shares", "threshold", "text"),
    [
        (0, 2, "threshold cannot be larger than shares"),
        (3, 0, "threshold must be greater than one for multiple shares"),
        (3, 1, "threshold must be greater than one for multiple shares"),
        (256, 3, "shares must be less than 256"),
        (2, 3, "threshold cannot be larger than shares"),
        (1, 0, "threshold must be at least one"),
        (0, -1, "threshold must be at least one"),
        (-1, 0, "shares must be at least one"),
    ],
)
def test_check_shares_bad_recovery_numbers_are_refused(
    shares: int, threshold: int, text: str
) -> None:
    """Source: the first five measured on OpenBao 2.7.2 with a static seal."""
    with pytest.raises(InvalidRequest) as caught:
        check_shares(shares, threshold, what="recovery", shares_min=0)
    assert caught.value.errors == (f"invalid recovery configuration: {text}",)


@pytest.mark.parametrize(("shares", "threshold"), [(1, 1), (2, 2), (5, 3), (255, 255)])
def test_check_shares_good_numbers_are_accepted(shares: int, threshold: int) -> None:
    check_shares(shares, threshold, what="seal")
    check_shares(0, 0, what="recovery", shares_min=0)


# --- shares -------------------------------------------------------------------------------------


@given(st.binary(min_size=16, max_size=33))
def test_parse_share_hex_and_base64_are_read(share: bytes) -> None:
    assert parse_share(share.hex()) == share
    assert parse_share(share.hex().upper()) == share
    text = base64.b64encode(share).decode()
    # What is hex as well is taken as hex; random base64 of this length practically never is.
    assert parse_share(text) == share


def test_parse_share_hex_is_tried_first_where_the_length_fits() -> None:
    text = "ab" * 16
    assert base64.b64decode(text)
    assert parse_share(text) == bytes.fromhex(text)


@pytest.mark.parametrize(("text", "size"), [("abcd" * 2, 6), ("ab" * 40, 60), ("c2hvcnQ=", 5)])
def test_parse_share_hex_of_another_length_is_base64(text: str, size: int) -> None:
    assert len(parse_share(text)) == size


def test_parse_share_line_breaks_are_passed_over() -> None:
    text = base64.b64encode(KEY).decode()
    assert parse_share(f"{text[:10]}\r\n{text[10:]}\n") == KEY


@pytest.mark.parametrize("text", ["!!!", "ab cd", "é" * 20, "AAA", "ab" * 16 + " "])
def test_parse_share_junk_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_share(text)
    assert caught.value.errors == ("'key' must be a valid hex or base64 string",)


# --- wrapping -----------------------------------------------------------------------------------


def test_stored_keys_are_a_json_list_of_one_key() -> None:
    assert json.loads(encode_stored_keys(ROOT)) == [base64.b64encode(ROOT).decode()]
    assert decode_stored_keys(encode_stored_keys(ROOT)) == ROOT


@pytest.mark.parametrize("plaintext", [b"", b"[]", b"{}", b"[1]", b'["AAAA"]', b'["?"]', b"1"])
def test_stored_keys_malformed_are_refused(plaintext: bytes) -> None:
    with pytest.raises(StorageCorrupt):
        decode_stored_keys(plaintext)


def test_shamir_wrapping_is_laid_out_as_measured() -> None:
    blob = ShamirWrapper(KEY).encrypt(ROOT, NONCE)
    assert blob[:2] == bytes([0x0A, 12 + 32 + 16])
    assert blob[2:14] == NONCE
    assert blob[-2:] == b"\x2a\x00"
    assert wrapping_key_id(blob) == ""
    assert ShamirWrapper(KEY).decrypt(blob) == ROOT


def test_static_wrapping_is_laid_out_as_measured() -> None:
    blob = StaticSealKey("k1", KEY).encrypt(ROOT, NONCE)
    assert blob[:2] == bytes([0x0A, 32 + 16])
    assert blob[50:] == b"\x12\x0c" + NONCE + b"\x2a\x04\x1a\x02k1"
    assert wrapping_key_id(blob) == "k1"
    assert StaticSealKey("k1", KEY).decrypt(blob) == ROOT


def test_static_previous_key_decrypts_and_the_current_one_encrypts() -> None:
    old = StaticSealKey("k1", OLD).encrypt(ROOT, NONCE)
    both = StaticSealKey("k2", KEY, "k1", OLD)
    assert both.decrypt(old) == ROOT
    assert wrapping_key_id(both.encrypt(ROOT, NONCE)) == "k2"


def test_static_unknown_key_id_is_named() -> None:
    blob = StaticSealKey("k9", OLD).encrypt(ROOT, NONCE)
    with pytest.raises(BarrierError, match="'k9'"):
        StaticSealKey("k1", KEY).decrypt(blob)


def test_wrapping_under_another_key_is_refused() -> None:
    with pytest.raises(BarrierError):
        ShamirWrapper(OLD).decrypt(ShamirWrapper(KEY).encrypt(ROOT, NONCE))
    with pytest.raises(BarrierError):
        StaticSealKey("k1", OLD).decrypt(StaticSealKey("k1", KEY).encrypt(ROOT, NONCE))


@pytest.mark.parametrize("wrapper", [ShamirWrapper(KEY), StaticSealKey("k1", KEY)])
def test_wrapping_any_changed_or_missing_byte_is_refused(
    wrapper: ShamirWrapper | StaticSealKey,
) -> None:
    blob = wrapper.encrypt(ROOT, NONCE)
    # The key info of Shamir's wrapping carries nothing, so its last two bytes do not matter.
    meaningful = len(blob) - (2 if isinstance(wrapper, ShamirWrapper) else 0)
    for position in range(meaningful):
        changed = bytearray(blob)
        changed[position] ^= 0x40
        with pytest.raises(StorageCorrupt):
            wrapper.decrypt(bytes(changed))
        with pytest.raises(StorageCorrupt):
            wrapper.decrypt(blob[:position])


@given(st.binary(max_size=80))
def test_wrapping_junk_is_refused(junk: bytes) -> None:
    for wrapper in (ShamirWrapper(KEY), StaticSealKey("k1", KEY)):
        with pytest.raises(StorageCorrupt):
            wrapper.decrypt(junk)


def test_wrapping_unknown_fields_are_passed_over() -> None:
    blob = ShamirWrapper(KEY).encrypt(ROOT, NONCE)
    varint, fixed64, fixed32 = b"\x30\x96\x01", b"\x39" + bytes(8), b"\x45" + bytes(4)
    assert ShamirWrapper(KEY).decrypt(varint + fixed64 + fixed32 + blob) == ROOT


@pytest.mark.parametrize(
    "arguments",
    [
        ("", KEY),
        ("k1", b"short"),
        ("k1", KEY, "k0", b""),
        ("k1", KEY, "", OLD),
        ("k1", KEY, "k0", b"short"),
        ("k1", KEY, "k1", OLD),
    ],
)
def test_static_key_badly_configured_is_refused(arguments: tuple[object, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        StaticSealKey(*arguments)  # type: ignore[arg-type]
    assert "short" not in str(caught.value)


def test_wrapper_repr_shows_no_key() -> None:
    assert repr(ShamirWrapper(KEY)) == "ShamirWrapper()"
    text = repr(StaticSealKey("k2", KEY, "k1", OLD))
    assert "KKK" not in text
    assert "OOO" not in text
