"""BH-8xx. What stands between clients and nodes."""

from __future__ import annotations

from tests.diagnosis.cases.case import Case
from tests.diagnosis.world import World
from tests.support.cli_lab import NO_FORWARDING, Reply, Seen


def redirect_to_sticky_balancer(world: World) -> list[str]:
    active, second, _third = world.cluster()
    active.api_addr = world.balancer(second, sticky=True)
    return ["--via", active.api_addr]


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


CASES = {
    "balancer leads to a sealed node": Case(balancer_to_sealed, ("BH-802",)),
    "balancer leads to a blind node": Case(balancer_to_blind, ("BH-802",)),
    "balancer leads to a dead node": Case(balancer_to_dead, ("BH-802",)),
    "header removed on the way": Case(header_stripped, ("BH-803",)),
    "health status unknown to balancers": Case(unknown_health_status, ("BH-804",)),
    "X-Forwarded-For wanted": Case(forwarded_for_wanted, ("BH-805",)),
    "Location rewritten": Case(location_rewritten, ("BH-806",)),
    "redirect to a sticky balancer": Case(redirect_to_sticky_balancer, ("BH-807",) * 2),
    "rate limit": Case(rate_limited, ("BH-810",)),
}
