"""
What one client may ask, and every other client is still answered.

Goal: no request holds up the event loop, whatever its bytes: it belongs to the HA lock. Method: a
real node executes each request of a table (every place where a client's text is parsed, converted,
encoded or looked at, at its size limit, valid and wrong) while the watchdog watches; and small
requests of another client, made meanwhile, are all answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio

from baoha.api.app import build_app
from baoha.core.access.policy_rules import ACL_RULES_MAX, BLOCKS_MAX, TEXT_CHARS_MAX
from baoha.node import Node
from tests.support.asgi_client import call
from tests.support.loop_watch import watched_loop
from tests.support.node_lab import Lab, lab

SIZE = 4 * 1024 * 1024  # an eighth of the default limit, to be quick
HEAD = 60_000  # about what a head may have
FORM = ("content-type", "application/x-www-form-urlencoded")
MERGE_PATCH = ("content-type", "application/merge-patch+json")

UNITS = {
    "plain": b"x",
    "less_than": b"<",
    "newline": b"\\n",
    "quote": b'\\"',
    "control": b"\\u0001",
    "line_separator": b"\\u2028",
    "raw_line_separator": "\u2028".encode(),
    "lone_surrogate": b"\\ud800",
    "surrogate_pair": b"\\ud83d\\ude00",
    "emoji": "\U0001f600".encode(),
    "no_utf8": b"\xff",
    "mixed": "<é\u2028".encode(),
}


@dataclass(frozen=True)
class Ask:
    """One request, with another one to prepare it."""

    method: str
    path: str
    body: Callable[[], bytes] = bytes
    headers: tuple[tuple[str, str], ...] = ()
    before: Ask | None = field(default=None)


def filled(start: bytes, unit: bytes, end: bytes) -> Callable[[], bytes]:
    return lambda: start + unit * ((SIZE - len(start) - len(end)) // len(unit)) + end


def policy(text: str) -> Callable[[], bytes]:
    return lambda: json.dumps({"policy": text}).encode()


def repeated(line: str, chars: int = TEXT_CHARS_MAX) -> str:
    return line * (chars // len(line))


def wrong_in_every_line(chars: int) -> str:
    return 'path "a" {\n' + repeated("x=1\n", chars - 20) + "}"


def read_back(path: str, body: Callable[[], bytes]) -> Ask:
    return Ask("GET", path, before=Ask("POST", path, body))


SECRETS = {
    f"{name}_{form}": read_back(path, filled(start, unit, end))
    for name, unit in UNITS.items()
    for form, path, start, end in (
        ("value", "secret/data/x", b'{"data":{"v":"', b'"}}'),
        ("key", "kv/x", b'{"data":{"', b'":1}}'),
    )
} | {
    name: read_back("secret/data/x", partial(bytes.__add__, start, unit * count + end))
    for name, start, unit, end, count in (
        ("numbers", b'{"data":{"v":[', b"1,", b"1]}}", 60_000),
        ("floats", b'{"data":{"v":[', b"1e-7,", b"1]}}", 60_000),
        ("long_numbers", b'{"data":{"v":[', b"1" * 300 + b",", b"1]}}", 20_000),
        ("empty_lists", b'{"data":{"v":[', b"[],", b"1]}}", 60_000),
        ("deep_lists", b'{"data":{"v":[', b"[" * 600 + b"]" * 600 + b",", b"1]}}", 400),
        ("strings", b'{"data":{"v":[', b'"' + b"<" * 8000 + b'",', b'""]}}', 990),
    )
}

BODIES = {
    "spaces": Ask("PUT", "kv/x", filled(b"", b" ", b'{"a":1}')),
    "spaces_behind": Ask("PUT", "kv/x", filled(b'{"a":1}', b" ", b"x")),
    "quotes": Ask("PUT", "kv/x", filled(b"", b'"', b"")),
    "commas": Ask("PUT", "kv/x", filled(b'{"a":[', b"1,", b"")),
    "brackets": Ask("PUT", "kv/x", filled(b"", b"[", b"")),
    "objects": Ask("PUT", "kv/x", filled(b"", b'{"a":', b"")),
    "digits": Ask("PUT", "kv/x", filled(b'{"a":', b"1", b"}")),
    "zeros": Ask("PUT", "kv/x", filled(b'{"a":0.', b"0", b"}")),
    "unterminated": Ask("PUT", "kv/x", filled(b'{"a":"', b"\\n", b"")),
    "documents": Ask("PUT", "kv/x", filled(b"", b"{}\n", b"")),
    "unknown_name": Ask("POST", "secret/data/x", filled(b'{"data":{},"', "é".encode(), b'":1}')),
    "patch": Ask("PATCH", "secret/data/x", filled(b'{"data":{"v":"', b"<", b'"}}'), (MERGE_PATCH,)),
    "subkeys": Ask(
        "GET",
        "secret/subkeys/x",
        before=Ask("POST", "secret/data/x", filled(b'{"data":{"v":"', b"<", b'"}}')),
    ),
    "form_escapes": Ask("POST", "kv/f", filled(b"a=", b"%41", b""), (FORM,)),
    "form_bad_escapes": Ask("POST", "kv/f", filled(b"a=", b"%", b""), (FORM,)),
    "form_no_utf8": Ask("POST", "kv/f", filled(b"a=", b"%ff", b""), (FORM,)),
    "form_fields": Ask("POST", "kv/f", lambda: b"a=1&" * 9999, (FORM,)),
    "form_spaces": Ask("POST", "kv/f", filled(b"", b" ", b"{}"), (FORM,)),
    "unseal": Ask("PUT", "sys/unseal", filled(b'{"key":"', b"a", b'"}')),
    "init": Ask("PUT", "sys/init", filled(b'{"secret_shares":1,"pgp_keys":["', b"!", b'"]}')),
    "step_down": Ask("PUT", "sys/step-down", filled(b'{"to":"', b"a", b'"}')),
}

FIELDS = {
    f"{path}_{name}_{kind}".replace("/", "_"): Ask(
        "POST", path, filled(f'{{{extra}"{name}":{start}'.encode(), unit, f"{end}}}".encode())
    )
    for path, name, extra in (
        ("secret/delete/x", "versions", ""),
        ("secret/metadata/x", "custom_metadata", ""),
        ("secret/metadata/x", "delete_version_after", ""),
        ("sys/capabilities-self", "paths", ""),
        ("sys/policies/acl/p", "ttl", '"policy":"x",'),
        ("sys/policies/acl/p", "expiration", '"policy":"x",'),
        ("sys/policies/acl/p", "cas", '"policy":"x",'),
        ("auth/token/create", "policies", ""),
        ("auth/token/create", "meta", ""),
        ("auth/token/create", "ttl", ""),
        ("auth/token/create", "display_name", ""),
        ("auth/token/create", "num_uses", ""),
        ("auth/token/lookup", "token", ""),
        ("sys/mounts/q", "type", ""),
        ("sys/mounts/q", "description", '"type":"kv",'),
        ("sys/mounts/q", "options", '"type":"kv",'),
        ("sys/rotate/config", "interval", ""),
    )
    for kind, start, unit, end in (
        ("digits", '"', b"1", '"'),
        ("commas", '"', "é,".encode(), '"'),
    )
} | {
    f"{path}_{name}_list".replace("/", "_"): Ask(
        "POST", path, (lambda n: lambda: b'{"%b":[' % n + b"1," * 240_000 + b"1]}")(name.encode())
    )
    for path, name in (
        ("secret/delete/x", "versions"),
        ("sys/capabilities-self", "paths"),
        ("auth/token/create", "policies"),
        ("auth/token/create", "meta"),
    )
}

RULES = "".join(f'path "a/{i}/*" {{capabilities=["read"]}}\n' for i in range(BLOCKS_MAX))
POLICIES = {
    name: Ask("PUT", "sys/policies/acl/p", policy(text))
    for name, text in {
        "a_megabyte_wrong_in_every_line": wrong_in_every_line(1024 * 1024),
        "wrong_in_every_line": wrong_in_every_line(TEXT_CHARS_MAX),
        "most_rules": RULES,
        "too_many_rules": RULES + 'path "b" {}',
        "empty_rules": repeated('path "a" {}\n'),
        "comments": repeated("#\n"),
        "words": repeated("a "),
        "capabilities": 'path "a" {capabilities=[' + repeated('"read",', 65_000) + "]}",
        "wrong_capabilities": 'path "a" {capabilities=[' + repeated('"x",', 65_000) + "]}",
        "parameters": 'path "a" {allowed_parameters={' + repeated('"a"=[]\n', 65_000) + "}}",
        "escapes": 'path "' + repeated("\\n", 65_000) + '" {}',
        "dollars": 'path "' + repeated("$", 65_000) + '" {}',
        "templates": 'path "' + "{{" * 16_000 + "}}" * 16_000 + '" {}',
        "open_comment": "/*" + repeated("*", 65_000),
        "heredoc": "name = <<E\n" + repeated("E \n", 65_000) + "E\n",
        "open_heredoc": repeated("a = <<E\n"),
        "brackets": "a = " + repeated("["),
        "blocks": repeated("a {"),
        "json": '{"path":{' + repeated('"a":{"policy":"read"},', 65_000) + '"a":{}}}',
        "json_wrong": "{" + repeated('"a":1,', 65_000),
    }.items()
}

HEADS = {
    "content_type_spaces": Ask(
        "PATCH", "x", headers=((MERGE_PATCH[0], MERGE_PATCH[1] + " " * HEAD + "x"),)
    ),
    "content_type_parameters": Ask(
        "PATCH", "x", headers=((MERGE_PATCH[0], MERGE_PATCH[1] + ";a=b" * (HEAD // 4) + ";"),)
    ),
    "content_type_quotes": Ask(
        "PATCH", "x", headers=((MERGE_PATCH[0], MERGE_PATCH[1] + ';a="' + "\\a" * (HEAD // 2)),)
    ),
    "index": Ask("GET", "kv/x", headers=(("x-vault-index", "W1td" * (HEAD // 4)),)),
    "wrap_ttl": Ask("GET", "kv/x", headers=(("x-vault-wrap-ttl", "1" * HEAD),)),
    "namespace": Ask("GET", "kv/x", headers=(("x-vault-namespace", "/" * HEAD),)),
    "authorization": Ask("GET", "kv/x", headers=(("authorization", "Bearer" + " " * HEAD),)),
    "cookie": Ask("GET", "kv/x", headers=(("cookie", "a=b;" * (HEAD // 4)),)),
    "forwarded_for": Ask("GET", "kv/x", headers=(("x-forwarded-for", "1," * (HEAD // 2)),)),
    "query_escapes": Ask("GET", "kv/x?" + "%41" * (HEAD // 3)),
    "query_bad_escapes": Ask("GET", "kv/x?" + "%" * HEAD),
    "query_parameters": Ask("GET", "kv/x?" + "a&" * (HEAD // 2)),
    "query_list": Ask("GET", "kv/x?list=" + "a" * HEAD),
    "path_slashes": Ask("GET", "kv/" + "/" * HEAD),
    "path_dots": Ask("GET", "kv/" + "../" * (HEAD // 3)),
    "path_segments": Ask("GET", "secret/data/" + "a/" * (HEAD // 2)),
    "path_escapes": Ask("GET", "kv/" + "%41" * (HEAD // 3)),
}

ASKS = {
    **{f"secret_{name}": ask for name, ask in SECRETS.items()},
    **{f"body_{name}": ask for name, ask in BODIES.items()},
    **{f"field_{name}": ask for name, ask in FIELDS.items()},
    **{f"policy_{name}": ask for name, ask in POLICIES.items()},
    **{f"head_{name}": ask for name, ask in HEADS.items()},
}


async def prepared(here: Lab) -> Node:
    node = await here.active("a")
    await here.call(node, "POST", "sys/mounts/kv", {"type": "kv"})
    await here.call(node, "POST", "secret/data/small", {"data": {"v": "x"}})
    return node


async def make(here: Lab, node: Node, ask: Ask, body: bytes) -> int:
    headers = [("x-vault-token", here.token), *ask.headers]
    answer = await call(build_app(node), ask.method, f"/v1/{ask.path}", body, headers)
    assert answer is not None
    return answer.status


@pytest.mark.parametrize("name", ASKS)
async def test_hostile_request_does_not_hold_up_the_event_loop(name: str) -> None:
    ask = ASKS[name]
    async with lab() as here:
        node = await prepared(here)
        steps = [(step, step.body()) for step in (ask.before, ask) if step is not None]
        answered = 0

        async def others(scope: trio.CancelScope) -> None:
            nonlocal answered
            with scope:
                while True:
                    status, _ = await here.call(node, "GET", "secret/data/small")
                    assert status == 200
                    answered += 1
                    await trio.sleep(0.01)

        async with watched_loop(), trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(others, scope)
            for step, body in steps:
                status = await make(here, node, step, body)
                assert status in (200, 204, 307, 400, 403, 404, 405, 413, 500), status
            await trio.sleep(0.02)
            scope.cancel()
        here.nursery.cancel_scope.cancel()
    assert answered > 0


async def test_token_with_as_many_rules_as_may_be_does_not_hold_up_the_event_loop() -> None:
    async with lab() as here:
        node = await prepared(here)
        count = ACL_RULES_MAX // BLOCKS_MAX
        for number in range(count + 1):
            text = "".join(f'path "+/{number}/{i}" {{policy="read"}}\n' for i in range(BLOCKS_MAX))
            body = {"policy": text}
            assert (await here.call(node, "PUT", f"sys/policies/acl/p{number}", body))[0] == 204
        tokens = []
        for policies in (count, count + 1):
            names = [f"p{number}" for number in range(policies)]
            body = {"policies": names, "no_default_policy": True}
            _, text = await here.call(node, "POST", "auth/token/create", body)
            tokens.append(json.loads(text)["auth"]["client_token"])

        async with watched_loop():
            status, _ = await here.call(node, "GET", "x/9/999", token=tokens[0])
            assert status == 404, "granted, but nothing is mounted there"
            paths = {"paths": [f"y/{number}" for number in range(200)]}
            status, _ = await here.call(
                node, "POST", "sys/capabilities-self", paths, token=tokens[0]
            )
            assert status == 403
            status, text = await here.call(node, "GET", "x/0/0", token=tokens[1])
            assert status == 403
            assert f"more than {ACL_RULES_MAX} path blocks" in text
        here.nursery.cancel_scope.cancel()
