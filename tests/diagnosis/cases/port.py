"""BH-6xx. The cluster port."""

from __future__ import annotations

from tests.diagnosis.cases.case import Build, Case
from tests.diagnosis.world import World


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


def port_of_lone_node_is_plain(world: World) -> list[str]:
    active = world.node("active")
    active.cluster_addr = world.cluster_port("plain")
    return []


CASES = {
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
    "plain cluster port of a lone node": Case(port_of_lone_node_is_plain, ("BH-603",)),
}
