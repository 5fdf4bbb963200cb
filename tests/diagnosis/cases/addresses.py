"""BH-1xx. What a node advertises."""

from __future__ import annotations

from tests.diagnosis.cases.case import Case, token
from tests.diagnosis.world import World


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
    return [*token(world), "--skip", "BH-318"]


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
    return [*token(world), "--from", "node"]


CASES = {
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
}
