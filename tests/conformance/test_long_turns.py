"""
The longest turn of the event loop that one client can cause.

Goal: about 10 ms, whatever a client with a token sends. Method: a real node executes each request
of a table, at the largest size that is accepted; the processor time of every step is measured. The
bound of the test leaves room for slow machines.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import trio

from baoha.api.app import build_app
from baoha.core.engines.kv2.records import VERSIONS_MAX, Secret, Version
from baoha.node import Node
from tests.support.asgi_client import http_scope
from tests.support.loop_watch import step_clock
from tests.support.node_lab import EPOCH, Lab, lab
from tests.support.planted import plant_mounts, storage_of_mount

STEP_S_MAX = 0.02
CHUNK = 64 * 1024
FIELD = 500 * 1024  # nearly what the fields of a request may have together
MERGE_PATCH = ("content-type", "application/merge-patch+json")
GRANTED = 'capabilities=["create","read","update","patch"]'

Prepare = Callable[[Lab, Node], Awaitable[str]]


@dataclass(frozen=True)
class Ask:
    """One request; ``prepare`` may return another token."""

    method: str
    path: str
    body: Callable[[], bytes] = bytes
    prepare: Prepare | None = None


def sent(value: object) -> Callable[[], bytes]:
    return lambda: json.dumps(value).encode()


def with_policies(*texts: str) -> Prepare:
    async def prepare(here: Lab, node: Node) -> str:
        names = []
        for number, text in enumerate(texts):
            names.append(f"p{number}")
            path = f"sys/policies/acl/p{number}"
            assert (await here.call(node, "PUT", path, {"policy": text}))[0] == 204
        body = {"policies": names, "no_default_policy": True}
        _, answer = await here.call(node, "POST", "auth/token/create", body)
        token: str = json.loads(answer)["auth"]["client_token"]
        return token

    return prepare


def parameters(kind: str, name: str, patterns: list[str]) -> str:
    listed = ",".join(map(json.dumps, patterns))
    return f'path "*" {{ {GRANTED}\n {kind} = {{ "{name}" = [{listed}] }} }}'


def after(method: str, path: str, *bodies: object) -> Prepare:
    async def prepare(here: Lab, node: Node) -> str:
        for body in bodies:
            assert (await here.call(node, method, path, body))[0] in (200, 204)
        return here.token

    return prepare


def mounted(path: str) -> Prepare:
    return after("POST", f"sys/mounts/{path}", {"type": "kv"})


def rules(line: str) -> Prepare:
    """Ten policies of a thousand rules each."""
    return with_policies(
        *(
            "".join(line.format(policy=policy, rule=rule) for rule in range(998))
            + f'path "sys/*" {{ {GRANTED} }}'
            for policy in range(10)
        )
    )


async def with_mounts(here: Lab, node: Node) -> str:
    """Three thousand mounts, as if they had been enabled one by one."""
    await plant_mounts(node, 3000)
    return here.token


async def with_versions(here: Lab, node: Node) -> str:
    """A secret with as many versions as one may have."""
    storage = storage_of_mount(node, "secret/")
    secret = Secret.new(EPOCH)
    for number in range(1, VERSIONS_MAX + 1):
        secret.versions[number] = Version(created_time=secret.created_time)
        await storage.put(f"versions/x/{number}", b"{}")
    secret.current_version = secret.max_versions = VERSIONS_MAX
    await storage.put("metadata/x", secret.to_bytes())
    return here.token


WRITTEN = after("POST", "secret/data/x", {"data": {}})
INNER = [f"*{number:x}z*" for number in range(60)]
MANY_INNER = [f"*{number:x}z*" for number in range(5000)]
MANY_EQUAL = [f"{number:x}z" for number in range(7000)]
WIDE = b'{"data":{"v":[' + b"1," * 240_000 + b"1]}}"
SHALLOW_RULE = 'path "+/{policy}/{rule}" {{ policy="write" }}\n'

ASKS = {
    "body": Ask("PUT", "kv/x", lambda: b'{"v":"' + b"x" * 33_000_000 + b'"}'),
    "parameters_one_long": Ask(
        "PUT",
        "kv/x",
        lambda: b'{"v":"' + b"x" * 15_000_000 + b'"}',
        with_policies(parameters("allowed_parameters", "v", INNER)),
    ),
    "parameters_many": Ask(
        "PUT",
        "kv/x",
        sent({f"k{number}": "x" * 100 for number in range(490)}),
        with_policies(parameters("allowed_parameters", "*", [*MANY_INNER, "x*"])),
    ),
    "parameters_denied": Ask(
        "PUT",
        "kv/x",
        sent({"v": "x" * 100_000}),
        with_policies(parameters("denied_parameters", "v", MANY_INNER)),
    ),
    "parameters_equal": Ask(
        "PUT",
        "kv/x",
        sent({f"k{number}": "x" for number in range(490)}),
        with_policies(parameters("allowed_parameters", "*", MANY_EQUAL)),
    ),
    "parameters_long_name": Ask(
        "PUT",
        "kv/x",
        lambda: ('{"' + "É" * 10_000_000 + '":1}').encode(),
        with_policies(parameters("denied_parameters", "v", MANY_EQUAL)),
    ),
    "rules_deep": Ask(
        "POST",
        "secret/data/" + "a/" * 4000 + "c",
        sent({"data": {}}),
        with_policies(
            *("".join(f'path "{"+/" * 3000}{p}{i}" {{}}\n' for i in range(10)) for p in range(40))
        ),
    ),
    "rules_of_a_write": Ask(
        "POST", "secret/data/a/b", sent({"data": {}}), rules(SHALLOW_RULE)
    ),
    "rules_of_a_listing": Ask("LIST", "secret/metadata/a/b", prepare=rules(SHALLOW_RULE)),
    "rules_shown": Ask("GET", "sys/internal/ui/resultant-acl", prepare=rules(SHALLOW_RULE)),
    "rules_of_mounts": Ask("GET", "sys/internal/ui/mounts", prepare=rules(SHALLOW_RULE)),
    "capabilities": Ask(
        "POST",
        "sys/capabilities-self",
        sent({"paths": [f"x/{number}" for number in range(100)]}),
        rules(SHALLOW_RULE),
    ),
    "data_list": Ask("POST", "secret/data/x", lambda: b'{"data":[' + b"{}," * 240_000 + b"{}]}"),
    "data_lists": Ask(
        "POST",
        "secret/data/x",
        lambda: b'{"data":[' + b"[" * 600 + b"{}," * 200_000 + b"{}" + b"]" * 600 + b"]}",
    ),
    "options_list": Ask("POST", "secret/data/x", sent({"data": {}, "options": [{}] * 9900})),
    "data_numbers": Ask("POST", "secret/data/x", lambda: WIDE),
    "patch_of_numbers": Ask("PATCH", "secret/data/x", lambda: WIDE, WRITTEN),
    "versions_repeated": Ask(
        "POST",
        "secret/delete/x",
        sent({"versions": [1] * 9900}),
        WRITTEN,
    ),
    "display_name": Ask("POST", "auth/token/create", sent({"display_name": "!a" * (FIELD // 2)})),
    "meta": Ask("POST", "auth/token/create", sent({"meta": {"a": "<" * FIELD}})),
    "mount_lists": Ask(
        "POST",
        "sys/mounts/q",
        sent({"type": "kv", "config": {"audit_non_hmac_request_keys": "a," * (FIELD // 2)}}),
    ),
    "mount_tuned_lists": Ask(
        "POST", "sys/mounts/kv/tune", sent({"audit_non_hmac_request_keys": "a," * 9900})
    ),
    "mount_error": Ask(
        "POST", "sys/mounts/kv/tune", sent({"listing_visibility": "<" * FIELD})
    ),
    "custom_metadata_error": Ask(
        "POST", "secret/metadata/x", sent({"custom_metadata": {"<" * FIELD: "x"}})
    ),
    "query": Ask(
        "GET", "secret/metadata/?list=true&" + "&".join(["a%41%42%43" * 5 + "=1"] * 990)
    ),
    "query_names": Ask(
        "GET", "secret/metadata/?list=true&" + "&".join(f"{i}%41%42" * 5 for i in range(990))
    ),
    "mount_of_many_segments": Ask(
        "GET", "x/" + "a/" * 29_000, prepare=mounted("b/" * 500 + "q")
    ),
    "mount_among_many": Ask("POST", "sys/mounts/q", sent({"type": "kv"}), with_mounts),
    "mounts_listed": Ask("GET", "sys/mounts", prepare=with_mounts),
    "mounts_shown": Ask("GET", "sys/internal/ui/mounts", prepare=with_mounts),
    "versions_read": Ask("GET", "secret/data/x", prepare=with_versions),
    "versions_written": Ask("POST", "secret/data/x", sent({"data": {}}), with_versions),
    "versions_deleted": Ask(
        "POST", "secret/delete/x", sent({"versions": [*range(1, 9900)]}), with_versions
    ),
    "versions_destroyed": Ask(
        "POST", "secret/destroy/x", sent({"versions": [*range(1, 9900)]}), with_versions
    ),
    "versions_shown": Ask("GET", "secret/metadata/x", prepare=with_versions),
    "versions_tuned": Ask(
        "POST", "secret/metadata/x", sent({"custom_metadata": {"a": "b"}}), with_versions
    ),
    "versions_removed": Ask("DELETE", "secret/metadata/x", prepare=with_versions),
    "path_escapes": Ask("GET", "nowhere/" + "%3c" * 20_000),
    "path_no_utf8": Ask("GET", "kv/" + "%ff" * 20_000),
}  # fmt: skip


async def make(node: Node, token: str, ask: Ask, body: bytes) -> int:
    """Make the request as a listener hands it over: in pieces. Returns the status."""
    scope = http_scope(ask.method, f"/v1/{ask.path}", [("x-vault-token", token), MERGE_PATCH])
    pieces = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
    started: dict[str, int] = {}

    async def receive() -> dict[str, object]:
        await trio.lowlevel.checkpoint()
        if started:
            await trio.sleep_forever()
        piece = pieces.pop(0) if pieces else b""
        if not pieces:
            started["status"] = 0
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message: dict[str, int]) -> None:
        await trio.lowlevel.checkpoint()
        started.update(message)

    await trio.lowlevel.checkpoint()  # a step is measured from its beginning
    await build_app(node)(scope, receive, send)  # type: ignore[arg-type]
    return started["status"]


@pytest.mark.parametrize("name", ASKS)
async def test_request_at_its_largest_takes_no_long_turn(name: str) -> None:
    ask = ASKS[name]
    async with lab() as here:
        node = await here.active("a")
        await here.call(node, "POST", "sys/mounts/kv", {"type": "kv"})
        token = here.token if ask.prepare is None else await ask.prepare(here, node)
        body = ask.body()
        with step_clock() as clock:
            status = await make(node, token, ask, body)
        here.nursery.cancel_scope.cancel()
    assert status in (200, 204, 400, 403, 404, 503), status
    assert clock.longest_s < STEP_S_MAX
