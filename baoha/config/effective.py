"""
The configuration that is in force, line by line, for ``--print-effective-config``.

Rule of this file: a secret is shown as "***". Whether a storage setting is one is told by its
store and by its name, and every password inside a URL is masked whatever the name; what cannot be
judged (a list, an inner block) is shown only by its size.

Source: ours; docs/spec/cluster-cli.md section 3.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Final

from baoha.config.model import ListenerConfig, ServerConfig, Source, StorageConfig
from baoha.config.values import Headers
from baoha.sansio.durations import SECOND_NS, format_duration_short

MASK: Final = "***"
_SECRET_NAME: Final = re.compile(
    r"pass|secret|token|credential|private|connection|conninfo|dsn|key$|_pem$",
    re.IGNORECASE,
)
_URL_USERINFO: Final = re.compile(r"://[^/@\s]*@")
_DEFAULT: Final = Source(text="default")


def effective(
    config: ServerConfig, secrets_of: Callable[[str], frozenset[str]] = lambda _: frozenset()
) -> list[tuple[str, str, str]]:
    """
    Return (key, value, where it came from) for every key, secrets masked.

    Args:
        secrets_of: the settings of a store that are secrets by its own word.
    """
    rows: list[tuple[str, str, str]] = []
    for key, value in _rows(config, secrets_of):
        source = config.sources.get(key, _DEFAULT)
        text = source.text if not source.overridden else f"{source.text}, not {source.overridden}"
        rows.append((key, _mask_userinfo(_text(value)), text))
    return rows


def _rows(
    config: ServerConfig, secrets_of: Callable[[str], frozenset[str]]
) -> Iterator[tuple[str, object]]:
    yield "api_addr", config.api_addr
    yield "cluster_addr", config.cluster_addr
    yield "cluster_name", config.cluster_name
    yield "disable_clustering", config.disable_clustering
    yield "disable_request_forwarding", not config.forwarding
    yield "default_max_request_duration", config.default_max_request_duration_s
    yield "default_lease_ttl", config.default_lease_ttl_s
    yield "max_lease_ttl", config.max_lease_ttl_s
    yield "log_level", config.log_level
    yield "log_format", config.log_format
    yield "log_file", config.log_file
    yield "pid_file", config.pid_file
    yield "nice", config.nice
    for field in fields(config.ha):
        yield f"ha.{field.name.removesuffix('_s')}", getattr(config.ha, field.name)
    yield "ha.park_requests", config.park_requests
    yield "ha.park_bytes", config.park_bytes
    for block, storage in (("storage", config.storage), ("ha_storage", config.ha_storage)):
        if storage is not None:
            yield from _storage_rows(block, storage, secrets_of(storage.type))
    for number, listener in enumerate(config.listeners, start=1):
        for key, value in _listener_rows(listener):
            yield f"listener.{number}.{key}", value
    yield from _seal_rows(config)


def _storage_rows(
    key: str, storage: StorageConfig, secrets: frozenset[str]
) -> Iterator[tuple[str, object]]:
    yield f"{key}.type", storage.type
    for name, value in storage.settings.items():
        if name in secrets or _SECRET_NAME.search(name):
            yield f"{key}.{name}", MASK
        elif isinstance(value, (list, dict)):
            yield f"{key}.{name}", f"({len(value)} entries)"
        else:
            yield f"{key}.{name}", str(value) if isinstance(value, float) else value


def _listener_rows(listener: ListenerConfig) -> Iterator[tuple[str, object]]:
    yield "type", listener.type
    yield "address", listener.address
    if listener.type == "unix":
        mode = listener.socket_mode
        yield "socket_mode", "" if mode is None else f"{mode:04o}"
        yield "socket_user", listener.socket_user
        yield "socket_group", listener.socket_group
    else:
        yield "cluster_address", listener.cluster_address
        yield from _tls_rows(listener)
        yield from _forwarded_for_rows(listener)
    yield "max_request_size", listener.max_request_size
    yield "max_request_duration", listener.max_request_duration_s
    yield "http_read_timeout", listener.http_read_timeout_s
    yield "http_read_header_timeout", listener.http_read_header_timeout_s
    yield "http_write_timeout", listener.http_write_timeout_s
    yield "http_idle_timeout", listener.http_idle_timeout_s
    yield "connections_max", listener.connections_max
    yield "custom_response_headers", _headers_text(listener.custom_response_headers)
    yield "disable_unauthed_rekey_endpoints", listener.disable_unauthed_rekey_endpoints
    yield (
        "disable_unauthed_generate_root_endpoints",
        listener.disable_unauthed_generate_root_endpoints,
    )


def _tls_rows(listener: ListenerConfig) -> Iterator[tuple[str, object]]:
    tls = listener.tls
    yield "tls_disable", tls is None
    if tls is not None:
        yield "tls_cert_file", tls.cert_file
        yield "tls_key_file", tls.key_file
        yield "tls_min_version", tls.min_version
        yield "tls_max_version", tls.max_version
        yield "tls_cipher_suites", tls.cipher_suites
        yield "tls_client_ca_file", tls.client_ca_file
        yield "tls_require_and_verify_client_cert", tls.require_client_cert
        yield "tls_disable_client_certs", tls.disable_client_certs
        yield "tls_auto_reload", tls.auto_reload_s > 0
        yield "tls_auto_reload_interval", tls.auto_reload_s


def _forwarded_for_rows(listener: ListenerConfig) -> Iterator[tuple[str, object]]:
    settings = listener.forwarded_for
    yield "x_forwarded_for_authorized_addrs", settings.authorized_addrs if settings else ()
    if settings is not None:
        yield "x_forwarded_for_hop_skips", settings.hop_skips
        yield "x_forwarded_for_reject_not_present", settings.reject_not_present
        yield "x_forwarded_for_reject_not_authorized", settings.reject_not_authorized


def _seal_rows(config: ServerConfig) -> Iterator[tuple[str, object]]:
    seal = config.seal
    yield "seal.type", seal.type
    if seal.type == "static":
        yield "seal.current_key_id", seal.current_key_id
        yield "seal.current_key", MASK
        if seal.previous_key_id:
            yield "seal.previous_key_id", seal.previous_key_id
            yield "seal.previous_key", MASK


def _headers_text(headers: Headers) -> str:
    """Return which headers are set; their values may be confidential."""
    return ", ".join(f"{status}: {' '.join(group)}" for status, group in headers.items())


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format_duration_short(round(value * SECOND_NS))
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value)
    return str(value)


def _mask_userinfo(text: str) -> str:
    return _URL_USERINFO.sub(f"://{MASK}@", text)
