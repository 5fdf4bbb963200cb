"""
From a ``listener`` block to a ``ListenerConfig``.

Rule of this file: what a listener needs to open its socket is complete here, or it is an error;
whether its addresses make sense beside the others is for ``addresses.py``.

Source: docs/spec/openbao-ha.md sections 6.1 and 6.2.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, Literal

from baoha.config.model import ForwardedForConfig, ListenerConfig, TLSConfig
from baoha.config.schema import LISTENER_TCP, LISTENER_UNIX, NO_EFFECT
from baoha.config.sections import Section
from baoha.config.sockaddr import HostAddresses, render
from baoha.config.values import Headers
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
    if section.get("max_request_duration"):
        max_request_duration_s = section.seconds("max_request_duration")
    headers = section.get("custom_response_headers")
    tcp = kind == "tcp"
    host, port, cluster_host, cluster_port = _addresses(section, host_addresses) if tcp else _NONE
    mode = section.get("socket_mode") if not tcp else None
    return ListenerConfig(
        type=kind,
        address=join_host_port(host, port) if tcp else _socket_path(section),
        host=host,
        port=port,
        cluster_address=join_host_port(cluster_host, cluster_port) if tcp else "",
        cluster_host=cluster_host,
        cluster_port=cluster_port,
        socket_mode=mode if isinstance(mode, int) else None,
        socket_user="" if tcp else section.text("socket_user"),
        socket_group="" if tcp else section.text("socket_group"),
        tls=_tls(section) if tcp else None,
        max_request_size=_max_request_size(section),
        max_request_duration_s=max_request_duration_s,
        http_read_timeout_s=section.seconds("http_read_timeout"),
        http_read_header_timeout_s=section.seconds("http_read_header_timeout"),
        http_write_timeout_s=section.seconds("http_write_timeout"),
        http_idle_timeout_s=section.seconds("http_idle_timeout"),
        connections_max=section.number("connections_max"),
        forwarded_for=_forwarded_for(section) if tcp else None,
        custom_response_headers=_headers(headers),
        disable_unauthed_rekey_endpoints=section.flag("disable_unauthed_rekey_endpoints"),
        disable_unauthed_generate_root_endpoints=section.flag(
            "disable_unauthed_generate_root_endpoints"
        ),
    )


_NONE: Final = ("", 0, "", 0)


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


def _max_request_size(section: Section) -> int:
    size = section.number("max_request_size")
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


def _tls(section: Section) -> TLSConfig | None:
    if section.flag("tls_disable"):
        return None
    cert_file, key_file = section.text("tls_cert_file"), section.text("tls_key_file")
    if not cert_file or not key_file:
        raise ConfigError(
            f"{section.prefix}tls_cert_file and {section.prefix}tls_key_file must be set, "
            "unless tls_disable = true"
        )
    auto_reload_s = section.seconds("tls_auto_reload_interval")
    if auto_reload_s < _RELOAD_S_MIN:
        raise ConfigError(f"{section.prefix}tls_auto_reload_interval must be at least 5s")
    required = section.flag("tls_require_and_verify_client_cert")
    disabled = section.flag("tls_disable_client_certs")
    if required and disabled:
        raise ConfigError(
            f"{section.prefix}tls_require_and_verify_client_cert and "
            f"{section.prefix}tls_disable_client_certs cannot both be true"
        )
    min_version, max_version = section.text("tls_min_version"), section.text("tls_max_version")
    if min_version > max_version:
        raise ConfigError(
            f"{section.prefix}tls_min_version must not be above {section.prefix}tls_max_version"
        )
    return TLSConfig(
        cert_file=cert_file,
        key_file=key_file,
        min_version=min_version,
        max_version=max_version,
        cipher_suites=section.texts("tls_cipher_suites"),
        client_ca_file=section.text("tls_client_ca_file"),
        require_client_cert=required,
        disable_client_certs=disabled,
        auto_reload_s=auto_reload_s if section.flag("tls_auto_reload") else 0.0,
    )


def _forwarded_for(section: Section) -> ForwardedForConfig | None:
    authorized = section.texts("x_forwarded_for_authorized_addrs")
    if not authorized:
        return None
    return ForwardedForConfig(
        authorized_addrs=authorized,
        hop_skips=section.number("x_forwarded_for_hop_skips"),
        reject_not_present=section.flag("x_forwarded_for_reject_not_present"),
        reject_not_authorized=section.flag("x_forwarded_for_reject_not_authorized"),
    )


def _headers(value: object) -> Headers:
    assert isinstance(value, MappingProxyType)
    return value
