"""The keyring: its JSON, the entries that lead to it, and that nothing shows a key."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baoha.errors import BarrierError, StorageCorrupt
from baoha.sansio.crypto.barrier_codec import TermCipher
from baoha.sansio.crypto.keyring import (
    Keyring,
    RotationConfig,
    TermKey,
    create_keyring,
    decrypt_keyring,
    decrypt_upgrade,
    encrypt_keyring,
    encrypt_upgrade,
    format_time,
    parse_time,
    root_key_entry,
    root_key_from_entry,
)

ROOT = b"R" * 32
DATA = b"D" * 32
NEXT = b"N" * 32
NONCE = b"n" * 12
MOMENT = datetime(2026, 11, 23, 12, 34, 57, 903_260, tzinfo=UTC)


def keyring() -> Keyring:
    return create_keyring(ROOT, DATA, MOMENT)


def test_keyring_json_is_openbaos_to_the_byte() -> None:
    root, data = base64.b64encode(ROOT).decode(), base64.b64encode(DATA).decode()
    assert keyring().encode().decode() == (
        f'{{"MasterKey":"{root}","Keys":[{{"Term":1,"Version":1,"Value":"{data}",'
        f'"InstallTime":"2026-11-23T12:34:57.90326Z"}}],"RotationConfig":'
        f'{{"Disabled":false,"MaxOperations":3865470566,"Interval":0}}}}'
    )


def test_keyring_count_of_encryptions_is_written_only_when_there_is_one() -> None:
    assert b"encryptions" not in keyring().encode()
    assert b'"encryptions":42}' in keyring().with_encryptions(42).encode()


def test_root_key_entry_is_openbaos_to_the_byte() -> None:
    entry = root_key_entry(keyring())
    assert entry.decode() == (
        f'{{"Term":1,"Version":1,"Value":"{base64.b64encode(ROOT).decode()}",'
        f'"InstallTime":"0001-01-01T00:00:00Z"}}'
    )
    assert root_key_from_entry(entry) == ROOT


@given(
    st.binary(min_size=32, max_size=32),
    st.lists(
        st.tuples(st.binary(min_size=32, max_size=32), st.integers(0, 2**40)),
        min_size=1,
        max_size=5,
    ),
    st.builds(RotationConfig, st.booleans(), st.integers(0, 2**40), st.integers(0, 2**60)),
)
def test_keyring_round_trips(
    root: bytes, values: list[tuple[bytes, int]], rotation: RotationConfig
) -> None:
    keys = tuple(
        TermKey(term, value, format_time(MOMENT), count)
        for term, (value, count) in enumerate(values, 1)
    )
    ring = Keyring(root, keys, rotation)
    assert Keyring.decode(ring.encode()) == ring
    assert decrypt_keyring(root, encrypt_keyring(ring, NONCE)) == ring


def test_keyring_keys_in_any_order_are_sorted() -> None:
    ring = keyring().add_term(NEXT, MOMENT)
    fields = json.loads(ring.encode())
    fields["Keys"].reverse()
    assert Keyring.decode(json.dumps(fields).encode()) == ring


def test_keyring_without_rotation_config_has_the_default() -> None:
    fields = json.loads(keyring().encode())
    del fields["RotationConfig"]
    assert Keyring.decode(json.dumps(fields).encode()).rotation == RotationConfig()


def test_keyring_add_term_makes_the_next_term_active() -> None:
    old = keyring().with_encryptions(9)
    new = old.add_term(NEXT, MOMENT)
    assert (old.active_term, new.active_term) == (1, 2)
    assert new.active == TermKey(2, NEXT, format_time(MOMENT), 0)
    assert new.keys[0] == old.active


def test_keyring_entry_always_says_term_1() -> None:
    blob = encrypt_keyring(keyring().add_term(NEXT, MOMENT), NONCE)
    assert blob[:5] == bytes([0, 0, 0, 1, 2])


def test_keyring_under_another_root_key_is_refused() -> None:
    with pytest.raises(BarrierError):
        decrypt_keyring(b"x" * 32, encrypt_keyring(keyring(), NONCE))


def test_keyring_that_names_another_root_key_is_refused() -> None:
    plaintext = keyring().with_root_key(b"x" * 32).encode()
    blob = TermCipher(1, ROOT).encrypt("core/keyring", plaintext, NONCE)
    with pytest.raises(StorageCorrupt):
        decrypt_keyring(ROOT, blob)


def test_upgrade_leads_from_one_term_to_the_next() -> None:
    old = keyring()
    new = old.add_term(NEXT, MOMENT)
    path, blob = encrypt_upgrade(new, NONCE)
    assert path == "core/upgrade/1"
    assert blob[:4] == bytes([0, 0, 0, 1])
    assert decrypt_upgrade(old, blob) == new
    with pytest.raises(BarrierError):
        decrypt_upgrade(new, blob)


def test_upgrade_that_skips_a_term_is_refused() -> None:
    path = "core/upgrade/1"
    plaintext = TermKey(3, NEXT, format_time(MOMENT)).encode()
    with pytest.raises(StorageCorrupt):
        decrypt_upgrade(keyring(), TermCipher(1, DATA).encrypt(path, plaintext, NONCE))


def test_keyring_repr_shows_no_key() -> None:
    text = repr(keyring())
    for key in (ROOT, DATA):
        assert key.decode() not in text
        assert base64.b64encode(key).decode() not in text


GOOD_KEY = {"Term": 1, "Version": 1, "Value": base64.b64encode(DATA).decode(), "InstallTime": "x"}
GOOD_ROOT = base64.b64encode(ROOT).decode()


@pytest.mark.parametrize(
    "fields",
    [
        [],
        {},
        {"MasterKey": GOOD_ROOT},
        {"MasterKey": GOOD_ROOT, "Keys": []},
        {"MasterKey": GOOD_ROOT, "Keys": None},
        {"MasterKey": "AAAA", "Keys": [GOOD_KEY]},
        {"MasterKey": "?", "Keys": [GOOD_KEY]},
        {"MasterKey": GOOD_ROOT, "Keys": ["x"]},
        {"MasterKey": GOOD_ROOT, "Keys": [GOOD_KEY, GOOD_KEY]},
        {"MasterKey": GOOD_ROOT, "Keys": [GOOD_KEY | {"Term": 0}]},
        {"MasterKey": GOOD_ROOT, "Keys": [GOOD_KEY | {"Term": True}]},
        {"MasterKey": GOOD_ROOT, "Keys": [GOOD_KEY | {"Term": 2**32}]},
        {"MasterKey": GOOD_ROOT, "Keys": [GOOD_KEY | {"Value": "AAAA"}]},
        {"MasterKey": GOOD_ROOT, "Keys": [GOOD_KEY | {"InstallTime": 1}]},
        {"MasterKey": GOOD_ROOT, "Keys": [GOOD_KEY | {"encryptions": -1}]},
        {"MasterKey": GOOD_ROOT, "Keys": [GOOD_KEY], "RotationConfig": 1},
        {"MasterKey": GOOD_ROOT, "Keys": [GOOD_KEY], "RotationConfig": {"Interval": "1h"}},
    ],
)
def test_keyring_malformed_is_refused(fields: object) -> None:
    with pytest.raises(StorageCorrupt):
        Keyring.decode(json.dumps(fields).encode())


@given(st.binary(max_size=50))
def test_keyring_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(StorageCorrupt):
        Keyring.decode(junk)
    with pytest.raises(StorageCorrupt):
        TermKey.decode(junk)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 1, tzinfo=UTC), "2026-01-02T03:04:05.000001Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC), "2026-01-02T03:04:05.5Z"),
        (
            datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))),
            "2026-01-02T01:04:05Z",
        ),
    ],
)
def test_time_is_written_as_go_does_and_read_back(moment: datetime, text: str) -> None:
    assert format_time(moment) == text
    assert parse_time(text) == moment


def test_time_with_nanoseconds_or_zone_is_read() -> None:
    assert parse_time("2026-11-23T09:28:08.473284835Z").microsecond == 473_284
    assert parse_time("2026-11-23T11:28:08.5+02:00") == datetime(
        2026, 11, 23, 9, 28, 8, 500_000, tzinfo=UTC
    )


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-23T09:28:08", "2026-13-01T00:00:00Z"])
def test_time_malformed_is_refused(text: str) -> None:
    with pytest.raises(StorageCorrupt):
        parse_time(text)
