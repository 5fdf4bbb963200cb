"""BH-4xx. Requests that a standby passes on."""

from __future__ import annotations

from tests.diagnosis.cases.case import Case, token
from tests.diagnosis.world import World
from tests.support.cli_lab import NO_FORWARDING, Reply, Seen


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
        return third.answer_ha_status(request)

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


def standby_port_is_wrong(world: World) -> list[str]:
    _active, second, third = world.cluster()
    second.cluster_addr = world.cluster_port("listener")
    third.cluster_addr = world.cluster_port("plain")
    return [*token(world), "--fail-on", "warning"]


CASES = {
    "frozen leader": Case(frozen_leader, ("BH-402",) * 2),
    "slow forwarding": Case(slow_forwarding, ("BH-403",)),
    "another answer through a standby": Case(other_answer_through_standby, ("BH-404",)),
    "no cluster address": Case(no_cluster_address, ("BH-405",)),
    "cluster port of a standby is wrong": Case(standby_port_is_wrong, ("BH-408",), cause="BH-603"),
}
