"""Commands against whatever a server may answer: an exit code and a text, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.cli_lab import CommandLine, ScriptedServer

TOKEN = "s.VerySecretClientToken01"


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> CommandLine:
    return CommandLine(monkeypatch, capfdbinary, str(tmp_path))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("sealed", "initialized", "t", "n", "data", "keys", "errors", "auth", "nodes"),
                    *("leader_address", "is_self", "ha_enabled", "version", "metadata", "config"),
                    *(
                        "servers",
                        "policies",
                        "lease_duration",
                        "server_time_utc",
                        "options",
                        "path",
                    ),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
COMMANDS = [
    ["status"],
    ["status", "--expect=ready"],
    ["status", "-address=http://127.0.0.1:1"],
    ["leader"],
    ["cluster", "members"],
    ["cluster", "topology"],
    ["kv", "get", "secret/a"],
    ["kv", "put", "secret/a", "b=c"],
    ["kv", "metadata", "get", "secret/a"],
    ["kv", "list", "secret"],
    ["read", "a/b"],
    ["write", "a/b", "c=d"],
    ["list", "a/b"],
    ["token", "lookup"],
    ["token", "create"],
    ["policy", "read", "p"],
    ["policy", "list"],
    ["login", "s.abcdef"],
    ["operator", "init"],
    ["operator", "init", "-status"],
    ["operator", "unseal", "abc"],
    ["operator", "members"],
    ["operator", "key-status"],
    ["operator", "rotate"],
    ["operator", "raft", "list-peers"],
    ["step-down", "--dry-run"],
    ["wait", "--for=ready", "--deadline=50ms"],
]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    argv=st.sampled_from(COMMANDS),
    status=st.sampled_from([200, 200, 200, 204, 307, 400, 403, 404, 405, 500, 503, 599]),
    body=json_values | st.binary(max_size=60),
    form=st.sampled_from(["table", "json", "yaml", "tsv", "wide", "ndjson"]),
)
def test_no_answer_of_a_server_makes_a_traceback(
    cli: CommandLine, argv: list[str], status: int, body: object, form: str
) -> None:
    cli.setenv("BAO_TOKEN", TOKEN)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with ScriptedServer(lambda _: (status, content)) as node:
        ran = cli(*argv, f"-address={node.url}", f"-format={form}", "--timeout=2s")
    assert ran.code in {0, 1, 2, 3, 4, 5, 7, 8, 9, 64}, (argv, ran)
    assert "Traceback" not in ran.err
    assert "internal error" not in ran.err
    assert "\x1b" not in ran.out.replace("\\x1b", "")
