"""
Checks of the text of addresses that a running cluster advertises (BH-1xx).

Rule of this file: pure; nothing is said about an address that may be right. The same codes for
configuration files come from `config`.

Source: docs/spec/cluster-cli.md section 6.2 A.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

from baoha.diagnostics.code import Finding
from baoha.diagnostics.codes.addresses import (
    API_IS_CLUSTER_ADDR,
    IPV6_FORM,
    MORE_THAN_HOST,
    NO_HOST,
    NO_SCHEME,
    NO_USABLE_PORT,
    NOT_ROUTABLE,
    ODD_HOST_NAME,
    SHARED_API_ADDR,
    TWO_NODES_ONE_ADDRESS,
    UNEXPANDED_VARIABLE,
)
from baoha.sansio.address_form import address_form
from baoha_cli.diagnose.evidence import Evidence
from baoha_cli.text import one_line

_FORM_WORDS: Final = {
    UNEXPANDED_VARIABLE: "it holds an unexpanded variable",
    NO_SCHEME: "it has no scheme",
    NO_HOST: "it has no host",
    IPV6_FORM: "an IPv6 address without brackets, or with a zone",
    NO_USABLE_PORT: "its port is 0 or no number up to 65535",
}
_DERIVED_PORT: Final = 444


def check(evidence: Evidence) -> Iterator[Finding]:
    """Judge the addresses of leaders, and those of all members when a token opened the list."""
    for node in (*evidence.actives, *evidence.standbys):
        report = node.report
        if report.leader_key:
            where = evidence.leader_name(node)
            yield from _api(evidence, where, report.leader_address, report.leader_cluster_address)
    if evidence.members is not None:
        for member in evidence.members.listed:
            known = evidence.node_at(member.api_address)
            where = known.label if known else member.name
            yield from _api(evidence, where, member.api_address, member.cluster_address)
        yield from _shared(evidence)


def _api(evidence: Evidence, where: str, api: str, cluster: str) -> Iterator[Finding]:
    shown = one_line(api) or '""'
    about = (api, cluster)
    code = address_form(api)
    if code is not None:
        yield code.at(where, f"advertises api_addr {shown}: {_FORM_WORDS[code]}", about=about)
        return
    parts = urlsplit(api)
    if parts.port is None and _port(cluster) == _DERIVED_PORT:
        text = f"api_addr {shown} has no port, so that the cluster address became {cluster}"
        yield NO_USABLE_PORT.at(where, text, about=about)
    if parts.path.rstrip("/") or parts.query or parts.fragment or parts.username is not None:
        text = f"advertises api_addr {shown}: a redirect keeps only scheme and host"
        yield MORE_THAN_HOST.at(where, text, about=about)
    if cluster and (parts.hostname, parts.port) == (_host(cluster), _port(cluster)):
        text = f"api_addr and cluster_addr are both {parts.netloc}"
        yield API_IS_CLUSTER_ADDR.at(where, text, about=about)
    yield from _host_faults(evidence, where, "api_addr", api, about)
    if cluster and _host(cluster) != parts.hostname:
        yield from _host_faults(evidence, where, "cluster_addr", cluster, about)


def _host_faults(
    evidence: Evidence, where: str, key: str, address: str, about: tuple[str, ...]
) -> Iterator[Finding]:
    host = _host(address)
    ip = _ip(host)
    given = [_ip(node.endpoint.host) for node in evidence.nodes]
    shown = one_line(address)
    if ip is not None and ip.is_unspecified:
        text = f"advertises {key} {shown}, which is no address to connect to"
        yield NOT_ROUTABLE.at(where, text, about=about)
    elif ip is not None and (ip.is_loopback or ip.is_link_local):
        # Where all nodes are asked over such addresses, they are on this machine or link.
        same = [one for one in given if one is not None and _kind(one) == _kind(ip)]
        names = [node.endpoint.host for node in evidence.nodes]
        if len(names) > 1 and not same and "localhost" not in names:
            word = "loopback" if ip.is_loopback else "link-local"
            text = f"advertises {key} {shown}: a {word} address means another machine elsewhere"
            yield NOT_ROUTABLE.at(where, text, about=about)
    elif ip is None and host and (not host.isascii() or host.endswith(".") or " " in host):
        text = f"advertises {key} {shown}: the host is written in an odd form"
        yield ODD_HOST_NAME.at(where, text, about=about)


def _shared(evidence: Evidence) -> Iterator[Finding]:
    """Judge the addresses of members side by side."""
    assert evidence.members is not None
    listed = evidence.members.listed
    pairs = Counter((one.api_address, one.cluster_address) for one in listed)
    for (api, cluster), count in pairs.items():
        if count > 1 and api and cluster:
            text = f"{count} nodes advertise both {one_line(api)} and {one_line(cluster)}"
            yield TWO_NODES_ONE_ADDRESS.at("", text, about=(api, cluster))
    apis = {one.api_address for one in listed}
    if len(listed) > 1 and len(apis) == 1 and len(pairs) == len(listed):
        text = f"all {len(listed)} nodes advertise {one_line(apis.pop())}"
        yield SHARED_API_ADDR.at("", text, about=(listed[0].api_address,))


def _kind(ip: IPv4Address | IPv6Address) -> str:
    return "loopback" if ip.is_loopback else "link-local" if ip.is_link_local else "other"


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _port(address: str) -> int | None:
    try:
        return urlsplit(address).port
    except ValueError:
        return None


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
