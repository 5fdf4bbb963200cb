"""What a look asks of whom, and what `status` does with it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from tests.support.cli_lab import (
    NO_FORWARDING,
    CommandLine,
    ScriptedServer,
    active_node,
    nodes,
    standby_node,
)


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> CommandLine:
    return CommandLine(monkeypatch, capfdbinary, str(tmp_path))


def paths(node: ScriptedServer) -> list[str]:
    return [seen.path.removeprefix("/v1/sys/") for seen in node.seen]


def test_status_sends_the_active_node_nothing_that_it_would_audit(cli: CommandLine) -> None:
    with nodes(active_node(), standby_node()) as (active, standby):
        assert cli("status", f"-address={active.url},{standby.url}").code == 0
    assert sorted(paths(active)) == ["health", "leader", "seal-status"]
    asked = sorted(paths(standby))
    assert asked == ["ha-status", "ha-status", "ha/live", "health", "leader", "seal-status"]


def test_question_for_the_product_is_never_forwarded(cli: CommandLine) -> None:
    with nodes(active_node(), standby_node()) as (active, standby):
        cli("diagnose", "all", "--address", f"{active.url},{standby.url}")
    asked = [seen for node in (active, standby) for seen in node.seen if "ha/live" in seen.path]
    assert len(asked) == 2
    assert all(NO_FORWARDING in seen.headers for seen in asked)


def test_product_is_asked_once_in_a_run_of_several_rounds(cli: CommandLine) -> None:
    blind = standby_node({"ha_enabled": True, "is_self": False})
    with nodes(active_node(), blind) as (active, standby):
        given = f"{active.url},{standby.url}"
        assert cli("diagnose", "all", "--settle", "300ms", "--address", given).code == 1
    for node in (active, standby):
        assert paths(node).count("seal-status") >= 3
        assert paths(node).count("ha/live") == 1


@pytest.mark.parametrize("command", [("wait", "--for=active"), ("leader",)])
def test_command_that_asks_many_times_asks_no_more_than_roles(
    command: tuple[str, ...], cli: CommandLine
) -> None:
    with nodes(active_node(), standby_node()) as (active, standby):
        cli(*command, f"-address={active.url},{standby.url}")
    for node in (active, standby):
        assert set(paths(node)) == {"health", "leader", "seal-status"}


def test_node_whose_certificate_is_refused_is_down_with_a_hint_and_no_code(
    cli: CommandLine,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with nodes(active_node()) as (active,), ScriptedServer(active_node(), context) as strange:
        ran = cli("status", f"-address={active.url},{strange.url}")
    assert ran.code == 3
    [row] = [line for line in ran.out.splitlines() if "DOWN" in line]
    assert "tls: " in row
    assert "BH-" not in ran.out
    assert ran.out.rstrip().endswith("hint: baoha diagnose tls")
