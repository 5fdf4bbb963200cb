"""
The API address of a node that was not configured, and that the store can tell.

Rule of this file: what is configured is not touched. The store knows a host only; scheme and port
are the listener's.

Source: OpenBao asks a store with "redirect detection" in the same way.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from baoha.config.model import ServerConfig, Source
from baoha.sansio.urls import join_host_port, next_port


def with_told_address(config: ServerConfig, host: str) -> ServerConfig:
    """
    Return the configuration with the addresses that follow from the host of this node.

    Args:
        config: without an ``api_addr``.
        host: a name or an IP address, without port, as other nodes see it.

    Returns:
        The same one where no listener has a port of its own.
    """
    listener = next((one for one in config.listeners if one.type == "tcp" and one.port), None)
    if listener is None:
        return config
    scheme = "http" if listener.tls is None else "https"
    sources = {**config.sources, "api_addr": Source(text="told by the store")}
    cluster_addr = config.cluster_addr
    if not config.disable_clustering and not config.cluster_addr_given:
        cluster_addr = f"https://{join_host_port(host, next_port(listener.port))}"
        sources["cluster_addr"] = Source(text="derived from api_addr")
    return replace(
        config,
        api_addr=f"{scheme}://{join_host_port(host, listener.port)}",
        cluster_addr=cluster_addr,
        sources=MappingProxyType(sources),
    )
