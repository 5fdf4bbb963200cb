"""
From the configuration to the settings of the parts that the server starts.

Rule of this file: it translates and decides nothing; what is wrong was refused by ``config``, or is
refused by the part itself.
"""

from __future__ import annotations

import logging

from baoha.config.model import ListenerConfig, SealSettings, ServerConfig
from baoha.core.framework.ttl import TTLs
from baoha.node import NodeSettings
from baoha.sansio.crypto.seal_format import StaticSealKey
from baoha.sansio.wire.messages import ListenerPolicy
from baoha.server.memory import usable_bytes

logger = logging.getLogger("baoha.server")

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
        forwarding=not config.disable_request_forwarding,
        ttl=TTLs(int(config.default_lease_ttl_s), int(config.max_lease_ttl_s)),
        timing=config.ha,
        static_seal_key=_static_seal_key(config.seal),
        park_requests_max=config.parking.park_requests,
        park_bytes_max=config.parking.park_bytes,
    )


def listener_policy(config: ListenerConfig, *, name: str) -> ListenerPolicy:
    """
    Return what a listener allows; it travels with every request that the listener takes.
    """
    return ListenerPolicy(
        name=name,
        max_request_bytes=_request_bytes_max(config),
        max_request_s=config.max_request_duration_s,
    )


def _static_seal_key(config: SealSettings) -> StaticSealKey | None:
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
