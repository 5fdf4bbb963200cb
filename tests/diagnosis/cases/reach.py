"""BH-2xx. Who can be reached, and speaks what is expected."""

from __future__ import annotations

from tests.diagnosis.cases.case import Case
from tests.diagnosis.world import DENIED, World
from tests.support.cli_lab import free_port


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


CASES = {
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
}
