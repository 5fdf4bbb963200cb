"""
Real clients against a baoha cluster: the ``bao`` command and the ``hvac`` library.

Source: docs/spec/openbao-ha.md sections 4.4 and 9.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import hvac
import pytest
import trio

from testbed.clusters import Cluster, RunningNode, run_cluster
from testbed.descriptions import load_description, program
from tests.cluster.lab import other_active

pytestmark = pytest.mark.differential

T = TypeVar("T")
_INIT_ONE = ("operator", "init", "-key-shares=1", "-key-threshold=1")


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run of the command gave."""

    code: int
    out: str
    err: str


async def _bao(
    node: RunningNode,
    *arguments: str,
    token: str = "",
    home: Path,
    more: Mapping[str, str] | None = None,
) -> Ran:
    """Run the real command against one node; its own retries are off."""
    environment = {
        "BAO_ADDR": node.address,
        "BAO_TOKEN": token,
        "BAO_MAX_RETRIES": "0",
        "HOME": str(home),
        **(more or {}),
    }
    done = await trio.run_process(
        [program("bao"), *arguments],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=environment,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


async def _in_thread(call: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(call)


async def test_bao_command_initialises_unseals_and_steps_down(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    made = load_description("baoha-sqlite")
    async with run_cluster(made, folder=tmp_path, set_up=False) as cluster:
        first = cluster.nodes[0]
        bao = partial(_bao, home=home)
        assert (await bao(first, "status")).code == 2
        init = await bao(
            first, "operator", "init", "-key-shares=3", "-key-threshold=2", "-format=json"
        )
        assert init.code == 0, init.err
        secrets = json.loads(init.out)
        cluster.root_token = token = secrets["root_token"]
        assert (await bao(first, "operator", "init", "-status")).code == 0
        for node in cluster.nodes:
            assert (await bao(node, "status")).code == 2
            for key in secrets["unseal_keys_b64"][:2]:
                unseal = await bao(node, "operator", "unseal", key)
                assert unseal.code == 0, unseal.err
            assert (await bao(node, "status")).code == 0
        active = await cluster.wait_active()
        for node in cluster.nodes:
            await _wait_forwarding(cluster, node)
        status = (await bao(active, "status")).out
        assert re.search(r"^HA Mode +active$", status, re.MULTILINE), status
        standby = next(node for node in cluster.nodes if node is not active)
        status = (await bao(standby, "status")).out
        assert re.search(rf"^Active Node Address +{active.address}$", status, re.MULTILINE), status
        # Through a standby: it is forwarded to the active node.
        done = await bao(standby, "operator", "step-down", token=token)
        assert (done.code, done.err) == (0, "")
        assert f"Success! Stepped down: {standby.address}" in done.out
        successor = await other_active(cluster, active)
        members = await bao(successor, "operator", "members", "-format=json", token=token)
        rows = json.loads(members.out)["Nodes"]
        assert {row["api_address"] for row in rows} == {node.address for node in cluster.nodes}
        sealed = await bao(successor, "operator", "seal", token=token)
        assert sealed.code == 0, sealed.err
        assert (await bao(successor, "status")).code == 2
        await other_active(cluster, successor)


async def test_bao_command_writes_and_reads_through_every_node(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    async with run_cluster(load_description("baoha-sqlite"), folder=tmp_path) as cluster:
        bao = partial(_bao, token=cluster.root_token, home=home)
        for node in cluster.nodes:
            put = await bao(node, "kv", "put", "-mount=secret", node.name, f"from={node.name}")
            assert put.code == 0, put.err
        for node in cluster.nodes:
            for other in cluster.nodes:
                get = await bao(node, "kv", "get", "-mount=secret", "-field=from", other.name)
                assert (get.code, get.out.strip()) == (0, other.name), get.err
            listed = await bao(node, "kv", "list", "-format=json", "secret/")
            assert set(json.loads(listed.out)) >= {each.name for each in cluster.nodes}
            # Tokens and policies, through each node in turn.
            policy = await bao(node, "policy", "write", f"p-{node.name}", str(_policy(home)))
            assert policy.code == 0, policy.err
            made = await bao(
                node, "token", "create", f"-policy=p-{node.name}", "-format=json", "-ttl=1h"
            )
            assert made.code == 0, made.err
            token = json.loads(made.out)["auth"]["client_token"]
            for other in cluster.nodes:
                own = await bao(other, "token", "lookup", "-format=json", token=token)
                assert f"p-{node.name}" in json.loads(own.out)["data"]["policies"]
                denied = await bao(other, "kv", "put", "-mount=secret", "x", "a=b", token=token)
                assert denied.code == 2
                assert "permission denied" in denied.err
            assert (await bao(node, "token", "revoke", token)).code == 0
            gone = await bao(node, "token", "lookup", token=token)
            assert gone.code == 2


async def test_bao_command_follows_the_redirect_of_a_standby(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()

    def no_forwarding(node: RunningNode, config: str) -> str:
        return f"disable_request_forwarding = true\n{config}"

    made = load_description("baoha-sqlite")
    async with run_cluster(made, folder=tmp_path, edit=no_forwarding, set_up=False) as cluster:
        first, standby = cluster.nodes[:2]
        bao = partial(_bao, home=home)
        init = await bao(first, *_INIT_ONE, "-format=json")
        cluster.root_token = token = json.loads(init.out)["root_token"]
        (key,) = json.loads(init.out)["unseal_keys_b64"]
        for node in (first, standby):
            assert (await bao(node, "operator", "unseal", key)).code == 0
            await cluster.wait_active((first,))
        with trio.fail_after(20):
            await _wait_status(standby, token, 307)
        put = await bao(standby, "kv", "put", "-mount=secret", "r", "a=b", token=token)
        assert put.code == 0, put.err
        read = await bao(standby, "kv", "get", "-mount=secret", "-field=a", "r", token=token)
        assert (read.code, read.out.strip()) == (0, "b"), read.err
        stay = {"BAO_DISABLE_REDIRECTS": "true"}
        refused = await bao(standby, "kv", "get", "-mount=secret", "r", token=token, more=stay)
        assert refused.code == 2


async def test_standby_with_the_header_answers_307_to_the_active_node(tmp_path: Path) -> None:
    async with run_cluster(load_description("baoha-sqlite"), folder=tmp_path) as cluster:
        active = await cluster.wait_active()
        header = {"X-Vault-No-Request-Forwarding": "1"}
        for node in cluster.nodes:
            for method, path in (
                ("GET", "/v1/secret/data/ready"),
                ("PUT", "/v1/secret/data/x?a=1"),
            ):
                answer = await node.call(
                    method, path, {"data": {}}, token=cluster.root_token, headers=header
                )
                if node is active:
                    assert answer.status == 200
                else:
                    assert (answer.status, answer.body) == (307, b"")
                    assert answer.headers["location"] == active.address + path


async def test_hvac_initialises_unseals_writes_and_reads_through_every_node(
    tmp_path: Path,
) -> None:
    made = load_description("baoha-sqlite")
    async with run_cluster(made, folder=tmp_path, set_up=False) as cluster:
        clients = [hvac.Client(url=node.address) for node in cluster.nodes]
        await _in_thread(partial(_hvac_set_up, clients, cluster))
        for node in cluster.nodes:
            await _wait_forwarding(cluster, node)
        await _in_thread(partial(_hvac_use, clients))
        active = await cluster.wait_active()
        await _in_thread(clients[(active.index + 1) % 3].sys.step_down)
        await other_active(cluster, active)
        await _in_thread(partial(_hvac_use, clients))
        for client in clients:
            client.adapter.close()


def _hvac_set_up(clients: list[Any], cluster: Cluster) -> None:
    first = clients[0]
    assert not first.sys.is_initialized()
    answer = first.sys.initialize(secret_shares=5, secret_threshold=3)
    cluster.root_token = answer["root_token"]
    for client in clients:
        assert client.sys.is_sealed()
        client.sys.submit_unseal_keys(answer["keys"][1:4])
        assert not client.sys.is_sealed()
        client.token = cluster.root_token


def _hvac_use(clients: list[Any]) -> None:
    for number, client in enumerate(clients):
        assert client.is_authenticated()
        client.secrets.kv.v2.create_or_update_secret(path=f"h{number}", secret={"n": number})
    for client in clients:
        for number in range(len(clients)):
            read = client.secrets.kv.v2.read_secret_version(
                path=f"h{number}", raise_on_deleted_version=True
            )
            assert read["data"]["data"] == {"n": number}
        listed = client.secrets.kv.v2.list_secrets(path="")
        assert {"h0", "h1", "h2"} <= set(listed["data"]["keys"])
        health = client.sys.read_health_status(method="GET")
        assert (health if isinstance(health, dict) else health.json())["sealed"] is False
        assert client.sys.read_leader_status()["ha_enabled"] is True


async def _wait_status(node: RunningNode, token: str, wanted: int) -> None:
    while True:
        if await node.status_of("/v1/auth/token/lookup-self", token=token) == wanted:
            return
        await trio.sleep(0.1)


async def _wait_forwarding(cluster: Cluster, node: RunningNode) -> None:
    """Return when the node answers as whoever leads: an unseal returns before that."""
    with trio.fail_after(20):
        await _wait_status(node, cluster.root_token, 200)


def _policy(folder: Path) -> Path:
    file = folder / "policy.hcl"
    file.write_text('path "secret/data/*" { capabilities = ["read"] }\n')
    return file
