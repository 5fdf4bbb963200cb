"""Engines that are not part of the server: those of examples/engines, without an edit in it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from baoha.core.exercise import Write, exercise_auth_method, exercise_secret_engine
from baoha.core.framework.engine_type import EngineType
from baoha.core.view import Role
from tests.support.api_cluster import APICluster, APINode
from tests.support.example_engines import FOLDER, example_engines

SECOND_ROUND_S = 130.0  # of the background work: the first tick comes after 5 s, then one a minute


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, EngineType]:
    return example_engines(tmp_path)


@pytest.fixture
async def cluster(
    nursery: trio.Nursery, autojump_clock: object, rows: dict[str, EngineType]
) -> AsyncIterator[APICluster]:
    """An active node and a standby; they end with the test."""
    cluster = APICluster(nursery, engines=tuple(rows.values()))
    await cluster.start(2)
    yield cluster
    nursery.cancel_scope.cancel()


async def ask(
    place: APINode, method: str, path: str, data: Any = None, *, token: str = ""
) -> tuple[int, dict[str, Any]]:
    headers = [("X-Vault-Token", token)] if token else []
    body = b"" if data is None else json.dumps(data).encode()
    answer = await place.call(method, f"/v1/{path}", body, headers)
    return answer.status, json.loads(answer.body) if answer.body else {}


# --- the suites that are shipped ------------------------------------------------------------------


async def test_secret_engine_of_examples_passes_the_suite(rows: dict[str, EngineType]) -> None:
    await exercise_secret_engine(
        rows["notes"], writes=[Write("a", {"text": "x"}), Write("b", {"text": "y"})], reads=["a"]
    )


async def test_auth_method_of_examples_passes_the_suite(rows: dict[str, EngineType]) -> None:
    await exercise_auth_method(
        rows["api-keys"],
        writes=[Write("users/bob", {"policies": "ci"})],
        login=Write("login/bob"),
        learn={"key": "key"},
        refused=Write("login/bob", {"key": "guessed"}),
    )


@pytest.mark.parametrize("name", ["notes.py", "api_keys.py"])
def test_engine_of_examples_is_short(name: str) -> None:
    assert len((FOLDER / name).read_text().splitlines()) < 80


# --- through a standby ----------------------------------------------------------------------------


async def test_secret_engine_through_a_standby_is_listed_and_ticks(
    cluster: APICluster, autojump_clock: object
) -> None:
    active, standby = cluster.nodes
    root = cluster.secrets["root"]
    status, _ = await ask(standby, "POST", "sys/mounts/n", {"type": "notes"}, token=root)
    assert status == 204
    _, listed = await ask(standby, "GET", "sys/mounts", token=root)
    assert listed["data"]["n/"]["type"] == "notes"
    uuid = listed["data"]["n/"]["uuid"]
    for name, ttl in (("short", 30), ("long", 3600)):
        fields = {"text": name, "ttl": ttl}
        assert (await ask(standby, "POST", f"n/{name}", fields, token=root))[0] == 204
    assert (await ask(standby, "GET", "n/short", token=root))[1]["data"] == {"text": "short"}
    await trio.sleep(SECOND_ROUND_S)
    assert await active.barrier.list(f"logical/{uuid}/") == ["long"]
    assert (await ask(standby, "GET", "n/short", token=root))[0] == 404
    assert (await ask(standby, "GET", "n/long", token=root))[1]["data"] == {"text": "long"}


async def test_login_through_a_standby_lives_like_any_token(
    cluster: APICluster, autojump_clock: object
) -> None:
    _, standby = cluster.nodes
    root = cluster.secrets["root"]
    await cluster.write("sys/auth/keys", type="api-keys")
    _, made = await ask(
        standby, "POST", "auth/keys/users/bob", {"policies": "ci", "ttl": "20m"}, token=root
    )
    key = made["data"]["key"]
    status, refused = await ask(standby, "POST", "auth/keys/login/bob", {"key": "guessed"})
    assert (status, refused["errors"]) == (400, ["invalid name or key"])

    status, answer = await ask(standby, "POST", "auth/keys/login/bob", {"key": key})
    assert status == 200
    auth = answer["auth"]
    assert auth["policies"] == ["ci", "default"]
    assert (auth["lease_duration"], auth["renewable"], auth["orphan"]) == (1200, True, True)
    token = auth["client_token"]

    _, looked_up = await ask(standby, "GET", "auth/token/lookup-self", token=token)
    assert looked_up["data"]["path"] == "auth/keys/login/bob"
    assert looked_up["data"]["display_name"] == "keys-bob"

    await trio.sleep(600)
    _, looked_up = await ask(standby, "GET", "auth/token/lookup-self", token=token)
    assert looked_up["data"]["ttl"] <= 600
    status, renewed = await ask(standby, "POST", "auth/token/renew-self", token=token)
    assert (status, renewed["auth"]["lease_duration"]) == (200, 1200)

    assert (await ask(standby, "POST", "auth/token/revoke-self", token=token))[0] == 204
    assert (await ask(standby, "GET", "auth/token/lookup-self", token=token))[0] == 403


async def test_login_after_a_change_of_the_active_node_is_renewed(
    cluster: APICluster, autojump_clock: object
) -> None:
    active, standby = cluster.nodes
    root = cluster.secrets["root"]
    await cluster.write("sys/auth/keys", type="api-keys")
    key = (await cluster.write("auth/keys/users/bob", policies="ci"))["data"]["key"]
    _, answer = await ask(standby, "POST", "auth/keys/login/bob", {"key": key})
    token = answer["auth"]["client_token"]
    assert (await ask(active, "PUT", "sys/step-down", token=root))[0] == 204
    await cluster.wait_role(standby, Role.ACTIVE)
    await cluster.wait_role(active, Role.STANDBY)
    status, renewed = await ask(active, "POST", "auth/token/renew-self", token=token)
    assert (status, renewed["auth"]["policies"]) == (200, ["ci", "default"])
