"""
Checks of the cluster port of leaders (BH-6xx), as it is seen from here.

Rules of this file. Pure. What stands at the port is a finding of its own only when no standby says
whether it can forward (`forwarding`): a port that is closed from here while forwarding works is a
firewall that does its work. BH-609 and BH-610 a node says of itself.

Source: docs/spec/cluster-cli.md sections 6.1 and 6.2 F.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from baoha.diagnostics.code import Code, Finding, Severity
from baoha.diagnostics.codes.port import (
    API_AT_PORT,
    PATH_BLOCKED,
    PLAIN_HTTP_AT_PORT,
    PORT_CLOSED,
    PORT_OF_STANDBY,
    PORT_OPEN_TO_CLIENTS,
    PORT_SILENT,
    TLS_ENDS_BEFORE_PORT,
)
from baoha.diagnostics.codes.reach import NAME_UNKNOWN
from baoha_cli.diagnose.evidence import Evidence, PortKind, PortLook
from baoha_cli.text import one_line

_BY_KIND: Final[dict[PortKind, Code]] = {
    PortKind.REFUSED: PORT_CLOSED,
    PortKind.TIMEOUT: PORT_SILENT,
    PortKind.PLAIN: PLAIN_HTTP_AT_PORT,
    PortKind.LISTENER: PORT_OF_STANDBY,
    PortKind.ACTIVE: PATH_BLOCKED,  # it is open from here, so the way of the standby is not
    PortKind.CLOSED: TLS_ENDS_BEFORE_PORT,
    PortKind.DNS: NAME_UNKNOWN,
}
# Without a standby to ask, a firewall between here and the node looks the same.
_UNSURE: Final = frozenset({PORT_CLOSED, PORT_SILENT})


def check(evidence: Evidence) -> Iterator[Finding]:
    """Judge the cluster port of each leader that is named."""
    if evidence.from_node:
        return
    for address in evidence.cluster_addresses:
        port = evidence.ports.get(address)
        if port is None:
            continue
        witnesses = [
            node for node in evidence.standbys if node.report.leader_cluster_address == address
        ]
        leader = evidence.leader_name(next(iter((*witnesses, *evidence.actives))))
        about = (leader, address)
        if port.kind is PortKind.ACTIVE:
            text = f"{address} can be reached from here"
            yield PORT_OPEN_TO_CLIENTS.at(leader, text, about=about)
            continue
        if any(node.plain.status or node.plain.timed_out for node in witnesses):
            continue  # they say it better
        code = cause_of(evidence, port)
        if code is not None and code is not NAME_UNKNOWN:
            text = f"{one_line(address)}: {seen_from_here(port)}"
            severity = Severity.WARNING if code in _UNSURE else None
            yield code.at(leader, text, severity=severity, about=about)


def cause_of(evidence: Evidence, port: PortLook) -> Code | None:
    """Return why a standby cannot forward to a port, as far as a look from here can tell."""
    if port.kind is not PortKind.HTTPS:
        return _BY_KIND.get(port.kind)
    # The API of a node, or something that ends TLS in front of the cluster port?
    reply = evidence.reach.get(port.address)
    is_api = reply is None or "sealed" in reply.body
    return API_AT_PORT if is_api else TLS_ENDS_BEFORE_PORT


def seen_from_here(port: PortLook) -> str:
    """Return what stands at a cluster address, in words."""
    words = {
        PortKind.ACTIVE: "from here its cluster port is open",
        PortKind.LISTENER: f"from here it is {port.detail}",
        PortKind.PLAIN: "something speaks plain HTTP there",
        PortKind.HTTPS: f"an HTTPS server is there, with {port.detail}",
        PortKind.INVALID: port.detail,
        PortKind.CLOSED: f"the TLS handshake fails: {port.detail}",
    }
    return words.get(port.kind, f"{port.detail} from here")
