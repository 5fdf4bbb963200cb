"""Rows of stores: what they say is true, complete, and read by somebody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import pytest
import trio

from baoha.errors import ConfigError, TooLargeForStore
from baoha.storage import inmem
from baoha.storage.base import Backend, Batch, Capabilities, StoreLimits
from baoha.storage.registry import find_type, is_ha, load_type, store_names
from baoha.storage.settings import SettingKind, Settings, StoreSetting, UnknownKeys
from baoha.storage.store_type import LockTraits, StoreType
from baoha.timing import BootClock, boot_time_s

ROOT = Path(__file__).resolve().parents[3]
ABOVE = [
    path
    for path in sorted((ROOT / "baoha").rglob("*.py"))
    if not path.is_relative_to(ROOT / "baoha" / "storage")
]


@pytest.mark.parametrize("capability", [field.name for field in fields(Capabilities)])
def test_capability_is_read_by_somebody_above_the_stores(capability: str) -> None:
    """Goal: no store is asked to declare what nobody cares for."""
    read = re.compile(rf"\bcapabilities\.{capability}\b")
    assert [path.name for path in ABOVE if read.search(path.read_text())]


@pytest.mark.parametrize("trait", [field.name for field in fields(LockTraits)])
def test_trait_of_a_lock_is_read_by_somebody_above_the_stores(trait: str) -> None:
    read = re.compile(rf"\btraits\.{trait}\b")
    assert [path.name for path in ABOVE if read.search(path.read_text())]


@pytest.mark.parametrize("name", store_names())
def test_row_of_an_installed_store_is_complete(name: str) -> None:
    row = load_type(name)
    assert row.summary
    assert not row.summary.endswith(".")
    assert (row.lock is not None) == row.capabilities.ha
    for setting in row.settings:
        assert setting.doc
        assert not setting.doc.endswith(".")


@pytest.mark.parametrize("name", ["inmem", "sqlite"])
def test_settings_of_a_store_stand_in_the_operations_page_as_its_row_says(name: str) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    # Links lead to other pages from there, and nowhere from a terminal.
    page = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", page)
    for setting in load_type(name).settings:
        default = setting.shown_default
        doc = setting.doc if default else f"{setting.doc}; required"
        assert f"| `{setting.key}` | {f'{default} ' if default else ''}| {doc} |" in page


def test_name_says_whether_nodes_can_share_a_store() -> None:
    assert (is_ha("sqlite"), is_ha("inmem"), is_ha("abacus")) == (True, False, None)
    assert find_type("abacus") is None


def test_row_with_a_lock_and_without_its_traits_is_refused() -> None:
    with pytest.raises(ConfigError, match="go together"):
        replace(inmem.STORE, capabilities=Capabilities(ha=True))
    with pytest.raises(ConfigError, match="go together"):
        replace(inmem.STORE, lock=LockTraits())


async def open_world(
    settings: Mapping[str, object], *, boot_clock: BootClock = boot_time_s
) -> Backend:
    await trio.lowlevel.checkpoint()
    return inmem.World(capabilities=Capabilities(fencing=True, watch=True)).open()


async def test_store_that_does_more_than_its_row_says_is_not_opened() -> None:
    """Goal: what was decided by the row before the start stays true."""
    row = StoreType(
        name="bold", summary="", open=open_world, capabilities=Capabilities(fencing=True)
    )
    with pytest.raises(ConfigError, match=r"does more than its row says: \['watch'\]"):
        await row.open_backend({})
    more = replace(row, capabilities=Capabilities(fencing=True, watch=True, hand_over=True))
    assert not (await more.open_backend({})).capabilities.hand_over


# --- settings -----------------------------------------------------------------------------------

ROWS = (
    StoreSetting(key="file", kind=SettingKind.PATH, doc="a file"),
    StoreSetting(key="mode", kind=SettingKind.TEXT, default="plain", doc="a word"),
    StoreSetting(key="wait", kind=SettingKind.DURATION, default=1.5, doc="a time"),
    StoreSetting(key="loud", kind=SettingKind.FLAG, default=False, doc="a choice"),
)


def test_block_is_read_by_its_rows_defaults_included() -> None:
    block = Settings("x", ROWS, {"file": "/f", "wait": "500ms"})
    assert (block.text("file"), block.text("mode")) == ("/f", "plain")
    assert (block.duration_s("wait"), block.flag("loud")) == (0.5, False)
    assert (block.is_given("wait"), block.is_given("loud")) == (True, False)
    assert [row.shown_default for row in ROWS] == ["", "plain", "1.5s", "false"]


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({}, "file is required"),
        ({"file": 1}, "file must be a non-empty string"),
        ({"file": "/f", "mode": ""}, "mode must be a non-empty string"),
        ({"file": "/f", "mode": "a\nb"}, "mode must not contain control characters"),
        ({"file": "/f", "wait": "1 day"}, "wait must be a duration"),
        ({"file": "/f", "wait": "25h"}, "wait must be a duration"),
        ({"file": "/f", "loud": "yes"}, "loud must be true or false, got 'yes'"),
    ],
)
def test_value_of_the_wrong_kind_is_refused(block: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=rf"storage\.x: {text}"):
        Settings("x", ROWS, block)


def test_key_without_a_row_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(UnknownKeys) as caught:
        Settings("x", ROWS, {"file": "/f", "fiel": "/f"})
    assert caught.value.keys == ("fiel",)
    assert caught.value.known == ("file", "mode", "wait", "loud")


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (StoreLimits(value_bytes=3), "3 bytes of a value at most, got 4"),
        (StoreLimits(key_bytes=3), "3 bytes of a key at most, got 4"),
        (StoreLimits(batch_ops=2), "2 changes at a time at most, got 3"),
        (StoreLimits(batch_bytes=12), "12 bytes of changes at a time at most, got 13"),
    ],
)
async def test_batch_above_a_limit_is_refused_before_anything_is_sent(
    limits: StoreLimits, text: str
) -> None:
    world = inmem.World(limits=limits)
    backend = world.open()
    with pytest.raises(TooLargeForStore, match=text) as caught:
        async with backend.transaction() as transaction:
            transaction.put("k/ü", b"1234")
            transaction.put("b", b"1234")
            transaction.delete("c")
            assert len("k/ü".encode()) == 4
            transaction.put("b", b"123")
    assert (caught.value.status_hint, caught.value.outcome) == (413, "not_applied")
    assert world.data == {}


def test_batch_at_every_limit_is_let_through() -> None:
    limits = StoreLimits(value_bytes=4, key_bytes=4, batch_ops=3, batch_bytes=13)
    limits.check(Batch(writes={"k/ü": b"1234", "b": b"123", "c": None}))
