"""BH-9xx. Time, versions, health."""

from __future__ import annotations

from tests.diagnosis.cases.case import Build, Case
from tests.diagnosis.world import World
from tests.support.cli_lab import NO_FORWARDING, Reply, Seen


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
        return 200, active.answer_leader()

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


CASES = {
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
