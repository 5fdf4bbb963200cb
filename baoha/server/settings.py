"""
From the configuration to the settings of the parts that the server starts.

Rule of this file: it translates and decides nothing; what is wrong was refused by ``config``, or is
refused by the part itself.
"""

from __future__ import annotations

import logging

from baoha.config.model import ListenerConfig, SealConfig, ServerConfig
from baoha.core.framework.ttl import TTLs
from baoha.node import NodeSettings
from baoha.sansio.crypto.seal_format import StaticSealKey
from baoha.sansio.wire.messages import ListenerPolicy
from baoha.server.http.forwarded_for import ForwardedForSettings, parse_networks
from baoha.server.http.limits import Limits
from baoha.server.http.listener import ListenerSettings
from baoha.server.http.tls import TLSSettings
from baoha.server.memory import usable_bytes

logger = logging.getLogger("baoha.server")

# A limit of 0 means "none" to OpenBao; here every wait ends, after a day at the latest.
NO_LIMIT_S = 86_400.0
# One body may be so large a part of the memory: decoded, encrypted and encoded again it takes up to
# seven times its size, and the process is there too. Measured with limits of 120 to 256 MB.
BODY_MEMORY_PARTS = 16


def node_settings(config: ServerConfig) -> NodeSettings:
    """Return what the node has to know."""
    listening = tuple(
        (listener.cluster_host, listener.cluster_port)
        for listener in config.listeners
        if listener.type == "tcp" and listener.cluster_port
    )
    return NodeSettings(
        api_addr=config.api_addr,
        cluster_addr="" if config.disable_clustering else config.cluster_addr,
        cluster_listen=() if config.disable_clustering else listening,
        cluster_name=config.cluster_name,
        forwarding=config.forwarding,
        ttl=TTLs(int(config.default_lease_ttl_s), int(config.max_lease_ttl_s)),
        timing=config.ha,
        static_seal_key=_static_seal_key(config.seal),
        park_requests_max=config.park_requests,
        park_bytes_max=config.park_bytes,
    )


def listener_settings(config: ListenerConfig, *, name: str) -> ListenerSettings:
    """
    Return the settings of one listener.

    Raises:
        ConfigError: an X-Forwarded-For or TLS setting is impossible.
    """
    proxy = config.forwarded_for
    return ListenerSettings(
        host=config.host,
        port=config.port,
        unix_path=config.address if config.type == "unix" else "",
        unix_mode=config.socket_mode,
        unix_owner=(config.socket_user, config.socket_group),
        policy=ListenerPolicy(
            name=name,
            max_request_bytes=_request_bytes_max(config),
            max_request_s=config.max_request_duration_s,
            unauthed_rekey=not config.disable_unauthed_rekey_endpoints,
            unauthed_generate_root=not config.disable_unauthed_generate_root_endpoints,
        ),
        tls=tls_settings(config),
        response_headers=config.custom_response_headers,
        connections_max=config.connections_max,
        forwarded_for=None
        if proxy is None
        else ForwardedForSettings(
            authorized=parse_networks(proxy.authorized_addrs),
            hop_skips=proxy.hop_skips,
            reject_not_present=proxy.reject_not_present,
            reject_not_authorized=proxy.reject_not_authorized,
        ),
        limits=Limits(
            header_s=config.http_read_header_timeout_s or NO_LIMIT_S,
            read_s=config.http_read_timeout_s or NO_LIMIT_S,
            idle_s=config.http_idle_timeout_s or NO_LIMIT_S,
            write_stall_s=config.http_write_timeout_s or Limits().write_stall_s,
        ),
    )


def tls_settings(config: ListenerConfig) -> TLSSettings | None:
    """
    Return the TLS settings of one listener, or None when it has none.

    Raises:
        ConfigError: they contradict each other.
    """
    tls = config.tls
    if tls is None:
        return None
    return TLSSettings(
        cert_file=tls.cert_file,
        key_file=tls.key_file,
        min_version=tls.min_version,
        max_version=tls.max_version,
        cipher_suites=tls.cipher_suites,
        client_ca_file=tls.client_ca_file,
        require_client_cert=tls.require_client_cert,
        disable_client_certs=tls.disable_client_certs,
        auto_reload_s=tls.auto_reload_s,
    )


def _static_seal_key(config: SealConfig) -> StaticSealKey | None:
    if config.type != "static":
        return None
    return StaticSealKey(
        key_id=config.current_key_id,
        key=config.current_key or b"",
        previous_key_id=config.previous_key_id,
        previous_key=config.previous_key or b"",
    )


def _request_bytes_max(config: ListenerConfig) -> int:
    """Return the largest body of a listener: what is configured, or what the memory allows."""
    possible = usable_bytes() // BODY_MEMORY_PARTS
    if config.max_request_size <= possible:
        return config.max_request_size
    logger.warning(
        "max_request_size is lowered, larger bodies would exhaust the memory: bytes=%d", possible
    )
    return possible
