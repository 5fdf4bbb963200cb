"""Commands against scripted nodes: what is printed, the exit codes, and where secrets go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.support.cli_lab import (
    ACTIVE,
    SEALED,
    STANDBY,
    UNINITIALIZED,
    UNSEALED,
    CommandLine,
    Reply,
    Script,
    ScriptedServer,
    Seen,
    active_node,
    free_port,
    nodes,
    standby_node,
    table,
)

TOKEN = "s.VerySecretClientToken01"


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> CommandLine:
    return CommandLine(monkeypatch, capfdbinary, str(tmp_path))


def state(seal: dict[str, object], leader: Reply) -> Script:
    return table({"/v1/sys/seal-status": (200, seal), "/v1/sys/leader": leader})


REFUSED: Reply = (503, {"errors": ["Vault is sealed"]})

SEALED_TABLE = """\
Key                Value
---                -----
Seal Type          shamir
Initialized        true
Sealed             true
Total Shares       5
Threshold          3
Unseal Progress    1/3
Unseal Nonce       60718715-c280-c639-ba30-7f4b8668c02b
Version            2.7.2
Commit Date        2026-10-26T20:32:27Z
Storage Type       postgresql
HA Enabled         true
"""
ACTIVE_TABLE = """\
Key             Value
---             -----
Seal Type       shamir
Initialized     true
Sealed          false
Total Shares    5
Threshold       3
Version         2.7.2
Commit Date     2026-10-26T20:32:27Z
Storage Type    postgresql
Cluster Name    vault-cluster-b8eca7de
Cluster ID      6cae3856-de5e-9f8f-e7e1-3d4313dd68dc
HA Enabled      true
HA Cluster      https://127.0.0.1:20201
HA Mode         active
Active Since    2026-11-23T10:52:53.001486236Z
"""
STANDBY_TABLE = """\
Key                    Value
---                    -----
Seal Type              shamir
Initialized            true
Sealed                 false
Total Shares           5
Threshold              3
Version                2.7.2
Commit Date            2026-10-26T20:32:27Z
Storage Type           postgresql
Cluster Name           vault-cluster-b8eca7de
Cluster ID             6cae3856-de5e-9f8f-e7e1-3d4313dd68dc
HA Enabled             true
HA Cluster             https://127.0.0.1:20201
HA Mode                standby
Active Node Address    http://127.0.0.1:20200
"""


# --- status of one node: the recorded tables ----------------------------------------------------


@pytest.mark.parametrize(
    ("seal", "leader", "expected", "code"),
    [
        (SEALED, REFUSED, SEALED_TABLE, 2),
        (UNSEALED, (200, ACTIVE), ACTIVE_TABLE, 0),
        (UNSEALED, (200, STANDBY), STANDBY_TABLE, 0),
    ],
    ids=["sealed", "active", "standby"],
)
def test_status_of_one_node_is_the_recorded_table(
    cli: CommandLine, seal: dict[str, object], leader: Reply, expected: str, code: int
) -> None:
    with ScriptedServer(state(seal, leader)) as node:
        ran = cli("status", f"-address={node.url}")
    assert (ran.code, ran.out, ran.err) == (code, expected, "")


@pytest.mark.parametrize(
    ("seal", "leader", "bao", "detailed", "nagios"),
    [
        (UNINITIALIZED, REFUSED, 2, 4, 2),
        (SEALED, REFUSED, 2, 2, 2),
        (UNSEALED, (200, ACTIVE), 0, 0, 0),
        (UNSEALED, (200, {"ha_enabled": True, "is_self": False}), 0, 3, 1),
        (UNSEALED, (200, {"ha_enabled": False}), 0, 0, 0),
    ],
    ids=["uninitialised", "sealed", "active", "no leader", "no HA"],
)
def test_status_exit_code_depends_on_state_and_profile(
    cli: CommandLine, seal: dict[str, object], leader: Reply, bao: int, detailed: int, nagios: int
) -> None:
    with ScriptedServer(state(seal, leader)) as node:
        codes = [
            cli("status", f"-address={node.url}", f"--exit-codes={profile}").code
            for profile in ("bao", "detailed", "nagios")
        ]
    assert codes == [bao, detailed, nagios]


def test_status_of_dead_server_is_one_in_the_words_of_bao(cli: CommandLine) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    ran = cli("status", f"-address={url}")
    assert (ran.code, ran.out) == (1, "")
    address = url.removeprefix("http://")
    assert ran.err == (
        f'Error checking seal status: Get "{url}/v1/sys/seal-status": '
        f"dial tcp {address}: connect: connection refused\n"
    )
    assert cli("status", f"-address={url}", "--exit-codes=detailed").code == 5


def test_status_never_sends_the_token(cli: CommandLine) -> None:
    cli.setenv("BAO_TOKEN", TOKEN)
    with nodes(active_node(), standby_node()) as (one, two):
        cli("status", f"-address={one.url}")
        cli("status", f"-address={one.url},{two.url}", "--expect=ready")
        cli("wait", "--for=ready", f"-address={one.url},{two.url}", "--deadline=2s")
        cli("leader", f"-address={one.url}")
        cli("cluster", "topology", f"-address={one.url},{two.url}")
        for request in (*one.seen, *two.seen):
            assert "x-vault-token" not in request.headers


# --- formats ------------------------------------------------------------------------------------


def test_status_as_json_has_schema_and_the_fields_of_bao(cli: CommandLine) -> None:
    with ScriptedServer(state(UNSEALED, (200, STANDBY))) as node:
        ran = cli("status", f"-address={node.url}", "-format=json")
    data = json.loads(ran.out)
    assert data.pop("schema") == "baoha.seal-status/v1"
    assert list(data) == [
        *("type", "initialized", "sealed", "t", "n", "progress", "nonce", "version"),
        *("commit_date", "migration", "cluster_name", "cluster_id", "recovery_seal"),
        *("storage_type", "build_date", "ha_enabled", "leader_address", "leader_cluster_address"),
    ]


def test_status_in_every_format_says_the_same(cli: CommandLine) -> None:
    with ScriptedServer(state(SEALED, REFUSED)) as node:
        address = f"-address={node.url}"
        data = json.loads(cli("status", address, "-o", "json").out)
        assert yaml.safe_load(cli("status", address, "-o", "yaml").out) == data
        assert json.loads(cli("status", address, "-o", "ndjson").out) == data
        assert "sealed\ttrue\n" in cli("status", address, "-o", "tsv").out
        assert cli("status", address, "-o", "wide").out == SEALED_TABLE
        assert cli("status", address, "-o", "field=nonce").out == f"{SEALED['nonce']}\n"
        assert cli("status", address, "-field=nonce").out == SEALED["nonce"]
        missing = cli("status", address, "-field=nope")
        assert (missing.code, missing.out) == (1, "")
        assert missing.err == 'Field "nope" not present in seal status\n'
        assert cli("status", address, "-o", "name").code == 64
        quiet = cli("status", address, "-q")
        assert (quiet.code, quiet.out) == (2, "")


def test_colour_is_only_added_where_it_is_wanted(cli: CommandLine) -> None:
    with nodes(active_node(), standby_node()) as (one, two):
        address = f"-address={one.url},{two.url}"
        plain = cli("status", address).out
        painted = cli("status", address, "--color=always").out
        assert "\x1b[" not in plain
        assert "\x1b[32mactive\x1b[0m" in painted
        cli.setenv("FORCE_COLOR", "1")
        assert "\x1b[" in cli("status", address).out
        cli.setenv("NO_COLOR", "1")
        assert "\x1b[" not in cli("status", address).out


# --- status of several nodes --------------------------------------------------------------------


@pytest.fixture
def cluster() -> Iterator[list[ScriptedServer]]:
    with nodes(active_node(), standby_node(), standby_node()) as opened:
        yield opened


def addresses(opened: list[ScriptedServer]) -> str:
    return "-address=" + ",".join(node.url for node in opened)


def test_status_of_healthy_cluster_is_a_table_and_zero(
    cli: CommandLine, cluster: list[ScriptedServer]
) -> None:
    ran = cli("status", addresses(cluster))
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert lines[0].split() == (
        ["NODE", "STATE", "ROLE", "LEADER", "SEEN", "LINK", "VERSION", "SKEW", "TOOK", "NOTE"]
    )
    assert lines[1].split()[1:3] == ["unsealed", "active"]
    assert lines[2].split()[1:3] == ["unsealed", "standby"]
    assert "forward" in lines[2]
    assert "1 active, 2 standby, 0 sealed, 0 down" in lines[4]
    assert lines[4].endswith("OK")


def test_status_of_cluster_as_json_is_one_document(
    cli: CommandLine, cluster: list[ScriptedServer]
) -> None:
    data = json.loads(cli("status", addresses(cluster), "-o", "json").out)
    assert data["schema"] == "baoha.status/v1"
    assert data["cluster"]["verdict"] == "ok"
    assert [node["role"] for node in data["nodes"]] == ["active", "standby", "standby"]
    assert [node["standby_link"] for node in data["nodes"]] == ["self", "forward", "forward"]
    assert data["findings"] == []


def test_status_with_dead_blind_and_redirecting_nodes_is_degraded(cli: CommandLine) -> None:
    blind = standby_node({"ha_enabled": True, "is_self": False})
    with nodes(active_node(), blind, standby_node(forwards=False)) as opened:
        given = f"{addresses(opened)},http://127.0.0.1:{free_port()}"
        ran = cli("status", given)
        data = json.loads(cli("status", given, "-o", "json").out)
    assert ran.code == 3
    assert "DEGRADED" in ran.out
    assert "hint: baoha explain BH-" in ran.out
    assert {item["code"] for item in data["findings"]} == {"BH-205", "BH-304", "BH-401"}
    assert data["nodes"][3]["error"]["kind"] == "refused"


def test_status_expectations_decide_the_exit_code(
    cli: CommandLine, cluster: list[ScriptedServer]
) -> None:
    given = addresses(cluster)
    assert cli("status", given, "--expect=one-leader,forwarding,nodes=3").code == 0
    failed = cli("status", given, "--expect=nodes=2")
    assert failed.code == 3
    assert "expected nodes=2: 3 nodes answer" in failed.err
    assert cli("status", given, "--expect=nodes=2", "--exit-zero").code == 0


def test_status_of_nodes_that_all_hang_asks_them_at_the_same_time(cli: CommandLine) -> None:
    import socket
    import time

    def took_s(nodes: int) -> float:
        with ExitStack() as stack:
            urls = [
                f"http://127.0.0.1:{listener.getsockname()[1]}"
                for listener in (
                    stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                    for _ in range(nodes)
                )
            ]
            began = time.monotonic()
            assert cli("status", "-address=" + ",".join(urls), "--timeout=500ms").code == 5
            return time.monotonic() - began

    # One after the other they would take six times as long as two.
    assert took_s(12) < 3 * took_s(2)


def test_address_list_can_come_from_the_environment_in_order_of_precedence(
    cli: CommandLine, cluster: list[ScriptedServer]
) -> None:
    cli.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    cli.setenv("BAO_ADDR", "http://127.0.0.1:2")
    cli.setenv("BAOHA_ADDR", ",".join(node.url for node in cluster))
    ran = cli("status", "-v")
    assert ran.code == 0
    assert "address from BAOHA_ADDR" in ran.err


# --- the token ----------------------------------------------------------------------------------


def test_token_is_found_in_the_order_flag_environment_file(
    cli: CommandLine, tmp_path: Path
) -> None:
    file = tmp_path / ".vault-token"
    file.write_text("s.fromfile\n")
    file.chmod(0o600)
    other = tmp_path / "other"
    other.write_text("s.fromflag")
    with ScriptedServer(active_node(**{"auth__token__lookup-self": (200, {"data": {}})})) as node:
        cli("token", "lookup", f"-address={node.url}")
        cli.setenv("VAULT_TOKEN", "s.fromvault")
        cli("token", "lookup", f"-address={node.url}")
        cli.setenv("BAO_TOKEN", "s.frombao")
        cli("token", "lookup", f"-address={node.url}")
        cli("token", "lookup", f"-address={node.url}", f"--token-file={other}")
        sent = [seen.headers.get("x-vault-token") for seen in node.seen]
    assert sent == ["s.fromfile", "s.fromvault", "s.frombao", "s.fromflag"]


def test_token_file_that_others_can_read_is_warned_about(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / ".vault-token"
    file.write_text("s.fromfile")
    file.chmod(0o644)
    with ScriptedServer(active_node(**{"auth__token__lookup-self": (200, {"data": {}})})) as node:
        ran = cli("token", "lookup", f"-address={node.url}")
    assert "others on this machine can read" in ran.err


@pytest.mark.parametrize("follow", [(), ("--follow-redirects",)], ids=["default", "follow"])
@pytest.mark.parametrize("location", ["{target}/v1/secret/x", "http://name.invalid/v1/x", "x", ""])
def test_token_and_data_never_go_to_a_redirect_target_that_was_not_given(
    cli: CommandLine, follow: tuple[str, ...], location: str
) -> None:
    cli.setenv("BAO_TOKEN", TOKEN)
    with ScriptedServer(lambda _: (200, {"data": {"a": "b"}})) as target:
        reply: Reply = (307, b"", {"Location": location.format(target=target.url)})
        with ScriptedServer(lambda _: reply) as node:
            ran = cli("write", f"-address={node.url}", *follow, "secret/x", "a=confidential")
        assert target.seen == []
    assert ran.code == 2
    assert TOKEN not in ran.out + ran.err


def test_redirect_to_a_given_address_is_followed_when_asked(cli: CommandLine) -> None:
    cli.setenv("BAO_TOKEN", TOKEN)
    with ScriptedServer(lambda _: (200, {"data": {"a": "b"}})) as target:
        reply: Reply = (307, b"", {"Location": f"{target.url}/v1/secret/x?n=1"})
        with ScriptedServer(lambda _: reply) as node:
            given = ["read", f"-address={node.url}", f"-address={target.url}", "secret/x"]
            refused = cli(*given)
            followed = cli(*given, "--follow-redirects")
        assert [seen.path for seen in target.seen] == ["/v1/secret/x?n=1"]
    assert (refused.code, followed.code) == (2, 0)
    assert "--follow-redirects" in refused.err


def test_redirect_in_a_circle_ends(cli: CommandLine) -> None:
    box: list[str] = []
    with ScriptedServer(lambda _: (307, b"", {"Location": f"{box[0]}/v1/secret/x"})) as node:
        box.append(node.url)
        ran = cli("read", f"-address={node.url}", "secret/x", "--follow-redirects")
    assert ran.code == 2
    assert "circle" in ran.err


def test_token_that_a_server_echoes_is_blanked_out_of_errors(cli: CommandLine) -> None:
    cli.setenv("BAO_TOKEN", TOKEN)

    def echo(request: Seen) -> Reply:
        return (400, {"errors": [f"bad token {request.headers.get('x-vault-token')}"]})

    with ScriptedServer(echo) as node:
        for argv in (["read", "a/b"], ["kv", "get", "a/b"], ["operator", "seal"]):
            ran = cli(*argv, f"-address={node.url}", "-v", "--debug")
            assert ran.code == 2
            assert TOKEN not in ran.out + ran.err
            assert "<token>" in ran.err


def test_curl_string_masks_the_token_and_sends_nothing(cli: CommandLine) -> None:
    cli.setenv("BAO_TOKEN", TOKEN)
    with ScriptedServer(active_node()) as node:
        ran = cli("write", f"-address={node.url}", "-output-curl-string", "cubbyhole/x", "a=b'c")
        assert node.seen == []
    assert ran.code == 0
    assert TOKEN not in ran.out
    assert ran.out == (
        'curl -X PUT -H "X-Vault-Request: true" -H "X-Vault-Token: $(bao print token)" '
        f'-d \'{{"a": "b\'\\\'\'c"}}\' "{node.url}/v1/cubbyhole/x"\n'
    )


def test_curl_string_has_the_headers_that_decide_what_happens(cli: CommandLine) -> None:
    """Goal: what is printed does what the command would have done, in the same namespace."""
    mounts = (200, {"data": {"path": "secret/", "options": {"version": "2"}}})
    with ScriptedServer(lambda _: mounts) as node:
        flags = [
            f"-address={node.url}",
            "-namespace=team",
            "-header=X-Org=it's",
            "-output-curl-string",
        ]
        patched = cli("kv", "patch", *flags, "secret/x", "a=b").out
        wrapped = cli("read", *flags, "-wrap-ttl=1m", "secret/data/x").out
    assert "-H 'Content-Type: application/merge-patch+json'" in patched
    assert "-H 'X-Vault-Wrap-TTL: 1m'" in wrapped
    for line in (patched, wrapped):
        assert "-H 'X-Vault-Namespace: team'" in line
        assert "-H 'X-Org: it'\\''s'" in line


@pytest.mark.parametrize(
    "argv",
    [
        ["status"],
        ["status", "--exit-codes=detailed"],
        ["operator", "init", "-status"],
        ["operator", "init"],
        ["operator", "seal"],
        ["token", "lookup"],
        ["write", "secret/x", "a=b"],
    ],
)
@pytest.mark.parametrize("body", [b"<html>Please log in</html>", b"[]", b'"ok"'])
def test_success_of_something_else_is_no_success(
    cli: CommandLine, argv: list[str], body: bytes
) -> None:
    """Goal: a login page in front of the server reads neither as sealed nor as done."""
    cli.setenv("BAO_TOKEN", TOKEN)
    with ScriptedServer(lambda _: (200, body)) as node:
        ran = cli(*argv, f"-address={node.url}")
    assert ran.out == ""
    assert ran.code == (1 if "status" in argv[-1] or argv[0] == "status" else 2)


@pytest.mark.parametrize(
    "argv", [["status"], ["operator", "init", "-status"], ["operator", "init"]]
)
def test_answer_that_does_not_tell_is_an_error(cli: CommandLine, argv: list[str]) -> None:
    with ScriptedServer(lambda _: (200, {})) as node:
        ran = cli(*argv, f"-address={node.url}")
    assert ran.out == ""
    assert ran.code == (2 if argv[-1] == "init" else 1)


def test_path_that_is_no_text_names_no_other_path(cli: CommandLine) -> None:
    """Goal: a delete with a stray byte does not hit the key that a "?" would name."""
    with ScriptedServer(lambda _: (204, b"")) as node:
        assert cli("delete", f"-address={node.url}", "secret/\udcff", "k=\udcfe").code == 0
        assert cli("delete", f"-address={node.url}", "secret/\ud800").code == 0
    assert [seen.path for seen in node.seen] == ["/v1/secret/%FF?k=%FE", "/v1/secret/%3F"]


def test_headers_of_the_operator_go_to_given_addresses_only(cli: CommandLine) -> None:
    """Goal: an address that a server names gets no secret, be it called token or header."""
    cli.setenv("BAO_TOKEN", TOKEN)
    with ScriptedServer(active_node()) as named:
        listed = (200, {"nodes": [{"api_address": named.url}]})
        with ScriptedServer(active_node(sys__ha_status=listed)) as given:
            script = given.script
            given.script = lambda seen: listed if "ha-status" in seen.path else script(seen)
            cli(
                "status",
                f"-address={given.url}",
                "--discover=ha-status",
                "-header=Authorization=Bearer confidential",
            )
        assert any("authorization" in seen.headers for seen in given.seen)
    assert named.seen
    for seen in named.seen:
        assert "authorization" not in seen.headers
        assert "x-vault-token" not in seen.headers


@pytest.mark.parametrize("token", ["s.\x1b[2J", "s.\u20ac", "a b"])
def test_login_with_a_token_that_is_none_keeps_and_prints_nothing(
    cli: CommandLine, token: str, tmp_path: Path
) -> None:
    with ScriptedServer(lambda _: (200, {"auth": {"client_token": token}})) as node:
        argv = ["login", f"-address={node.url}", "-method=userpass", "username=a", "password=b"]
        for flag in ("-no-print", "-token-only"):
            ran = cli(*argv, flag)
            assert (ran.code, ran.out) == (1, "")
            assert "characters that a token cannot have" in ran.err
    assert not list(tmp_path.iterdir())


def test_control_characters_of_a_server_never_reach_the_terminal(cli: CommandLine) -> None:
    evil = "\x1b[2J\x07\u202eevil"
    seal = {**UNSEALED, "version": evil, "cluster_name": evil}
    with ScriptedServer(state(seal, (200, {**STANDBY, "leader_address": evil}))) as node:
        outputs = [
            cli("status", f"-address={node.url}"),
            cli("status", f"-address={node.url}", "-v"),
        ]
        outputs.append(cli("status", f"-address={node.url},http://127.0.0.1:1"))
    with ScriptedServer(lambda _: (400, {"errors": [evil]})) as node:
        outputs.append(cli("read", "x/y", f"-address={node.url}"))
    for ran in outputs:
        assert "\x1b" not in ran.out + ran.err
        assert "\u202e" not in ran.out + ran.err


def test_call_goes_to_the_next_address_only_if_nothing_was_sent(cli: CommandLine) -> None:
    with ScriptedServer(lambda _: (200, {"data": {"a": "b"}})) as node:
        dead = f"http://127.0.0.1:{free_port()}"
        assert cli("read", f"-address={dead},{node.url}", "x/y").code == 0
        with ScriptedServer(lambda _: b"") as cutting:
            before = len(node.seen)
            ran = cli("write", f"-address={cutting.url},{node.url}", "x/y", "a=b")
            assert ran.code == 2
            assert len(node.seen) == before
