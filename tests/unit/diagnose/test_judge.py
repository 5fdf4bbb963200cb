"""One round of looks, judged: codes and verdict, as `baoha status` shows them."""

from __future__ import annotations

import pytest
from baoha_cli.client.address import parse_address
from baoha_cli.diagnose.judge import judge_round, verdict_of
from baoha_cli.exits import Verdict
from baoha_cli.failures import ErrorKind
from baoha_cli.survey.look import NOT_ASKED, NodeLook, Reply

SEAL = {"initialized": True, "sealed": False, "version": "2.7.2", "cluster_id": "c1"}
DENIED = Reply(403, errors=("permission denied",))


def node(
    name: str, leader: str = "a", *, plain: Reply = DENIED, version: str = "2.7.2"
) -> NodeLook:
    """Return a node as `status` looks at it: the active one gets no probe."""
    leads = name == leader
    body: dict[str, object] = {"ha_enabled": True, "is_self": leads}
    if leader:
        body["leader_address"] = f"https://{leader}:8200"
        body["leader_cluster_address"] = f"https://{leader}:8201"
    location = f"https://{leader}:8200/v1/sys/ha-status"
    return NodeLook(
        parse_address(f"https://{name}:8200"),
        name,
        Reply(200, body={**SEAL, "version": version}),
        Reply(200, body=body),
        Reply(200 if leads else 429, body={"standby": not leads}),
        NOT_ASKED if leads else plain,
        NOT_ASKED if leads else Reply(307, location=location),
    )


def closed(name: str, *, initialized: bool = True) -> NodeLook:
    """Return a sealed node."""
    seal = {"initialized": initialized, "sealed": True, "version": "2.7.2"}
    return NodeLook(
        parse_address(f"https://{name}:8200"), name, Reply(200, body=seal), Reply(503), Reply(503)
    )


def down(name: str, kind: ErrorKind = ErrorKind.REFUSED) -> NodeLook:
    """Return a node that gave no answer."""
    return NodeLook(parse_address(f"https://{name}:8200"), name, Reply(kind=kind, error="why"))


def failing(status: int) -> Reply:
    return Reply(status, errors=("x",))


REDIRECT = Reply(307, location="https://a:8200/v1/sys/ha-status")
HANGS = Reply(kind=ErrorKind.TIMEOUT, error="timeout")
WELL = (node("a"), node("b"), node("c"))

CASES: dict[str, tuple[tuple[NodeLook, ...], list[str], Verdict]] = {
    "healthy": (WELL, [], Verdict.OK),
    "blind standby": ((node("a"), node("b"), node("c", "")), ["BH-304"], Verdict.DEGRADED),
    "nobody leads": ((node("a", ""), node("b", "")), ["BH-301"], Verdict.DEGRADED),
    "two active": (
        (node("a"), node("b", "b"), node("c")),
        ["BH-302"],
        Verdict.DEGRADED,
    ),
    "named leader is down": (
        (down("a"), node("b"), node("c")),
        ["BH-306", "BH-306"],
        Verdict.DEGRADED,
    ),
    "leader is not among the nodes asked": ((node("b"), node("c")), [], Verdict.OK),
    "different leaders": ((node("a"), node("b"), node("c", "x")), ["BH-305"], Verdict.DEGRADED),
    "redirects": ((node("a"), node("b", plain=REDIRECT)), ["BH-401"], Verdict.DEGRADED),
    "redirects, leader is not among the nodes asked": (
        (node("b", plain=REDIRECT),),
        ["BH-401"],
        Verdict.DEGRADED,
    ),
    "hangs": ((node("a"), node("b", plain=HANGS)), ["BH-402"], Verdict.DEGRADED),
    "forwarding fails": ((node("a"), node("b", plain=failing(500))), [], Verdict.DEGRADED),
    "one sealed": ((node("a"), node("b"), closed("c")), ["BH-316"], Verdict.DEGRADED),
    "nobody to take over": ((node("a"), closed("b")), ["BH-315"], Verdict.DEGRADED),
    "all sealed": ((closed("a"), closed("b")), ["BH-316", "BH-316"], Verdict.SEALED),
    "none initialised": (
        (closed("a", initialized=False), closed("b", initialized=False)),
        ["BH-316", "BH-316"],
        Verdict.UNINITIALIZED,
    ),
    "newer standby": ((node("a"), node("b", version="2.7.3")), ["BH-903"], Verdict.OK),
    "older standby": ((node("a"), node("b", version="2.7.1")), ["BH-904"], Verdict.DEGRADED),
    "single node": ((node("a"),), [], Verdict.OK),
    "single standby": ((node("b"),), [], Verdict.OK),
    "name is unknown": ((*WELL, down("d", ErrorKind.DNS)), ["BH-201"], Verdict.DEGRADED),
    "port is closed": ((*WELL, down("d")), ["BH-205"], Verdict.DEGRADED),
    "no answer": ((*WELL, down("d", ErrorKind.TIMEOUT)), ["BH-206"], Verdict.DEGRADED),
    "no route": ((*WELL, down("d", ErrorKind.UNREACHABLE)), ["BH-206"], Verdict.DEGRADED),
    "TLS fails": ((*WELL, down("d", ErrorKind.TLS)), [], Verdict.DEGRADED),
    "TLS fails everywhere": (
        (down("a", ErrorKind.TLS), down("b", ErrorKind.TLS)),
        [],
        Verdict.TLS,
    ),
    "none is there": (
        (down("a"), down("b", ErrorKind.TLS)),
        ["BH-205"],
        Verdict.UNREACHABLE,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_round_of_looks_leads_to_its_codes_and_verdict(name: str) -> None:
    looks, codes, verdict = CASES[name]
    judged = judge_round(looks)
    assert [item.code.id for item in judged.findings] == codes
    assert judged.verdict is verdict


def test_finding_of_blind_standby_names_the_node() -> None:
    judged = judge_round(CASES["blind standby"][0])
    assert [item.node for item in judged.findings] == ["c"]
    assert judged.findings_at("c") == list(judged.findings)


def test_finding_of_a_pair_stands_at_the_node_that_shows_it() -> None:
    judged = judge_round(CASES["redirects"][0])
    assert [item.node for item in judged.findings] == ["b -> a"]
    assert judged.findings_at("b") == list(judged.findings)
    assert judged.findings_elsewhere == []


def test_finding_about_the_cluster_stands_below_the_table() -> None:
    judged = judge_round(CASES["two active"][0])
    assert judged.findings_elsewhere == list(judged.findings)


@pytest.mark.parametrize(
    ("unfit", "verdict"),
    [
        (closed("d"), Verdict.DEGRADED),
        (node("d", ""), Verdict.DEGRADED),
        (node("d", plain=REDIRECT), Verdict.OK),
        (node("d", plain=failing(503)), Verdict.DEGRADED),
        (down("d", ErrorKind.TLS), Verdict.DEGRADED),
        (node("d", plain=NOT_ASKED), Verdict.OK),
    ],
    ids=["sealed", "blind", "redirects", "does not forward", "TLS", "not probed"],
)
def test_node_that_cannot_serve_is_never_ok_even_without_a_finding(
    unfit: NodeLook, verdict: Verdict
) -> None:
    assert verdict_of((*WELL, unfit), []) is verdict


def test_node_whose_certificate_clients_refuse_is_never_ok() -> None:
    assert verdict_of(WELL, [], refused=["a"]) is Verdict.DEGRADED
