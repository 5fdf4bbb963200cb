"""Engines by their rows: names, options, ticks, lifetimes, and entry points."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio

from baoha.core.dispatch import TICK_S
from baoha.core.engines.registry import installed_engine_types
from baoha.core.framework.engine import Engine, EngineContext
from baoha.core.framework.engine_type import EngineType, Options
from baoha.core.framework.mount_entry import MountEntry, Table
from baoha.core.framework.ttl import TTLs
from baoha.core.request import Request, Response
from baoha.errors import (
    ConfigError,
    FencedWrite,
    InvalidRequest,
    NotFound,
    StorageUnavailable,
)
from tests.support.example_engines import installed
from tests.support.logical import Logical, open_logical

CORE = Path(__file__).resolve().parents[3] / "baoha" / "core"
CANARY = "what a client has sent"


class Ticking(Engine):
    """Notes its ticks; the option ``fault`` says how one of them ends."""

    ticks: list[str]

    def __init__(self, entry: MountEntry, context: EngineContext, ticks: list[str]) -> None:
        super().__init__(context)
        self._entry = entry
        self._ticks = ticks

    async def handle(self, request: Request) -> Response:
        raise NotFound

    async def tick(self) -> None:
        fault = (self._entry.options or {}).get("fault", "")
        self._ticks.append(self._entry.path)
        if fault == "store":
            raise StorageUnavailable("no answer", outcome="not_applied")
        if fault == "fence":
            raise FencedWrite("a newer tenure")
        if fault == "defect":
            raise ZeroDivisionError(CANARY)
        if fault == "slow":
            await trio.sleep(1000)


def row(ticks: list[str], name: str = "ticking", **fields: object) -> EngineType:
    return EngineType(
        name=name,
        table=Table.SECRET,
        summary="",
        make=lambda entry, context: Ticking(entry, context, ticks),
        **fields,  # type: ignore[arg-type]
    )


async def open_ticking(ticks: list[str], **mounts: str) -> Logical:
    logical = await open_logical(installed=(row(ticks),))
    for path, fault in mounts.items():
        mount = {"type": "ticking", "options": {"fault": fault}}
        await logical.call("POST", f"sys/mounts/{path}", mount)
    return logical


# --- ticks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["store", "defect", "slow"])
async def test_tick_that_fails_holds_up_no_other(
    fault: str, caplog: pytest.LogCaptureFixture, autojump_clock: object
) -> None:
    ticks: list[str] = []
    logical = await open_ticking(ticks, a="", b=fault, c="")
    began = trio.current_time()
    with caplog.at_level(logging.WARNING, "baoha.core"):
        await logical.core.tick()
    assert ticks == ["a/", "b/", "c/"]
    assert trio.current_time() - began == (TICK_S if fault == "slow" else 0)
    (record,) = caplog.records
    assert "mount=b/" in record.getMessage()
    assert CANARY not in record.getMessage()


async def test_tick_that_is_fenced_off_ends_the_tenure() -> None:
    ticks: list[str] = []
    logical = await open_ticking(ticks, a="fence", b="")
    with pytest.raises(FencedWrite):
        await logical.core.tick()
    assert ticks == ["a/"]


async def test_tick_of_a_disabled_mount_is_left_out() -> None:
    ticks: list[str] = []
    logical = await open_ticking(ticks, a="", b="")
    await logical.call("DELETE", "sys/mounts/a")
    await logical.core.tick()
    assert ticks == ["b/"]


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kv", "generic", "system", "kv-v2"])
async def test_two_engines_of_one_name_are_refused_at_the_start(name: str) -> None:
    with pytest.raises(ConfigError, match=f"two engines are called '{name}'"):
        await open_logical(installed=(row([], name),))


async def test_alias_of_an_engine_enables_it_with_its_options() -> None:
    aliases: dict[str, Options] = {"tick-tock": {"tock": "yes"}}
    logical = await open_logical(installed=(row([], aliases=aliases),))
    await logical.call("POST", "sys/mounts/t", {"type": "tick-tock", "options": {"a": "b"}})
    mount = await logical.data("GET", "sys/mounts/t")
    assert (mount["type"], mount["options"]) == ("ticking", {"a": "b", "tock": "yes"})


async def test_engine_of_one_table_is_not_found_in_the_other() -> None:
    logical = await open_logical(installed=(row([]),))
    with pytest.raises(InvalidRequest, match="plugin not found in the catalog: ticking"):
        await logical.call("POST", "sys/auth/t", {"type": "ticking"})


async def test_options_of_an_installed_engine_are_merged_by_their_names() -> None:
    logical = await open_ticking([], a="slow")
    tuning = {"options": {"fault": "", "version": "7"}}
    warnings = (await logical.call("POST", "sys/mounts/a/tune", tuning)).warnings
    assert warnings == []
    assert (await logical.data("GET", "sys/mounts/a"))["options"] == {"version": "7"}


def test_no_file_asks_for_an_engine_by_its_name_or_class() -> None:
    """Beside the engines' own folder there is one name: of the mount that a new cluster has."""
    found = []
    for path in sorted(CORE.rglob("*.py")):
        for line in path.read_text().splitlines():
            is_named = '"kv' in line and "engines" not in path.parts
            if is_named or "isinstance(engine" in line:
                found.append((path.name, line.strip()))
    (one,) = found
    assert one[0] == "mounts.py"
    assert '"secret/", "kv"' in one[1]


# --- installed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("no_such_module:ROW", "cannot load the engine 'x'"),
        ("notes:NO_SUCH_ROW", "cannot load the engine 'x'"),
        ("notes:Notes", "cannot use the engine 'x': notes:Notes is no row"),
    ],
)
def test_entry_point_that_names_no_row_is_refused(value: str, why: str, tmp_path: Path) -> None:
    with installed(tmp_path, {"x": value}), pytest.raises(ConfigError, match=why):
        installed_engine_types()


def test_engines_without_packages_are_none() -> None:
    assert list(installed_engine_types()) == []


# --- lifetimes ------------------------------------------------------------------------------------


async def test_lifetimes_of_the_configuration_are_those_of_tokens_and_leases() -> None:
    logical = await open_logical(ttl=TTLs(600, 3600))
    answer = await logical.call("POST", "auth/token/create", {"policies": ["default"]})
    assert answer.auth is not None
    assert answer.auth.lease_duration == 600
    asked = {"policies": ["default"], "ttl": "2h"}
    answer = await logical.call("POST", "auth/token/create", asked)
    assert answer.auth is not None
    assert answer.auth.lease_duration == 3600
    await logical.call("POST", "sys/mounts/k1", {"type": "kv"})
    await logical.call("POST", "k1/a", {"x": "y"})
    assert (await logical.call("GET", "k1/a")).lease_duration == 600
    tuning = await logical.data("GET", "sys/mounts/k1/tune")
    assert (tuning["default_lease_ttl"], tuning["max_lease_ttl"]) == (600, 3600)
