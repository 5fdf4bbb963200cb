"""The decision of a node on a request that only the active node may execute."""

from __future__ import annotations

from dataclasses import replace

import pytest

from baoha.api.standby_policy import (
    NO_ACTIVE_NODE,
    NOT_ACTIVE_TEXT,
    SEALED_TEXT,
    Forward,
    Park,
    Redirect,
    Refuse,
    Serve,
    decide,
)
from baoha.core.view import Leader, LinkState, NodeStatus
from tests.support.fake_node import ACTIVE, LEADER, LEADERLESS, SEALED, STANDBY

PARK = Park(Refuse(503, NO_ACTIVE_NODE, 1))
TO_LEADER = Redirect("http://leader:8200")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (SEALED, Refuse(503, SEALED_TEXT)),
        (replace(SEALED, initialized=False), Refuse(503, SEALED_TEXT)),
        (replace(ACTIVE, initialized=False), Refuse(503, SEALED_TEXT)),
        (ACTIVE, Serve()),
        (replace(ACTIVE, ha_enabled=False), Serve()),
        (replace(ACTIVE, leader_changing=True), Serve()),
        (LEADERLESS, PARK),
        (replace(LEADERLESS, ha_enabled=False), Park(Refuse(503, NOT_ACTIVE_TEXT, 1))),
        (STANDBY, Forward()),
        (replace(STANDBY, leader_changing=True), PARK),
        (replace(STANDBY, leader=replace(LEADER, is_dead=True)), PARK),
        (replace(STANDBY, leader=replace(LEADER, is_self=True)), PARK),
        (replace(STANDBY, link=LinkState.CONNECTING), PARK),
        (replace(STANDBY, link=LinkState.SUSPECT), PARK),
        (replace(STANDBY, link=LinkState.NONE), PARK),
        (replace(STANDBY, link=LinkState.FAILED), TO_LEADER),
        (replace(STANDBY, forwarding_enabled=False), TO_LEADER),
        (replace(STANDBY, leader=replace(LEADER, cluster_addr="")), TO_LEADER),
    ],
)
def test_decide_takes_the_way_of_the_table(status: NodeStatus, expected: object) -> None:
    assert decide(status) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (SEALED, Refuse(503, SEALED_TEXT)),
        (ACTIVE, Serve()),
        (LEADERLESS, PARK),
        (STANDBY, TO_LEADER),
        (replace(STANDBY, link=LinkState.CONNECTING), TO_LEADER),
        (replace(STANDBY, leader_changing=True), PARK),
        (replace(STANDBY, leader=replace(LEADER, is_dead=True)), PARK),
    ],
)
def test_decide_when_forwarding_is_declined_redirects_to_a_live_leader(
    status: NodeStatus, expected: object
) -> None:
    assert decide(status, declines_forwarding=True) == expected


@pytest.mark.parametrize("link", list(LinkState))
@pytest.mark.parametrize("declines", [False, True])
@pytest.mark.parametrize("forwarding", [False, True])
@pytest.mark.parametrize(
    "leader",
    [
        replace(LEADER, redirect_addr="http://self:8200"),
        replace(LEADER, redirect_addr="HTTP://SELF:8200/"),
        replace(LEADER, redirect_addr=""),
        replace(LEADER, is_dead=True),
        replace(LEADER, is_self=True),
    ],
)
def test_decide_never_redirects_to_itself_or_to_the_dead(
    link: LinkState, declines: bool, forwarding: bool, leader: Leader
) -> None:
    status = replace(STANDBY, link=link, forwarding_enabled=forwarding, leader=leader)

    decision = decide(status, declines_forwarding=declines)

    assert not isinstance(decision, Redirect)
