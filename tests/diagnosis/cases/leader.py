"""BH-3xx. Who leads, who may, and who is missing."""

from __future__ import annotations

from datetime import timedelta

from tests.diagnosis.cases.case import Case, now, token
from tests.diagnosis.world import World
from tests.support.cli_lab import Reply, Seen, free_port


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
    return [*token(world), "--from", "node", "--fail-on", "warning"]


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
    return [*token(world), "--from", "node", "--fail-on", "warning"]


def silent_member(world: World) -> list[str]:
    world.cluster()
    members = world.members()
    echo = (now() - timedelta(seconds=14)).isoformat()
    members[2]["last_echo"] = echo
    world.list_members(members)
    return [*token(world), "--from", "node", "--fail-on", "warning"]


def leaderless_for_a_moment(world: World) -> list[str]:
    active, *_standbys = world.cluster()
    asked: list[int] = []

    def late(request: Seen) -> Reply:
        asked.append(1)
        active.role = "standby" if len(asked) < 2 else "active"
        return active.answer_health()

    active.role, active.leader = "standby", None
    active.overrides["health"] = late
    return ["--fail-on", "warning"]


CASES = {
    "nobody leads": Case(nobody_leads, ("BH-301",)),
    "two active nodes": Case(two_actives, ("BH-302",)),
    "an election": Case(leaderless_for_a_moment, ("BH-303",)),
    "blind standby": Case(blind_standby, ("BH-304",)),
    "different leaders": Case(different_leaders, ("BH-305",)),
    "dead leader": Case(dead_leader, ("BH-306",) * 2),
    "dead leader that was not asked": Case(dead_leader_not_asked, ("BH-306",) * 2),
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
}
