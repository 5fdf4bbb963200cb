"""
What a configuration comes to: frozen records, complete, checked and free of files.

Rule of this file: secrets are never part of a representation. Durations are seconds, sizes bytes.

Source: ours; the meaning of the keys is OpenBao's where the key is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from baoha.config.values import Headers
from baoha.timing import HATiming


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """
    One ``storage`` or ``ha_storage`` block; the store itself reads ``settings``.
    """

    type: str
    settings: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSConfig:
    """
    The ``tls_*`` keys of a listener. ``auto_reload_s``: 0 without ``tls_auto_reload``.
    """

    cert_file: str
    key_file: str
    min_version: str
    max_version: str
    cipher_suites: tuple[str, ...]
    client_ca_file: str
    require_client_cert: bool
    disable_client_certs: bool
    auto_reload_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardedForConfig:
    """
    The ``x_forwarded_for_*`` keys of a listener.
    """

    authorized_addrs: tuple[str, ...]
    hop_skips: int
    reject_not_present: bool
    reject_not_authorized: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerConfig:
    """
    One ``listener`` block.

    Attributes:
        address: as the banner shows it: "127.0.0.1:8200", or the path of a unix socket.
        host, port: where a tcp listener binds; "" is every interface, 0 a free port.
        cluster_address: "host:port" of the cluster listener; "" for a unix listener.
        socket_mode: None leaves what the umask gives.
        tls: None where ``tls_disable`` is set.
        http_write_timeout_s: 0 is no limit.
        forwarded_for: None where no proxy is authorised.
    """

    type: Literal["tcp", "unix"]
    address: str
    host: str = ""
    port: int = 0
    cluster_address: str = ""
    cluster_host: str = ""
    cluster_port: int = 0
    socket_mode: int | None = None
    socket_user: str = ""
    socket_group: str = ""
    tls: TLSConfig | None = None
    max_request_size: int
    max_request_duration_s: float
    http_read_timeout_s: float
    http_read_header_timeout_s: float
    http_write_timeout_s: float
    http_idle_timeout_s: float
    connections_max: int
    forwarded_for: ForwardedForConfig | None = None
    custom_response_headers: Headers = field(default_factory=dict)
    disable_unauthed_rekey_endpoints: bool = True
    disable_unauthed_generate_root_endpoints: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SealConfig:
    """
    The ``seal`` block. The keys are 32 bytes; None for "shamir" or where secrets were not read.
    """

    type: Literal["shamir", "static"] = "shamir"
    current_key_id: str = ""
    current_key: bytes | None = field(default=None, repr=False)
    previous_key_id: str = ""
    previous_key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """
    Where a value came from: "default", "file x.toml:3", "env BAO_API_ADDR", "derived from ...".

    ``overridden`` says the same of the value that an environment variable replaced, or is "".
    """

    text: str
    overridden: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """
    The configuration of one node.

    Attributes:
        api_addr: the redirect address as given, "" if none is known.
        cluster_addr: the advertised cluster address, "" with ``disable_clustering``. Neither
            address is checked yet: that is ``check_addresses``.
        cluster_addr_given: as configured, "" if it was derived; its scheme does not count.
        cluster_name: "" leaves the choice to initialisation.
        forwarding: False makes standbys redirect (``disable_request_forwarding``).
        log_file: "" is standard error.
        sources: dotted key to where its value came from; only keys that are not defaults.
        warnings: for the log at start; they hold no secrets.
    """

    api_addr: str
    cluster_addr: str
    cluster_addr_given: str
    cluster_name: str
    disable_clustering: bool
    forwarding: bool
    ha: HATiming
    park_requests: int
    park_bytes: int
    storage: StorageConfig
    ha_storage: StorageConfig | None
    listeners: tuple[ListenerConfig, ...]
    seal: SealConfig
    log_level: str
    log_format: Literal["standard", "json"]
    log_file: str
    pid_file: str
    nice: int
    default_max_request_duration_s: float
    default_lease_ttl_s: float
    max_lease_ttl_s: float
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()
