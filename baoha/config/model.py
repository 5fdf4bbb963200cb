"""
What a configuration comes to: frozen records, complete, checked and free of files.

Rules of this file: a key is a field with an ``option`` and nothing else; its kind, its default and
what it is for stand there. Secrets are never part of a representation. Durations are seconds,
sizes bytes.

Source: keys and defaults of OpenBao 2.7.2 (``bao operator validate-config`` tells which keys it
knows); ``ha``, ``connections_max``, ``nice`` and ``disable_request_forwarding`` are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from baoha.config.options import group, option, switch
from baoha.config.values import (
    BOOL,
    COUNT,
    DURATION,
    FILE_MODE,
    LIMIT,
    LOG_FORMATS,
    LOG_LEVELS,
    NETWORKS,
    NICE,
    POSITIVE,
    RESPONSE_HEADERS,
    TEXT,
    TEXTS,
    TLS_VERSIONS,
    Headers,
)
from baoha.errors import ConfigError
from baoha.timing import HATiming


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageConfig:
    """
    One ``storage`` or ``ha_storage`` block; the store itself reads ``settings``.
    """

    type: str
    settings: Mapping[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageAddresses:
    """
    Keys of a storage block that say something about the node; the store never sees them.
    """

    redirect_addr: str = option(TEXT, "", "old place of api_addr")
    advertise_addr: str = option(TEXT, "", "still older place of api_addr")
    cluster_addr: str = option(TEXT, "", "old place of cluster_addr")
    disable_clustering: bool = option(BOOL, False, "cluster_addr of this block does not count")


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSConfig:
    """
    The ``tls_*`` keys of a listener that speaks TLS.

    Raises:
        ConfigError: they contradict each other.
    """

    cert_file: str = option(TEXT, "", "certificate chain, PEM; required with TLS")
    key_file: str = option(TEXT, "", "private key, PEM; required with TLS")
    min_version: str = option(TLS_VERSIONS, "tls12", "oldest TLS version")
    max_version: str = option(TLS_VERSIONS, "tls13", "newest TLS version")
    cipher_suites: tuple[str, ...] = option(TEXTS, (), "cipher suites of TLS 1.2, by IANA name")
    require_and_verify_client_cert: bool = option(
        BOOL, False, "refuse clients without a certificate"
    )
    client_ca_file: str = option(TEXT, "", "CA of client certificates, PEM")
    disable_client_certs: bool = option(BOOL, False, "do not ask for client certificates")
    auto_reload: bool = option(BOOL, True, "look for a new certificate; OpenBao's default is off")
    auto_reload_interval_s: float = option(DURATION, 30.0, "how often; at least 5s", shown="30s")

    def __post_init__(self) -> None:
        if self.require_and_verify_client_cert and self.disable_client_certs:
            raise ConfigError(
                "tls_require_and_verify_client_cert and tls_disable_client_certs cannot both be "
                "true"
            )
        if self.min_version > self.max_version:
            raise ConfigError("tls_min_version must not be above tls_max_version")

    @property
    def files(self) -> tuple[str, ...]:
        """
        Every file that is read.
        """
        ca = (self.client_ca_file,) if self.client_ca_file else ()
        return (self.cert_file, self.key_file, *ca)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardedForConfig:
    """
    The ``x_forwarded_for_*`` keys of a listener.
    """

    authorized_addrs: tuple[str, ...] = option(
        NETWORKS, (), "proxies whose X-Forwarded-For counts; turns the feature on"
    )
    hop_skips: int = option(COUNT, 0, "entries to skip from the end")
    reject_not_present: bool = option(BOOL, True, "refuse requests without it")
    reject_not_authorized: bool = option(BOOL, True, "refuse it from anyone but a proxy")

    @property
    def is_on(self) -> bool:
        """
        Whether the header is looked at.
        """
        return bool(self.authorized_addrs)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerConfig:
    """
    One ``listener`` block.

    Attributes:
        address: as the banner shows it: "127.0.0.1:8200", or the path of a unix socket.
        host, port: where a tcp listener binds; "" is every interface, 0 a free port.
        cluster_address: "host:port" of the cluster listener; "" for a unix listener.
        socket_path: "" for a tcp listener.
        socket_mode: None leaves what the umask gives.
        tls: None where ``tls_disable`` is set, and for a unix listener.
    """

    type: Literal["tcp", "unix"]
    address: str = option(TEXT, "127.0.0.1:8200", "host and port to bind", only="tcp")
    socket_path: str = option(
        TEXT, "/run/openbao.sock", "path of the socket", key="address", only="unix"
    )
    host: str = ""
    port: int = 0
    cluster_address: str = option(
        TEXT, "", "host and port of the cluster listener", shown="address, port + 1", only="tcp"
    )
    cluster_host: str = ""
    cluster_port: int = 0
    socket_mode: int | None = option(
        FILE_MODE, None, "permission bits of the socket", shown="by umask", only="unix"
    )
    socket_user: str = option(TEXT, "", "owner of the socket, name or number", only="unix")
    socket_group: str = option(TEXT, "", "group of the socket, name or number", only="unix")
    tls: TLSConfig | None = group(
        TLSConfig,
        "tls_",
        only="tcp",
        unless=switch(BOOL, False, "speak plain HTTP", key="tls_disable"),
    )
    forwarded_for: ForwardedForConfig = group(ForwardedForConfig, "x_forwarded_for_", only="tcp")
    max_request_size: int = option(
        LIMIT, 33_554_432, "largest request body; 64MiB at most", shown="32MiB"
    )
    max_request_duration_s: float = option(
        DURATION,
        0.0,
        "longest request on this listener",
        shown="default_max_request_duration",
    )
    http_read_timeout_s: float = option(
        DURATION, 30.0, "for a whole request to arrive", shown="30s"
    )
    http_read_header_timeout_s: float = option(
        DURATION, 10.0, "for its headers to arrive", shown="10s"
    )
    http_write_timeout_s: float = option(DURATION, 0.0, "for a response; 0 is no limit", shown="0")
    http_idle_timeout_s: float = option(DURATION, 300.0, "between two requests", shown="5m")
    connections_max: int = option(
        POSITIVE, 4096, "connections at one time; one that waits makes room"
    )
    custom_response_headers: Headers = option(
        RESPONSE_HEADERS, MappingProxyType({}), "headers to add, by status", shown="{}"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SealSettings:
    """
    The ``seal`` block. The keys are 32 bytes; None for "shamir" or where secrets were not read.
    """

    type: Literal["shamir", "static"] = "shamir"
    current_key_id: str = option(
        TEXT, "", "name of current_key", env="STATIC_SEAL_CURRENT_KEY_ID", only="static"
    )
    current_key: bytes | None = option(
        TEXT,
        None,
        "32 bytes as base64 or hex, or env://NAME, or file:///path",
        env="STATIC_SEAL_CURRENT_KEY",
        secret=True,
        only="static",
    )
    previous_key_id: str = option(
        TEXT, "", "name of previous_key", env="STATIC_SEAL_PREVIOUS_KEY_ID", only="static"
    )
    previous_key: bytes | None = option(
        TEXT,
        None,
        "the key before, while entries are still sealed with it",
        env="STATIC_SEAL_PREVIOUS_KEY",
        secret=True,
        only="static",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkingConfig:
    """
    Keys of the ``ha`` block beside its durations: how much may wait for a new active node.
    """

    park_requests: int = option(POSITIVE, 1024, "requests that a standby parks at most")
    park_bytes: int = option(LIMIT, 64 * 1024**2, "their bodies together, at most", shown="64MiB")


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
        disable_request_forwarding: True makes standbys redirect.
        log_file: "" is standard error.
        sources: dotted key to where its value came from; only keys that are not defaults.
        warnings: for the log at start; they hold no secrets.
    """

    api_addr: str = option(
        TEXT,
        "",
        "URL that clients and other nodes reach this node's API by; must be set",
        env="API_ADDR",
    )
    cluster_addr: str = option(
        TEXT,
        "",
        "URL that other nodes reach this node's cluster listener by",
        shown="api_addr, port + 1",
        env="CLUSTER_ADDR",
    )
    cluster_addr_given: str = ""
    cluster_name: str = option(
        TEXT, "", "name of the cluster", shown="vault-cluster- + 8 hex digits"
    )
    disable_clustering: bool = option(BOOL, False, "no cluster listener; standbys redirect")
    disable_request_forwarding: bool = option(
        BOOL, False, "standbys redirect clients, they do not forward"
    )
    default_max_request_duration_s: float = option(
        DURATION, 90.0, "longest request", shown="90s", zero_is_default=True
    )
    default_lease_ttl_s: float = option(
        DURATION, 2_764_800.0, "ttl of a lease", shown="768h", zero_is_default=True
    )
    max_lease_ttl_s: float = option(
        DURATION, 2_764_800.0, "longest ttl of a lease", shown="768h", zero_is_default=True
    )
    log_level: str = option(
        LOG_LEVELS, "info", "least severe level that is logged", env="LOG_LEVEL"
    )
    log_format: Literal["standard", "json"] = option(
        LOG_FORMATS, "standard", "lines of text or of JSON", env="LOG_FORMAT"
    )
    log_file: str = option(TEXT, "", "file to log to", shown="standard error")
    pid_file: str = option(TEXT, "", "file that holds the process id while the server runs")
    nice: int = option(NICE, -10, "CPU priority to ask for, if the process has none; 0: do not ask")
    ha: HATiming = group(HATiming, "ha.")
    parking: ParkingConfig = group(ParkingConfig, "ha.")
    storage: StorageConfig
    ha_storage: StorageConfig | None = None
    listeners: tuple[ListenerConfig, ...]
    seal: SealSettings = field(default_factory=SealSettings)
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()
