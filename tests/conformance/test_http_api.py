"""
The HTTP API against what a real OpenBao 2.7.2 has answered (tests/conformance/recordings).

Every difference must be named in ``http_exceptions.py`` with its reason; every exception must still
be one.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Collection, Mapping

import pytest
import trio

from tests.conformance.http_exceptions import DELIBERATE, NOT_YET
from tests.support.api_cluster import APICluster, APINode
from tests.support.recorded import Exchange, differences, filled, learned, load

STEP_DOWN_POLICY = """
path "sys/step-down" { capabilities = ["update", "sudo"] }
"""
READER_POLICY = """
path "secret/data/*" { capabilities = ["read", "list"] }
"""


@pytest.fixture
async def cluster(nursery: trio.Nursery, autojump_clock: object) -> AsyncIterator[APICluster]:
    """A cluster without nodes; its nodes end with the test."""
    yield APICluster(nursery)
    nursery.cancel_scope.cancel()


async def _populate(cluster: APICluster) -> None:
    """Bring the content of the recorded clusters, as far as this release has the engines for it."""
    await cluster.write("sys/mounts/kv1", type="kv")
    await cluster.write("secret/data/seed", data={"hello": "world"})
    await cluster.write("kv1/seed", hello="world")
    await cluster.write("sys/policies/acl/reader", policy=READER_POLICY)
    await cluster.write("auth/token/create", id="readertoken", policies=["reader"], ttl="12h")


async def _replay(cluster: APICluster, place: APINode, exchange: Exchange) -> list[str]:
    secrets = cluster.secrets
    answer = await place.call(
        exchange.method,
        exchange.target,
        filled(exchange.body.decode("utf-8", "surrogateescape"), secrets).encode(
            "utf-8", "surrogateescape"
        ),
        [(name, filled(value, secrets)) for name, value in exchange.headers],
    )
    if exchange.target == "/v1/sys/init" and answer.status == 200 and exchange.method == "PUT":
        cluster.learn(json.loads(answer.body))
    for name, value in learned(exchange, answer).items():
        secrets.setdefault(name, value)
    return differences(exchange, answer, secrets)


async def _replay_all(
    cluster: APICluster,
    scenario: str,
    place: APINode,
    *,
    standby: APINode | None = None,
    pauses_s: Mapping[str, float] | None = None,
    active_only: Collection[str] = (),
) -> None:
    """
    Replay a scenario on a node; what was sent to "a standby" on the other.

    Args:
        pauses_s: by exchange, how long its recording waited before it.
        active_only: exchanges that a standby answers itself, in its own way.
    """
    failures = []
    deliberate, not_yet = DELIBERATE.get(scenario, {}), NOT_YET.get(scenario, {})
    unused = set(deliberate)
    for exchange in load(scenario):
        await trio.sleep((pauses_s or {}).get(exchange.name, 0.0))
        other = standby if standby is not None and exchange.state == "standby" else place
        if exchange.name in active_only:
            other = cluster.nodes[0]
        found = await _replay(cluster, other, exchange)
        if not found:
            continue
        excused = [p for p in (*deliberate, *not_yet) if re.fullmatch(p, exchange.name)]
        unused.difference_update(excused)
        if not excused:
            failures.append(f"{exchange.name}: {exchange.method} {exchange.target}")
            failures += [f"  {line}" for line in found]

    assert not failures, "\n".join(failures)
    assert not unused, f"no longer an exception: {sorted(unused)}"


async def test_uninitialised_node_answers_as_recorded(cluster: APICluster) -> None:
    place = await cluster.add_node()

    await _replay_all(cluster, "01-uninitialised", place)


async def test_initialisation_answers_as_recorded(cluster: APICluster) -> None:
    place = await cluster.add_node()

    await _replay_all(cluster, "02-init", place)


async def test_sealed_node_answers_as_recorded(cluster: APICluster) -> None:
    place = await cluster.add_node()
    await cluster.initialize()

    await _replay_all(cluster, "03-sealed", place)


async def test_unsealing_answers_as_recorded(cluster: APICluster) -> None:
    place = await cluster.add_node()
    await cluster.initialize()

    await _replay_all(cluster, "04-unseal", place)


async def test_second_node_answers_as_recorded(cluster: APICluster) -> None:
    await cluster.start(nodes=1)
    await _populate(cluster)
    place = await cluster.add_node()
    await cluster.wait_initialized(place)

    await _replay_all(cluster, "05-join", place)


async def test_active_node_answers_as_recorded(cluster: APICluster) -> None:
    await cluster.start(nodes=3)
    await _populate(cluster)

    await _replay_all(cluster, "06-active", cluster.nodes[0])


async def test_standby_answers_as_recorded(cluster: APICluster) -> None:
    await cluster.start(nodes=3)
    await _populate(cluster)
    # The recorded standby was asked after the active node had been.
    for exchange in load("06-active"):
        await _replay(cluster, cluster.nodes[0], exchange)

    await _replay_all(cluster, "07-standby", cluster.nodes[1])


async def test_standby_redirects_as_recorded(cluster: APICluster) -> None:
    await cluster.start(nodes=2)
    await _populate(cluster)

    await _replay_all(cluster, "08b-standby-redirects", cluster.nodes[1])


async def test_step_down_answers_as_recorded(cluster: APICluster) -> None:
    await cluster.start(nodes=2)
    await _populate(cluster)
    await cluster.write("sys/policies/acl/sudosd", policy=STEP_DOWN_POLICY)
    await cluster.write("auth/token/create", id="sudosdtoken", policies=["sudosd"], ttl="12h")

    await _replay_all(cluster, "09-step-down", cluster.nodes[0], standby=cluster.nodes[1])


async def test_generic_http_answers_as_recorded(cluster: APICluster) -> None:
    await cluster.start(nodes=1)
    await _populate(cluster)

    await _replay_all(cluster, "generic-http", cluster.nodes[0])


@pytest.mark.parametrize("through", ["active", "standby"])
async def test_kv2_answers_as_recorded(cluster: APICluster, through: str) -> None:
    await cluster.start(nodes=2)
    await _populate(cluster)

    await _replay_all(cluster, "kv2", cluster.nodes[("active", "standby").index(through)])


@pytest.mark.parametrize("through", ["active", "standby"])
async def test_kv1_answers_as_recorded(cluster: APICluster, through: str) -> None:
    await cluster.start(nodes=2)
    await _populate(cluster)

    await _replay_all(cluster, "kv1", cluster.nodes[("active", "standby").index(through)])


@pytest.mark.parametrize("through", ["active", "standby"])
async def test_tokens_answer_as_recorded(cluster: APICluster, through: str) -> None:
    await cluster.start(nodes=2)
    await _populate(cluster)
    place = cluster.nodes[("active", "standby").index(through)]

    await _replay_all(cluster, "token", place, pauses_s={"expired": 3.0})


@pytest.mark.parametrize("through", ["active", "standby"])
async def test_policies_answer_as_recorded(cluster: APICluster, through: str) -> None:
    await cluster.start(nodes=2)
    await _populate(cluster)
    await cluster.write("sys/policies/acl/tp", policy=READER_POLICY)
    place = cluster.nodes[("active", "standby").index(through)]

    await _replay_all(cluster, "policy-capabilities", place, active_only={"enf seal without sudo"})


@pytest.mark.parametrize("through", ["active", "standby"])
async def test_mounts_answer_as_recorded(cluster: APICluster, through: str) -> None:
    await cluster.start(nodes=2)
    await _populate(cluster)
    place = cluster.nodes[("active", "standby").index(through)]

    await _replay_all(cluster, "mounts-auth-audit", place)
