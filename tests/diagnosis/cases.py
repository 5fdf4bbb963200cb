"""
Scripted misconfigurations: how each is set up, and what must be found, and nothing else.

Rule of this file: a case changes a healthy world in one respect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import trustme

from tests.diagnosis.world import DENIED, NO_LEADER, World
from tests.support.cli_lab import NO_FORWARDING, Reply, Seen, free_port

Build = Callable[[World], list[str]]


@dataclass(frozen=True)
class Case:
    """
    One misconfiguration.

    Args:
        build: sets it up and returns the arguments after ``--addr``'s; the addresses of all nodes
            are added unless "--addr" is among them.
        codes: what must be found, sorted.
        code: exit status.
        cause: code that explains the first finding, or "".
        area: the command.
    """

    build: Build
    codes: tuple[str, ...]
    code: int = 1
    cause: str = ""
    area: str = "all"


def _now() -> datetime:
    return datetime.now(UTC)


# --- addresses ------------------------------------------------------------------------------------


def no_scheme(world: World) -> list[str]:
    active, *standbys = world.cluster()
    active.api_addr = f"localhost:{active.fake.port}"
    active.cluster_addr = f"https:{active.fake.port}"
    for node in standbys:
        node.forwards = False
    return []


def no_host(world: World) -> list[str]:
    active, *standbys = world.cluster()
    active.api_addr, active.cluster_addr = "http://", "https://:444"
    for node in standbys:
        node.forwards = False
    return []


def no_port(world: World) -> list[str]:
    active, *standbys = world.cluster()
    active.api_addr, active.cluster_addr = "https://127.0.0.1", "https://127.0.0.1:444"
    for node in standbys:
        node.forwards = False
        node.overrides["ha-status"] = (307, b"", {"Location": f"{active.url}/v1/sys/ha-status"})
    return []


def path_in_address(world: World) -> list[str]:
    active, *_ = world.cluster()
    active.api_addr = f"{active.url}/vault"
    return []


def same_addresses_for_both(world: World) -> list[str]:
    active, *_ = world.cluster()
    active.api_addr = active.cluster_addr.replace("https:", "http:")
    return ["--from", "node"]


def wildcard_address(world: World) -> list[str]:
    active, *_ = world.cluster()
    active.api_addr = f"http://0.0.0.0:{active.fake.port}"
    return ["--from", "node"]


def unexpanded_variable(world: World) -> list[str]:
    active, *_standbys = world.cluster()
    active.api_addr = "http://$(POD_IP):8200"
    return []


def ipv6_without_brackets(world: World) -> list[str]:
    active, *_ = world.cluster()
    active.api_addr = "http://2001:db8::1:8200"
    return []


def same_addresses_on_two_nodes(world: World) -> list[str]:
    _active, second, _third = world.cluster()
    members = world.members()
    members[1] = {**members[0], "active_node": False, "hostname": "n1"}
    world.list_members(members)
    second.fake.script = second.answer
    return [*_token(world), "--skip", "BH-318"]


def one_api_addr_for_all(world: World) -> list[str]:
    nodes = world.cluster()
    shared = world.balancer(nodes[0])
    nodes[0].api_addr = shared
    members = [{**one, "api_address": shared} for one in world.members()]
    for number, member in enumerate(members):
        member["cluster_address"] = nodes[0].cluster_addr if number == 0 else ""
    world.list_members(
        [
            {**one, "cluster_address": one["cluster_address"] or f"https://127.0.0.1:{number}"}
            for number, one in enumerate(members, start=1)
        ]
    )
    return [*_token(world), "--from", "node"]


def _token(world: World) -> list[str]:
    path = world.folder / "token"
    path.write_text("s.LaboratoryToken0123456789")
    return ["--token-file", str(path)]


# --- reach ----------------------------------------------------------------------------------------


def unknown_name(world: World) -> list[str]:
    world.cluster()
    return ["--addr", f"{world.addresses()},http://nosuch.invalid:8200"]


def not_a_node(world: World) -> list[str]:
    world.cluster()
    page = b"<html><body>welcome</body></html>"
    url = world.fake(lambda _: (200, page, {"Content-Type": "text/html"}))
    return ["--addr", f"{world.addresses()},{url}"]


def bad_gateway(world: World) -> list[str]:
    world.cluster()
    url = world.fake(lambda _: (502, b"Bad Gateway", {"Content-Type": "text/plain"}))
    return ["--addr", f"{world.addresses()},{url}"]


def closed_port(world: World) -> list[str]:
    world.cluster()
    return ["--addr", f"{world.addresses()},http://127.0.0.1:{free_port()}"]


def dropped_packets(world: World) -> list[str]:
    world.cluster()
    return ["--addr", f"{world.addresses()},http://127.0.0.1:{world.black_hole()}"]


def unknown_authority(world: World) -> list[str]:
    world.cluster(context=world.context())
    return []


def redirect_target_not_in_certificate(world: World) -> list[str]:
    active, *_ = world.cluster(context=world.context())
    other = world.fake(active.answer, world.context("a.example.com"))
    active.api_addr = other
    return ["--ca", world.ca_file()]


def plain_spoken_to_tls(world: World) -> list[str]:
    world.cluster(2)
    extra = world.fake(lambda _: DENIED, world.context()).replace("https:", "http:")
    return ["--addr", f"{world.addresses()},{extra}", "--ca", world.ca_file()]


def tls_spoken_to_plain(world: World) -> list[str]:
    world.cluster(2)
    extra = world.fake(lambda _: DENIED).replace("http:", "https:")
    return ["--addr", f"{world.addresses()},{extra}"]


def leader_not_reachable_from_here(world: World) -> list[str]:
    active, *standbys = world.cluster()
    active.api_addr = f"http://127.0.0.1:{free_port()}"
    return ["--addr", ",".join(node.url for node in standbys)]


def slow_node(world: World) -> list[str]:
    _, _, third = world.cluster()
    third.delay_s = 0.15
    return ["--slow", "100ms", "--skip", "BH-403"]


# --- who leads ------------------------------------------------------------------------------------


def nobody_leads(world: World) -> list[str]:
    active, *_ = world.cluster()
    active.role, active.leader = "standby", None
    return []


def two_actives(world: World) -> list[str]:
    _active, second, _third = world.cluster()
    second.role, second.cluster_addr = "active", world.cluster_port("active")
    return []


def blind_standby(world: World) -> list[str]:
    _, _, third = world.cluster()
    third.leader = None
    return []


def different_leaders(world: World) -> list[str]:
    _active, second, third = world.cluster()
    third.says = (second.url, world.cluster_port("listener"))
    return []


def dead_leader(world: World) -> list[str]:
    active, *standbys = world.cluster()
    dead = free_port()
    active.api_addr = f"http://127.0.0.1:{dead}"
    active.cluster_addr = world.cluster_port("refused")
    for node in standbys:
        node.forwards = False
    return ["--addr", ",".join([*(node.url for node in standbys), active.api_addr])]


def dead_leader_not_asked(world: World) -> list[str]:
    active, *standbys = world.cluster()
    active.api_addr = f"http://127.0.0.1:{free_port()}"
    active.cluster_addr = world.cluster_port("refused")
    for node in standbys:
        node.forwards = False
    return ["--addr", ",".join(node.url for node in standbys)]


def names_itself(world: World) -> list[str]:
    active, *_ = world.cluster(2)
    active.is_self = False
    active.role = "standby"
    active.says = (active.url, active.cluster_addr)
    return []


def sealed_leader(world: World) -> list[str]:
    active, *standbys = world.cluster()
    for node in standbys:
        node.says = active.advertised()
        node.forwards = False
    active.role = "sealed"
    return []


def contradiction(world: World) -> list[str]:
    active, *_ = world.cluster()
    active.health["standby"] = True
    return ["--fail-on", "info"]


def stray_cluster(world: World) -> list[str]:
    world.cluster()
    stray = world.node("active")
    stray.cluster_addr = world.cluster_port("active")
    stray.cluster_id = "00000000-1111-2222-3333-444444444444"
    return []


def no_high_availability(world: World) -> list[str]:
    for node in world.cluster(2):
        node.role = "active"
        node.overrides["leader"] = (200, {"ha_enabled": False})
    return ["--fail-on", "warning"]


def removed_node(world: World) -> list[str]:
    _, _, third = world.cluster()
    third.health_status = 530
    third.health["removed_from_cluster"] = True
    return []


def list_names_another(world: World) -> list[str]:
    _active, _second, _third = world.cluster()
    members = world.members()
    members[0]["active_node"], members[1]["active_node"] = False, True
    world.list_members(members)
    return [*_token(world), "--from", "node", "--fail-on", "warning"]


def one_unsealed(world: World) -> list[str]:
    _, second, third = world.cluster()
    second.role = third.role = "sealed"
    return []


def one_sealed(world: World) -> list[str]:
    _, _, third = world.cluster()
    third.role = "sealed"
    return ["--fail-on", "warning"]


def all_sealed(world: World) -> list[str]:
    for node in world.cluster():
        node.role = "sealed"
    return []


def all_uninitialized(world: World) -> list[str]:
    for node in world.cluster():
        node.role = "uninitialized"
    return []


def missing_member(world: World) -> list[str]:
    world.cluster()
    world.list_members(world.members()[:2])
    return [*_token(world), "--from", "node", "--fail-on", "warning"]


def silent_member(world: World) -> list[str]:
    world.cluster()
    members = world.members()
    echo = (_now() - timedelta(seconds=14)).isoformat()
    members[2]["last_echo"] = echo
    world.list_members(members)
    return [*_token(world), "--from", "node", "--fail-on", "warning"]


# --- forwarding and the cluster port --------------------------------------------------------------


def _broken_port(kind: str) -> Build:
    def build(world: World) -> list[str]:
        active, *standbys = world.cluster()
        active.cluster_addr = world.cluster_port(kind)
        for node in standbys:
            node.forwards = False
        return []

    return build


def api_at_cluster_address(world: World) -> list[str]:
    active, *standbys = world.cluster(context=world.context())
    active.cluster_addr = active.url
    for node in standbys:
        node.forwards = False
    return ["--ca", world.ca_file(), "--skip", "BH-106"]


def frozen_leader(world: World) -> list[str]:
    active, *standbys = world.cluster()
    hang = world.gate.hang
    active.overrides["*"] = lambda _: hang()
    for node in standbys:
        node.says = active.advertised()
        node.overrides["ha-status"] = lambda request: (
            (307, b"", {"Location": f"{active.url}/v1/sys/ha-status"})
            if NO_FORWARDING in request.headers
            else hang()
        )
    return ["--timeout", "1s"]


def slow_forwarding(world: World) -> list[str]:
    _, _, third = world.cluster()

    def slowly(request: Seen) -> Reply:
        if NO_FORWARDING not in request.headers:
            world.gate.wait(0.4)
        return third._ha_status(request)

    third.overrides["ha-status"] = slowly
    return ["--fail-on", "warning"]


def other_answer_through_standby(world: World) -> list[str]:
    active, _, third = world.cluster()
    bare: Reply = (307, b"", {"Location": f"{active.url}/v1/sys/ha-status"})
    third.overrides["ha-status"] = lambda request: (
        bare if NO_FORWARDING in request.headers else (502, {"errors": ["version mismatch"]})
    )
    return ["--fail-on", "warning"]


def no_cluster_address(world: World) -> list[str]:
    active, *standbys = world.cluster()
    active.cluster_addr = ""
    for node in standbys:
        node.forwards = False
    return ["--fail-on", "warning"]


def port_of_lone_node_is_plain(world: World) -> list[str]:
    active = world.node("active")
    active.cluster_addr = world.cluster_port("plain")
    return []


def standby_port_is_wrong(world: World) -> list[str]:
    _active, second, third = world.cluster()
    second.cluster_addr = world.cluster_port("listener")
    third.cluster_addr = world.cluster_port("plain")
    return [*_token(world), "--fail-on", "warning"]


# --- redirects ------------------------------------------------------------------------------------


def circle_of_redirects(world: World) -> list[str]:
    _active, second, third = world.cluster()
    for node, other in ((second, third), (third, second)):
        target = f"{other.url}/v1/sys/ha-status"
        node.overrides["ha-status"] = _redirecting(target)
    return []


def _redirecting(location: str) -> Callable[[Seen], Reply]:
    """Redirect what must not be forwarded, and forward the rest."""

    def answer(request: Seen) -> Reply:
        if NO_FORWARDING in request.headers:
            return 307, b"", {"Location": location}
        return DENIED

    return answer


def redirect_to_itself(world: World) -> list[str]:
    _, _, third = world.cluster()
    third.overrides["ha-status"] = _redirecting(f"{third.url}/v1/sys/ha-status")
    return []


def redirect_to_balancer(world: World) -> list[str]:
    active, second, third = world.cluster()
    active.api_addr = world.balancer(active, second, third)
    return ["--via", active.api_addr]


def redirect_to_sticky_balancer(world: World) -> list[str]:
    active, second, _third = world.cluster()
    active.api_addr = world.balancer(second, sticky=True)
    return ["--via", active.api_addr]


def downgrade(world: World) -> list[str]:
    active, *_standbys = world.cluster(context=world.context())
    active.api_addr = active.url.replace("https:", "http:")
    return ["--ca", world.ca_file(), "--skip", "BH-2*"]


def target_closed(world: World) -> list[str]:
    _active, second, third = world.cluster()
    target = f"http://127.0.0.1:{free_port()}/v1/sys/ha-status"
    for node in (second, third):
        node.overrides["ha-status"] = (307, b"", {"Location": target})
    return ["--skip", "BH-401"]


def unusable_location(world: World) -> list[str]:
    _, _, third = world.cluster()
    third.overrides["ha-status"] = _redirecting("localhost:///v1/sys/ha-status")
    return []


def lost_prefix(world: World) -> list[str]:
    active, second = world.cluster(2)
    second.leader = active

    def under_prefix(request: Seen) -> Reply:
        request.path = request.path.removeprefix("/secrets")
        return second.answer(request)

    active.overrides["*"] = lambda request: active_without_prefix(request)
    normal = dict(active.overrides)

    def active_without_prefix(request: Seen) -> Reply:
        if "secrets" not in request.path:
            return 404, b"404 page not found", {"Content-Type": "text/plain"}
        request.path = request.path.removeprefix("/secrets")
        active.overrides.clear()
        try:
            return active.answer(request)
        finally:
            active.overrides.update(normal)

    second.fake.script = under_prefix
    return [
        "--addr",
        f"{active.url}/secrets,{second.url}/secrets",
        "--fail-on",
        "warning",
    ]


# --- certificates ---------------------------------------------------------------------------------


def _dated(before: timedelta, after: timedelta) -> Build:
    def build(world: World) -> list[str]:
        world.cluster(2, context=world.context())
        context = world.context(not_before=_now() + before, not_after=_now() + after)
        world.node("standby", leader=world.nodes[0], context=context)
        return ["--ca", world.ca_file(), "--fail-on", "warning", "--skip", "BH-707"]

    return build


def name_missing(world: World) -> list[str]:
    world.cluster(2, context=world.context())
    context = world.context("c.example.com", "10.0.0.3")
    world.node("standby", leader=world.nodes[0], context=context)
    return ["--ca", world.ca_file()]


def chain_incomplete(world: World) -> list[str]:
    middle = world.authority.create_child_ca()
    world.cluster(2, context=world.context(authority=middle))
    import ssl

    issued = middle.issue_cert("127.0.0.1")
    pem = world.folder / "leaf.pem"
    pem.write_bytes(issued.private_key_pem.bytes() + issued.cert_chain_pems[0].bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    world.node("standby", leader=world.nodes[0], context=context)
    return ["--ca", world.ca_file(), "--fail-on", "warning"]


def other_issuer(world: World) -> list[str]:
    world.cluster(2, context=world.context())
    other = trustme.CA(organization_name="Other")
    bundle = world.folder / "both.pem"
    bundle.write_bytes(world.authority.cert_pem.bytes() + other.cert_pem.bytes())
    world.node("standby", leader=world.nodes[0], context=world.context(authority=other))
    return ["--ca", str(bundle), "--fail-on", "warning"]


def older_certificate(world: World) -> list[str]:
    after = _now() + timedelta(days=400)
    new = world.context(not_before=_now() - timedelta(days=1), not_after=after)
    old = world.context(not_before=_now() - timedelta(days=90), not_after=after)
    world.cluster(2, context=new)
    world.node("standby", leader=world.nodes[0], context=old)
    return ["--ca", world.ca_file(), "--fail-on", "warning"]


def client_certificate_wanted(world: World) -> list[str]:
    import ssl

    world.cluster(2)
    context = world.context()
    context.verify_mode = ssl.CERT_REQUIRED
    world.authority.configure_trust(context)
    extra = world.fake(lambda _: DENIED, context)
    return ["--addr", f"{world.addresses()},{extra}", "--ca", world.ca_file(), "--fail-on", "info"]


# --- load balancers -------------------------------------------------------------------------------


def balancer_to_sealed(world: World) -> list[str]:
    active, second, third = world.cluster()
    third.role = "sealed"
    return ["--via", world.balancer(active, second, third), "--skip", "BH-316"]


def balancer_to_blind(world: World) -> list[str]:
    active, second, third = world.cluster()
    third.leader = None
    return ["--via", world.balancer(active, second, third), "--skip", "BH-304"]


def balancer_to_dead(world: World) -> list[str]:
    return ["--via", world.balancer(*world.cluster(), dead=1)]


def header_stripped(world: World) -> list[str]:
    _, second, _ = world.cluster()

    def strip(request: Seen) -> Reply:
        request.headers.pop(NO_FORWARDING, None)
        return second.answer(request)

    return ["--via", world.fake(strip), "--fail-on", "warning"]


def unknown_health_status(world: World) -> list[str]:
    _, _, third = world.cluster()
    third.health_status = 473
    return ["--via", world.balancer(*world.nodes), "--fail-on", "warning"]


def forwarded_for_wanted(world: World) -> list[str]:
    _, _, third = world.cluster()
    words = "missing x-forwarded-for header and configured to reject when not present"
    third.overrides["*"] = (400, {"errors": [words]})
    return ["--fail-on", "warning"]


def location_rewritten(world: World) -> list[str]:
    _, second, _ = world.cluster()
    own: list[str] = []

    def rewrite(request: Seen) -> Reply:
        reply = second.answer(request)
        if reply[0] == 307:
            return 307, b"", {"Location": f"{own[0]}/v1/sys/ha-status"}
        return reply

    own.append(world.fake(rewrite))
    return ["--via", own[0], "--fail-on", "warning"]


def rate_limited(world: World) -> list[str]:
    _, _, third = world.cluster()
    third.overrides["ha-status"] = (429, {"errors": ["request path: rate limit quota exceeded"]})
    return ["--fail-on", "warning"]


# --- time, version, health ------------------------------------------------------------------------


def _skewed(seconds: int) -> Build:
    def build(world: World) -> list[str]:
        _, _, third = world.cluster()
        third.skew_s = seconds
        return ["--fail-on", "warning"]

    return build


def clock_here_is_wrong(world: World) -> list[str]:
    for node in world.cluster():
        node.skew_s = -120
    return ["--fail-on", "info"]


def mixed_versions(world: World) -> list[str]:
    _active, _, third = world.cluster()
    third.version = "2.8.0"
    return ["--fail-on", "warning"]


def older_standby(world: World) -> list[str]:
    _, _, third = world.cluster()
    third.version = "2.6.1"
    return []


def known_bug(world: World) -> list[str]:
    for node in world.cluster():
        node.version = "2.5.0"
    return ["--fail-on", "warning"]


def green_but_broken(world: World) -> list[str]:
    active, *standbys = world.cluster()
    broken: Reply = (500, {"errors": ["internal error"]})
    active.overrides["ha-status"] = broken
    for node in standbys:
        bare: Reply = (307, b"", {"Location": f"{active.url}/v1/sys/ha-status"})
        node.overrides["ha-status"] = lambda request, bare=bare: (
            bare if NO_FORWARDING in request.headers else broken
        )
    return []


def stuck_store(world: World) -> list[str]:
    active, *_ = world.cluster()

    def slowly(request: Seen) -> Reply:
        world.gate.wait(1.2)
        return 200, active._leader()

    active.overrides["leader"] = slowly
    return ["--fail-on", "warning"]


def store_in_error_texts(world: World) -> list[str]:
    _, _, third = world.cluster()
    words = "failed: user=postgres database=bao host=10.0.0.7"
    third.overrides["ha-status"] = (500, {"errors": [words]})
    return ["--fail-on", "warning", "--skip", "BH-404"]


def store_down(world: World) -> list[str]:
    words = "failed to connect to `user=postgres database=bao`: dial error"
    for node in world.cluster():
        node.overrides["*"] = (500, {"errors": [words]})
        node.overrides["health"] = (500, {"errors": []})
    return []


def leaderless_for_a_moment(world: World) -> list[str]:
    active, *_standbys = world.cluster()
    asked: list[int] = []

    def late(request: Seen) -> Reply:
        asked.append(1)
        active.role = "standby" if len(asked) < 2 else "active"
        return active._health()

    active.role, active.leader = "standby", None
    active.overrides["health"] = late
    return ["--fail-on", "warning"]


NO_LEADER_TEXT = NO_LEADER
DAY = timedelta(days=1)

CASES: dict[str, Case] = {
    "api_addr without a scheme": Case(no_scheme, ("BH-102",)),
    "api_addr without a host": Case(no_host, ("BH-103",)),
    "api_addr without a port": Case(no_port, ("BH-104",)),
    "path in api_addr": Case(path_in_address, ("BH-105",), 0),
    "api_addr equals cluster_addr": Case(same_addresses_for_both, ("BH-106",)),
    "wildcard advertised": Case(wildcard_address, ("BH-110",)),
    "unexpanded variable": Case(unexpanded_variable, ("BH-111",)),
    "IPv6 without brackets": Case(ipv6_without_brackets, ("BH-112",)),
    "two nodes with the same addresses": Case(same_addresses_on_two_nodes, ("BH-116",)),
    "one api_addr for all": Case(one_api_addr_for_all, ("BH-117",), 0),
    "unknown name": Case(unknown_name, ("BH-201",)),
    "a web page": Case(not_a_node, ("BH-204",)),
    "an ingress without backend": Case(bad_gateway, ("BH-204",)),
    "closed port": Case(closed_port, ("BH-205",)),
    "dropped packets": Case(dropped_packets, ("BH-206",)),
    "unknown authority": Case(unknown_authority, ("BH-207",) * 3),
    "redirect target not in certificate": Case(redirect_target_not_in_certificate, ("BH-208",)),
    "HTTP to a TLS port": Case(plain_spoken_to_tls, ("BH-209",)),
    "TLS to a plain port": Case(tls_spoken_to_plain, ("BH-209",)),
    "leader not reachable from here": Case(leader_not_reachable_from_here, ("BH-210",), 0),
    "slow node": Case(slow_node, ("BH-211",), 0),
    "nobody leads": Case(nobody_leads, ("BH-301",)),
    "two active nodes": Case(two_actives, ("BH-302",)),
    "an election": Case(leaderless_for_a_moment, ("BH-303",)),
    "blind standby": Case(blind_standby, ("BH-304",)),
    "different leaders": Case(different_leaders, ("BH-305",)),
    "dead leader": Case(dead_leader, ("BH-306",) * 2),
    "dead leader that was not asked": Case(dead_leader_not_asked, ("BH-401",) * 2, cause="BH-306"),
    "standby that names itself": Case(names_itself, ("BH-307",) * 2),
    "sealed leader": Case(sealed_leader, ("BH-308",) * 2),
    "node that contradicts itself": Case(contradiction, ("BH-309",)),
    "stray cluster": Case(stray_cluster, ("BH-311",)),
    "no high availability": Case(no_high_availability, ("BH-312",)),
    "removed node": Case(removed_node, ("BH-313",)),
    "members name another leader": Case(list_names_another, ("BH-314",)),
    "one unsealed node": Case(one_unsealed, ("BH-315",)),
    "one sealed node": Case(one_sealed, ("BH-316",)),
    "all sealed": Case(all_sealed, ("BH-316",) * 3, 2),
    "all uninitialised": Case(all_uninitialized, ("BH-316",) * 3, 4),
    "missing member": Case(missing_member, ("BH-318",)),
    "member without heartbeat": Case(silent_member, ("BH-318",)),
    "cluster port closed": Case(_broken_port("refused"), ("BH-401",) * 2, cause="BH-601"),
    "cluster port filtered": Case(_broken_port("black hole"), ("BH-401",) * 2, cause="BH-602"),
    "cluster port silent": Case(_broken_port("silent"), ("BH-401",) * 2, cause="BH-602"),
    "plain HTTP at cluster address": Case(_broken_port("plain"), ("BH-401",) * 2, cause="BH-603"),
    "API at cluster address": Case(api_at_cluster_address, ("BH-401",) * 2, cause="BH-604"),
    "cluster address of another node": Case(
        _broken_port("listener"), ("BH-401",) * 2, cause="BH-605"
    ),
    "TLS ends before the cluster port": Case(
        _broken_port("https"), ("BH-401",) * 2, cause="BH-606"
    ),
    "path between nodes blocked": Case(_broken_port("active"), ("BH-401",) * 2, cause="BH-607"),
    "frozen leader": Case(frozen_leader, ("BH-402",) * 2),
    "slow forwarding": Case(slow_forwarding, ("BH-403",)),
    "another answer through a standby": Case(other_answer_through_standby, ("BH-404",)),
    "no cluster address": Case(no_cluster_address, ("BH-405",)),
    "cluster port of a standby is wrong": Case(standby_port_is_wrong, ("BH-408",), cause="BH-603"),
    "redirects in a circle": Case(circle_of_redirects, ("BH-501",) * 2),
    "redirect to itself": Case(redirect_to_itself, ("BH-502",)),
    "redirect to the load balancer": Case(redirect_to_balancer, ("BH-503",) * 2),
    "protocol downgrade": Case(downgrade, ("BH-504",) * 2),
    "redirect target closed": Case(target_closed, ("BH-505",) * 2),
    "unusable Location": Case(unusable_location, ("BH-506",)),
    "plain cluster port of a lone node": Case(port_of_lone_node_is_plain, ("BH-603",)),
    "certificate expired": Case(_dated(-9 * DAY, -1 * DAY), ("BH-701",)),
    "certificate expires soon": Case(_dated(-9 * DAY, 20 * DAY), ("BH-702",)),
    "certificate not yet valid": Case(_dated(1 * DAY, 90 * DAY), ("BH-703",)),
    "name missing in certificate": Case(name_missing, ("BH-704",)),
    "chain incomplete": Case(chain_incomplete, ("BH-705",)),
    "certificate of another issuer": Case(other_issuer, ("BH-707",)),
    "certificate older than a peer's": Case(older_certificate, ("BH-707",)),
    "client certificate wanted": Case(client_certificate_wanted, ("BH-709",)),
    "balancer leads to a sealed node": Case(balancer_to_sealed, ("BH-802",)),
    "balancer leads to a blind node": Case(balancer_to_blind, ("BH-802",)),
    "balancer leads to a dead node": Case(balancer_to_dead, ("BH-802",)),
    "header removed on the way": Case(header_stripped, ("BH-803",)),
    "health status unknown to balancers": Case(unknown_health_status, ("BH-804",)),
    "X-Forwarded-For wanted": Case(forwarded_for_wanted, ("BH-805",)),
    "Location rewritten": Case(location_rewritten, ("BH-806",)),
    "redirect to a sticky balancer": Case(redirect_to_sticky_balancer, ("BH-807",) * 2),
    "rate limit": Case(rate_limited, ("BH-810",)),
    "clock 3 s off": Case(_skewed(3), ("BH-901",)),
    "clock a minute off": Case(_skewed(-60), ("BH-901",)),
    "clock here is wrong": Case(clock_here_is_wrong, ("BH-902",)),
    "mixed versions": Case(mixed_versions, ("BH-903",)),
    "older standby": Case(older_standby, ("BH-904",)),
    "version with a known bug": Case(known_bug, ("BH-905",) * 3),
    "green but broken": Case(green_but_broken, ("BH-906",) * 3),
    "stuck store": Case(stuck_store, ("BH-907",)),
    "store in error texts": Case(store_in_error_texts, ("BH-908",)),
    "store down": Case(store_down, ("BH-910",)),
}
