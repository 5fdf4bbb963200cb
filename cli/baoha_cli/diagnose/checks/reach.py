"""
Checks of names and reach, from this machine (BH-2xx).

Rule of this file: pure; what it says is true "from here", and the texts say so where it matters.

Source: docs/spec/cluster-cli.md section 6.2 B.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from baoha.diagnostics.code import Finding
from baoha.diagnostics.codes.reach import (
    CONNECTION_REFUSED,
    DEAD_ADDRESS_FAMILY,
    LEADER_UNREACHABLE_FROM_HERE,
    NAME_NOT_IN_CERTIFICATE,
    NAME_UNKNOWN,
    NO_ANSWER,
    NOT_A_NODE,
    ONE_NAME_SEVERAL_NODES,
    PROXY_VARIABLE,
    SLOW_ANSWERS,
    TLS_AND_PLAIN_MIXED_UP,
    UNKNOWN_AUTHORITY,
)
from baoha.diagnostics.codes.tls import CLIENT_CERTIFICATE_REQUIRED
from baoha_cli.client.address import Endpoint
from baoha_cli.diagnose.evidence import Evidence, TlsLook, origin_of
from baoha_cli.failures import ErrorKind
from baoha_cli.survey.look import NodeLook, Reply
from baoha_cli.text import one_line

_KINDS: Final = {
    ErrorKind.DNS: NAME_UNKNOWN,
    ErrorKind.REFUSED: CONNECTION_REFUSED,
    ErrorKind.TIMEOUT: NO_ANSWER,
    ErrorKind.UNREACHABLE: NO_ANSWER,
}
_PLAIN_TO_TLS: Final = ("http request to an https server", "https server", "https port")
# OpenSSL's codes, as in baoha_cli.client.tls.
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
_WRONG_NAME: Final = frozenset({62, 64})


def check(evidence: Evidence) -> Iterator[Finding]:
    """Judge the given addresses, then those that leaders advertise."""
    for node in evidence.nodes:
        yield from _given(evidence, node)
    if not evidence.from_node:
        for address in evidence.leader_addresses:
            if evidence.node_at(address) is None:
                yield from _advertised(evidence, address)
    yield from _names(evidence)
    given = [node.endpoint for node in evidence.nodes]
    for endpoint in given + [via.endpoint for via in evidence.vias]:
        yield from _verified(evidence, endpoint, evidence.tls.get(endpoint.origin.lower()))
    if evidence.from_node:
        return  # a proxy of this machine is none of the nodes
    if evidence.proxies and any(not _is_loopback(node.endpoint.host) for node in evidence.nodes):
        text = f"set here: {', '.join(evidence.proxies)}"
        yield PROXY_VARIABLE.at("", text)


def _given(evidence: Evidence, node: NodeLook) -> Iterator[Finding]:
    seal, where = node.seal, node.label
    url = node.endpoint.url
    if seal.kind is not None:
        code = _KINDS.get(seal.kind)
        if code is not None:
            yield code.at(where, f"{url}: {seal.error}", about=(url,))
            return
        yield from _broken(evidence, node)
        return
    if node.is_api:
        if seal.took_s > evidence.slow_s:
            text = f"{url} took {seal.took_s * 1000:.0f} ms, more than {evidence.slow_s * 1000:g}"
            yield SLOW_ANSWERS.at(where, text)
        return
    if seal.status == 400 and (seal.mentions(*_PLAIN_TO_TLS) or _is_http_to_tls(evidence, node)):
        yield TLS_AND_PLAIN_MIXED_UP.at(where, f"{url}: the port speaks TLS", about=(url,))
    elif seal.status == 400 and seal.mentions("x-forwarded-for"):
        return  # BH-805
    elif seal.status == 429 or (seal.status == 500 and not seal.media_type.startswith("text/")):
        return  # BH-810, BH-910
    else:
        what = seal.media_type or "nothing"
        text = f"{url} answers {seal.status} with {one_line(what)}: not a node of a cluster"
        yield NOT_A_NODE.at(where, text, about=(url,))


def _broken(evidence: Evidence, node: NodeLook) -> Iterator[Finding]:
    """Judge a connection that came about and brought no answer."""
    seal, where, url = node.seal, node.label, node.endpoint.url
    if seal.kind is ErrorKind.TLS and seal.mentions("http response to https client"):
        text = f"{url}: the port speaks plain HTTP"
        yield TLS_AND_PLAIN_MIXED_UP.at(where, text, about=(url,))
    elif refusal := _refusal(evidence, node):
        yield CLIENT_CERTIFICATE_REQUIRED.at(where, f"{url}: {refusal}", about=(url,))
    elif node.endpoint.scheme == "http" and _speaks_tls(evidence, node):
        yield TLS_AND_PLAIN_MIXED_UP.at(where, f"{url}: the port speaks TLS", about=(url,))
    else:
        yield NOT_A_NODE.at(where, f"{url}: {seal.error}", about=(url,))


def _refusal(evidence: Evidence, node: NodeLook) -> str:
    """Return the words by which a server asks for a client certificate, or ""."""
    look = evidence.tls.get(node.endpoint.origin.lower())
    texts = [node.seal.error]
    texts += [look.refusal, look.error] if look is not None else []
    wanted = ("certificate required", "handshake failure", "bad certificate")
    return next((text for text in texts if any(word in text for word in wanted)), "")


def _is_http_to_tls(evidence: Evidence, node: NodeLook) -> bool:
    return node.endpoint.scheme == "http" and _speaks_tls(evidence, node)


def _speaks_tls(evidence: Evidence, node: NodeLook) -> bool:
    look = evidence.tls.get(node.endpoint.origin.lower())
    return look is not None and bool(look.chain)


def _advertised(evidence: Evidence, address: str) -> Iterator[Finding]:
    """Judge a leader's API address that was not given: clients are redirected to it."""
    origin, shown = origin_of(address), one_line(address)
    reply = evidence.reach.get(address)
    where = shown
    look = evidence.tls.get(origin)
    if look is not None and look.kind is None:
        yield from _verified_look(where, look, (address,))
    if reply is None or reply.kind is None:
        if reply is not None and _is_foreign(reply):
            what = f"{reply.status} {reply.media_type}".strip()
            text = f"the leader's api_addr {shown} answers {what}: not a node"
            yield NOT_A_NODE.at(where, text, about=(address,))
        return
    if reply.kind is ErrorKind.DNS:
        text = f"the leader's api_addr {shown}: {reply.error}"
        yield NAME_UNKNOWN.at(where, text, about=(address,))
    elif reply.kind is ErrorKind.TLS and reply.mentions("http response to https client"):
        text = f"the leader's api_addr {shown} speaks plain HTTP"
        yield TLS_AND_PLAIN_MIXED_UP.at(where, text, about=(address,))
    elif any(standby.plain.status == 403 for standby in evidence.standbys):
        text = f"the leader's api_addr {shown} cannot be reached from here: {reply.error}"
        yield LEADER_UNREACHABLE_FROM_HERE.at(where, text, about=(address,))


def _is_foreign(reply: Reply) -> bool:
    return not reply.body and not reply.redirects and reply.status not in (400, 429)


def _verified(evidence: Evidence, endpoint: Endpoint, look: TlsLook | None) -> Iterator[Finding]:
    if look is None or look.kind is not None or not evidence.nodes:
        return
    labels = {node.endpoint: node.label for node in evidence.nodes}
    labels.update({via.endpoint: via.label for via in evidence.vias})
    yield from _verified_look(labels[endpoint], look, (endpoint.url,))


def _verified_look(where: str, look: TlsLook, about: tuple[str, ...]) -> Iterator[Finding]:
    url = look.endpoint.url
    if look.verify_code in _UNKNOWN_AUTHORITY:
        issuer = look.chain[-1].issuer if look.chain else "unknown"
        text = f"{url}: certificate signed by unknown authority ({issuer})"
        yield UNKNOWN_AUTHORITY.at(where, text, about=about)
    elif look.verify_code in _WRONG_NAME:
        names = ", ".join(look.chain[0].names[:8]) if look.chain else ""
        text = f"{url}: {look.endpoint.host} is not in the certificate (it is for {names or '-'})"
        yield NAME_NOT_IN_CERTIFICATE.at(where, text, about=about)


def _names(evidence: Evidence) -> Iterator[Finding]:
    for name in evidence.names.values():
        if _is_loopback(name.host):
            continue  # ::1 beside 127.0.0.1 is the rule, and a server listens on one of them
        where = next(
            (
                node.label
                for node in evidence.nodes
                if node.endpoint.host.lower() == name.host.lower()
            ),
            name.host,
        )
        is_node = any(node.endpoint.host.lower() == name.host.lower() for node in evidence.nodes)
        if name.error:
            if not is_node:
                yield NAME_UNKNOWN.at(where, f"{name.host}: {name.error}", about=(name.host,))
            continue
        if is_node and len(set(name.identities)) > 1:
            text = f"{name.host} leads to different nodes: {', '.join(name.addresses)}"
            yield ONE_NAME_SEVERAL_NODES.at(where, text)
        elif name.dead and len(name.dead) < len(name.addresses):
            text = f"{name.host}: no connection at {', '.join(name.dead)}"
            yield DEAD_ADDRESS_FAMILY.at(where, text)


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
