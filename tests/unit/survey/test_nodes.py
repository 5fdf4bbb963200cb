"""What nodes say of each other: roles, conditions, the two-probe table."""

from __future__ import annotations

import pytest
from baoha_cli.client.address import Endpoint
from baoha_cli.failures import ErrorKind, UsageFailed
from baoha_cli.survey.conditions import MEANINGS, check, parse_condition, parse_conditions
from baoha_cli.survey.look import link_of
from baoha_cli.survey.nodes import ClusterReport, Link, NodeReport, SeenRole

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

CLUSTERS = {
    "blind standby": report(active("a"), standby("b", "a"), standby("c", "")),
    "nobody leads": report(standby("a", ""), standby("b", "")),
    "two active": report(active("a"), active("b"), standby("c", "a")),
    "named leader is down": report(down("a"), standby("b", "a"), standby("c", "a")),
    "redirects": report(active("a"), standby("b", "a", link=Link.REDIRECT), standby("c", "a")),
    "one sealed": report(active("a"), standby("b", "a"), sealed("c")),
    "mixed versions": report(active("a"), standby("b", "a", version="2.7.1"), standby("c", "a")),
    "single standby": report(standby("b", "a")),
}


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
    assert node.role is SeenRole.ACTIVE


@pytest.mark.parametrize(
    ("text", "cluster", "holds"),
    [
        ("one-leader", HEALTHY, True),
        ("one-leader", CLUSTERS["blind standby"], False),
        ("one-leader", CLUSTERS["two active"], False),
        ("forwarding", HEALTHY, True),
        ("forwarding", CLUSTERS["redirects"], False),
        ("ready", HEALTHY, True),
        ("ready", CLUSTERS["one sealed"], False),
        ("ready", CLUSTERS["named leader is down"], False),
        ("ready", CLUSTERS["single standby"], True),
        ("nodes=3", HEALTHY, True),
        ("nodes=2", HEALTHY, False),
        ("same-version", CLUSTERS["mixed versions"], False),
        ("version=2.7.2", HEALTHY, True),
        ("unsealed", CLUSTERS["one sealed"], True),
        ("all-unsealed", CLUSTERS["one sealed"], False),
        ("initialized", HEALTHY, True),
        ("active", CLUSTERS["nobody leads"], False),
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
