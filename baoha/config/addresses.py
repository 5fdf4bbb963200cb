"""
Judging the addresses of a configuration by their text alone.

Rules of this file: pure, nothing is resolved or connected to; the codes are those that
``baoha diagnose`` prints, and where OpenBao refuses to start, its words come first.

A finding of severity "error" cannot work, or cannot work for other nodes: the server does not
start. What may be right behind a proxy or a port mapping is a "warning" at most; ``diagnose``,
which sees the whole cluster, can know more and say the same code more severely.

Source: docs/spec/cluster-cli.md section 6.2 A (BH-101 to BH-120), docs/spec/openbao-ha.md section
6.1; BH-121 is ours.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from baoha.config.model import ListenerConfig, ServerConfig
from baoha.diagnostics.code import Code, Finding, Severity
from baoha.diagnostics.codes.addresses import (
    API_ADDR_MISSING,
    API_IS_CLUSTER_ADDR,
    CLUSTER_ADDR_DERIVED,
    CLUSTERING_DISABLED,
    ENVIRONMENT_OVERRIDES,
    HTTP_CLUSTER_ADDR,
    IPV6_FORM,
    MORE_THAN_HOST,
    NO_HOST,
    NO_SCHEME,
    NO_USABLE_PORT,
    NOT_ROUTABLE,
    ODD_HOST_NAME,
    PORT_OF_NO_LISTENER,
    PORTS_MIXED_UP,
    SAME_SOCKET,
    SCHEME_MISMATCH,
    UNEXPANDED_VARIABLE,
    UNLIKELY_NAME,
)
from baoha.errors import ConfigError
from baoha.sansio.address_form import SCHEMES, address_form
from baoha.sansio.urls import PORT_MAX, Address, split_url

_ODD_HOST: Final = re.compile(r"[^A-Za-z0-9.\-:_]")
_API_EXAMPLE: Final = "https://node1.example.com:8200"
_CLUSTER_EXAMPLE: Final = "https://node1.example.com:8201"


def check_addresses(
    config: ServerConfig, ha_of: Callable[[str], bool | None], *, api_addr_is_told: bool = False
) -> list[Finding]:
    """
    Return what is wrong with the addresses of a node, errors first.

    Args:
        ha_of: whether several nodes can share a store of this name, so that each needs an address;
            None: that is not known here.
        api_addr_is_told: the store will say what is not configured.
    """
    findings = [
        *_check_api_addr(config, ha_of, is_told=api_addr_is_told),
        *_check_cluster_addr(config),
        *_check_pair(config),
        *_check_listeners(config.listeners),
        *_check_overrides(config),
    ]
    order = list(Severity)[::-1]
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def enforce(findings: Sequence[Finding]) -> None:
    """
    Refuse to go on with an address that cannot work.

    Raises:
        ConfigError: with the code of the first error, and the text of all.
    """
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        raise ConfigError("\n".join(str(error) for error in errors), code=errors[0].code.id)


def _check_api_addr(
    config: ServerConfig, ha_of: Callable[[str], bool | None], *, is_told: bool
) -> Iterator[Finding]:
    if config.api_addr:
        yield from _check_url("api_addr", config.api_addr, config.listeners)
        yield from _check_scheme(config)
        return
    if is_told:
        return
    ha = ha_of((config.ha_storage or config.storage).type)
    if ha is None:
        # A store that is named to hold the lock is meant for several nodes, whatever it is.
        ha = config.ha_storage is not None
    yield _found(
        API_ADDR_MISSING,
        "missing API address, please set in configuration or via environment",
        f'set api_addr = "{_API_EXAMPLE}" on this node (a full URL, another on each node)',
        severity=Severity.ERROR if ha else Severity.WARNING,
    )


def _check_cluster_addr(config: ServerConfig) -> Iterator[Finding]:
    if config.disable_clustering:
        yield _found(
            CLUSTERING_DISABLED,
            "disable_clustering is set: every request to a standby is redirected",
            "remove disable_clustering, or accept redirects knowingly",
        )
        return
    given = config.cluster_addr_given
    if given:
        yield from _check_url("cluster_addr", given, config.listeners)
        if split_url(given).scheme.lower() == "http":
            yield _found(
                HTTP_CLUSTER_ADDR,
                "the scheme of cluster_addr is ignored: the cluster channel is always TLS",
                "write https://",
            )
        yield from _check_cluster_port(config)
        return
    api = split_url(config.api_addr)
    if api.host and api.port_text is None and not api.unbracketed and not api.junk:
        yield _found(
            NO_USABLE_PORT,
            f"api_addr has no port, so that cluster_addr is guessed as {config.cluster_addr}",
            f'set cluster_addr explicitly, such as "{_CLUSTER_EXAMPLE}"',
        )
    elif api.port == PORT_MAX:
        yield _found(
            NO_USABLE_PORT,
            f"cluster_addr is guessed as port {PORT_MAX + 1}, which is not valid",
            "set cluster_addr explicitly",
        )
    elif config.cluster_addr:
        yield _found(
            CLUSTER_ADDR_DERIVED,
            f"cluster_addr is not set, it is guessed as {config.cluster_addr}",
            "set cluster_addr, so that a change of the API port does not change it",
        )
        yield from _check_cluster_port(config)


def _check_url(key: str, text: str, listeners: Sequence[ListenerConfig]) -> Iterator[Finding]:
    """
    Check the form of one URL; after the first fault of form nothing else is said about it.
    """
    address = split_url(text)
    shown = _shown(text, address)
    fault = _form_fault(key, shown, text, address)
    if fault is not None:
        yield fault
        return
    if address.userinfo or address.tail:
        yield _found(
            MORE_THAN_HOST,
            f"{key} {shown} has user-info, a path, a query or a fragment, which redirects drop",
            "leave only scheme, host and port, or route by host name",
        )
    yield from _check_host(key, shown, address, listeners)


def _form_fault(key: str, shown: str, text: str, address: Address) -> Finding | None:
    is_api = key == "api_addr"
    example = _API_EXAMPLE if is_api else _CLUSTER_EXAMPLE
    code = address_form(text, schemes=SCHEMES if is_api else None)
    said = f"{_not_valid(key)}: {key} {shown}"
    if code is None:
        if is_api or address.port_text is not None:
            return None
        return _found(NO_USABLE_PORT, f"{said} has no port", f'write "{example}"')
    scheme_words = "redirect address must include scheme (ex. 'http')"
    if not is_api:
        scheme_words = "cluster address must include scheme (ex. 'https')"
    words, remedy = {
        UNEXPANDED_VARIABLE: (
            f"{key} {shown} holds an unexpanded variable",
            "expand the variable before the start",
        ),
        NO_SCHEME: (f"{scheme_words}: {key} is {shown}", f'write "{example}"'),
        IPV6_FORM: (
            f"{said}: an IPv6 address without brackets, or with a zone",
            f'write "{address.scheme}://[2001:db8::1]:8200"',
        ),
        NO_HOST: (f"{said} has no host", f'set the host, such as "{example}"'),
        NO_USABLE_PORT: (
            f"{said} has a port that is 0 or no number up to {PORT_MAX}",
            f'write "{example}"',
        ),
    }[code]
    return _found(code, words, remedy)


def _found(code: Code, text: str, remedy: str, *, severity: Severity | None = None) -> Finding:
    return code.at("", text, severity=severity or code.at_start, remedy=remedy)


def _not_valid(key: str) -> str:
    name = "redirect" if key == "api_addr" else "cluster"
    return f"{name} address is not valid url"


def _check_host(
    key: str, shown: str, address: Address, listeners: Sequence[ListenerConfig]
) -> Iterator[Finding]:
    ip = address.ip
    fix = "advertise an address that other nodes and clients can reach"
    if ip is not None and ip.is_unspecified:
        yield _found(
            NOT_ROUTABLE,
            f"{key} {shown} advertises a wildcard address to other hosts",
            fix,
            severity=Severity.ERROR,
        )
    elif ip is not None and ip.is_link_local:
        yield _found(
            NOT_ROUTABLE,
            f"{key} {shown} advertises a link-local address to other hosts",
            fix,
        )
    elif _is_loopback(address) and not all(_binds_loopback(one) for one in listeners):
        yield _found(
            NOT_ROUTABLE,
            f"{key} {shown} advertises a loopback address while a listener is open to other hosts",
            fix,
        )
    if ip is not None or _is_loopback(address):
        return
    host = address.host
    if _ODD_HOST.search(host) or host != host.lower().rstrip(".") or not host.isascii():
        yield _found(
            ODD_HOST_NAME, f"{key} {shown} has an odd host name", "write it in its plain form"
        )
    elif "." not in host or host.endswith(".local"):
        yield _found(
            UNLIKELY_NAME,
            f"{key} {shown} is a single-label or .local name, which certificates rarely carry",
            "use a stable DNS name for each node",
        )


def _check_scheme(config: ServerConfig) -> Iterator[Finding]:
    """Compare the scheme of api_addr with the listener on the same port."""
    address = split_url(config.api_addr)
    port = address.port or address.default_port
    same = [one for one in config.listeners if one.type == "tcp" and one.port == port]
    if not same or address.scheme.lower() not in SCHEMES:
        return
    tls = address.scheme.lower() == "https"
    if all((one.tls is not None) != tls for one in same):
        serves = "plain HTTP" if tls else "TLS"
        yield _found(
            SCHEME_MISMATCH,
            f"api_addr is {address.scheme}:// but the listener on port {port} serves {serves}",
            "align the scheme with tls_disable, unless a proxy ends TLS",
        )


def _check_cluster_port(config: ServerConfig) -> Iterator[Finding]:
    cluster = split_url(config.cluster_addr)
    port, shown = cluster.port, _shown(config.cluster_addr, cluster)
    tcp = [one for one in config.listeners if one.type == "tcp"]
    # A listener on port 0 takes any free port: nothing can be said about it.
    if not port or not tcp or any(one.cluster_port == 0 for one in tcp):
        return
    ports = sorted({one.cluster_port for one in tcp})
    if port in ports:
        return
    if port in {one.port for one in tcp}:
        yield _found(
            PORTS_MIXED_UP,
            f"cluster_addr {shown} has the port of an API listener",
            f"give cluster_addr the port of a cluster listener: {_numbers(ports)}",
        )
        return
    yield _found(
        PORT_OF_NO_LISTENER,
        f"the port of cluster_addr {shown} fits no listener's cluster_address ({_numbers(ports)})",
        "correct it, unless the port is mapped on its way here",
    )


def _check_pair(config: ServerConfig) -> Iterator[Finding]:
    api, cluster = split_url(config.api_addr), split_url(config.cluster_addr)
    if not api.host or not cluster.host:
        return
    api_port = api.port or api.default_port
    if (api.host.lower(), api_port) == (cluster.host.lower(), cluster.port):
        yield _found(
            API_IS_CLUSTER_ADDR,
            f"address {_shown(config.api_addr, api)} used for both API and cluster addresses",
            "give them different ports",
        )
        return
    clusters = {one.cluster_port for one in config.listeners if one.cluster_port}
    apis = {one.port for one in config.listeners}
    if api.port and api.port in clusters and api.port not in apis:
        yield _found(
            PORTS_MIXED_UP,
            f"api_addr {_shown(config.api_addr, api)} has the port of a cluster listener",
            f"give api_addr the port of an API listener: {_numbers(sorted(apis))}",
        )


def _check_listeners(listeners: Sequence[ListenerConfig]) -> Iterator[Finding]:
    """Find sockets that cannot be bound because another one of ours is there."""
    bound: dict[str, tuple[str, str, int]] = {}
    for number, one in enumerate(listeners, start=1):
        if one.type == "unix":
            sockets = [(f"listener {number}", one.address, -1)]
        else:
            sockets = [
                (f"listener {number}", one.host, one.port),
                (f"the cluster address of listener {number}", one.cluster_host, one.cluster_port),
            ]
        for name, host, port in sockets:
            for other, other_host, other_port in bound.values():
                if port and port == other_port and _overlap(host, other_host):
                    where = f"{host}:{port}" if port > 0 else host
                    yield _found(
                        SAME_SOCKET,
                        f"{name} binds {where}, which {other} binds too",
                        "give every listener and cluster address a socket of its own",
                    )
            bound[name] = (name, host, port)


def _check_overrides(config: ServerConfig) -> Iterator[Finding]:
    for key, source in config.sources.items():
        if source.overridden:
            yield _found(
                ENVIRONMENT_OVERRIDES,
                f"{key} comes from {source.text}, not from {source.overridden}",
                "unset the variable if the file should count",
            )


def _overlap(host: str, other: str) -> bool:
    wildcards = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
    return host == other or host in wildcards or other in wildcards


def _binds_loopback(listener: ListenerConfig) -> bool:
    if listener.type == "unix":
        return True
    return _is_loopback(split_url(listener.address))


def _is_loopback(address: Address) -> bool:
    ip = address.ip
    if ip is None:
        return address.host.lower() == "localhost"
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def _shown(text: str, address: Address) -> str:
    """Return the address for a message, without what may be a password."""
    if "@" not in text:
        return f'"{text}"'
    # Whatever form the rest has: what is no URL may hold a password too.
    scheme = f"{address.scheme}://" if address.scheme else ""
    return f'"{scheme}***@{text.rpartition("@")[2]}"'


def _numbers(ports: Sequence[int]) -> str:
    return ", ".join(str(port) for port in ports)
