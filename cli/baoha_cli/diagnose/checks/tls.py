"""
Checks of certificates and TLS (BH-7xx), of every address that is spoken to or advertised.

Rule of this file: pure; the time of day is the one that the look was taken at.

Source: docs/spec/cluster-cli.md section 6.2 G.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Final

from baoha.diagnostics.code import Finding, Severity
from baoha.diagnostics.codes.tls import (
    CERTIFICATE_BY_SERVER_NAME,
    CERTIFICATE_EXPIRED,
    CERTIFICATE_EXPIRES_SOON,
    CERTIFICATE_NOT_YET_VALID,
    CERTIFICATE_UNLIKE_PEERS,
    CHAIN_INCOMPLETE,
    HOST_MISSING_IN_CERTIFICATE,
    TLS_OFF,
    WEAK_TLS,
)
from baoha_cli.diagnose.evidence import Certificate, Evidence, TlsLook

WARN_DAYS: Final = 30
FAIL_DAYS: Final = 7
DAY_S: Final = 86_400
_NO_ISSUER: Final = frozenset({20, 21})
_WRONG_NAME: Final = frozenset({62, 64})
_OLD: Final = frozenset({"SSLv3", "TLSv1", "TLSv1.1"})


def check(evidence: Evidence) -> Iterator[Finding]:
    """Judge each look, then all of them side by side."""
    for look in evidence.tls.values():
        where = _label(evidence, look)
        about = (look.endpoint.url, look.endpoint.origin)
        if look.chain:
            for one in look.chain:
                yield from certificate_faults(where, look.endpoint.url, one, look.read_at, about)
            yield from _chain(evidence, where, look, about)
            yield from _strength(where, look, about)
            yield from _names(evidence, where, look, about)
    yield from _peers(evidence)
    for node in evidence.nodes:
        endpoint = node.endpoint
        if endpoint.scheme == "http" and node.is_api and not _is_local(endpoint.host):
            text = f"{endpoint.url} is plain text"
            yield TLS_OFF.at(node.label, text)


def date_text(moment: float) -> str:
    """Return a day as text."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _label(evidence: Evidence, look: TlsLook) -> str:
    for node in evidence.nodes:
        if node.endpoint.origin.lower() == look.endpoint.origin.lower():
            return node.label
    for via in evidence.vias:
        if via.endpoint.origin.lower() == look.endpoint.origin.lower():
            return via.label
    return look.endpoint.url


def certificate_faults(
    where: str, place: str, certificate: Certificate, now: float, about: tuple[str, ...]
) -> Iterator[Finding]:
    """Judge the dates of one certificate; ``now`` is seconds since the epoch."""
    left_s = certificate.not_after - now
    what = f"{place}: {certificate.subject or 'certificate'}"
    if left_s <= 0:
        text = f"{what} expired on {date_text(certificate.not_after)}"
        yield CERTIFICATE_EXPIRED.at(where, text, about=about)
    elif left_s < WARN_DAYS * DAY_S:
        text = f"{what} expires on {date_text(certificate.not_after)}"
        severity = Severity.ERROR if left_s < FAIL_DAYS * DAY_S else None
        yield CERTIFICATE_EXPIRES_SOON.at(where, text, severity=severity, about=about)
    if certificate.not_before > now:
        text = f"{what} is valid from {date_text(certificate.not_before)}"
        yield CERTIFICATE_NOT_YET_VALID.at(where, text, about=about)


def _chain(
    evidence: Evidence, where: str, look: TlsLook, about: tuple[str, ...]
) -> Iterator[Finding]:
    url = look.endpoint.url
    links = zip(look.chain, look.chain[1:], strict=False)
    if any(child.issuer != parent.subject for child, parent in links):
        yield CHAIN_INCOMPLETE.at(where, f"{url}: the chain is out of order", about=about)
        return
    last = look.chain[-1]
    if look.verify_code in _NO_ISSUER and not last.is_self_signed:
        # Somebody else sent the missing link, so it is known what is missing.
        others = (one for other in evidence.tls.values() for one in other.chain)
        if any(one.subject == last.issuer and not one.is_self_signed for one in others):
            text = f"{url}: the certificate of {last.issuer} is not sent"
            yield CHAIN_INCOMPLETE.at(where, text, about=about)


def _strength(where: str, look: TlsLook, about: tuple[str, ...]) -> Iterator[Finding]:
    url = look.endpoint.url
    found = [one.weakness for one in look.chain if one.weakness]
    if look.version in _OLD or look.speaks_old:
        found.append("TLS below 1.2 is accepted")
    if found:
        yield WEAK_TLS.at(where, f"{url}: {', '.join(dict.fromkeys(found))}", about=about)


def _names(
    evidence: Evidence, where: str, look: TlsLook, about: tuple[str, ...]
) -> Iterator[Finding]:
    first = look.chain[0]
    is_given = where != look.endpoint.url
    if is_given and look.verify_code in _WRONG_NAME:
        names = ", ".join(first.names[:8]) or "nobody"
        text = f"{look.endpoint.url}: {look.endpoint.host} is missing, it is for {names}"
        yield HOST_MISSING_IN_CERTIFICATE.at(where, text, about=about)
    if look.nameless and look.nameless != first.fingerprint and not _is_ip(look.endpoint.host):
        text = f"{look.endpoint.url}: without a server name another certificate is shown"
        yield CERTIFICATE_BY_SERVER_NAME.at(where, text, about=about)


def _peers(evidence: Evidence) -> Iterator[Finding]:
    """Find the node whose certificate is not like those of its peers."""
    leaves: dict[str, Certificate] = {}
    for node in evidence.nodes:
        look = evidence.tls.get(node.endpoint.origin.lower())
        if look is not None and look.chain:
            leaves[node.label] = look.chain[0]
    issuers = Counter(leaf.issuer for leaf in leaves.values())
    for label, leaf in leaves.items():
        usual, count = issuers.most_common(1)[0]
        if leaf.issuer != usual and count > 1 and not leaf.is_self_signed:
            text = f"its certificate is from {leaf.issuer}, those of its peers from {usual}"
            yield CERTIFICATE_UNLIKE_PEERS.at(label, text)
            continue
        newer = [
            other
            for other in leaves.values()
            if other.names == leaf.names
            and other.issuer == leaf.issuer
            and other.not_before > leaf.not_before
            and other.fingerprint != leaf.fingerprint
        ]
        if newer:
            text = f"its certificate is of {date_text(leaf.not_before)}, a peer has a newer one"
            yield CERTIFICATE_UNLIKE_PEERS.at(label, text)


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_local(host: str) -> bool:
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
