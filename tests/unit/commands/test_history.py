"""`cluster history`: what is known is told, what is not is said to be unknown."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from baoha_cli.client.address import parse_address
from baoha_cli.commands.history import tenures
from baoha_cli.survey.nodes import ClusterReport, NodeReport

from tests.support.cli_lab import (
    ACTIVE,
    SEALED,
    STANDBY,
    UNSEALED,
    CommandLine,
    active_node,
    free_port,
    nodes,
    standby_node,
    table,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> CommandLine:
    return CommandLine(monkeypatch, capfdbinary, str(tmp_path))


def report(*leaders: dict[str, object]) -> ClusterReport:
    return ClusterReport(
        tuple(
            NodeReport(
                parse_address(f"http://n{number}:8200"), f"n{number}", seal=UNSEALED, leader=leader
            )
            for number, leader in enumerate(leaders)
        )
    )


def test_leader_is_named_and_the_past_is_said_to_be_unknown(cli: CommandLine) -> None:
    with nodes(active_node(), standby_node()) as (active, standby):
        ran = cli("cluster", "history", "-o", "json", f"-address={active.url},{standby.url}")
        assert all("x-vault-token" not in seen.headers for seen in active.seen + standby.seen)
    data = json.loads(ran.out)
    assert ran.code == 1
    assert data["earlier"] is None
    [known] = data["known"]
    assert known["addr"] == ACTIVE["leader_address"]
    assert known["since"] == ACTIVE["active_time"]
    assert isinstance(known["for_s"], int)
    assert "not known" in ran.err


def test_table_shows_leader_address_since_and_how_long(cli: CommandLine) -> None:
    with nodes(active_node()) as (active,):
        ran = cli("cluster", "history", f"-address={active.url}")
    header, row = ran.out.splitlines()
    assert header.split() == ["LEADER", "ADDRESS", "SINCE", "FOR"]
    assert str(ACTIVE["active_time"]) in row
    assert ran.code == 1


def test_no_reachable_node_is_that_and_not_a_history(cli: CommandLine) -> None:
    ran = cli("cluster", "history", f"-address=http://127.0.0.1:{free_port()}")
    assert ran.code == 5
    assert "no active node is known" in ran.err


def test_sealed_node_has_no_leader(cli: CommandLine) -> None:
    script = table({"/v1/sys/seal-status": (200, SEALED)})
    with nodes(script) as (node,):
        assert cli("cluster", "history", f"-address={node.url}").code == 2


def test_leader_that_was_not_asked_is_known_by_name_only() -> None:
    [known] = tenures(report(dict(STANDBY)), NOW)
    assert known == {
        "node": None,
        "addr": STANDBY["leader_address"],
        "since": None,
        "for_s": None,
    }


def test_two_that_say_they_lead_are_both_told_the_younger_first() -> None:
    old = {**ACTIVE, "active_time": "2026-11-23T10:00:00.5Z", "leader_cluster_address": "https://a"}
    new = {**ACTIVE, "active_time": "2026-11-23T11:59:30.123456789Z"}
    found = tenures(report(dict(old), dict(new)), NOW)
    assert [tenure["node"] for tenure in found] == ["n1", "n0"]
    assert [tenure["for_s"] for tenure in found] == [30, 7200]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", None), ("soon", None), ("2026-11-23T11:00:00", None), ("2026-11-23T13:00:00Z", 0)],
)
def test_time_that_is_none_or_lies_ahead_makes_no_duration(text: str, expected: int | None) -> None:
    [known] = tenures(report({**ACTIVE, "active_time": text}), NOW)
    assert known["for_s"] == expected
