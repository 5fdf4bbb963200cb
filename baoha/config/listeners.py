"""
From a ``listener`` block to a ``ListenerConfig``.

Rule of this file: what a listener needs to open its socket is complete here, or it is an error;
whether its addresses make sense beside the others is for ``addresses.py``.

Source: docs/spec/openbao-ha.md sections 6.1 and 6.2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

from baoha.config.model import ListenerConfig, TLSConfig
from baoha.config.schema import LISTENER_TCP, LISTENER_UNIX, NO_EFFECT
from baoha.config.sections import Section
from baoha.config.sockaddr import HostAddresses, render
from baoha.diagnostics.codes.addresses import IPV6_FORM, NO_USABLE_PORT, UNEXPANDED_VARIABLE
from baoha.errors import ConfigError
from baoha.sansio.urls import join_host_port, next_port, split_host_port
from baoha.sansio.wire.messages import BODY_BYTES_MAX

_RELOAD_S_MIN: Final = 5.0
_NOT_ON_UNIX: Final = "a unix listener has neither TLS nor a part in the cluster"
_NOT_ON_TCP: Final = "only unix listeners have it"


def listener_section(kind: str, number: int) -> Section:
    """
    Return the empty section that a listener block of this kind is read into.

    Raises:
        ConfigError: there is no such kind of listener.
    """
    ignored = dict(NO_EFFECT["listener"])
    if kind == "tcp":
        options, others, why = LISTENER_TCP, LISTENER_UNIX, _NOT_ON_TCP
    elif kind == "unix":
        options, others, why = LISTENER_UNIX, LISTENER_TCP, _NOT_ON_UNIX
    else:
        raise ConfigError(f'unsupported listener type "{kind}"; supported are: tcp, unix')
    ignored |= {key: why for key in others if key not in options}
    return Section(options, prefix=f"listener.{number}.", no_effect=ignored)


def build_listener(
    kind: Literal["tcp", "unix"],
    section: Section,
    *,
    max_request_duration_s: float,
    host_addresses: HostAddresses,
) -> ListenerConfig:
    """
    Return the listener that a section describes.

    Args:
        max_request_duration_s: where the block does not set its own.

    Raises:
        ConfigError: an address cannot be bound, or TLS is on and incomplete.
    """
    try:
        read = ListenerConfig(type=kind, **section.fields_of(ListenerConfig, kind))
    except ConfigError as exc:
        raise ConfigError(f"{section.prefix}{exc}") from exc
    size = _max_request_size(read.max_request_size, section)
    duration_s = read.max_request_duration_s or max_request_duration_s
    read = replace(read, max_request_size=size, max_request_duration_s=duration_s)
    if kind == "unix":
        return replace(read, address=_socket_path(section), cluster_address="")
    if read.tls is not None:
        _check_tls(read.tls, section.prefix)
    host, port, cluster_host, cluster_port = _addresses(section, host_addresses)
    return replace(
        read,
        address=join_host_port(host, port),
        host=host,
        port=port,
        cluster_address=join_host_port(cluster_host, cluster_port),
        cluster_host=cluster_host,
        cluster_port=cluster_port,
    )


def _addresses(section: Section, host_addresses: HostAddresses) -> tuple[str, int, str, int]:
    host, port = _bind(section, "address", host_addresses)
    if not section.text("cluster_address"):
        return host, port, host, next_port(port)
    cluster_host, cluster_port = _bind(section, "cluster_address", host_addresses)
    return host, port, cluster_host, cluster_port


def _bind(section: Section, key: str, host_addresses: HostAddresses) -> tuple[str, int]:
    name = section.prefix + key
    text = render(section.text(key), name, host_addresses)
    address = split_host_port(text)
    if address.unbracketed and "/" not in text:
        raise ConfigError(
            f'{name}: address {text}: too many colons in address ({IPV6_FORM}): write "[::1]:8200"',
            code=IPV6_FORM.id,
        )
    if any(mark in text for mark in ("$", "{", "}")):
        raise ConfigError(
            f'{name}: "{text}" holds a variable that was not expanded ({UNEXPANDED_VARIABLE}): '
            "expand it before the start",
            code=UNEXPANDED_VARIABLE.id,
        )
    if address.port is None or address.junk or "/" in text:
        raise ConfigError(
            f'{name}: "{text}" is not host:port ({NO_USABLE_PORT}): write "127.0.0.1:8200"',
            code=NO_USABLE_PORT.id,
        )
    return address.host, address.port


def _max_request_size(size: int, section: Section) -> int:
    if size > BODY_BYTES_MAX:
        section.warnings.append(
            f"{section.prefix}max_request_size: {size} bytes is above what nodes forward; "
            f"{BODY_BYTES_MAX} bytes (64MiB) is used"
        )
    return min(size, BODY_BYTES_MAX)


def _socket_path(section: Section) -> str:
    path = section.text("address")
    if not path:
        raise ConfigError(f"{section.prefix}address: the path of the socket must not be empty")
    return path


def _check_tls(tls: TLSConfig, prefix: str) -> None:
    if not tls.cert_file or not tls.key_file:
        raise ConfigError(
            f"{prefix}tls_cert_file and {prefix}tls_key_file must be set, unless tls_disable = true"
        )
    if tls.auto_reload_interval_s < _RELOAD_S_MIN:
        raise ConfigError(f"{prefix}tls_auto_reload_interval must be at least 5s")
