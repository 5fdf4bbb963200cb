"""
Checks of redirects (BH-5xx): where a client is sent that a standby does not serve.

Rules of this file. Pure. A redirect to a load balancer is a fault only when that one can lead to a
standby. Nothing is said about redirects that end at a node which answers.

Source: docs/spec/cluster-cli.md section 6.2 E.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from baoha.diagnostics.code import Finding
from baoha.diagnostics.codes.balancer import STICKY_CIRCLE
from baoha.diagnostics.codes.redirects import (
    LOCATION_UNUSABLE,
    PREFIX_LOST,
    REDIRECT_CIRCLE,
    REDIRECT_DOWNGRADE,
    REDIRECT_TO_BALANCER,
    REDIRECT_TO_ITSELF,
    REDIRECT_TO_OTHER_HOST,
    REDIRECT_TO_PRIVATE,
    SEVERAL_HOPS,
    TARGET_UNREACHABLE,
)
from baoha_cli.diagnose.evidence import Chain, ChainEnd, Evidence, ViaLook, origin_of
from baoha_cli.failures import ErrorKind
from baoha_cli.text import one_line

_HOPS_OF_GO: Final = 1


def check(evidence: Evidence) -> Iterator[Finding]:
    """Judge all chains."""
    for chain in evidence.chains:
        yield from _chain(evidence, chain)


def _chain(evidence: Evidence, chain: Chain) -> Iterator[Finding]:
    about = (chain.label, chain.target, *(origin_of(hop.location) for hop in chain.hops))
    path = " -> ".join([chain.start.origin, *(one_line(hop.location) for hop in chain.hops)])
    via = _balancer(evidence, chain)
    if via is not None and not via.leads_to_active_only:
        yield _to_balancer(evidence, chain, via, about)
    if chain.end is ChainEnd.UNUSABLE:
        text = f"Location is {one_line(chain.hops[-1].location)!r}"
        yield LOCATION_UNUSABLE.at(chain.label, text, about=about)
    elif chain.end is ChainEnd.DOWNGRADE:
        text = f"redirect from https to http: {path}"
        yield REDIRECT_DOWNGRADE.at(chain.label, text, about=about)
    elif chain.end is ChainEnd.LOOP and len(chain.hops) == 1:
        yield REDIRECT_TO_ITSELF.at(chain.label, f"it redirects to itself: {path}", about=about)
    elif chain.end in (ChainEnd.LOOP, ChainEnd.TOO_LONG):
        yield REDIRECT_CIRCLE.at(chain.label, f"redirects lead in a circle: {path}", about=about)
    elif chain.end is ChainEnd.UNREACHABLE:
        yield from _unreachable(evidence, chain, about)
    else:
        yield from _arrived(evidence, chain, path, about)


def _balancer(evidence: Evidence, chain: Chain) -> ViaLook | None:
    for hop in chain.hops:
        for via in evidence.vias:
            if via.endpoint.origin.lower() == origin_of(hop.location):
                return via
    return None


def _to_balancer(evidence: Evidence, chain: Chain, via: ViaLook, about: tuple[str, ...]) -> Finding:
    if via.is_sticky:
        text = f"the redirect leads to {via.label}, which sends this client to a standby each time"
        return STICKY_CIRCLE.at(chain.label, text, about=about)
    count = len({node.endpoint for node in evidence.nodes})
    text = f"the redirect leads to {via.label}, which may choose a standby again"
    if count > 1:
        # One hop is followed by the Go client: two throws of the dice, both a standby.
        odds = ((count - 1) / count) ** (_HOPS_OF_GO + 1)
        text += f": without forwarding {odds:.0%} of requests fail"
    return REDIRECT_TO_BALANCER.at(chain.label, text, about=about)


def _unreachable(evidence: Evidence, chain: Chain, about: tuple[str, ...]) -> Iterator[Finding]:
    target = one_line(chain.hops[-1].location)
    if chain.reply.kind is ErrorKind.TLS:
        return  # BH-207, 208, 209 say it
    standby = next((node for node in evidence.nodes if node.endpoint == chain.start), None)
    if standby is not None and not standby.plain.redirects:
        return  # nobody is redirected while forwarding works: BH-210 says it
    if standby is not None and standby.plain.status == 0:
        return
    text = f"the redirect leads to {target}: {chain.reply.error}"
    yield TARGET_UNREACHABLE.at(chain.label, text, about=about)


def _arrived(
    evidence: Evidence, chain: Chain, path: str, about: tuple[str, ...]
) -> Iterator[Finding]:
    if chain.start.prefix and chain.reply.status == 404:
        text = f"{chain.start.url} has a path, and the redirect leads to one without: {path}"
        yield PREFIX_LOST.at(chain.label, text, about=about)
        return
    if len(chain.hops) > _HOPS_OF_GO and chain.reply.status:
        yield SEVERAL_HOPS.at(chain.label, f"{len(chain.hops)} hops: {path}", about=about)
    node = next((one for one in evidence.nodes if one.endpoint == chain.start), None)
    is_followed = node is not None and node.plain.redirects
    # A client is really sent there only while the standby does not forward.
    if not is_followed or evidence.is_via(chain.target):
        return
    if origin_of(chain.target).partition("://")[2] != chain.start.netloc.lower():
        text = f"the redirect crosses to another host: {path}"
        yield REDIRECT_TO_OTHER_HOST.at(chain.label, text, about=about)
    if _leaves_public(chain):
        text = f"the redirect leads from a public name to {one_line(chain.target)}"
        yield REDIRECT_TO_PRIVATE.at(chain.label, text, about=about)


def _leaves_public(chain: Chain) -> bool:
    """Return whether a redirect goes from a name or public address to a private address."""
    host = origin_of(chain.target).partition("://")[2].rpartition(":")[0].strip("[]")
    try:
        target = ip_address(host)
    except ValueError:
        return False
    try:
        return target.is_private and not ip_address(chain.start.host).is_private
    except ValueError:
        return target.is_private and "." in chain.start.host
