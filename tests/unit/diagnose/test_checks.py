"""Checks as tables: evidence in, codes out; for what a laboratory cannot set up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from baoha_cli.client.address import Endpoint, parse_address
from baoha_cli.diagnose.checks import health as checks_time
from baoha_cli.diagnose.checks import leader as checks_leader
from baoha_cli.diagnose.evidence import (
    Certificate,
    Chain,
    ChainEnd,
    Evidence,
    Hop,
    ListedMember,
    Members,
    NameLook,
    PortKind,
    PortLook,
    TlsLook,
    ViaLook,
)
from baoha_cli.diagnose.gather.chains import read_location
from baoha_cli.diagnose.gather.clocks import Offset, narrow, offset_of, sample_of
from baoha_cli.diagnose.judgement import drop_explained, lasting
from baoha_cli.diagnose.run import Choice, conclude, skipped
from baoha_cli.exits import Verdict
from baoha_cli.failures import ErrorKind
from baoha_cli.survey.look import NodeLook, Reply
from hypothesis import given
from hypothesis import strategies as st

from baoha.diagnostics.catalogue import AREAS, CODES, in_area, matches
from baoha.diagnostics.code import Seen, Severity

SEAL = {"initialized": True, "sealed": False, "version": "2.7.2", "cluster_id": "c1"}
NOW = 1_795_441_199.0
DAY_S = 86_400.0


def node(
    name: str,
    *,
    leader: str = "a",
    plain: int = 403,
    url: str = "",
    domain: str = "",
    seal: dict[str, object] | None = None,
) -> NodeLook:
    """Return a healthy node of a cluster that ``leader`` leads."""
    leads = name == leader
    body = {
        "ha_enabled": True,
        "is_self": leads,
        "leader_address": f"http://{leader}{domain}:8200" if leader else "",
        "leader_cluster_address": f"https://{leader}{domain}:8201" if leader else "",
    }
    return NodeLook(
        parse_address(url or f"http://{name}{domain}:8200"),
        name,
        Reply(200, body={**SEAL, **(seal or {})}),
        Reply(200, body=body),
        Reply(200 if leads else 429, body={"standby": not leads}),
        Reply(plain, location=f"http://{leader}{domain}:8200/v1/sys/ha-status"),
        Reply(403 if leads else 307, location=f"http://{leader}{domain}:8200/v1/sys/ha-status"),
    )


def evidence(*nodes: NodeLook, **others: object) -> Evidence:
    return Evidence(rounds=(nodes,), **others)  # type: ignore[arg-type]


HEALTHY = (node("a"), node("b"), node("c"))


def codes(found: Evidence, *, only: tuple[str, ...] = (), facts: bool = False) -> list[str]:
    choice = Choice("all", only=only, facts=facts, skip=("BH-710",))
    return [item.code.id for item in conclude(found, choice, noise=True, took_s=0).faults]


def certificate(name: str = "a", **others: object) -> Certificate:
    values = {"subject": f"CN={name}", "issuer": "CN=ca", "names": (name,), "fingerprint": name}
    values |= {"not_before": NOW - DAY_S, "not_after": NOW + 400 * DAY_S}
    return Certificate(**{**values, **others})  # type: ignore[arg-type]


def tls(name: str = "a", **others: object) -> dict[str, TlsLook]:
    endpoint = parse_address(f"https://{name}:8200")
    values: dict[str, object] = {"chain": (certificate(),), "read_at": NOW, "version": "TLSv1.3"}
    return {endpoint.origin: TlsLook(endpoint, **{**values, **others})}  # type: ignore[arg-type]


SECURE = (
    node("a", url="https://a:8200"),
    node("b", url="https://b:8200"),
    node("c", url="https://c:8200"),
)


def seeing_leader(one: NodeLook, address: str) -> NodeLook:
    """Return what was seen of a node, as if it had named another address of the leader."""
    body = dict(one.leader.body) | {"leader_address": address}
    return replace(one, leader=replace(one.leader, body=body))


def chain(start: str, *locations: str, end: ChainEnd = ChainEnd.ANSWER, **reply: object) -> Chain:
    endpoint = parse_address(start)
    hops = tuple(Hop(endpoint.origin, location) for location in locations)
    return Chain(endpoint, "b", hops, end, Reply(**reply))  # type: ignore[arg-type]


def raft(*voters: bool) -> Members:
    return Members(
        raft=tuple(
            ListedMember(f"n{number}", cluster_address=f"n{number}:8201", is_voter=voter)
            for number, voter in enumerate(voters)
        )
    )


CASES: dict[str, tuple[Evidence, list[str]]] = {
    "healthy": (evidence(*HEALTHY), []),
    "one node alone": (evidence(node("a")), []),
    "one standby alone": (evidence(node("b")), []),
    "link-local address": (
        evidence(*(seeing_leader(one, "http://169.254.1.1:8200") for one in HEALTHY)),
        ["BH-110"],
    ),
    "loopback address among several machines": (
        evidence(*(seeing_leader(one, "http://127.0.0.1:8200") for one in HEALTHY)),
        ["BH-110"],
    ),
    "round robin name": (
        evidence(
            *HEALTHY,
            names={"b": NameLook("b", ("10.0.0.1", "10.0.0.2"), identities=("active", "standby"))},
        ),
        ["BH-202"],
    ),
    "IPv6 path is dead": (
        evidence(
            *HEALTHY, names={"b": NameLook("b", ("10.0.0.1", "2001:db8::1"), dead=("2001:db8::1",))}
        ),
        ["BH-203"],
    ),
    "localhost has two addresses": (
        evidence(
            node("a", url="http://localhost:8200"),
            names={"localhost": NameLook("localhost", ("127.0.0.1", "::1"), dead=("::1",))},
        ),
        [],
    ),
    "proxy variables": (evidence(*HEALTHY, proxies=("HTTP_PROXY",)), ["BH-212"]),
    "even number of voters": (
        evidence(*HEALTHY, members=raft(True, True, True, True)),
        ["BH-317"],
    ),
    "odd number of voters": (evidence(*HEALTHY, members=raft(True, True, True)), []),
    "two voters": (evidence(*HEALTHY, members=raft(True, True, False)), ["BH-317"]),
    "prefix is lost": (
        evidence(
            *HEALTHY,
            chains=(chain("http://b:8200/secrets", "http://a:8200/v1/sys/ha-status", status=404),),
        ),
        ["BH-507"],
    ),
    "two hops": (
        evidence(
            *HEALTHY, chains=(chain("http://b:8200", "http://x:1", "http://a:8200", status=403),)
        ),
        ["BH-509"],
    ),
    "redirect to a private address": (
        evidence(
            node("a", domain=".example.com"),
            node("b", domain=".example.com", plain=307),
            chains=(chain("http://b.example.com:8200", "http://10.0.0.1:8200/v1", status=403),),
        ),
        ["BH-401", "BH-510"],
    ),
    "weak key": (
        evidence(*SECURE, tls=tls(chain=(certificate(weakness="RSA key of 1024 bits"),))),
        ["BH-706"],
    ),
    "old TLS is accepted": (evidence(*SECURE, tls=tls(speaks_old=True)), ["BH-706"]),
    "chain out of order": (
        evidence(
            *SECURE,
            tls=tls(chain=(certificate(), certificate("x"), certificate("ca"))),
        ),
        ["BH-705"],
    ),
    "certificate by server name": (evidence(*SECURE, tls=tls(nameless="other")), ["BH-708"]),
    "certificate expires in five days": (
        evidence(*SECURE, tls=tls(chain=(certificate(not_after=NOW + 5 * DAY_S),))),
        ["BH-702"],
    ),
    "self-signed certificate": (
        evidence(
            *SECURE,
            tls=tls(chain=(certificate(issuer="CN=a"),), verify_code=18, verify_error="x509"),
        ),
        ["BH-207"],
    ),
    "cluster port closed from here, forwarding works": (
        evidence(
            *HEALTHY,
            ports={"https://a:8201": PortLook("https://a:8201", PortKind.REFUSED, "refused")},
        ),
        [],
    ),
    "cluster port of a lone node closed from here": (
        evidence(
            node("a"),
            ports={"https://a:8201": PortLook("https://a:8201", PortKind.REFUSED, "refused")},
        ),
        ["BH-601"],
    ),
    "cluster port of a lone node filtered": (
        evidence(
            node("a"),
            ports={"https://a:8201": PortLook("https://a:8201", PortKind.TIMEOUT, "timeout")},
        ),
        ["BH-602"],
    ),
    "API at the cluster port of a lone node": (
        evidence(
            node("a"),
            ports={"https://a:8201": PortLook("https://a:8201", PortKind.HTTPS, "x")},
        ),
        ["BH-604"],
    ),
    "cluster port of a lone node is another's": (
        evidence(
            node("a"),
            ports={"https://a:8201": PortLook("https://a:8201", PortKind.LISTENER, "x")},
        ),
        ["BH-605"],
    ),
    "standby that does not answer the probe in time, leader is well": (
        evidence(node("a"), replace(node("b"), plain=Reply(kind=ErrorKind.TIMEOUT, error="x"))),
        ["BH-402"],
    ),
    "Vault Enterprise performance standby": (
        evidence(
            node("a"),
            replace(
                node("b"),
                health=Reply(473, body={"standby": False, "performance_standby": True}),
            ),
        ),
        [],
    ),
    "frozen writer, told by the nodes that wait for it": (
        evidence(
            node("a"),
            replace(
                node("b"),
                health=Reply(429, body={"problems": ["BH-921 pid 7 holds it", "BH-101 x", 5]}),
            ),
        ),
        ["BH-921"],
    ),
    "full disk and foreign boot id, told by the node": (
        evidence(
            replace(node("a"), health=Reply(200, body={"problems": ["BH-922 x", "BH-925 y"]}))
        ),
        ["BH-922", "BH-925"],
    ),
    "problems that are no list": (
        evidence(replace(node("a"), health=Reply(200, body={"problems": "BH-922 x"}))),
        [],
    ),
    "leader that was not asked answers nowhere": (
        evidence(
            node("b", plain=307),
            ports={"https://a:8201": PortLook("https://a:8201", PortKind.REFUSED, "refused")},
            reach={"http://a:8200": Reply(kind=ErrorKind.REFUSED, error="refused")},
            chains=(
                chain(
                    "http://b:8200",
                    "http://a:8200/v1/sys/ha-status",
                    end=ChainEnd.UNREACHABLE,
                    kind=ErrorKind.REFUSED,
                ),
            ),
        ),
        ["BH-401"],
    ),
    "503 in a moment of change": (evidence(node("a"), node("b", plain=503)), []),
}


@pytest.mark.parametrize("name", CASES)
def test_evidence_leads_to_its_codes_and_no_others(name: str) -> None:
    found, expected = CASES[name]
    assert codes(found) == expected


def test_plain_text_on_a_routable_address_is_a_warning() -> None:
    found = evidence(node("a", url="http://10.0.0.1:8200"), node("b", url="http://127.0.0.1:8200"))
    result = conclude(found, Choice("tls"), noise=True, took_s=0)
    assert [(item.code.id, item.node) for item in result.faults] == [("BH-710", "a")]


def test_facts_are_shown_on_request_only() -> None:
    port = PortLook("https://a:8201", PortKind.ACTIVE, "open")
    versions = [node(name, seal={"storage_type": "raft"}) for name in ("a", "b")]
    found = evidence(*versions, ports={"https://a:8201": port})
    assert codes(found) == []
    assert set(codes(found, facts=True)) == {"BH-406", "BH-407", "BH-608", "BH-909"}
    assert codes(found, only=("BH-608",)) == ["BH-608"]


def test_redirect_to_another_host_is_told_on_request() -> None:
    found = evidence(
        node("a"),
        node("b", plain=307),
        chains=(chain("http://b:8200", "http://a:8200/x", status=403),),
    )
    assert codes(found) == ["BH-401"]
    assert codes(found, only=("BH-508",)) == ["BH-508"]


def test_facts_of_a_load_balancer_are_shown_on_request_only() -> None:
    endpoint = parse_address("https://lb:8200")
    balancer = ViaLook(endpoint, "lb", tuple(node("a", url="https://lb:8200") for _ in range(4)))
    looks = {**tls("a"), **tls("lb", chain=(certificate("lb"),))}
    found = evidence(*SECURE, vias=(balancer,), tls=looks)
    assert codes(found) == []
    assert codes(found, only=("BH-8*",)) == ["BH-801", "BH-808"]


# --- what was not looked for ----------------------------------------------------------------------


def not_looked_for(found: Evidence, area: str = "all", **given_: bool) -> dict[str, str]:
    asked: dict[str, bool] = {"noise": True, **given_}
    choice = Choice(area, facts=True)
    return dict(conclude(found, choice, took_s=0, **asked).skipped)  # type: ignore[arg-type]


def test_code_is_skipped_when_no_evidence_can_show_it_and_only_then() -> None:
    left_out = not_looked_for(evidence(*HEALTHY))
    for code in CODES.values():
        lacks = code.seen_in <= {Seen.VIA, Seen.MEMBERS, Seen.FILE, Seen.SERVER, Seen.PERSON}
        assert (code.id in left_out) is lacks, code


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("BH-107", "needs the file: diagnose config"),
        ("BH-116", "no token (--token-file)"),
        ("BH-408", "no token (--token-file)"),
        ("BH-609", "no probe can see it"),
        ("BH-802", "no --via"),
        ("BH-811", "no probe can see it"),
        ("BH-924", "no probe can see it"),
    ],
)
def test_skipped_code_has_its_reason(code: str, reason: str) -> None:
    assert not_looked_for(evidence(*HEALTHY))[code] == reason


def test_probes_that_are_not_sent_are_the_reason() -> None:
    left_out = not_looked_for(evidence(*HEALTHY), noise=False)
    quiet = {code for code, reason in left_out.items() if reason == "--no-audit-noise"}
    assert quiet == {"BH-401", "BH-402", "BH-403", "BH-404", "BH-405", "BH-803", "BH-906"}


def test_view_of_the_nodes_leaves_out_what_is_tried_from_here() -> None:
    left_out = not_looked_for(evidence(*HEALTHY, from_node=True, proxies=("HTTP_PROXY",)))
    assert left_out["BH-210"] == left_out["BH-501"] == left_out["BH-601"] == "--from node"
    assert "BH-205" not in left_out
    assert codes(evidence(*HEALTHY, from_node=True, proxies=("HTTP_PROXY",))) == []


def test_files_that_are_given_are_evidence_too() -> None:
    assert "BH-107" not in not_looked_for(evidence(*HEALTHY), files=True)


def test_area_that_tries_no_addresses_says_so() -> None:
    choice = Choice("tls", only=("BH-601",))
    result = conclude(evidence(*HEALTHY), choice, noise=True, took_s=0)
    assert dict(result.skipped) == {"BH-601": "needs more addresses: diagnose addresses"}


def test_files_alone_show_what_files_show() -> None:
    assert skipped(Choice("config"), frozenset({Seen.FILE})) == {"BH-811": "no probe can see it"}
    only = Choice("config", only=("BH-301", "BH-707"))
    assert set(skipped(only, frozenset({Seen.FILE})).values()) == {"needs the nodes"}


def test_leader_that_changes_again_and_again_is_found() -> None:
    rounds = tuple((node("a", leader=who), node("b", leader=who)) for who in ("a", "b", "a", "b"))
    found = Evidence(rounds=rounds, seen_for_s=30)
    assert [item.code.id for item in checks_leader.check_history(found)] == ["BH-310"]
    once = Evidence(rounds=rounds[:2], seen_for_s=30)
    assert [item.code.id for item in checks_leader.check_history(once)] == []


def test_election_that_ends_is_no_error() -> None:
    lost = (node("a", leader=""), node("b", leader=""))
    won = (node("a"), node("b"))
    assert codes(Evidence(rounds=(lost, won), seen_for_s=1)) == ["BH-303"]
    assert codes(Evidence(rounds=(lost, lost, lost), seen_for_s=3)) == ["BH-301"]


def test_transient_finding_must_be_in_every_round() -> None:
    blind, version = CODES["BH-304"].at("b", "blind"), CODES["BH-903"].at("", "versions")
    assert lasting([[blind, version], [version], [blind, version]]) == [version]
    assert lasting([[version], [blind, version]]) == [version]
    assert lasting([[blind], [blind]]) == [blind]
    assert lasting([]) == []


def test_consequence_at_another_place_is_kept() -> None:
    expired = CODES["BH-701"].at("a", "expired")
    elsewhere = CODES["BH-207"].at("b", "unknown authority")
    same = CODES["BH-207"].at("a", "unknown authority")
    assert drop_explained([expired, elsewhere, same]) == [elsewhere, expired]


def test_settling_orders_by_severity_then_code() -> None:
    given_ = [
        CODES["BH-903"].at("", "x"),
        CODES["BH-309"].at("a", "x"),
        CODES["BH-302"].at("", "x"),
    ]
    assert [item.severity for item in drop_explained(given_)] == list(Severity)[::-1]


@given(st.lists(st.sampled_from(sorted(CODES)), max_size=12))
def test_settling_never_leaves_nothing_of_something(found: list[str]) -> None:
    faults = [CODES[code].at("a", code) for code in found]
    settled = drop_explained(faults)
    assert bool(settled) == bool(faults)
    assert drop_explained(settled) == settled


# --- clocks ---------------------------------------------------------------------------------------


def test_clock_that_agrees_is_known_within_the_uncertainty() -> None:
    reply = Reply(200, took_s=0.2, ended_at=NOW + 0.6)
    offset = sample_of(reply, int(NOW))
    assert offset.low <= 0 <= offset.high
    assert offset.at_least == 0
    assert offset.uncertainty == pytest.approx(0.6)


@given(
    st.floats(-300, 300),
    st.lists(st.tuples(st.floats(0, 5), st.floats(0.001, 0.5), st.floats(0, 1)), min_size=1),
)
def test_interval_always_holds_the_true_offset(
    true_s: float, looks: list[tuple[float, float, float]]
) -> None:
    samples = []
    for start_s, took_s, share in looks:
        moment = NOW + start_s + took_s * share  # when the server read its clock
        reply = Reply(200, took_s=took_s, ended_at=NOW + start_s + took_s)
        samples.append(sample_of(reply, int((moment + true_s) // 1)))
    known = narrow(samples)
    assert known is not None
    assert known.low - 1e-3 <= true_s <= known.high + 1e-3


def test_contradicting_clock_samples_are_unknown() -> None:
    assert narrow([Offset(0, 1), Offset(5, 6)]) is None
    assert narrow([]) is None


def test_date_header_serves_where_health_has_no_time() -> None:
    look = NodeLook(
        parse_address("http://a:8200"), "a", Reply(200, date_s=int(NOW), ended_at=NOW + 0.5)
    )
    offset = offset_of([look])
    assert offset is not None
    assert offset.low <= 0 <= offset.high


def test_skew_is_reported_only_when_it_is_certain() -> None:
    def with_clock(name: str, ahead_s: int) -> NodeLook:
        reply = Reply(200, body={"server_time_utc": int(NOW) + ahead_s}, ended_at=NOW + 0.5)
        return replace(node(name), health=reply)

    near = evidence(with_clock("a", 0), with_clock("b", 1))
    assert list(checks_time.check_clocks(near)) == []
    far = evidence(with_clock("a", 0), with_clock("b", 9))
    assert [(one.code.id, one.node, one.severity) for one in checks_time.check_clocks(far)] == [
        ("BH-901", "b", Severity.ERROR)
    ]


@pytest.mark.parametrize(
    ("older", "newer"),
    [("2.7.1", "2.7.2"), ("2.7.2", "2.10.0"), ("2.7.2-rc1", "2.7.2"), ("v1.9.9", "2.0.0")],
)
def test_versions_are_compared_by_their_numbers(older: str, newer: str) -> None:
    first, second = checks_time.version_key(older), checks_time.version_key(newer)
    assert first is not None
    assert second is not None
    assert first < second


# --- Location, catalogue --------------------------------------------------------------------------

HERE = Endpoint("https", "b", 8200)


@pytest.mark.parametrize(
    ("location", "origin"),
    [
        ("https://a:8200/v1/x?y=1", "https://a:8200"),
        ("/v1/x", "https://b:8200"),
        ("https://[2001:db8::1]:8200/v1", "https://[2001:db8::1]:8200"),
        ("localhost:///v1/x", ""),
        ("//evil.example.com/x", ""),
        ("ftp://a/x", ""),
        ("https:///v1", ""),
        ("https://a:99999/v1", ""),
        ("https://user@a:8200/v1", ""),
        ("https://a:8200/v1 x", ""),
        ("", ""),
    ],
)
def test_location_is_read_strictly(location: str, origin: str) -> None:
    found = read_location(HERE, location)
    assert (found[0].origin if found else "") == origin


@given(st.text())
def test_location_of_any_text_raises_nothing(location: str) -> None:
    read_location(HERE, location)


def test_catalogue_holds_every_check_of_the_specification() -> None:
    counts = {"1": 21, "2": 12, "3": 18, "4": 8, "5": 10, "6": 10, "7": 10, "8": 11, "9": 16}
    for digit, count in counts.items():
        assert [code[3] for code in CODES].count(digit) == count
    for code in CODES.values():
        assert code.title
        assert code.why
        assert code.fix
        assert code.areas or code.is_by_hand


@pytest.mark.parametrize(
    ("code", "pattern", "fits"),
    [
        ("BH-304", "BH-3*", True),
        ("BH-304", "3*", True),
        ("BH-304", "bh-304", True),
        ("BH-304", "BH-30", False),
        ("BH-304", "304", True),
    ],
)
def test_patterns_of_codes_are_as_people_write_them(code: str, pattern: str, fits: bool) -> None:
    assert matches(CODES[code], (pattern,)) is fits


def test_every_area_but_config_sees_unreachable_nodes() -> None:
    for area in AREAS:
        if area != "config":
            assert in_area(CODES["BH-205"], area), area


# --- verdicts -------------------------------------------------------------------------------------


def lost(name: str, kind: ErrorKind) -> NodeLook:
    return NodeLook(parse_address(f"https://{name}:8200"), name, Reply(kind=kind, error="x"))


@pytest.mark.parametrize(
    ("nodes", "verdict"),
    [
        (HEALTHY, Verdict.OK),
        ((lost("a", ErrorKind.REFUSED), lost("b", ErrorKind.TIMEOUT)), Verdict.UNREACHABLE),
        ((lost("a", ErrorKind.TLS), lost("b", ErrorKind.TLS)), Verdict.TLS),
        ((node("a"), lost("b", ErrorKind.REFUSED)), Verdict.NO),
    ],
    ids=["healthy", "away", "TLS", "one away"],
)
def test_verdict_follows_the_documented_exit_codes(
    nodes: tuple[NodeLook, ...], verdict: Verdict
) -> None:
    made = conclude(evidence(*nodes), Choice("all"), noise=True, took_s=0)
    assert made.verdict is verdict
