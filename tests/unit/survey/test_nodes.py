"""Conclusions about a cluster: roles, findings, conditions, the two-probe table."""

from __future__ import annotations

import pytest
from baoha_cli.client.address import Endpoint
from baoha_cli.failures import ErrorKind, UsageFailed
from baoha_cli.survey.conditions import MEANINGS, check, parse_condition, parse_conditions
from baoha_cli.survey.nodes import ClusterReport, Link, NodeReport, Role
from baoha_cli.survey.round import link_of

SEAL = {"initialized": True, "sealed": False, "version": "2.7.2", "cluster_id": "c1"}


def endpoint(name: str) -> Endpoint:
    return Endpoint("https", name, 8200)


def active(name: str, *, since: str = "2026-01-01T00:00:00Z") -> NodeReport:
    leader: dict[str, object] = {
        "ha_enabled": True,
        "is_self": True,
        "active_time": since,
        "leader_address": f"https://{name}:8200",
        "leader_cluster_address": f"https://{name}:8201",
    }
    return NodeReport(endpoint(name), name, seal=dict(SEAL), leader=leader, ha_enabled=True)


def standby(name: str, of: str, *, link: Link = Link.FORWARD, version: str = "2.7.2") -> NodeReport:
    leader: dict[str, object] = {"ha_enabled": True, "is_self": False}
    if of:
        leader["leader_address"] = f"https://{of}:8200"
        leader["leader_cluster_address"] = f"https://{of}:8201"
    seal = {**SEAL, "version": version}
    return NodeReport(endpoint(name), name, seal=seal, leader=leader, ha_enabled=True, link=link)


def sealed(name: str) -> NodeReport:
    seal: dict[str, object] = {"initialized": True, "sealed": True, "version": "2.7.2"}
    return NodeReport(endpoint(name), name, seal=seal, ha_enabled=True)


def down(name: str) -> NodeReport:
    return NodeReport(endpoint(name), name, error_kind=ErrorKind.REFUSED, error="refused")


def report(*nodes: NodeReport) -> ClusterReport:
    return ClusterReport(nodes)


HEALTHY = report(active("a"), standby("b", "a"), standby("c", "a"))

CASES = {
    "healthy": (HEALTHY, []),
    "blind standby": (report(active("a"), standby("b", "a"), standby("c", "")), ["BH-304"]),
    "nobody leads": (report(standby("a", ""), standby("b", "")), ["BH-301"]),
    "two active": (
        report(active("a"), active("b"), standby("c", "a")),
        ["BH-302", "BH-305"],
    ),
    "named leader is down": (
        report(down("a"), standby("b", "a"), standby("c", "a")),
        ["BH-301", "BH-306", "BH-306", "BH-316"],
    ),
    "leader is not among the nodes asked": (report(standby("b", "a"), standby("c", "a")), []),
    "different leaders": (
        report(active("a"), standby("b", "a"), standby("c", "x")),
        ["BH-305"],
    ),
    "redirects": (
        report(active("a"), standby("b", "a", link=Link.REDIRECT), standby("c", "a")),
        ["BH-401"],
    ),
    "hangs": (
        report(active("a"), standby("b", "a", link=Link.HANGS), standby("c", "a")),
        ["BH-402"],
    ),
    "one sealed": (report(active("a"), standby("b", "a"), sealed("c")), ["BH-316"]),
    "nobody to take over": (report(active("a"), sealed("b")), ["BH-316", "BH-315"]),
    "mixed versions": (
        report(active("a"), standby("b", "a", version="2.7.1"), standby("c", "a")),
        ["BH-903"],
    ),
    "single node": (report(active("a")), []),
    "single standby": (report(standby("b", "a")), []),
}


@pytest.mark.parametrize("name", CASES)
def test_findings_of_cluster_name_the_fault_and_only_it(name: str) -> None:
    cluster, codes = CASES[name]
    assert sorted(item.code.id for item in cluster.findings) == sorted(codes)


def test_finding_of_blind_standby_names_the_node() -> None:
    cluster = report(active("a"), standby("b", "a"), standby("c", ""))
    assert [item.node for item in cluster.findings] == ["c"]


@pytest.mark.parametrize(
    ("plain", "bare", "link"),
    [
        (403, 307, Link.FORWARD),
        (307, 307, Link.REDIRECT),
        (403, 403, Link.UNKNOWN),  # the header was removed on the way
        (500, 500, Link.NONE),
        (503, 503, Link.NONE),
        (0, 307, Link.HANGS),
        (404, 404, Link.UNKNOWN),
        (200, 200, Link.UNKNOWN),
        (-1, -1, Link.UNKNOWN),
    ],
)
def test_link_of_two_probes_follows_the_measured_table(plain: int, bare: int, link: Link) -> None:
    assert link_of(plain, bare) is link


def test_role_of_node_without_ha_is_active() -> None:
    node = NodeReport(
        endpoint("a"), "a", seal=dict(SEAL), leader={"ha_enabled": False}, ha_enabled=False
    )
    assert node.role is Role.ACTIVE


@pytest.mark.parametrize(
    ("text", "cluster", "holds"),
    [
        ("one-leader", HEALTHY, True),
        ("one-leader", CASES["blind standby"][0], False),
        ("one-leader", CASES["two active"][0], False),
        ("forwarding", HEALTHY, True),
        ("forwarding", CASES["redirects"][0], False),
        ("ready", HEALTHY, True),
        ("ready", CASES["one sealed"][0], False),
        ("ready", CASES["named leader is down"][0], False),
        ("ready", CASES["single standby"][0], True),
        ("nodes=3", HEALTHY, True),
        ("nodes=2", HEALTHY, False),
        ("same-version", CASES["mixed versions"][0], False),
        ("version=2.7.2", HEALTHY, True),
        ("unsealed", CASES["one sealed"][0], True),
        ("all-unsealed", CASES["one sealed"][0], False),
        ("initialized", HEALTHY, True),
        ("active", CASES["nobody leads"][0], False),
        ("standby", HEALTHY, True),
        ("leader=a", HEALTHY, True),
        ("leader=https://a:8200", HEALTHY, True),
        ("leader=b", HEALTHY, False),
        ("leader-changed", HEALTHY, False),
        ("leader-changed=b", HEALTHY, True),
    ],
)
def test_condition_on_cluster_holds_as_described(
    text: str, cluster: ClusterReport, holds: bool
) -> None:
    outcome = check(parse_condition(text), cluster, cluster)
    assert outcome.holds is holds
    assert bool(outcome.missing) is not holds


def test_condition_leader_changed_sees_a_new_tenure_of_the_same_node() -> None:
    later = report(active("a", since="2026-01-01T00:00:09Z"), standby("b", "a"))
    assert check(parse_condition("leader-changed"), later, HEALTHY).holds


@pytest.mark.parametrize("text", ["leader=z", "nodes=9", "standby"])
def test_condition_that_can_never_hold_is_final(text: str) -> None:
    lonely = NodeReport(
        endpoint("a"), "a", seal=dict(SEAL), leader={"ha_enabled": False}, ha_enabled=False
    )
    assert check(parse_condition(text), report(lonely), report(lonely)).is_final


@pytest.mark.parametrize(
    "text", ["", "bogus", "nodes", "nodes=x", "ready=1", "leader=", "=", "nodes=-1", "version"]
)
def test_condition_that_is_malformed_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageFailed):
        parse_condition(text)


def test_conditions_are_read_from_comma_lists_too() -> None:
    assert [str(item) for item in parse_conditions(["ready,nodes=3", "leader"])] == [
        "ready",
        "nodes=3",
        "leader",
    ]


@pytest.mark.parametrize("name", MEANINGS)
def test_condition_without_any_answer_does_not_hold(name: str) -> None:
    nothing = report(down("a"), down("b"))
    text = {"nodes": "nodes=2", "version": "version=1"}.get(name, name)
    assert not check(parse_condition(text), nothing, nothing).holds
