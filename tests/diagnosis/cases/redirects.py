"""BH-5xx. Where a standby sends its clients."""

from __future__ import annotations

from collections.abc import Callable

from tests.diagnosis.cases.case import Case
from tests.diagnosis.world import DENIED, World
from tests.support.cli_lab import NO_FORWARDING, Reply, Seen, free_port


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


CASES = {
    "redirects in a circle": Case(circle_of_redirects, ("BH-501",) * 2),
    "redirect to itself": Case(redirect_to_itself, ("BH-502",)),
    "redirect to the load balancer": Case(redirect_to_balancer, ("BH-503",) * 2),
    "protocol downgrade": Case(downgrade, ("BH-504",) * 2),
    "redirect target closed": Case(target_closed, ("BH-505",) * 2),
    "unusable Location": Case(unusable_location, ("BH-506",)),
    "path prefix lost": Case(lost_prefix, ("BH-507",)),
}
