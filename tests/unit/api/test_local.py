"""The endpoints that a node answers itself: health, leader, the HA questions, the seal."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from baoha.api import requests
from baoha.api.admission import Admission
from baoha.core.view import LinkState, NodeStatus, SealStatus
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from tests.support.fake_node import ACTIVE, LEADER, LEADERLESS, SEALED, STANDBY, FakeNodeView

serve_request = partial(requests.serve_request, admission=Admission())  # nobody waits in it

UNINITIALIZED = replace(SEALED, initialized=False)
BLIND = replace(STANDBY, link=LinkState.FAILED)


async def ask(
    node: FakeNodeView, method: str, path: str, body: bytes = b"", query: str = ""
) -> HTTPResponse:
    request = HTTPRequest(
        method=method,
        path=f"/v1/{path}",
        raw_path=f"/v1/{path}",
        query=query,
        headers=(("x-vault-token", "s.t"),),
        body=body,
    )
    return await serve_request(node, request)


def parsed(answer: HTTPResponse) -> dict[str, Any]:
    value = json.loads(answer.body)
    assert isinstance(value, dict)
    return value


# --- health -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "query", "code"),
    [
        (UNINITIALIZED, "", 501),
        (SEALED, "", 503),
        (STANDBY, "", 429),
        (ACTIVE, "", 200),
        (UNINITIALIZED, "uninitcode=296&sealedcode=297", 296),
        (SEALED, "uninitcode=296&sealedcode=297", 297),
        (STANDBY, "standbycode=298", 298),
        (ACTIVE, "activecode=299&activecode=300", 299),
        (STANDBY, "standbyok=true", 200),
        (STANDBY, "standbyok=true&activecode=299&standbycode=298", 299),
        (STANDBY, "standbyok=", 429),
        (STANDBY, "standbyok", 429),
        (STANDBY, "standbyok=false", 429),
        (STANDBY, "perfstandbyok=true&unknown=1", 429),
        (STANDBY, "haunhealthycode=474", 429),
        (BLIND, "haunhealthycode=474", 474),
        (LEADERLESS, "haunhealthycode=474", 474),
        (replace(STANDBY, leader_changing=True), "haunhealthycode=474", 474),
        (BLIND, "", 429),
        (replace(BLIND, forwarding_enabled=False), "haunhealthycode=474", 429),
        (ACTIVE, "standbycode=50", 200),
        (ACTIVE, "activecode=50", 400),
        (ACTIVE, "activecode=1000", 400),
        (ACTIVE, "activecode=bogus", 400),
        (ACTIVE, "activecode=", 400),
        (ACTIVE, "activecode=%20299", 400),
        (ACTIVE, "activecode=2_99", 400),
        (ACTIVE, "standbycode=x", 400),
        (ACTIVE, "standbyok=yes", 400),
    ],
)
async def test_health_code(status: NodeStatus, query: str, code: int) -> None:
    answer = await ask(FakeNodeView(status), "GET", "sys/health", query=query)

    assert answer.status == code


@pytest.mark.parametrize("status", [UNINITIALIZED, SEALED, STANDBY, ACTIVE])
async def test_health_of_a_well_node_has_openbaos_fields_only(status: NodeStatus) -> None:
    body = parsed(await ask(FakeNodeView(status), "GET", "sys/health"))

    cluster = [] if status.sealed else ["cluster_name", "cluster_id"]
    assert list(body) == [
        "initialized",
        "sealed",
        "standby",
        "replication_performance_mode",
        "replication_dr_mode",
        "server_time_utc",
        "version",
        *cluster,
    ]
    assert body["standby"] == (status is not ACTIVE)


@pytest.mark.parametrize(("status", "known"), [(LEADERLESS, False), (BLIND, True)])
async def test_health_of_a_blind_standby_says_so(status: NodeStatus, known: bool) -> None:
    body = parsed(await ask(FakeNodeView(status), "GET", "sys/health"))

    assert body["leader_known"] is known
    assert body["ha_connection_healthy"] is False


@pytest.mark.parametrize("status", [SEALED, LEADERLESS, STANDBY, ACTIVE])
async def test_health_of_a_node_that_its_store_blocks_says_so_and_nothing_else(
    status: NodeStatus,
) -> None:
    node = FakeNodeView(status)
    node.sentences = ("BH-401 cannot reach https://10.0.0.1:8201", "BH-921 pid 7 holds the lock")
    answer = await ask(node, "GET", "sys/health")
    assert parsed(answer)["problems"] == ["BH-921 pid 7 holds the lock"]
    assert answer.status == (await ask(FakeNodeView(status), "GET", "sys/health")).status


@pytest.mark.parametrize(
    ("status", "modes"),
    [
        (ACTIVE, ("primary", "disabled")),
        (STANDBY, ("primary", "disabled")),
        (BLIND, ("unknown", "unknown")),
        (SEALED, ("unknown", "unknown")),
        (replace(ACTIVE, ha_enabled=False), ("disabled", "disabled")),
    ],
)
async def test_health_replication_modes(status: NodeStatus, modes: tuple[str, str]) -> None:
    body = parsed(await ask(FakeNodeView(status), "GET", "sys/health"))

    assert (body["replication_performance_mode"], body["replication_dr_mode"]) == modes


# --- leader -------------------------------------------------------------------------------------


async def test_leader_on_the_active_node() -> None:
    since = datetime(2026, 1, 2, 3, 4, 5, 120000, tzinfo=UTC)

    answer = await ask(FakeNodeView(replace(ACTIVE, active_since=since)), "GET", "sys/leader")

    assert answer.body == (
        b'{"ha_enabled":true,"is_self":true,"active_time":"2026-01-02T03:04:05.12Z",'
        b'"leader_address":"http://self:8200","leader_cluster_address":"https://self:8201"}\n'
    )


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (
            STANDBY,
            {
                "ha_enabled": True,
                "is_self": False,
                "leader_address": "http://leader:8200",
                "leader_cluster_address": "https://leader:8201",
            },
        ),
        (LEADERLESS, {"ha_enabled": True, "is_self": False}),
        (
            replace(STANDBY, leader=replace(LEADER, is_dead=True)),
            {"ha_enabled": True, "is_self": False},
        ),
        (replace(ACTIVE, ha_enabled=False), {"ha_enabled": False}),
    ],
)
async def test_leader_elsewhere(status: NodeStatus, expected: dict[str, Any]) -> None:
    answer = await ask(FakeNodeView(status), "GET", "sys/leader")

    assert answer.status == 200
    assert parsed(answer) == expected


async def test_leader_on_a_sealed_node_is_503() -> None:
    answer = await ask(FakeNodeView(SEALED), "GET", "sys/leader")

    assert answer.status == 503
    assert parsed(answer) == {"errors": ["Vault is sealed"]}


# --- the HA questions ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "yes"),
    [
        (ACTIVE, {"active", "ready", "live", "leader"}),
        (replace(ACTIVE, stopping=True), {"active", "live", "leader"}),
        (STANDBY, {"standby", "ready", "live", "leader"}),
        (BLIND, {"standby", "live", "leader"}),
        (replace(BLIND, forwarding_enabled=False), {"standby", "ready", "live", "leader"}),
        (replace(STANDBY, leader_changing=True), {"standby", "live", "leader"}),
        (replace(ACTIVE, store_problem="disk full"), {"active", "live", "leader"}),
        (replace(STANDBY, store_problem="x"), {"standby", "ready", "live", "leader"}),
        (LEADERLESS, {"standby", "live"}),
        (replace(STANDBY, leader=replace(LEADER, is_dead=True)), {"standby", "live"}),
        (SEALED, {"live"}),
        (UNINITIALIZED, {"live"}),
    ],
)
async def test_ha_questions(status: NodeStatus, yes: set[str]) -> None:
    node = FakeNodeView(status)

    for question in ("active", "standby", "ready", "live", "leader"):
        for method in ("GET", "HEAD"):
            answer = await ask(node, method, f"sys/ha/{question}")

            assert answer.status == (200 if question in yes else 503), question
            assert parsed(answer)[question] is (question in yes)


async def test_live_says_what_software_it_is_and_no_other_question_does() -> None:
    said = {
        question: parsed(await ask(FakeNodeView(ACTIVE), "GET", f"sys/ha/{question}")).get(
            "software"
        )
        for question in ("active", "standby", "ready", "live", "leader")
    }

    assert said.pop("live") == "baoha"
    assert set(said.values()) == {None}


# --- methods ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("sys/health", {"GET", "HEAD"}),
        ("sys/leader", {"GET"}),
        ("sys/seal-status", {"GET"}),
        ("sys/init", {"GET", "PUT", "POST"}),
        ("sys/unseal", {"PUT", "POST"}),
        ("sys/seal", {"PUT", "POST"}),
        ("sys/ha/ready", {"GET", "HEAD"}),
    ],
)
async def test_other_methods_are_405(path: str, allowed: set[str]) -> None:
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE", "LIST", "PATCH", "OPTIONS", "FOO"):
        answer = await ask(
            FakeNodeView(STANDBY), method, path, body=b'{"key":"' + b"0" * 64 + b'"}'
        )

        assert (answer.status == 405) == (method not in allowed), method
        assert answer.status != 405 or answer.body == b'{"errors":[]}\n'


async def test_help_is_not_answered_locally() -> None:
    answer = await ask(FakeNodeView(SEALED), "GET", "sys/health", query="help=1")

    assert answer.status == 503
    assert parsed(answer) == {"errors": ["Vault is sealed"]}


# --- the seal -----------------------------------------------------------------------------------


async def test_seal_status_has_openbaos_order() -> None:
    node = FakeNodeView(ACTIVE)
    node.seal_state = SealStatus(initialized=True, sealed=False, threshold=3, shares=5)

    answer = await ask(node, "GET", "sys/seal-status")

    assert list(parsed(answer)) == [
        "type",
        "initialized",
        "sealed",
        "t",
        "n",
        "progress",
        "nonce",
        "recovery_seal",
        "version",
        "commit_date",
        "migration",
        "cluster_name",
        "cluster_id",
        "storage_type",
    ]


async def test_seal_status_names_the_recovery_seal() -> None:
    node = FakeNodeView(SEALED)
    node.seal_state = SealStatus(type="static", recovery_seal=True, recovery_seal_type="shamir")

    body = parsed(await ask(node, "GET", "sys/seal-status"))

    assert body["recovery_seal"] is True
    assert body["recovery_seal_type"] == "shamir"


async def test_init_answers_the_shares_in_both_forms() -> None:
    node = FakeNodeView(UNINITIALIZED)

    answer = await ask(node, "PUT", "sys/init", b'{"secret_shares":2,"secret_threshold":2}')

    assert parsed(answer) == {
        "keys": ["01" * 33, "02" * 33],
        "keys_base64": [
            "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB",
            "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC",
        ],
        "root_token": "s.root",
    }


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            b'{"secret_shares":5,"secret_threshold":3,"pgp_keys":["a"]}',
            "invalid seal configuration: count mismatch between number of provided PGP keys and "
            "number of shares",
        ),
        (
            b'{"secret_shares":1,"secret_threshold":1,"pgp_keys":["a"]}',
            "invalid seal configuration: error decoding given PGP key: illegal base64 data at "
            "input byte 0",
        ),
        (
            b'{"secret_shares":1,"secret_threshold":1,"pgp_keys":["YW_j"]}',
            "invalid seal configuration: error decoding given PGP key: illegal base64 data at "
            "input byte 2",
        ),
        (
            b'{"secret_shares":1,"secret_threshold":1,"root_token_pgp_key":"YWJj"}',
            "PGP encryption of key shares is not available in this release",
        ),
        (
            b'{"secret_shares":1,"recovery_pgp_keys":["a"]}',
            "parameters recovery_pgp_keys not applicable to seal type shamir",
        ),
    ],
)
async def test_init_refuses_keys_that_it_cannot_use(body: bytes, error: str) -> None:
    node = FakeNodeView(UNINITIALIZED)

    answer = await ask(node, "PUT", "sys/init", body)

    assert answer.status == 400
    assert parsed(answer) == {"errors": [error]}
    assert node.calls == []


@pytest.mark.parametrize(
    "key",
    ["AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB", "01" * 33, "AB" * 16],
)
async def test_unseal_takes_hexadecimal_and_base64(key: str) -> None:
    node = FakeNodeView(SEALED)

    answer = await ask(node, "PUT", "sys/unseal", json.dumps({"KEY": key}).encode())

    assert answer.status == 200
    assert parsed(answer)["progress"] == 1


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "'key' must be specified in request body as JSON, or 'reset' set to true"),
        (b'{"key":"!!!"}', 400, "'key' must be a valid hex or base64 string"),
        (b'{"key":"00"}', 400, "'key' must be a valid hex or base64 string"),
        (
            b'{"key":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB","migrate":true}',
            500,
            "can't perform a seal migration, no migration seal found",
        ),
    ],
)
async def test_unseal_refuses_wrong_input(body: bytes, status: int, error: str) -> None:
    node = FakeNodeView(SEALED)

    answer = await ask(node, "PUT", "sys/unseal", body)

    assert (answer.status, parsed(answer)) == (status, {"errors": [error]})
    assert node.calls == []


async def test_unseal_reset_needs_no_key() -> None:
    node = FakeNodeView(SEALED)

    await ask(node, "POST", "sys/unseal", b'{"reset":true,"key":"!!!"}')

    assert node.calls == ["unseal reset=True"]


async def test_seal_of_the_active_node_asks_for_sudo_first() -> None:
    node = FakeNodeView(ACTIVE)

    answer = await ask(node, "PUT", "sys/seal")

    assert answer.status == 204
    assert node.calls == ["require_sudo sys/seal", "seal"]


async def test_seal_without_sudo_is_refused_and_nothing_is_sealed() -> None:
    node = FakeNodeView(ACTIVE)
    node.sudo_tokens.clear()

    answer = await ask(node, "PUT", "sys/seal")

    assert answer.status == 403
    assert node.calls == ["require_sudo sys/seal"]


@pytest.mark.parametrize(("status", "code"), [(SEALED, 204), (STANDBY, 500)])
async def test_seal_of_another_node_is_answered_here_whoever_asks(
    status: NodeStatus, code: int
) -> None:
    """Goal: a sealed node is sealed already, a standby refuses; neither forwards the request."""
    node = FakeNodeView(status)

    answer = await ask(node, "PUT", "sys/seal")

    assert answer.status == code
    assert node.calls == []


async def test_raft_join_is_refused_in_any_state() -> None:
    answer = await ask(FakeNodeView(UNINITIALIZED), "POST", "sys/storage/raft/join", b"{}")

    assert answer.status == 500
    assert parsed(answer) == {"errors": ["raft backend not in use"]}
